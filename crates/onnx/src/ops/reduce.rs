//! Reductions along axes.

use super::real::{Real, max, permuted, read, sum, write, zeros};
use super::{HostOp, Inputs, one};
use crate::array::axis;
use crate::{Array, DType, Error, Node, Result, Value};

pub(super) fn find(operator: &str) -> Option<HostOp> {
    Some(match operator {
        "ReduceSum" => |node, inputs| reduce(node, inputs, &SUM),
        "ReduceMean" => |node, inputs| reduce(node, inputs, &MEAN),
        "ReduceProd" => |node, inputs| reduce(node, inputs, &PRODUCT),
        "ReduceMax" => |node, inputs| reduce(node, inputs, &MAX),
        "ReduceMin" => |node, inputs| reduce(node, inputs, &MIN),
        "ReduceL1" => |node, inputs| reduce(node, inputs, &L1),
        "ReduceL2" => |node, inputs| reduce(node, inputs, &L2),
        "ReduceSumSquare" => |node, inputs| reduce(node, inputs, &SUM_SQUARE),
        "ReduceLogSum" => |node, inputs| reduce(node, inputs, &LOG_SUM),
        "ReduceLogSumExp" => |node, inputs| reduce(node, inputs, &LOG_SUM_EXP),
        _ => return None,
    })
}

/// A reduction of integers; the pair is the range of their type.
type IntReduction = fn(&[i128], (i128, i128)) -> i128;

/// What a reduction makes of a row, by the type of computation. Rows may be empty.
struct Reduction {
    narrow: fn(&[f32]) -> f32,
    wide: fn(&[f64]) -> f64,
    /// Exactly, where integers have it; else they are computed as floats and cut off.
    ints: Option<IntReduction>,
}

/// Declares a reduction whose float form is one generic function.
macro_rules! reduction {
    ($name:ident, $float:ident, $ints:expr) => {
        const $name: Reduction = Reduction { narrow: $float::<f32>, wide: $float::<f64>, ints: $ints };
    };
}

reduction!(SUM, sum, Some(|row, _| row.iter().sum()));
reduction!(MEAN, mean, Some(|row, _| row.iter().sum::<i128>() / (row.len() as i128).max(1)));
reduction!(PRODUCT, product, Some(|row, _| row.iter().fold(1, |a, &b| a.wrapping_mul(b))));
reduction!(MAX, max, Some(|row, (least, _)| row.iter().copied().max().unwrap_or(least)));
reduction!(MIN, min, Some(|row, (_, greatest)| row.iter().copied().min().unwrap_or(greatest)));
reduction!(L1, sum_abs, Some(|row, _| row.iter().map(|v| v.abs()).sum()));
reduction!(L2, norm, None);
reduction!(
    SUM_SQUARE,
    sum_square,
    Some(|row, _| row.iter().fold(0, |sum: i128, &v| sum.wrapping_add(v.wrapping_mul(v))))
);
reduction!(LOG_SUM, log_sum, None);
reduction!(LOG_SUM_EXP, log_sum_exp, None);

fn mean<T: Real>(row: &[T]) -> T {
    sum(row) / T::of(row.len() as f64)
}

fn product<T: Real>(row: &[T]) -> T {
    row.iter().fold(T::of(1.0), |a, &b| a * b)
}

fn min<T: Real>(row: &[T]) -> T {
    row.iter().fold(-T::NEG_INFINITY, |a, &b| if b < a || b.is_nan() { b } else { a })
}

fn sum_abs<T: Real>(row: &[T]) -> T {
    row.iter().fold(T::default(), |total, v| total + v.abs())
}

pub(super) fn sum_square<T: Real>(row: &[T]) -> T {
    row.iter().fold(T::default(), |total, &v| total + v * v)
}

fn norm<T: Real>(row: &[T]) -> T {
    sum_square(row).sqrt()
}

fn log_sum<T: Real>(row: &[T]) -> T {
    sum(row).ln()
}

/// By the greatest value, so that nothing overflows; infinities are what they are.
fn log_sum_exp<T: Real>(row: &[T]) -> T {
    let greatest = max(row);
    if !greatest.f64().is_finite() {
        return greatest;
    }
    row.iter().fold(T::default(), |total, &v| total + (v - greatest).exp()).ln() + greatest
}

/// The axes to reduce, in order and each once: an input in newer versions, an attribute in older ones; none are all, unless a flag says
/// that none are none.
fn axes(node: &Node, inputs: &Inputs<'_>, rank: usize) -> Result<Vec<usize>> {
    let given = match inputs.ints(1)? {
        Some(axes) => axes,
        None => node.attributes.ints("axes")?.unwrap_or_default().to_vec(),
    };
    if given.is_empty() {
        let keep = node.attributes.flag("noop_with_empty_axes", false)?;
        return Ok(if keep { Vec::new() } else { (0..rank).collect() });
    }
    let mut axes = given.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    axes.dedup();
    Ok(axes)
}

fn reduce(node: &Node, inputs: &Inputs<'_>, reduction: &Reduction) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let axes = axes(node, inputs, x.rank())?;
    let kept: Vec<usize> = (0..x.rank()).filter(|at| !axes.contains(at)).collect();
    let size: usize = axes.iter().map(|&at| x.shape()[at]).product();
    let rows: Vec<usize> = kept.iter().map(|&at| x.shape()[at]).collect();
    let shape = if node.attributes.flag("keepdims", true)? {
        x.shape().iter().enumerate().map(|(at, &size)| if axes.contains(&at) { 1 } else { size }).collect()
    } else {
        rows.clone()
    };
    // Each row to reduce becomes contiguous.
    let order: Vec<usize> = kept.iter().chain(&axes).copied().collect();
    let x = permuted(x, &order)?;
    let dtype = x.dtype();
    if dtype.is_float() {
        return match dtype {
            DType::F64 => one(write(dtype, shape, each(&read(&x)?, size, zeros(&rows)?, reduction.wide))?),
            _ => one(write(dtype, shape, each(&read(&x)?, size, zeros(&rows)?, reduction.narrow))?),
        };
    }
    let range = if dtype == DType::Bool { Some((0, 1)) } else { dtype.int_range() };
    let range = range.ok_or_else(|| Error::invalid(format!("expected numbers, found {dtype}")))?;
    match reduction.ints {
        Some(function) => {
            one(Array::of_ints(dtype, shape, each(&x.ints()?, size, zeros(&rows)?, |row| function(row, range)))?)
        }
        None => one(Array::of_floats(dtype, shape, each(&x.floats()?, size, zeros(&rows)?, reduction.wide))?),
    }
}

/// Reduces each row of `size` values to one.
fn each<T>(values: &[T], size: usize, mut results: Vec<T>, function: impl Fn(&[T]) -> T) -> Vec<T> {
    results.iter_mut().enumerate().for_each(|(i, result)| *result = function(&values[i * size..(i + 1) * size]));
    results
}
