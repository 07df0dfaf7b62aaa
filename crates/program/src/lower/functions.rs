//! Functions of one operand.

use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

use super::types::floating;
use super::{Args, Lower, Row, TensorId, Value};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
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
    ("asinh", |l, a| float(l, a, "Asinh")),
    ("acosh", |l, a| float(l, a, "Acosh")),
    ("atanh", |l, a| float(l, a, "Atanh")),
    ("arcsin", |l, a| float(l, a, "Asin")),
    ("arccos", |l, a| float(l, a, "Acos")),
    ("arctan", |l, a| float(l, a, "Atan")),
    ("erf", |l, a| float(l, a, "Erf")),
    ("special_erf", |l, a| float(l, a, "Erf")),
    ("special_expit", |l, a| float(l, a, "Sigmoid")),
    ("special_exp2", exp2),
    ("special_expm1", |l, a| shifted(l, a, "Exp", None, Some(-1.0))),
    ("special_log1p", |l, a| shifted(l, a, "Log", Some(1.0), None)),
    ("erfc", erfc),
    ("special_erfc", erfc),
    ("frac", frac),
    ("fix", trunc),
    ("logit", logit),
    ("special_logit", logit),
    ("sinc", sinc),
    ("special_sinc", sinc),
    ("special_entr", entropy),
    ("deg2rad", |l, a| scaled(l, a, std::f64::consts::PI / 180.0)),
    ("rad2deg", |l, a| scaled(l, a, 180.0 / std::f64::consts::PI)),
    ("positive", |l, a| whole(l, a, "Identity")),
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
    ("isposinf", |l, a| infinite(l, a, f64::INFINITY)),
    ("isneginf", |l, a| infinite(l, a, f64::NEG_INFINITY)),
    ("isfinite", finite),
    ("signbit", signbit),
    ("mish", |l, a| same(l, a, "Mish")),
    ("softsign", |l, a| same(l, a, "Softsign")),
    ("hardswish", |l, a| same(l, a, "HardSwish")),
    ("selu", |l, a| same(l, a, "Selu")),
    ("nan_to_num", nan_to_num),
];

