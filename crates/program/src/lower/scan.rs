//! Running sums, products and extremes along an axis, and differences.

use rekindle_onnx::builder::ValueName;
use rekindle_onnx::{Array, DType};

use super::functions::float_of;
use super::{Args, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("cumsum", cumsum),
    ("cumprod", cumprod),
    ("logcumsumexp", logcumsumexp),
    ("cummax", |l, a| running(l, a, true)),
    ("cummin", |l, a| running(l, a, false)),
    ("diff", diff),
];

/// The operand in the type that sums have.
fn counted(l: &mut Lower, args: &Args) -> Result<(TensorId, ValueName, DType)> {
    let x = args.tensor("self")?;
    let own = l.dtype(x);
    let dtype = args.dtype("dtype")?.unwrap_or(if own.is_float() { own } else { DType::I64 });
    Ok((x, l.value_as(x, dtype)?, dtype))
}

fn cumsum(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, value, _) = counted(l, args)?;
    let axis = l.axis(x, args.int("dim")?)?;
    if l.rank(x) == 0 {
        let value = l.node("Identity", &[&value], &[])?;
        return l.answer(value);
    }
    let axis = l.constant(&Array::scalar(axis as i64))?;
    let value = l.node("CumSum", &[&value, &axis], &[])?;
    l.answer(value)
}

/// Joins each element with all before it along an axis: with the one before, then with what lies 2, 4, 8 … before, each
/// of which has joined as many itself.
fn joined(
    l: &mut Lower,
    x: TensorId,
    mut value: ValueName,
    dim: i64,
    join: impl Fn(&mut Lower, &str, &str) -> Result<ValueName>,
) -> Result<ValueName> {
    let axis = l.axis(x, dim)?;
    if l.rank(x) == 0 {
        return l.node("Identity", &[&value], &[]);
    }
    let size = l.size(x, axis)? as i64;
    let axes = l.ints(&[axis as i64])?;
    let mut step = 1;
    while step < size {
        let mut cut = |start: i64, end: i64| {
            let (start, end) = (l.ints(&[start])?, l.ints(&[end])?);
            l.node("Slice", &[&value, &start, &end, &axes], &[])
        };
        let (head, later, earlier) = (cut(0, step)?, cut(step, i64::MAX)?, cut(0, -step)?);
        let tail = join(l, &earlier, &later)?;
        value = l.node("Concat", &[&head, &tail], &[("axis", int(axis as i64))])?;
        step *= 2;
    }
    l.node("Identity", &[&value], &[])
}

fn cumprod(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, value, _) = counted(l, args)?;
    let value = joined(l, x, value, args.int("dim")?, |l, a, b| l.node("Mul", &[a, b], &[]))?;
    l.answer(value)
}

/// `log(exp a + exp b)`, computed from the greater one.
pub(super) fn log_add(l: &mut Lower, a: &str, b: &str, dtype: DType) -> Result<ValueName> {
    let most = l.node("Max", &[a, b], &[])?;
    let apart = l.node("Sub", &[a, b], &[])?;
    let apart = l.node("Abs", &[&apart], &[])?;
    let minus = l.node("Neg", &[&apart], &[])?;
    let small = l.node("Exp", &[&minus], &[])?;
    let one = l.number(1.0, dtype)?;
    let small = l.node("Add", &[&small, &one], &[])?;
    let small = l.node("Log", &[&small], &[])?;
    let sum = l.node("Add", &[&most, &small], &[])?;
    // Two equal infinities are apart by no number.
    let same = l.node("Equal", &[a, b], &[])?;
    let ln2 = l.number(std::f64::consts::LN_2, dtype)?;
    let twice = l.node("Add", &[a, &ln2], &[])?;
    l.node("Where", &[&same, &twice, &sum], &[])
}

fn logcumsumexp(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (value, dtype) = float_of(l, x)?;
    let value = joined(l, x, value, args.int("dim")?, |l, a, b| log_add(l, a, b, dtype))?;
    l.answer(value)
}

/// Running extremes and where they are: the latest of equal ones.
fn running(l: &mut Lower, args: &Args, greatest: bool) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dim = args.int("dim")?;
    let (axis, rank) = (l.axis(x, dim)?, l.rank(x));
    if l.dtype(x) == DType::Bool || rank == 0 {
        return Err(Error::beyond(format!("{} of truth values or a scalar", args.operator)));
    }
    let value = l.value(x)?;
    let operator = if greatest { "Max" } else { "Min" };
    let best = joined(l, x, value.clone(), dim, |l, a, b| l.node(operator, &[a, b], &[]))?;
    let size = l.size(x, axis)?;
    if size > 1 << 20 {
        return Err(Error::beyond(format!("{} of {size} elements", args.operator)));
    }
    let mut shape = vec![1; rank];
    shape[axis] = size;
    let places = l.constant(&Array::new(shape, (0..size as i64).collect::<Vec<_>>())?)?;
    let here = l.node("Equal", &[&value, &best], &[])?;
    let none = l.number(0.0, DType::I64)?;
    let at = l.node("Where", &[&here, &places, &none], &[])?;
    let at = joined(l, x, at, dim, |l, a, b| l.node("Max", &[a, b], &[]))?;
    let mut results = l.answer(best)?;
    results.extend(l.answer(at)?);
    Ok(results)
}

fn diff(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let dtype = l.dtype(x);
    let mut parts = Vec::new();
    for name in ["prepend", "self", "append"] {
        if let Some(part) = args.optional(name)? {
            parts.push(l.value_as(part, dtype)?);
        }
    }
    let mut value = if let [only] = parts.as_slice() {
        only.clone()
    } else {
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        l.node("Concat", &parts, &[("axis", int(axis as i64))])?
    };
    let axes = l.ints(&[axis as i64])?;
    let times = args.int("n")?;
    if !(0..=64).contains(&times) {
        return Err(Error::beyond(format!("differences taken {times} times")));
    }
    for _ in 0..times {
        let mut cut = |start: i64, end: i64| {
            let (start, end) = (l.ints(&[start])?, l.ints(&[end])?);
            l.node("Slice", &[&value, &start, &end, &axes], &[])
        };
        let (later, earlier) = (cut(1, i64::MAX)?, cut(0, -1)?);
        value = l.node(if dtype == DType::Bool { "Xor" } else { "Sub" }, &[&later, &earlier], &[])?;
    }
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}
