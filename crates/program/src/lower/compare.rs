//! Comparisons, logic, bits, and choices between elements.

use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

use super::elementwise::{binary, both};
use super::{Args, Lower, Row, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
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
    ("bitwise_left_shift", |l, a| shift(l, a, "LEFT")),
    ("__lshift__", |l, a| shift(l, a, "LEFT")),
    ("bitwise_right_shift", |l, a| shift(l, a, "RIGHT")),
    ("__rshift__", |l, a| shift(l, a, "RIGHT")),
    ("greater_equal", |l, a| compare(l, a, "GreaterOrEqual", false)),
    ("less_equal", |l, a| compare(l, a, "LessOrEqual", false)),
    ("isclose", isclose),
    ("isin", isin),
    ("bucketize", |l, a| bucket(l, a, "self", "boundaries")),
    ("searchsorted", |l, a| bucket(l, a, "self", "sorted_sequence")),
    ("clamp", |l, a| clamp(l, a, "min", "max")),
    ("clip", |l, a| clamp(l, a, "min", "max")),
    ("clamp_min", |l, a| clamp(l, a, "min", "")),
    ("clamp_max", |l, a| clamp(l, a, "", "max")),
    ("where", where_),
    ("masked_fill", masked_fill),
];

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

fn where_(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let condition = truth(l, args.get("condition"))?;
    let (a, b) = (args.any(&["self", "input"]).clone(), args.get("other").clone());
    if a.is_none() {
        return super::index::nonzero_numpy(l, args);
    }
    // libtorch has no choice between a tensor and a number: a constant of a trace stays the tensor that it is stored as.
    let dtype = l.promoted(&[&a, &b], false)?;
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

/// A product with, or a quotient by, a power of two: ONNX shifts unsigned integers alone.
fn shift(l: &mut Lower, args: &Args, direction: &'static str) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    if !dtype.is_int() {
        return Err(Error::invalid(format!("bits of {dtype}")));
    }
    let (a, b) = both(l, &a, &b, dtype)?;
    let two = l.number(2.0, dtype)?;
    let factor = l.node("Pow", &[&two, &b], &[])?;
    let value = if direction == "LEFT" {
        l.node("Mul", &[&a, &factor], &[])?
    } else {
        // Rounded down, as bits that fall off are.
        let rest = l.node("Mod", &[&a, &factor], &[])?;
        let exact = l.node("Sub", &[&a, &rest], &[])?;
        l.node("Div", &[&exact, &factor], &[])?
    };
    l.answer(value)
}

/// `|a - b| <= atol + rtol |b|`, or equal.
fn isclose(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = both(l, &a, &b, dtype)?;
    let same = l.node("Equal", &[&a, &b], &[])?;
    if !dtype.is_float() {
        return l.answer(same);
    }
    let apart = l.node("Sub", &[&a, &b], &[])?;
    let apart = l.node("Abs", &[&apart], &[])?;
    let (rtol, atol) = (l.number(args.float("rtol")?, dtype)?, l.number(args.float("atol")?, dtype)?);
    let size = l.node("Abs", &[&b], &[])?;
    let room = l.node("Mul", &[&size, &rtol], &[])?;
    let room = l.node("Add", &[&room, &atol], &[])?;
    let near = l.node("LessOrEqual", &[&apart, &room], &[])?;
    // Infinities are close to themselves alone.
    let far = l.number(f64::INFINITY, dtype)?;
    let finite = l.node("Less", &[&apart, &far], &[])?;
    let near = l.node("And", &[&near, &finite], &[])?;
    let mut value = l.node("Or", &[&same, &near], &[])?;
    if args.bool("equal_nan")? {
        let (no_a, no_b) = (l.node("IsNaN", &[&a], &[])?, l.node("IsNaN", &[&b], &[])?);
        let both = l.node("And", &[&no_a, &no_b], &[])?;
        value = l.node("Or", &[&value, &both], &[])?;
    }
    l.answer(value)
}

/// Each of one beside all of another.
fn against(l: &mut Lower, a: &str, b: &str, operator: &str) -> Result<ValueName> {
    let (last, flat) = (l.ints(&[-1])?, l.ints(&[-1])?);
    let a = l.node("Unsqueeze", &[a, &last], &[])?;
    let b = l.reshape(b, &flat)?;
    l.node(operator, &[&a, &b], &[])
}

fn isin(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("elements").clone(), args.any(&["test_elements", "test_element"]).clone());
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = both(l, &a, &b, dtype)?;
    let equal = against(l, &a, &b, "Equal")?;
    let equal = l.cast(&equal, DType::Bool, DType::I32)?;
    let last = l.ints(&[-1])?;
    let any = l.node("ReduceMax", &[&equal, &last], &[("keepdims", int(0))])?;
    let mut value = l.cast(&any, DType::I32, DType::Bool)?;
    if args.bool("invert")? {
        value = l.node("Not", &[&value], &[])?;
    }
    l.answer(value)
}

/// How many bounds are below, or up to, each value.
fn bucket(l: &mut Lower, args: &Args, values: &str, bounds: &str) -> Result<Vec<Value>> {
    let (a, b) = (args.get(values).clone(), args.tensor(bounds)?);
    if l.rank(b) != 1 || !args.get("sorter").is_none() {
        return Err(Error::beyond(format!("{} of bounds for each row", args.operator)));
    }
    let right = args.bool("right")? || matches!(args.get("side"), Value::Str(side) if side == "right");
    let b = Value::Tensor(b);
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = both(l, &a, &b, dtype)?;
    let passed = against(l, &a, &b, if right { "GreaterOrEqual" } else { "Greater" })?;
    let to = if args.bool("out_int32")? { DType::I32 } else { DType::I64 };
    let passed = l.cast(&passed, DType::Bool, to)?;
    let last = l.ints(&[-1])?;
    let value = l.node("ReduceSum", &[&passed, &last], &[("keepdims", int(0))])?;
    l.answer(value)
}
