//! Operators on single elements: arithmetic, comparisons, logic, functions.

use rekindle_onnx::DType;
use rekindle_onnx::builder::{Attr, ValueName};

use super::types::floating;
use super::{Args, Float, Int, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("add", |l, a| add(l, a, "Add", "self", "other")),
    ("sub", |l, a| add(l, a, "Sub", "self", "other")),
    ("subtract", |l, a| add(l, a, "Sub", "self", "other")),
    ("rsub", |l, a| add(l, a, "Sub", "other", "self")),
    ("mul", mul),
    ("multiply", mul),
    ("div", div),
    ("divide", div),
    ("true_divide", |l, a| div_mode(l, a, None)),
    ("floor_divide", |l, a| div_mode(l, a, Some("floor"))),
    ("remainder", |l, a| modulo(l, a, false)),
    ("fmod", |l, a| modulo(l, a, true)),
    ("pow", pow),
    ("minimum", |l, a| least(l, a, "Min")),
    ("maximum", |l, a| least(l, a, "Max")),
    ("eq", |l, a| compare(l, a, "Equal", false)),
    ("ne", |l, a| compare(l, a, "Equal", true)),
    ("not_equal", |l, a| compare(l, a, "Equal", true)),
    ("lt", |l, a| compare(l, a, "Less", false)),
    ("less", |l, a| compare(l, a, "Less", false)),
    ("le", |l, a| compare(l, a, "LessOrEqual", false)),
    ("gt", |l, a| compare(l, a, "Greater", false)),
    ("greater", |l, a| compare(l, a, "Greater", false)),
    ("ge", |l, a| compare(l, a, "GreaterOrEqual", false)),
    ("logical_and", |l, a| logic(l, a, "And")),
    ("logical_or", |l, a| logic(l, a, "Or")),
    ("logical_xor", |l, a| logic(l, a, "Xor")),
    ("logical_not", logical_not),
    ("bitwise_and", |l, a| bits(l, a, "And")),
    ("__and__", |l, a| bits(l, a, "And")),
    ("bitwise_or", |l, a| bits(l, a, "Or")),
    ("__or__", |l, a| bits(l, a, "Or")),
    ("bitwise_xor", |l, a| bits(l, a, "Xor")),
    ("__xor__", |l, a| bits(l, a, "Xor")),
    ("bitwise_not", bitwise_not),
    ("relu", |l, a| same(l, a, "Relu")),
    ("neg", |l, a| same(l, a, "Neg")),
    ("negative", |l, a| same(l, a, "Neg")),
    ("abs", |l, a| same(l, a, "Abs")),
    ("sign", |l, a| same(l, a, "Sign")),
    ("sgn", |l, a| same(l, a, "Sign")),
    ("floor", |l, a| whole(l, a, "Floor")),
    ("ceil", |l, a| whole(l, a, "Ceil")),
    ("round", round),
    ("trunc", trunc),
    ("sigmoid", |l, a| float(l, a, "Sigmoid")),
    ("tanh", |l, a| float(l, a, "Tanh")),
    ("exp", |l, a| float(l, a, "Exp")),
    ("log", |l, a| float(l, a, "Log")),
    ("sqrt", |l, a| float(l, a, "Sqrt")),
    ("sin", |l, a| float(l, a, "Sin")),
    ("cos", |l, a| float(l, a, "Cos")),
    ("tan", |l, a| float(l, a, "Tan")),
    ("asin", |l, a| float(l, a, "Asin")),
    ("acos", |l, a| float(l, a, "Acos")),
    ("atan", |l, a| float(l, a, "Atan")),
    ("sinh", |l, a| float(l, a, "Sinh")),
    ("cosh", |l, a| float(l, a, "Cosh")),
    ("erf", |l, a| float(l, a, "Erf")),
    ("reciprocal", |l, a| float(l, a, "Reciprocal")),
    ("rsqrt", rsqrt),
    ("square", square),
    ("expm1", |l, a| shifted(l, a, "Exp", None, Some(-1.0))),
    ("log1p", |l, a| shifted(l, a, "Log", Some(1.0), None)),
    ("log2", |l, a| scaled_log(l, a, std::f64::consts::LN_2)),
    ("log10", |l, a| scaled_log(l, a, std::f64::consts::LN_10)),
    ("exp2", exp2),
    ("isnan", |l, a| same(l, a, "IsNaN")),
    ("isinf", |l, a| same(l, a, "IsInf")),
    ("silu", silu),
    ("gelu", gelu),
    ("mish", |l, a| same(l, a, "Mish")),
    ("softplus", softplus),
    ("softsign", |l, a| same(l, a, "Softsign")),
    ("logsigmoid", log_sigmoid),
    ("log_sigmoid", log_sigmoid),
    ("hardtanh", hardtanh),
    ("relu6", |l, a| clip_known(l, a, 0.0, 6.0)),
    ("hardswish", |l, a| same(l, a, "HardSwish")),
    ("hardsigmoid", hardsigmoid),
    ("hardshrink", hardshrink),
    ("softshrink", softshrink),
    ("tanhshrink", tanhshrink),
    ("threshold", threshold),
    ("leaky_relu", leaky_relu),
    ("elu", elu),
    ("celu", celu),
    ("selu", |l, a| same(l, a, "Selu")),
    ("prelu", prelu),
    ("glu", glu),
    ("clamp", |l, a| clamp(l, a, "min", "max")),
    ("clip", |l, a| clamp(l, a, "min", "max")),
    ("clamp_min", |l, a| clamp(l, a, "min", "")),
    ("clamp_max", |l, a| clamp(l, a, "", "max")),
    ("addcmul", |l, a| addc(l, a, "Mul")),
    ("addcdiv", |l, a| addc(l, a, "Div")),
    ("lerp", lerp),
    ("where", where_),
    ("masked_fill", masked_fill),
    ("nan_to_num", nan_to_num),
];

