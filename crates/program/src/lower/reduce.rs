//! Sums, means, extremes and the like along axes.

use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

use super::elementwise::least;
use super::types::floating;
use super::{Args, Float, Int, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("sum", sum),
    ("mean", mean),
    ("prod", prod),
    ("amax", |l, a| plain(l, a, "ReduceMax")),
    ("amin", |l, a| plain(l, a, "ReduceMin")),
    ("max", |l, a| extreme(l, a, true)),
    ("min", |l, a| extreme(l, a, false)),
    ("any", |l, a| truth(l, a, "ReduceMax")),
    ("all", |l, a| truth(l, a, "ReduceMin")),
    ("argmax", |l, a| position(l, a, "ArgMax")),
    ("argmin", |l, a| position(l, a, "ArgMin")),
    ("var", |l, a| spread(l, a, false)),
    ("std", |l, a| spread(l, a, true)),
    ("var_mean", |l, a| with_mean(l, a, false)),
    ("std_mean", |l, a| with_mean(l, a, true)),
    ("linalg_vector_norm", norm),
    ("norm", norm),
    ("frobenius_norm", norm),
    ("logsumexp", logsumexp),
    ("cumsum", cumsum),
    ("cumprod", |_, _| Err(Error::beyond("cumprod"))),
    ("diff", diff),
    ("mse_loss", |l, a| loss(l, a, false)),
    ("l1_loss", |l, a| loss(l, a, true)),
    ("cdist", cdist),
];

/// The axes of a call as a vector of the graph; the empty name for all.
fn axes(l: &mut Lower, args: &Args, x: TensorId) -> Result<ValueName> {
    let dims = args.ints("dim")?;
    if dims.is_empty() {
        return Ok("".into());
    }
    let axes: Vec<i64> = dims.into_iter().map(|dim| l.axis(x, dim).map(|axis| axis as i64)).collect::<Result<_>>()?;
    if l.rank(x) == 0 {
        return Ok("".into());
    }
    l.ints(&axes)
}

fn reduced(l: &mut Lower, operator: &str, value: &str, axes: &str, keep: bool) -> Result<ValueName> {
    l.node(operator, &[value, axes], &[("keepdims", int(i64::from(keep)))])
}

fn sum(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let own = l.dtype(x);
    let dtype = args.dtype("dtype")?.unwrap_or(if own.is_float() { own } else { DType::I64 });
    let (value, axes) = (l.value_as(x, dtype)?, axes(l, args, x)?);
    let value = reduced(l, "ReduceSum", &value, &axes, args.bool("keepdim")?)?;
    l.answer(value)
}

fn mean(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = args.dtype("dtype")?.unwrap_or(l.dtype(x));
    if !dtype.is_float() {
        return Err(Error::invalid(format!("a mean of {dtype}")));
    }
    let (value, axes) = (l.value_as(x, dtype)?, axes(l, args, x)?);
    let value = reduced(l, "ReduceMean", &value, &axes, args.bool("keepdim")?)?;
    l.answer(value)
}

fn prod(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let own = l.dtype(x);
    let dtype = args.dtype("dtype")?.unwrap_or(if own.is_float() { own } else { DType::I64 });
    let (value, axes) = (l.value_as(x, dtype)?, axes(l, args, x)?);
    let value = reduced(l, "ReduceProd", &value, &axes, args.bool("keepdim")?)?;
    l.answer(value)
}

/// Reductions of which not every runtime has truth values.
fn as_number(l: &mut Lower, x: TensorId) -> Result<(ValueName, DType)> {
    let dtype = l.dtype(x);
    let number = if dtype == DType::Bool { DType::I32 } else { dtype };
    Ok((l.value_as(x, number)?, number))
}

fn plain(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let ((value, number), axes) = (as_number(l, x)?, axes(l, args, x)?);
    let value = reduced(l, operator, &value, &axes, args.bool("keepdim")?)?;
    let value = l.cast(&value, number, dtype)?;
    l.answer(value)
}

/// `max()`, `max(dim)` with positions, `max(other)`.
fn extreme(l: &mut Lower, args: &Args, greatest: bool) -> Result<Vec<Value>> {
    if !args.get("other").is_none() {
        return least(l, args, if greatest { "Max" } else { "Min" });
    }
    let operator = if greatest { "ReduceMax" } else { "ReduceMin" };
    if args.get("dim").is_none() {
        return plain(l, args, operator);
    }
    let mut results = plain(l, args, operator)?;
    results.extend(position(l, args, if greatest { "ArgMax" } else { "ArgMin" })?);
    Ok(results)
}

