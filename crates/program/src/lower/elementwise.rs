//! Arithmetic of two operands.

use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

use super::functions::towards_zero;
use super::types::floating;
use super::{Args, Float, Int, Lower, Row, Value, int};
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
    ("float_power", float_power),
    ("ldexp", ldexp),
    ("atan2", atan2),
    ("arctan2", atan2),
    ("copysign", copysign),
    ("hypot", hypot),
    ("fmax", |l, a| number_of_two(l, a, "Max")),
    ("fmin", |l, a| number_of_two(l, a, "Min")),
    ("logaddexp", |l, a| log_sum(l, a, 1.0)),
    ("logaddexp2", |l, a| log_sum(l, a, std::f64::consts::LN_2)),
    ("xlogy", xlogy),
    ("special_xlogy", xlogy),
    ("heaviside", heaviside),
    ("addcmul", |l, a| addc(l, a, "Mul")),
    ("addcdiv", |l, a| addc(l, a, "Div")),
    ("lerp", lerp),
];

/// Two operands as one type.
pub(super) fn both(l: &mut Lower, a: &Value, b: &Value, dtype: DType) -> Result<(ValueName, ValueName)> {
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

pub(super) fn binary(l: &mut Lower, a: &Value, b: &Value, dtype: DType, operator: &str) -> Result<ValueName> {
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
        Some("trunc") if dtype.is_float() => {
            let quotient = binary(l, &a, &b, dtype, "Div")?;
            towards_zero(l, &quotient)?
        }
        // What is left over is taken off first, so that rounding of the quotient does not reach the next integer.
        Some("floor") if dtype.is_float() => {
            let (a, b) = both(l, &a, &b, dtype)?;
            let rest = remainder(l, &a, &b, dtype)?;
            let exact = l.node("Sub", &[&a, &rest], &[])?;
            let whole = l.node("Div", &[&exact, &b], &[])?;
            let whole = l.node("Round", &[&whole], &[])?;
            let zero = l.number(0.0, dtype)?;
            let by_zero = l.node("Equal", &[&b, &zero], &[])?;
            let plain = l.node("Div", &[&a, &b], &[])?;
            l.node("Where", &[&by_zero, &plain, &whole], &[])?
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

/// PyTorch gives the sign of the divisor: what C gives, and the divisor once more where signs differ.
fn remainder(l: &mut Lower, a: &str, b: &str, dtype: DType) -> Result<ValueName> {
    let rest = l.node("Mod", &[a, b], &[("fmod", int(1))])?;
    let zero = l.number(0.0, dtype)?;
    let negative = |l: &mut Lower, value: &str| l.node("Less", &[value, &zero], &[]);
    let (rest_negative, divisor_negative) = (negative(l, &rest)?, negative(l, b)?);
    let differ = l.node("Xor", &[&rest_negative, &divisor_negative], &[])?;
    let none = l.node("Equal", &[&rest, &zero], &[])?;
    let some = l.node("Not", &[&none], &[])?;
    let differ = l.node("And", &[&differ, &some], &[])?;
    let more = l.node("Add", &[&rest, b], &[])?;
    l.node("Where", &[&differ, &more, &rest], &[])
}

fn modulo(l: &mut Lower, args: &Args, as_c: bool) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = both(l, &a, &b, dtype)?;
    let value = match (dtype.is_float(), as_c) {
        (_, true) => l.node("Mod", &[&a, &b], &[("fmod", int(1))])?,
        (false, false) => l.node("Mod", &[&a, &b], &[])?,
        (true, false) => remainder(l, &a, &b, dtype)?,
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

/// Both operands as the float type of both.
fn floats(l: &mut Lower, args: &Args) -> Result<(ValueName, ValueName, DType)> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = floating(l.result_type(&[&a, &b])?);
    let (a, b) = both(l, &a, &b, dtype)?;
    Ok((a, b, dtype))
}

fn float_power(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let value = binary(l, args.get("self"), args.get("exponent"), DType::F64, "Pow")?;
    l.answer(value)
}

/// `a × 2^b`
fn ldexp(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b, dtype) = floats(l, args)?;
    let two = l.number(2.0, dtype)?;
    let factor = l.node("Pow", &[&two, &b], &[])?;
    let value = l.node("Mul", &[&a, &factor], &[])?;
    l.answer(value)
}

/// The angle of a point (b, a): that of its quotient, half a turn more on the left; a quarter on the axis.
fn atan2(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (y, x, dtype) = floats(l, args)?;
    let pi = std::f64::consts::PI;
    let zero = l.number(0.0, dtype)?;
    let quotient = l.node("Div", &[&y, &x], &[])?;
    let angle = l.node("Atan", &[&quotient], &[])?;
    let below = l.node("Less", &[&y, &zero], &[])?;
    let turn = |l: &mut Lower, size: f64| -> Result<ValueName> {
        let (minus, plus) = (l.number(-size, dtype)?, l.number(size, dtype)?);
        l.node("Where", &[&below, &minus, &plus], &[])
    };
    let (half, quarter) = (turn(l, pi)?, turn(l, pi / 2.0)?);
    let left = l.node("Less", &[&x, &zero], &[])?;
    let moved = l.node("Add", &[&angle, &half], &[])?;
    let angle = l.node("Where", &[&left, &moved, &angle], &[])?;
    let level = l.node("Equal", &[&y, &zero], &[])?;
    let quarter = l.node("Where", &[&level, &zero, &quarter], &[])?;
    let upright = l.node("Equal", &[&x, &zero], &[])?;
    let value = l.node("Where", &[&upright, &quarter, &angle], &[])?;
    l.answer(value)
}

/// The size of one with the sign of the other; a negative zero has one too.
fn copysign(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b, dtype) = floats(l, args)?;
    let zero = l.number(0.0, dtype)?;
    let size = l.node("Abs", &[&a], &[])?;
    let minus = l.node("Neg", &[&size], &[])?;
    let inverse = l.node("Reciprocal", &[&b], &[])?;
    let below = l.node("Less", &[&b, &zero], &[])?;
    let under = l.node("Less", &[&inverse, &zero], &[])?;
    let below = l.node("Or", &[&below, &under], &[])?;
    let value = l.node("Where", &[&below, &minus, &size], &[])?;
    l.answer(value)
}

fn hypot(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b, _) = floats(l, args)?;
    let (a, b) = (l.node("Mul", &[&a, &a], &[])?, l.node("Mul", &[&b, &b], &[])?);
    let sum = l.node("Add", &[&a, &b], &[])?;
    let value = l.node("Sqrt", &[&sum], &[])?;
    l.answer(value)
}