/// Two operands as one type.
fn both(l: &mut Lower, a: &Value, b: &Value, dtype: DType) -> Result<(ValueName, ValueName)> {
    Ok((l.scalar(a, dtype)?, l.scalar(b, dtype)?))
}

fn add(l: &mut Lower, args: &Args, operator: &str, first: &str, second: &str) -> Result<Vec<Value>> {
    let (a, b) = (args.get(first).clone(), args.get(second).clone());
    let alpha = args.get("alpha");
    let mut operands = vec![&a, &b];
    if !matches!(alpha, Value::None | Value::Int(Int::Known(1))) && matches!(alpha, Value::Float(_)) {
        operands.push(alpha);
    }
    let dtype = l.result_type(&operands[..2])?;
    if dtype == DType::Bool {
        if operator != "Add" || !matches!(alpha, Value::None | Value::Int(Int::Known(1))) {
            return Err(Error::beyond("a difference of truth values"));
        }
        let (a, b) = both(l, &a, &b, dtype)?;
        let value = l.node("Or", &[&a, &b], &[])?;
        return l.answer(value);
    }
    if operands.len() == 3 && !dtype.is_float() {
        return Err(Error::invalid("alpha must not be a float for integers"));
    }
    let (a, mut b) = both(l, &a, &b, dtype)?;
    // rsub(self, other, alpha) is other - alpha × self: the second here either way.
    let plain = match alpha {
        Value::None | Value::Int(Int::Known(1)) => true,
        Value::Float(Float::Known(alpha)) => (*alpha - 1.0).abs() == 0.0,
        _ => false,
    };
    if !plain {
        let alpha = l.scalar(alpha, dtype)?;
        b = l.node("Mul", &[&b, &alpha], &[])?;
    }
    let value = l.node(operator, &[&a, &b], &[])?;
    l.answer(value)
}

fn binary(l: &mut Lower, a: &Value, b: &Value, dtype: DType, operator: &str) -> Result<ValueName> {
    let (a, b) = both(l, a, b, dtype)?;
    l.node(operator, &[&a, &b], &[])
}

fn mul(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let value = binary(l, &a, &b, dtype, if dtype == DType::Bool { "And" } else { "Mul" })?;
    l.answer(value)
}

fn div(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mode = args.text("rounding_mode")?.map(str::to_string);
    div_mode(l, args, mode.as_deref())
}