fn truth(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let value = l.value_as(x, DType::Bool)?;
    let value = l.cast(&value, DType::Bool, DType::I32)?;
    let axes = axes(l, args, x)?;
    let value = reduced(l, operator, &value, &axes, args.bool("keepdim")?)?;
    let value = l.cast(&value, DType::I32, DType::Bool)?;
    l.answer(value)
}

fn position(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (value, _) = as_number(l, x)?;
    let keep = args.bool("keepdim")?;
    if args.get("dim").is_none() || l.rank(x) == 0 {
        if keep && l.rank(x) > 0 {
            return Err(Error::beyond(format!("{} of all axes that keeps them", args.operator)));
        }
        let flat = l.ints(&[-1])?;
        let flat = l.reshape(&value, &flat)?;
        let value = l.node(operator, &[&flat], &[("axis", int(0)), ("keepdims", int(0))])?;
        return l.answer(value);
    }
    let axis = l.axis(x, args.int("dim")?)?;
    let attributes = [("axis", int(axis as i64)), ("keepdims", int(i64::from(keep)))];
    let value = l.node(operator, &[&value], &attributes)?;
    l.answer(value)
}

/// Mean and variance along axes.
fn moments(l: &mut Lower, args: &Args) -> Result<(ValueName, ValueName)> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    if !dtype.is_float() {
        return Err(Error::invalid(format!("a variance of {dtype}")));
    }
    // `correction` counts what is taken from the number of values; the older form says `unbiased`.
    let correction = match args.get("correction") {
        Value::Int(Int::Known(int)) => *int as f64,
        Value::Float(Float::Known(float)) => *float,
        _ => match args.get("unbiased") {
            Value::Bool(false) => 0.0,
            _ => 1.0,
        },
    };
    let keep = args.bool("keepdim")?;
    let (value, axes) = (l.value(x)?, axes(l, args, x)?);
    let mean = reduced(l, "ReduceMean", &value, &axes, true)?;
    let apart = l.node("Sub", &[&value, &mean], &[])?;
    let squares = l.node("Mul", &[&apart, &apart], &[])?;
    let mut variance = reduced(l, "ReduceMean", &squares, &axes, keep)?;
    if correction != 0.0 {
        let shape = l.shape_of(&value)?;
        let sizes = if axes.is_empty() { shape } else { l.node("Gather", &[&shape, &axes], &[("axis", int(0))])? };
        let count = l.node("ReduceProd", &[&sizes], &[("keepdims", int(0))])?;
        let count = l.cast(&count, DType::I64, dtype)?;
        let (correction, zero) = (l.number(correction, dtype)?, l.number(0.0, dtype)?);
        let less = l.node("Sub", &[&count, &correction], &[])?;
        let less = l.node("Max", &[&less, &zero], &[])?;
        let factor = l.node("Div", &[&count, &less], &[])?;
        variance = l.node("Mul", &[&variance, &factor], &[])?;
    }
    let mean = if keep { mean } else { reduced(l, "ReduceMean", &value, &axes, false)? };
    Ok((mean, variance))
}

fn spread(l: &mut Lower, args: &Args, root: bool) -> Result<Vec<Value>> {
    let (_, mut variance) = moments(l, args)?;
    if root {
        variance = l.node("Sqrt", &[&variance], &[])?;
    }
    l.answer(variance)
}

fn with_mean(l: &mut Lower, args: &Args, root: bool) -> Result<Vec<Value>> {
    let (mean, mut variance) = moments(l, args)?;
    if root {
        variance = l.node("Sqrt", &[&variance], &[])?;
    }
    let mut results = l.answer(variance)?;
    results.extend(l.answer(mean)?);
    Ok(results)
}

