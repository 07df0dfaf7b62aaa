//! Softmax and its relatives along an axis.

use super::real::{Real, max, read, round, sum, write};
use super::{Inputs, around, one};
use crate::array::axis;
use crate::infer::Rule;
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::new("Softmax", &[1, 11, 13], (1, 1)).attributes(&["axis"]).rule(Rule::Same), |node| {
        parsed(Softmax::parse(node, Kind::Softmax)?)
    }),
    Entry::new(Schema::new("LogSoftmax", &[1, 11, 13], (1, 1)).attributes(&["axis"]).rule(Rule::Same), |node| {
        parsed(Softmax::parse(node, Kind::LogSoftmax)?)
    }),
    Entry::new(
        Schema::new("Hardmax", &[1, 11, 13], (1, 1)).attributes(&["axis"]).rule(Rule::Same).without_gradient(),
        |node| parsed(Softmax::parse(node, Kind::Hardmax)?),
    ),
];

/// `Softmax`, `LogSoftmax` or `Hardmax`.
#[derive(Debug, Clone)]
pub struct Softmax {
    /// Which.
    pub kind: Kind,
    /// The axis whose values make up a row.
    pub axis: i64,
    /// Whether all axes from that one on make up a row, as before version 13.
    pub flattened: bool,
}

/// What a row becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Probabilities.
    Softmax,
    /// Their logarithms.
    LogSoftmax,
    /// 1 where the greatest is, else 0.
    Hardmax,
}

impl Softmax {
    /// `Softmax` of a node.
    ///
    /// # Errors
    /// When its attribute is wrong.
    pub fn probabilities(node: &RawNode) -> Result<Self> {
        Self::parse(node, Kind::Softmax)
    }

    fn parse(node: &RawNode, kind: Kind) -> Result<Self> {
        let flattened = node.version < 13;
        Ok(Self { kind, axis: node.attributes.int_or("axis", if flattened { 1 } else { -1 })?, flattened })
    }

    /// Elements of a row of an array of some shape, and how far they are from one another.
    ///
    /// # Errors
    /// When there is no such axis.
    pub fn row(&self, shape: &[usize]) -> Result<(usize, usize)> {
        // The old form may flatten nothing: the axis is then just past the last one.
        if shape.is_empty() || self.flattened && self.axis == shape.len() as i64 {
            return Ok((1, 1));
        }
        let (_, size, inner) = around(shape, axis(self.axis, shape.len())?);
        Ok(if self.flattened { (size * inner, 1) } else { (size, inner) })
    }
}

impl Operator for Softmax {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let dtype = inputs.array(0)?.dtype();
        match self.kind {
            Kind::Softmax => {
                along(self, inputs, |row: &mut [f32]| softmax_in(dtype, row), |row: &mut [f64]| softmax_in(dtype, row))
            }
            Kind::LogSoftmax => along(self, inputs, log_softmax::<f32>, log_softmax::<f64>),
            Kind::Hardmax => along(self, inputs, hardmax::<f32>, hardmax::<f64>),
        }
    }
}

/// Applies a function to each row.
fn along(
    softmax: &Softmax,
    inputs: &Inputs<'_>,
    narrow: impl Fn(&mut [f32]),
    wide: impl Fn(&mut [f64]),
) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let (size, inner) = softmax.row(x.shape())?;
    let (dtype, shape) = (x.dtype(), x.shape().to_vec());
    match dtype {
        DType::F64 => one(write(dtype, shape, rows(read(x)?.into_owned(), size, inner, wide))?),
        _ if dtype.is_float() => one(write(dtype, shape, rows(read(x)?.into_owned(), size, inner, narrow))?),
        _ => Err(Error::invalid(format!("expected floats, found {dtype}"))),
    }
}

/// Applies a function to rows of so many elements, `inner` apart from one another.
pub(super) fn rows<T: Real>(mut values: Vec<T>, size: usize, inner: usize, function: impl Fn(&mut [T])) -> Vec<T> {
    if size == 0 || inner == 0 {
        return values;
    }
    if inner == 1 {
        values.chunks_mut(size).for_each(function);
        return values;
    }
    let mut row = vec![T::default(); size];
    for block in values.chunks_mut(size * inner) {
        for i in 0..inner {
            row.iter_mut().enumerate().for_each(|(j, v)| *v = block[j * inner + i]);
            function(&mut row);
            row.iter().enumerate().for_each(|(j, v)| block[j * inner + i] = *v);
        }
    }
    values
}

/// Softmax whose steps are rounded to a type. A sum past its range stays as it is.
pub(super) fn softmax_in<T: Real>(dtype: DType, row: &mut [T]) {
    round(dtype, row);
    let greatest = max(row);
    row.iter_mut().for_each(|v| *v -= greatest);
    round(dtype, row);
    row.iter_mut().for_each(|v| *v = v.exp());
    round(dtype, row);
    let exact = sum(row);
    let mut total = [exact];
    round(dtype, &mut total);
    let total = if total[0].f64().is_finite() { total[0] } else { exact };
    row.iter_mut().for_each(|v| *v /= total);
    round(dtype, row);
}

pub(super) fn log_softmax<T: Real>(row: &mut [T]) {
    let greatest = max(row);
    let total = row.iter().fold(T::default(), |total, &v| total + (v - greatest).exp()).ln();
    row.iter_mut().for_each(|v| *v = *v - greatest - total);
}

fn hardmax<T: Real>(row: &mut [T]) {
    let first = (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    row.iter_mut().enumerate().for_each(|(i, v)| *v = T::of(f64::from(u8::from(i == first))));
}