fn div_mode(l: &mut Lower, args: &Args, mode: Option<&str>) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let value = match mode {
        None => binary(l, &a, &b, floating(dtype), "Div")?,
        Some(mode @ ("floor" | "trunc")) if dtype.is_float() => {
            let quotient = binary(l, &a, &b, dtype, "Div")?;
            if mode == "floor" { l.node("Floor", &[&quotient], &[])? } else { towards_zero(l, &quotient)? }
        }
        Some("trunc") if dtype.is_int() => binary(l, &a, &b, dtype, "Div")?,
        Some("floor") if dtype.is_int() => {
            let (a, b) = both(l, &a, &b, dtype)?;
            let rest = l.node("Mod", &[&a, &b], &[])?;
            let exact = l.node("Sub", &[&a, &rest], &[])?;
            l.node("Div", &[&exact, &b], &[])?
        }
        Some(other) => return Err(Error::beyond(format!("division of {dtype} with rounding_mode '{other}'"))),
    };
    l.answer(value)
}

fn towards_zero(l: &mut Lower, value: &str) -> Result<ValueName> {
    let sign = l.node("Sign", &[value], &[])?;
    let size = l.node("Abs", &[value], &[])?;
    let size = l.node("Floor", &[&size], &[])?;
    l.node("Mul", &[&sign, &size], &[])
}

fn modulo(l: &mut Lower, args: &Args, as_c: bool) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = both(l, &a, &b, dtype)?;
    let value = match (dtype.is_float(), as_c) {
        (_, true) => l.node("Mod", &[&a, &b], &[("fmod", int(1))])?,
        (false, false) => l.node("Mod", &[&a, &b], &[])?,
        // PyTorch gives the sign of the divisor: what C gives, and the divisor once more where signs differ.
        (true, false) => {
            let rest = l.node("Mod", &[&a, &b], &[("fmod", int(1))])?;
            let zero = l.number(0.0, dtype)?;
            let negative = |l: &mut Lower, value: &str| l.node("Less", &[value, &zero], &[]);
            let (rest_negative, divisor_negative) = (negative(l, &rest)?, negative(l, &b)?);
            let differ = l.node("Xor", &[&rest_negative, &divisor_negative], &[])?;
            let none = l.node("Equal", &[&rest, &zero], &[])?;
            let some = l.node("Not", &[&none], &[])?;
            let differ = l.node("And", &[&differ, &some], &[])?;
            let more = l.node("Add", &[&rest, &b], &[])?;
            l.node("Where", &[&differ, &more, &rest], &[])?
        }
    };
    l.answer(value)
}

fn pow(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("exponent").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let known = match &b {
        Value::Int(Int::Known(b)) => Some(*b as f64),
        Value::Float(Float::Known(b)) => Some(*b),
        _ => None,
    };
    if dtype.is_int() && known.is_some_and(|known| known < 0.0) {
        return Err(Error::invalid("integers to negative integer powers are not allowed"));
    }
    let value = match known {
        Some(2.0) => {
            let a = l.scalar(&a, dtype)?;
            l.node("Mul", &[&a, &a], &[])?
        }
        Some(0.5) if dtype.is_float() => {
            let a = l.scalar(&a, dtype)?;
            l.node("Sqrt", &[&a], &[])?
        }
        _ => binary(l, &a, &b, dtype, "Pow")?,
    };
    l.answer(value)
}

/// Minimum or maximum of two tensors.
pub(super) fn least(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let value = if dtype == DType::Bool {
        binary(l, &a, &b, dtype, if operator == "Min" { "And" } else { "Or" })?
    } else {
        binary(l, &a, &b, dtype, operator)?
    };
    l.answer(value)
}

fn compare(l: &mut Lower, args: &Args, operator: &str, not: bool) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let mut dtype = l.result_type(&[&a, &b])?;
    if dtype == DType::Bool && operator != "Equal" {
        dtype = DType::I32;
    }
    let value = binary(l, &a, &b, dtype, operator)?;
    let value = if not { l.node("Not", &[&value], &[])? } else { value };
    l.answer(value)
}

/// A tensor or number as a truth value.
fn truth(l: &mut Lower, value: &Value) -> Result<ValueName> {
    l.scalar(value, DType::Bool)
}

fn logic(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let (a, b) = (truth(l, args.get("self"))?, truth(l, args.get("other"))?);
    let value = l.node(operator, &[&a, &b], &[])?;
    l.answer(value)
}

fn logical_not(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let a = truth(l, args.get("self"))?;
    let value = l.node("Not", &[&a], &[])?;
    l.answer(value)
}

fn bits(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let value = match dtype {
        DType::Bool => binary(l, &a, &b, dtype, operator)?,
        dtype if dtype.is_int() => binary(l, &a, &b, dtype, &format!("Bitwise{operator}"))?,
        dtype => return Err(Error::invalid(format!("bits of {dtype}"))),
    };
    l.answer(value)
}