/// Minimum or maximum that passes over what is no number.
fn number_of_two(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    if !dtype.is_float() {
        return super::compare::least(l, args, operator);
    }
    let (a, b) = both(l, &a, &b, dtype)?;
    let least = l.node(operator, &[&a, &b], &[])?;
    let (no_a, no_b) = (l.node("IsNaN", &[&a], &[])?, l.node("IsNaN", &[&b], &[])?);
    let value = l.node("Where", &[&no_a, &b, &least], &[])?;
    let value = l.node("Where", &[&no_b, &a, &value], &[])?;
    l.answer(value)
}

/// `log(exp a + exp b)`, in units of a logarithm.
fn log_sum(l: &mut Lower, args: &Args, unit: f64) -> Result<Vec<Value>> {
    let (mut a, mut b, dtype) = floats(l, args)?;
    let unit_value = l.number(unit, dtype)?;
    if unit != 1.0 {
        a = l.node("Mul", &[&a, &unit_value], &[])?;
        b = l.node("Mul", &[&b, &unit_value], &[])?;
    }
    let mut value = super::scan::log_add(l, &a, &b, dtype)?;
    if unit != 1.0 {
        value = l.node("Div", &[&value, &unit_value], &[])?;
    }
    l.answer(value)
}

/// `a log b`, and 0 where a is 0.
fn xlogy(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b, dtype) = floats(l, args)?;
    let (log, zero) = (l.node("Log", &[&b], &[])?, l.number(0.0, dtype)?);
    let product = l.node("Mul", &[&a, &log], &[])?;
    let (none, bad) = (l.node("Equal", &[&a, &zero], &[])?, l.node("IsNaN", &[&b], &[])?);
    let value = l.node("Where", &[&none, &zero, &product], &[])?;
    let value = l.node("Where", &[&bad, &b, &value], &[])?;
    l.answer(value)
}

fn heaviside(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("values").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = both(l, &a, &b, dtype)?;
    let (zero, one) = (l.number(0.0, dtype)?, l.number(1.0, dtype)?);
    let (above, level) = (l.node("Greater", &[&a, &zero], &[])?, l.node("Equal", &[&a, &zero], &[])?);
    let value = l.node("Where", &[&above, &one, &zero], &[])?;
    let value = l.node("Where", &[&level, &b, &value], &[])?;
    l.answer(value)
}