pub(super) fn towards_zero(l: &mut Lower, value: &str) -> Result<ValueName> {
    let sign = l.node("Sign", &[value], &[])?;
    let size = l.node("Abs", &[value], &[])?;
    let size = l.node("Floor", &[&size], &[])?;
    l.node("Mul", &[&sign, &size], &[])
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
        "Sign" if dtype == DType::Bool => l.node("Identity", &[&value], &[])?,
        // What is no number has no sign, which PyTorch writes as 0.
        "Sign" if dtype.is_float() => {
            let (sign, nan, zero) =
                (l.node("Sign", &[&value], &[])?, l.node("IsNaN", &[&value], &[])?, l.number(0.0, dtype)?);
            l.node("Where", &[&nan, &zero, &sign], &[])?
        }
        "Relu" | "Abs" | "Neg" if dtype == DType::Bool => {
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
    let x = args.tensor("self")?;
    let decimals = if args.get("decimals").is_none() { 0 } else { args.int("decimals")? };
    if decimals == 0 || !l.dtype(x).is_float() {
        return whole(l, args, "Round");
    }
    let scale = 10_f64.powi(i32::try_from(decimals.abs()).map_err(|_| Error::beyond("so many decimals"))?);
    let (value, scale) = (l.value(x)?, l.number(scale, l.dtype(x))?);
    let (there, back) = if decimals > 0 { ("Mul", "Div") } else { ("Div", "Mul") };
    let value = l.node(there, &[&value, &scale], &[])?;
    let value = l.node("Round", &[&value], &[])?;
    let value = l.node(back, &[&value, &scale], &[])?;
    l.answer(value)
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

pub(super) fn float(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
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

fn scaled(l: &mut Lower, args: &Args, factor: f64) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let factor = l.number(factor, dtype)?;
    let value = l.node("Mul", &[&x, &factor], &[])?;
    l.answer(value)
}

fn erfc(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let (erf, one) = (l.node("Erf", &[&x], &[])?, l.number(1.0, dtype)?);
    let value = l.node("Sub", &[&one, &erf], &[])?;
    l.answer(value)
}

fn frac(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let value = l.value(x)?;
    let whole = towards_zero(l, &value)?;
    let value = l.node("Sub", &[&value, &whole], &[])?;
    l.answer(value)
}

fn logit(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (mut x, dtype) = float_of(l, args.tensor("self")?)?;
    if let Some(eps) = args.optional_float("eps")? {
        let (low, high) = (l.number(eps, dtype)?, l.number(1.0 - eps, dtype)?);
        x = l.node("Clip", &[&x, &low, &high], &[])?;
    }
    let one = l.number(1.0, dtype)?;
    let rest = l.node("Sub", &[&one, &x], &[])?;
    let odds = l.node("Div", &[&x, &rest], &[])?;
    let value = l.node("Log", &[&odds], &[])?;
    l.answer(value)
}

/// `sin(πx) / πx`, and 1 at 0.
fn sinc(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let (pi, zero, one) = (l.number(std::f64::consts::PI, dtype)?, l.number(0.0, dtype)?, l.number(1.0, dtype)?);
    let turned = l.node("Mul", &[&x, &pi], &[])?;
    let sine = l.node("Sin", &[&turned], &[])?;
    let ratio = l.node("Div", &[&sine, &turned], &[])?;
    let middle = l.node("Equal", &[&x, &zero], &[])?;
    let value = l.node("Where", &[&middle, &one, &ratio], &[])?;
    l.answer(value)
}

/// `-x log x`, 0 at 0, and minus infinity below.
fn entropy(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let (zero, none) = (l.number(0.0, dtype)?, l.number(f64::NEG_INFINITY, dtype)?);
    let log = l.node("Log", &[&x], &[])?;
    let product = l.node("Mul", &[&x, &log], &[])?;
    let minus = l.node("Neg", &[&product], &[])?;
    let (nothing, below) = (l.node("Equal", &[&x, &zero], &[])?, l.node("Less", &[&x, &zero], &[])?);
    let value = l.node("Where", &[&nothing, &zero, &minus], &[])?;
    let value = l.node("Where", &[&below, &none, &value], &[])?;
    l.answer(value)
}

fn infinite(l: &mut Lower, args: &Args, which: f64) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let value = l.value(x)?;
    let value = if dtype.is_float() {
        let which = l.number(which, dtype)?;
        l.node("Equal", &[&value, &which], &[])?
    } else {
        let same = l.node("Equal", &[&value, &value], &[])?;
        l.node("Not", &[&same], &[])?
    };
    l.answer(value)
}

fn finite(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let value = l.value(x)?;
    if !dtype.is_float() {
        let value = l.node("Equal", &[&value, &value], &[])?;
        return l.answer(value);
    }
    // Only what is no number or infinite is not zero apart from itself.
    let zero = l.number(0.0, dtype)?;
    let none = l.node("Mul", &[&value, &zero], &[])?;
    let value = l.node("Equal", &[&none, &zero], &[])?;
    l.answer(value)
}

/// Below zero, or the negative zero, whose inverse is minus infinity.
fn signbit(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    if dtype == DType::Bool {
        return Err(Error::beyond("signbit of truth values"));
    }
    let value = l.value(x)?;
    let zero = l.number(0.0, dtype)?;
    let mut below = l.node("Less", &[&value, &zero], &[])?;
    if dtype.is_float() {
        let inverse = l.node("Reciprocal", &[&value], &[])?;
        let other = l.node("Less", &[&inverse, &zero], &[])?;
        below = l.node("Or", &[&below, &other], &[])?;
    }
    l.answer(below)
}