fn bitwise_not(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let value = l.value(x)?;
    let operator = if l.dtype(x) == DType::Bool { "Not" } else { "BitwiseNot" };
    let value = l.node(operator, &[&value], &[])?;
    l.answer(value)
}

/// A function whose result has the type of its operand.
fn same(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let value = l.value(x)?;
    let value = match operator {
        "IsNaN" | "IsInf" if !dtype.is_float() => {
            let not = l.node("Equal", &[&value, &value], &[])?;
            l.node("Not", &[&not], &[])?
        }
        "Relu" | "Abs" | "Neg" | "Sign" if dtype == DType::Bool => {
            return Err(Error::beyond(format!("{operator} of truth values")));
        }
        _ => l.node(operator, &[&value], &[])?,
    };
    l.answer(value)
}

/// A function that does nothing to integers.
fn whole(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let value = l.value(x)?;
    let value =
        if l.dtype(x).is_float() { l.node(operator, &[&value], &[])? } else { l.node("Identity", &[&value], &[])? };
    l.answer(value)
}

fn round(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    if !matches!(args.get("decimals"), Value::None | Value::Int(Int::Known(0))) {
        return Err(Error::beyond("rounding to decimals"));
    }
    whole(l, args, "Round")
}

fn trunc(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let value = l.value(x)?;
    let value = if l.dtype(x).is_float() { towards_zero(l, &value)? } else { l.node("Identity", &[&value], &[])? };
    l.answer(value)
}

/// The operand as a float.
pub(super) fn float_of(l: &mut Lower, x: TensorId) -> Result<(ValueName, DType)> {
    let dtype = floating(l.dtype(x));
    Ok((l.value_as(x, dtype)?, dtype))
}

fn float(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node(operator, &[&x], &[])?;
    l.answer(value)
}

fn rsqrt(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let root = l.node("Sqrt", &[&x], &[])?;
    let value = l.node("Reciprocal", &[&root], &[])?;
    l.answer(value)
}

fn square(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = if l.dtype(x) == DType::Bool { DType::I64 } else { l.dtype(x) };
    let value = l.value_as(x, dtype)?;
    let value = l.node("Mul", &[&value, &value], &[])?;
    l.answer(value)
}

fn shifted(l: &mut Lower, args: &Args, operator: &str, before: Option<f64>, after: Option<f64>) -> Result<Vec<Value>> {
    let (mut x, dtype) = float_of(l, args.tensor("self")?)?;
    for (at, shift) in [before, after].into_iter().enumerate() {
        if at == 1 {
            x = l.node(operator, &[&x], &[])?;
        }
        if let Some(shift) = shift {
            let shift = l.number(shift, dtype)?;
            x = l.node("Add", &[&x, &shift], &[])?;
        }
    }
    l.answer(x)
}

fn scaled_log(l: &mut Lower, args: &Args, base: f64) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let log = l.node("Log", &[&x], &[])?;
    let base = l.number(base, dtype)?;
    let value = l.node("Div", &[&log, &base], &[])?;
    l.answer(value)
}

fn exp2(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let two = l.number(2.0, dtype)?;
    let value = l.node("Pow", &[&two, &x], &[])?;
    l.answer(value)
}

fn silu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let gate = l.node("Sigmoid", &[&x], &[])?;
    let value = l.node("Mul", &[&x, &gate], &[])?;
    l.answer(value)
}

fn gelu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let value = l.value(x)?;
    let kind = match args.text("approximate")? {
        None | Some("none") => "none",
        Some("tanh") => "tanh",
        Some(other) => return Err(Error::beyond(format!("gelu approximated by '{other}'"))),
    };
    let value = l.node("Gelu", &[&value], &[("approximate", Attr::Text(kind))])?;
    l.answer(value)
}

fn softplus(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (beta, limit) = (args.float("beta")?, args.float("threshold")?);
    let (value, dtype) = float_of(l, x)?;
    let scale = l.number(beta, dtype)?;
    let scaled = if beta == 1.0 { value.clone() } else { l.node("Mul", &[&value, &scale], &[])? };
    let soft = l.node("Softplus", &[&scaled], &[])?;
    let soft = if beta == 1.0 { soft } else { l.node("Div", &[&soft, &scale], &[])? };
    let limit = l.number(limit, dtype)?;
    let straight = l.node("Greater", &[&scaled, &limit], &[])?;
    let value = l.node("Where", &[&straight, &value, &soft], &[])?;
    l.answer(value)
}

