//! Normalization of each sample over its last axes: `LayerNormalization`, `RMSNormalization`.

use super::Inputs;
use super::real::{Real, read, round, sum, with_real, write};
use super::reduce::sum_square;
use crate::array::{Broadcast, axis};
use crate::infer::Rule;
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("LayerNormalization", &[17], (2, 3))
            .attributes(&["axis", "epsilon", "stash_type"])
            .rule(Rule::Same)
            .weights(),
        |node| parsed(LayerNormalization::parse(node)?),
    ),
    // Optimizers of onnxruntime wrote the second name before the specification had the first.
    Entry::new(
        Schema::new("RMSNormalization", &[23], (2, 2))
            .attributes(&["axis", "epsilon", "stash_type"])
            .rule(Rule::Same)
            .weights(),
        |node| parsed(RmsNormalization { axis: node.attributes.int_or("axis", -1)?, epsilon: epsilon(node)? }),
    ),
    Entry::new(Schema::new("SimplifiedLayerNormalization", &[1], (2, 2)).rule(Rule::Same), |node| {
        parsed(RmsNormalization { axis: node.attributes.int_or("axis", -1)?, epsilon: epsilon(node)? })
    }),
];

/// Brings a row to mean 0 and variance 1; answers its mean and the inverse of its standard deviation.
pub(super) fn standardize<T: Real>(row: &mut [T], epsilon: T) -> (T, T) {
    let size = T::of(row.len() as f64);
    let mean = sum(row) / size;
    row.iter_mut().for_each(|v| *v -= mean);
    let inverse = T::of(1.0) / (sum_square(row) / size + epsilon).sqrt();
    row.iter_mut().for_each(|v| *v *= inverse);
    (mean, inverse)
}

/// Divides a row by the root of the mean of its squares; answers what it was multiplied by.
pub(super) fn divide_by_rms<T: Real>(row: &mut [T], epsilon: T) -> T {
    let inverse = T::of(1.0) / (sum_square(row) / T::of(row.len() as f64) + epsilon).sqrt();
    row.iter_mut().for_each(|v| *v *= inverse);
    inverse
}

/// Combines every value with that of an array that broadcasts to their shape.
pub(super) fn combine<T: Real>(
    values: &mut [T],
    shape: &[usize],
    part: &Array,
    apply: impl Fn(&mut T, T),
) -> Result<()> {
    let part_values = read::<T>(part)?;
    // The usual case: one number for each place of a row.
    if !part.is_empty() && shape.ends_with(part.shape()) {
        for row in values.chunks_mut(part.len()) {
            row.iter_mut().zip(part_values.iter()).for_each(|(v, &p)| apply(v, p));
        }
        return Ok(());
    }
    let both = Broadcast::new(&[shape, part.shape()])?;
    if both.shape != shape {
        return Err(Error::invalid(format!(
            "a scale or bias of shape {:?} does not fit an input of shape {shape:?}",
            part.shape()
        )));
    }
    values.iter_mut().enumerate().for_each(|(i, v)| apply(v, part_values[both.at(1, i)]));
    Ok(())
}

/// Number of elements in each row, and the shape of one number for each row.
fn rows(from: i64, x: &Array) -> Result<(usize, Vec<usize>)> {
    let at = axis(from, x.rank())?;
    let shape = x.shape().iter().enumerate().map(|(i, &size)| if i < at { size } else { 1 }).collect();
    Ok((x.shape()[at..].iter().product(), shape))
}

/// `LayerNormalization`.
#[derive(Debug, Clone)]
pub struct LayerNormalization {
    /// The first axis that is normalized.
    pub axis: i64,
    /// Added to each variance.
    pub epsilon: f64,
    /// The type of mean and inverse deviation.
    pub stash: DType,
}

impl LayerNormalization {
    fn parse(node: &RawNode) -> Result<Self> {
        let stash = node.attributes.int_or("stash_type", 1)?;
        let stash = DType::from_number(stash as i32).filter(|dtype| dtype.is_float());
        let stash = stash.ok_or_else(|| Error::invalid("attribute 'stash_type' is no float type"))?;
        Ok(Self { axis: node.attributes.int_or("axis", -1)?, epsilon: epsilon(node)?, stash })
    }
}

/// `RMSNormalization`.
#[derive(Debug, Clone)]
pub struct RmsNormalization {
    /// The first axis that is normalized.
    pub axis: i64,
    /// Added to each mean of squares.
    pub epsilon: f64,
}

fn epsilon(node: &RawNode) -> Result<f64> {
    Ok(f64::from(node.attributes.float_or("epsilon", 1e-5)?))
}

impl Operator for LayerNormalization {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let (x, scale, bias) = (inputs.array(0)?, inputs.array(1)?, inputs.optional(2)?);
        let (size, outer) = rows(self.axis, x)?;
        with_real!(x.dtype(), T => {
            let mut values = read::<T>(x)?.into_owned();
            let (means, inverses): (Vec<T>, Vec<T>) =
                values.chunks_mut(size.max(1)).map(|row| standardize(row, T::of(self.epsilon))).unzip();
            // The second stage runs in the type of the input.
            round(x.dtype(), &mut values);
            combine(&mut values, x.shape(), scale, |v, s| *v *= s)?;
            if let Some(bias) = bias {
                combine(&mut values, x.shape(), bias, |v, b| *v += b)?;
            }
            let total = outer.iter().product();
            let per_row = |mut values: Vec<T>| {
                values.resize(total, T::of(f64::NAN));
                write(self.stash, outer.clone(), values)
            };
            Ok(vec![write(x.dtype(), x.shape().to_vec(), values)?.into(), per_row(means)?.into(), per_row(inverses)?.into()])
        })
    }
}

impl Operator for RmsNormalization {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let (x, scale) = (inputs.array(0)?, inputs.array(1)?);
        let (size, outer) = rows(self.axis, x)?;
        with_real!(x.dtype(), T => {
            let mut values = read::<T>(x)?.into_owned();
            let mut inverses: Vec<T> = values.chunks_mut(size.max(1)).map(|row| divide_by_rms(row, T::of(self.epsilon))).collect();
            inverses.resize(outer.iter().product(), T::of(f64::NAN));
            round(x.dtype(), &mut values);
            combine(&mut values, x.shape(), scale, |v, s| *v *= s)?;
            Ok(vec![write(x.dtype(), x.shape().to_vec(), values)?.into(), write(DType::F32, outer.clone(), inverses)?.into()])
        })
    }
}