fn norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let order = match args.any(&["ord", "p"]) {
        Value::None => 2.0,
        Value::Int(Int::Known(int)) => *int as f64,
        Value::Float(Float::Known(float)) => *float,
        _ => return Err(Error::beyond("a norm of an unknown order")),
    };
    let dtype = args.dtype("dtype")?.unwrap_or(l.dtype(x));
    let keep = args.bool("keepdim")?;
    let (value, axes) = (l.value_as(x, dtype)?, axes(l, args, x)?);
    let size = |l: &mut Lower| l.node("Abs", &[&value], &[]);
    let value = if order == 2.0 {
        reduced(l, "ReduceL2", &value, &axes, keep)?
    } else if order == 1.0 {
        reduced(l, "ReduceL1", &value, &axes, keep)?
    } else if order == f64::INFINITY {
        let size = size(l)?;
        reduced(l, "ReduceMax", &size, &axes, keep)?
    } else if order == f64::NEG_INFINITY {
        let size = size(l)?;
        reduced(l, "ReduceMin", &size, &axes, keep)?
    } else if order == 0.0 {
        return Err(Error::beyond("a norm of order 0"));
    } else {
        let size = size(l)?;
        let (power, root) = (l.number(order, dtype)?, l.number(1.0 / order, dtype)?);
        let powers = l.node("Pow", &[&size, &power], &[])?;
        let total = reduced(l, "ReduceSum", &powers, &axes, keep)?;
        l.node("Pow", &[&total, &root], &[])?
    };
    l.answer(value)
}

fn logsumexp(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = floating(l.dtype(x));
    let (value, axes) = (l.value_as(x, dtype)?, axes(l, args, x)?);
    let value = reduced(l, "ReduceLogSumExp", &value, &axes, args.bool("keepdim")?)?;
    l.answer(value)
}

fn cumsum(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let own = l.dtype(x);
    let dtype = args.dtype("dtype")?.unwrap_or(if own.is_float() { own } else { DType::I64 });
    let value = l.value_as(x, dtype)?;
    if l.rank(x) == 0 {
        let value = l.node("Identity", &[&value], &[])?;
        return l.answer(value);
    }
    let axis = l.constant(&rekindle_onnx::Array::scalar(axis as i64))?;
    let value = l.node("CumSum", &[&value, &axis], &[])?;
    l.answer(value)
}

fn diff(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let dtype = l.dtype(x);
    if args.int("n")? != 1 {
        return Err(Error::beyond("differences of differences"));
    }
    let mut parts = Vec::new();
    for name in ["prepend", "self", "append"] {
        if let Some(part) = args.optional(name)? {
            parts.push(l.value_as(part, dtype)?);
        }
    }
    let value = if let [only] = parts.as_slice() {
        only.clone()
    } else {
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        l.node("Concat", &parts, &[("axis", int(axis as i64))])?
    };
    let mut cut = |start: i64, end: i64| {
        let (start, end, axis) = (l.ints(&[start])?, l.ints(&[end])?, l.ints(&[axis as i64])?);
        l.node("Slice", &[&value, &start, &end, &axis], &[])
    };
    let (later, earlier) = (cut(1, i64::MAX)?, cut(0, -1)?);
    let value = if dtype == DType::Bool {
        l.node("Xor", &[&later, &earlier], &[])?
    } else {
        l.node("Sub", &[&later, &earlier], &[])?
    };
    l.answer(value)
}

fn loss(l: &mut Lower, args: &Args, absolute: bool) -> Result<Vec<Value>> {
    let (x, y) = (args.get("self").clone(), args.get("target").clone());
    let dtype = l.result_type(&[&x, &y])?;
    let (x, y) = (l.scalar(&x, dtype)?, l.scalar(&y, dtype)?);
    let apart = l.node("Sub", &[&x, &y], &[])?;
    let each = if absolute { l.node("Abs", &[&apart], &[])? } else { l.node("Mul", &[&apart, &apart], &[])? };
    let value = match args.int("reduction")? {
        0 => each,
        1 => reduced(l, "ReduceMean", &each, "", false)?,
        _ => reduced(l, "ReduceSum", &each, "", false)?,
    };
    l.answer(value)
}

/// Distances between rows of two matrices.
fn cdist(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b, p) = (args.tensor("x1")?, args.tensor("x2")?, args.float("p")?);
    let (rank_a, rank_b) = (l.rank(a) as i64, l.rank(b) as i64);
    let (a, b) = (l.value(a)?, l.value(b)?);
    let (after, before) = (l.ints(&[rank_a - 1])?, l.ints(&[rank_b - 2])?);
    let a = l.node("Unsqueeze", &[&a, &after], &[])?;
    let b = l.node("Unsqueeze", &[&b, &before], &[])?;
    let apart = l.node("Sub", &[&a, &b], &[])?;
    let last = l.ints(&[-1])?;
    let operator = match p {
        1.0 => "ReduceL1",
        2.0 => "ReduceL2",
        other => return Err(Error::beyond(format!("distances of order {other}"))),
    };
    let value = reduced(l, operator, &apart, &last, false)?;
    l.answer(value)
}