fn log_sigmoid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let minus = l.node("Neg", &[&x], &[])?;
    let soft = l.node("Softplus", &[&minus], &[])?;
    let value = l.node("Neg", &[&soft], &[])?;
    l.answer(value)
}

fn clip_known(l: &mut Lower, args: &Args, low: f64, high: f64) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (value, dtype) = (l.value(x)?, l.dtype(x));
    let (low, high) = (l.number(low, dtype)?, l.number(high, dtype)?);
    let value = l.node("Clip", &[&value, &low, &high], &[])?;
    l.answer(value)
}

fn hardtanh(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    clip_known(l, args, args.float("min_val")?, args.float("max_val")?)
}

fn hardsigmoid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node("HardSigmoid", &[&x], &[("alpha", Attr::Float(1.0 / 6.0)), ("beta", Attr::Float(0.5))])?;
    l.answer(value)
}

fn hardshrink(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let (size, limit, zero) =
        (l.node("Abs", &[&x], &[])?, l.number(args.float("lambd")?, dtype)?, l.number(0.0, dtype)?);
    let small = l.node("LessOrEqual", &[&size, &limit], &[])?;
    let value = l.node("Where", &[&small, &zero, &x], &[])?;
    l.answer(value)
}

fn softshrink(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let limit = args.float("lambd")?;
    let (low, high) = (l.number(-limit, dtype)?, l.number(limit, dtype)?);
    let inside = l.node("Clip", &[&x, &low, &high], &[])?;
    let value = l.node("Sub", &[&x, &inside], &[])?;
    l.answer(value)
}

fn tanhshrink(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let soft = l.node("Tanh", &[&x], &[])?;
    let value = l.node("Sub", &[&x, &soft], &[])?;
    l.answer(value)
}

fn threshold(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let value = l.value(x)?;
    let (limit, other) = (l.scalar(args.get("threshold"), dtype)?, l.scalar(args.get("value"), dtype)?);
    let above = l.node("Greater", &[&value, &limit], &[])?;
    let value = l.node("Where", &[&above, &value, &other], &[])?;
    l.answer(value)
}

fn leaky_relu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node("LeakyRelu", &[&x], &[("alpha", Attr::Float(args.float("negative_slope")? as f32))])?;
    l.answer(value)
}

fn elu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (alpha, scale, inner) = (args.float("alpha")?, args.float("scale")?, args.float("input_scale")?);
    if inner != 1.0 || scale != 1.0 {
        // The only other use is selu, taken apart.
        let (x, dtype) = float_of(l, args.tensor("self")?)?;
        if inner != 1.0 {
            return Err(Error::beyond("elu with an input scale"));
        }
        let value = l.node("Elu", &[&x], &[("alpha", Attr::Float(alpha as f32))])?;
        let scale = l.number(scale, dtype)?;
        let value = l.node("Mul", &[&value, &scale], &[])?;
        return l.answer(value);
    }
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node("Elu", &[&x], &[("alpha", Attr::Float(alpha as f32))])?;
    l.answer(value)
}

fn celu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node("Celu", &[&x], &[("alpha", Attr::Float(args.float("alpha")? as f32))])?;
    l.answer(value)
}

fn prelu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, weight) = (args.tensor("self")?, args.tensor("weight")?);
    let (value, rank) = (l.value(x)?, l.rank(x));
    let mut slope = l.value(weight)?;
    // One slope for each channel, which is axis 1.
    if rank > 2 && l.rank(weight) == 1 && l.size(weight, 0)? != 1 {
        let mut shape = vec![1; rank - 1];
        shape[0] = -1;
        let shape = l.ints(&shape)?;
        slope = l.reshape(&slope, &shape)?;
    }
    let value = l.node("PRelu", &[&value, &slope], &[])?;
    l.answer(value)
}

fn glu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let value = l.value(x)?;
    let halves = l.nodes("Split", &[&value], 2, &[("axis", int(axis as i64)), ("num_outputs", int(2))])?;
    let gate = l.node("Sigmoid", &[&halves[1]], &[])?;
    let value = l.node("Mul", &[&halves[0], &gate], &[])?;
    l.answer(value)
}

