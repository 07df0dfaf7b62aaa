//! Sums, means, extremes and the like along axes.

use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

use super::compare::least;
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
    ("any", |l, a| truth(l, a, "ReduceSum")),
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
    ("linalg_norm", norm),
    ("linalg_matrix_norm", matrix_norm),
    ("dist", dist),
    ("logsumexp", logsumexp),
    ("nansum", |l, a| without_nan(l, a, sum)),
    ("nanmean", |l, a| without_nan(l, a, mean)),
    ("count_nonzero", count_nonzero),
    ("aminmax", aminmax),
    ("median", median),
    ("trace", trace),
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
        let flat = l.ints(&[-1])?;
        let flat = l.reshape(&value, &flat)?;
        let mut value = l.node(operator, &[&flat], &[("axis", int(0)), ("keepdims", int(0))])?;
        if keep && l.rank(x) > 0 {
            let ones = l.ints(&vec![1; l.rank(x)])?;
            value = l.reshape(&value, &ones)?;
        }
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
    let (value, axes) = (l.value_as(x, dtype)?, axes(l, args, x)?);
    let value = norm_of(l, &value, &axes, order, dtype, args.bool("keepdim")?)?;
    l.answer(value)
}

/// The norm of an order along axes.
pub(super) fn norm_of(
    l: &mut Lower,
    value: &str,
    axes: &str,
    order: f64,
    dtype: DType,
    keep: bool,
) -> Result<ValueName> {
    if order == 2.0 {
        return reduced(l, "ReduceL2", value, axes, keep);
    }
    let size = l.node("Abs", &[value], &[])?;
    if order == 1.0 {
        reduced(l, "ReduceSum", &size, axes, keep)
    } else if order == f64::INFINITY {
        reduced(l, "ReduceMax", &size, axes, keep)
    } else if order == f64::NEG_INFINITY {
        reduced(l, "ReduceMin", &size, axes, keep)
    } else if order == 0.0 {
        let zero = l.number(0.0, dtype)?;
        let some = l.node("Greater", &[&size, &zero], &[])?;
        let some = l.cast(&some, DType::Bool, dtype)?;
        reduced(l, "ReduceSum", &some, axes, keep)
    } else {
        let (power, root) = (l.number(order, dtype)?, l.number(1.0 / order, dtype)?);
        let powers = l.node("Pow", &[&size, &power], &[])?;
        let total = reduced(l, "ReduceSum", &powers, axes, keep)?;
        l.node("Pow", &[&total, &root], &[])
    }
}

fn logsumexp(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = floating(l.dtype(x));
    let (value, axes) = (l.value_as(x, dtype)?, axes(l, args, x)?);
    let value = reduced(l, "ReduceLogSumExp", &value, &axes, args.bool("keepdim")?)?;
    l.answer(value)
}

/// The Frobenius norm alone: other orders need singular values, or sums of one axis.
fn matrix_norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    match args.get("ord") {
        Value::Str(order) if order == "fro" => {}
        _ => return Err(Error::beyond("a matrix norm that is not the Frobenius one")),
    }
    let x = args.tensor("self")?;
    let dtype = args.dtype("dtype")?.unwrap_or(l.dtype(x));
    let (value, axes) = (l.value_as(x, dtype)?, axes(l, args, x)?);
    let value = reduced(l, "ReduceL2", &value, &axes, args.bool("keepdim")?)?;
    l.answer(value)
}

fn dist(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = (l.scalar(&a, dtype)?, l.scalar(&b, dtype)?);
    let apart = l.node("Sub", &[&a, &b], &[])?;
    let value = norm_of(l, &apart, "", args.float("p")?, dtype, false)?;
    l.answer(value)
}

/// A sum with zeros for what is no number; a mean of the numbers alone.
fn without_nan(l: &mut Lower, args: &Args, run: fn(&mut Lower, &Args) -> Result<Vec<Value>>) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    if !dtype.is_float() {
        return run(l, args);
    }
    let value = l.value(x)?;
    let (nan, zero) = (l.node("IsNaN", &[&value], &[])?, l.number(0.0, dtype)?);
    let clean = l.node("Where", &[&nan, &zero, &value], &[])?;
    let axes = axes(l, args, x)?;
    let to = args.dtype("dtype")?.unwrap_or(dtype);
    let clean = l.cast(&clean, dtype, to)?;
    let keep = args.bool("keepdim")?;
    let mut value = reduced(l, "ReduceSum", &clean, &axes, keep)?;
    if args.operator == "nanmean" {
        let some = l.node("Not", &[&nan], &[])?;
        let some = l.cast(&some, DType::Bool, to)?;
        let count = reduced(l, "ReduceSum", &some, &axes, keep)?;
        value = l.node("Div", &[&value, &count], &[])?;
    }
    l.answer(value)
}

fn count_nonzero(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let some = l.value_as(x, DType::Bool)?;
    let some = l.cast(&some, DType::Bool, DType::I64)?;
    let axes = axes(l, args, x)?;
    let value = reduced(l, "ReduceSum", &some, &axes, false)?;
    l.answer(value)
}

fn aminmax(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mut results = plain(l, args, "ReduceMin")?;
    results.extend(plain(l, args, "ReduceMax")?);
    Ok(results)
}

/// The lower of the two in the middle, of all or along an axis.
fn median(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let mut value = l.value(x)?;
    let along = !args.get("dim").is_none() && l.rank(x) > 0;
    let (axis, size) = if along {
        let axis = l.axis(x, args.int("dim")?)?;
        (axis, l.size(x, axis)?)
    } else {
        let flat = l.ints(&[-1])?;
        value = l.reshape(&value, &flat)?;
        (0, (0..l.rank(x)).try_fold(1, |all: usize, axis| Ok::<_, Error>(all.saturating_mul(l.size(x, axis)?)))?)
    };
    if size == 0 {
        return Err(Error::beyond("the median of nothing"));
    }
    let count = l.ints(&[((size - 1) / 2 + 1) as i64])?;
    let attributes = [("axis", int(axis as i64)), ("largest", int(0)), ("sorted", int(1))];
    let sorted = l.nodes("TopK", &[&value, &count], 2, &attributes)?;
    let (start, end, axes) = (l.ints(&[-1])?, l.ints(&[i64::MAX])?, l.ints(&[axis as i64])?);
    let mut results = Vec::new();
    for part in &sorted[..if args.get("dim").is_none() { 1 } else { 2 }] {
        let mut last = l.node("Slice", &[part, &start, &end, &axes], &[])?;
        if !along || !args.bool("keepdim")? {
            last = l.node("Squeeze", &[&last, &axes], &[])?;
        }
        results.extend(l.answer(last)?);
    }
    Ok(results)
}

fn trace(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let own = l.dtype(x);
    let dtype = if own.is_float() { own } else { DType::I64 };
    let value = l.value_as(x, dtype)?;
    let one = l.node("EyeLike", &[&value], &[("dtype", int(i64::from(DType::Bool.number())))])?;
    let zero = l.number(0.0, dtype)?;
    let value = l.node("Where", &[&one, &value, &zero], &[])?;
    let value = reduced(l, "ReduceSum", &value, "", false)?;
    l.answer(value)
}
