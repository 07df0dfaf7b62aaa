//! Reductions along axes.

use super::real::{Real, max, permuted, read, sum, write, zeros};
use super::{Inputs, one};
use crate::array::axis;
use crate::axis::Axis;
use crate::infer::Fact;
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("ReduceSum", &[1, 11, 13], (1, 2)).attributes(&["axes<13", "keepdims", "noop_with_empty_axes@13"]),
        |node| parsed(Reduce::parse(node, &SUM)?),
    ),
    Entry::new(
        Schema::new("ReduceMean", &[1, 11, 13, 18], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &MEAN)?),
    ),
    Entry::new(
        Schema::new("ReduceProd", &[1, 11, 13, 18], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &PRODUCT)?),
    ),
    Entry::new(
        Schema::new("ReduceMax", &[1, 11, 12, 13, 18, 20], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &MAX)?),
    ),
    Entry::new(
        Schema::new("ReduceMin", &[1, 11, 12, 13, 18, 20], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &MIN)?),
    ),
    Entry::new(
        Schema::new("ReduceL1", &[1, 11, 13, 18], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &L1)?),
    ),
    Entry::new(
        Schema::new("ReduceL2", &[1, 11, 13, 18], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &L2)?),
    ),
    Entry::new(
        Schema::new("ReduceSumSquare", &[1, 11, 13, 18], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &SUM_SQUARE)?),
    ),
    Entry::new(
        Schema::new("ReduceLogSum", &[1, 11, 13, 18, 28], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &LOG_SUM)?),
    ),
    Entry::new(
        Schema::new("ReduceLogSumExp", &[1, 11, 13, 18, 28], (1, 2)).attributes(&[
            "axes<18",
            "keepdims",
            "noop_with_empty_axes@18",
        ]),
        |node| parsed(Reduce::parse(node, &LOG_SUM_EXP)?),
    ),
];

/// A reduction of integers; the pair is the range of their type.
type IntReduction = fn(&[i128], (i128, i128)) -> i128;

/// What a reduction makes of a row, by the type of computation. Rows may be empty.
#[derive(Debug)]
struct Reduction {
    narrow: fn(&[f32]) -> f32,
    wide: fn(&[f64]) -> f64,
    /// Exactly, where integers have it; else they are computed as floats and cut off.
    ints: Option<IntReduction>,
}

/// Declares a reduction whose float form is one generic function.
macro_rules! reduction {
    ($name:ident, $float:ident, $ints:expr) => {
        static $name: Reduction = Reduction { narrow: $float::<f32>, wide: $float::<f64>, ints: $ints };
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

/// One of the `Reduce` operators.
#[derive(Debug, Clone)]
pub struct Reduce {
    /// The axes, where they are an attribute; an input in newer versions.
    pub axes: Option<Vec<i64>>,
    /// Whether axes that are reduced stay, of size 1.
    pub keep: bool,
    /// Whether no axes are none, and not all.
    pub none_if_empty: bool,
    reduction: &'static Reduction,
}

impl Reduce {
    fn parse(node: &RawNode, reduction: &'static Reduction) -> Result<Self> {
        Ok(Self {
            axes: node.attributes.ints("axes")?.map(<[i64]>::to_vec),
            keep: node.attributes.flag("keepdims", true)?,
            none_if_empty: node.attributes.flag("noop_with_empty_axes", false)?,
            reduction,
        })
    }

    /// The axes to reduce, in order and each once; `given` are those of the input.
    ///
    /// # Errors
    /// When one is not there.
    pub fn axes(&self, given: Option<Vec<i64>>, rank: usize) -> Result<Vec<usize>> {
        let given = given.or_else(|| self.axes.clone()).unwrap_or_default();
        if given.is_empty() {
            return Ok(if self.none_if_empty { Vec::new() } else { (0..rank).collect() });
        }
        let mut axes = given.into_iter().map(|at| axis(at, rank)).collect::<Result<Vec<_>>>()?;
        axes.sort_unstable();
        axes.dedup();
        Ok(axes)
    }
}

impl Operator for Reduce {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        reduce(self, inputs)
    }

    fn infer(&self, inputs: &[Fact]) -> Result<Vec<Fact>> {
        let Some(x) = inputs.first() else { return Ok(Vec::new()) };
        let given = inputs.get(1).filter(|axes| axes.dtype.is_some() || axes.shape.is_some());
        let known = given.is_none_or(|axes| axes.ints.is_some());
        let Some(shape) = x.shape.as_ref().filter(|_| known) else {
            return Ok(vec![Fact { dtype: x.dtype, ..Fact::default() }]);
        };
        let axes = self.axes(given.and_then(|axes| axes.ints.clone()), shape.len())?;
        let kept = shape.iter().enumerate().filter_map(|(at, axis)| match axes.contains(&at) {
            true if self.keep => Some(Axis::Size(1)),
            true => None,
            false => Some(axis.clone()),
        });
        Ok(vec![Fact::new(x.dtype, kept.collect())])
    }
}

fn reduce(operator: &Reduce, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let reduction = operator.reduction;
    let axes = operator.axes(inputs.ints(1)?, x.rank())?;
    let kept: Vec<usize> = (0..x.rank()).filter(|at| !axes.contains(at)).collect();
    let size: usize = axes.iter().map(|&at| x.shape()[at]).product();
    let rows: Vec<usize> = kept.iter().map(|&at| x.shape()[at]).collect();
    let shape = if operator.keep {
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