fn clamp(l: &mut Lower, args: &Args, low: &str, high: &str) -> Result<Vec<Value>> {
    let x = args.get("self").clone();
    let bounds: Vec<Value> = [low, high].iter().map(|name| args.get(name).clone()).collect();
    let operands: Vec<&Value> = std::iter::once(&x).chain(bounds.iter().filter(|bound| !bound.is_none())).collect();
    let dtype = l.result_type(&operands)?;
    let mut value = l.scalar(&x, dtype)?;
    if bounds.iter().all(|bound| !matches!(bound, Value::Tensor(_))) {
        let mut inputs = [value, "".into(), "".into()];
        for (at, bound) in bounds.iter().enumerate().filter(|(_, bound)| !bound.is_none()) {
            inputs[at + 1] = l.scalar(bound, dtype)?;
        }
        let value = l.node("Clip", &[&inputs[0], &inputs[1], &inputs[2]], &[])?;
        return l.answer(value);
    }
    for (bound, operator) in bounds.iter().zip(["Max", "Min"]) {
        if !bound.is_none() {
            let bound = l.scalar(bound, dtype)?;
            value = l.node(operator, &[&value, &bound], &[])?;
        }
    }
    l.answer(value)
}

fn addc(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let [x, a, b] = ["self", "tensor1", "tensor2"].map(|name| args.get(name).clone());
    let dtype = l.result_type(&[&x, &a, &b])?;
    if operator == "Div" && !dtype.is_float() {
        return Err(Error::invalid("addcdiv of integers"));
    }
    let mut product = binary(l, &a, &b, dtype, operator)?;
    if !matches!(args.get("value"), Value::None | Value::Int(Int::Known(1))) {
        let scale = l.scalar(args.get("value"), dtype)?;
        product = l.node("Mul", &[&product, &scale], &[])?;
    }
    let x = l.scalar(&x, dtype)?;
    let value = l.node("Add", &[&x, &product], &[])?;
    l.answer(value)
}

fn lerp(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let [x, end, weight] = ["self", "end", "weight"].map(|name| args.get(name).clone());
    let dtype = l.result_type(&[&x, &end])?;
    let (x, end) = both(l, &x, &end, dtype)?;
    let weight = l.scalar(&weight, dtype)?;
    let way = l.node("Sub", &[&end, &x], &[])?;
    let way = l.node("Mul", &[&way, &weight], &[])?;
    let value = l.node("Add", &[&x, &way], &[])?;
    l.answer(value)
}

fn where_(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let condition = truth(l, args.get("condition"))?;
    let (a, b) = (args.any(&["self", "input"]).clone(), args.get("other").clone());
    if a.is_none() {
        return Err(Error::beyond("where with a condition alone"));
    }
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = both(l, &a, &b, dtype)?;
    let value = l.node("Where", &[&condition, &a, &b], &[])?;
    l.answer(value)
}

fn masked_fill(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let mask = truth(l, args.get("mask"))?;
    let fill = l.scalar(args.get("value"), dtype)?;
    let value = l.value(x)?;
    let value = l.node("Where", &[&mask, &fill, &value], &[])?;
    l.answer(value)
}

fn nan_to_num(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let value = l.value(x)?;
    if !dtype.is_float() {
        let value = l.node("Identity", &[&value], &[])?;
        return l.answer(value);
    }
    let greatest = match dtype {
        DType::F32 => f64::from(f32::MAX),
        DType::F64 => f64::MAX,
        DType::F16 => 65504.0,
        other => return Err(Error::beyond(format!("nan_to_num of {other}"))),
    };
    let nan = l.number(args.optional_float("nan")?.unwrap_or(0.0), dtype)?;
    let high = l.number(args.optional_float("posinf")?.unwrap_or(greatest), dtype)?;
    let low = l.number(args.optional_float("neginf")?.unwrap_or(-greatest), dtype)?;
    let is = l.node("IsNaN", &[&value], &[])?;
    let mut result = l.node("Where", &[&is, &nan, &value], &[])?;
    for (bound, sign) in [(high, f64::INFINITY), (low, f64::NEG_INFINITY)] {
        let infinite = l.number(sign, dtype)?;
        let is = l.node("Equal", &[&value, &infinite], &[])?;
        result = l.node("Where", &[&is, &bound, &result], &[])?;
    }
    l.answer(result)
}
