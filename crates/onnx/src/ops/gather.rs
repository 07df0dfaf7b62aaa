//! Elements looked up by their positions.

use super::{Inputs, around, one};
use crate::array::{axis, count, strides};
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::new("Gather", &[1, 11, 13], (2, 2)).attributes(&["axis"]).weights(), |node| {
        parsed(Gather { axis: node.attributes.int_or("axis", 0)? })
    }),
    Entry::new(Schema::new("GatherElements", &[11, 13], (2, 2)).attributes(&["axis"]), |node| {
        parsed(GatherElements { axis: node.attributes.int_or("axis", 0)? })
    }),
    Entry::new(Schema::new("GatherND", &[11, 12, 13], (2, 2)).attributes(&["batch_dims@12"]), |node| {
        parsed(GatherNd::parse(node)?)
    }),
    Entry::new(Schema::new("Compress", &[9, 11, 28], (2, 2)).attributes(&["axis"]), compress),
];

/// Positions on an axis; negative ones count from its end.
///
/// # Errors
/// When one is outside the axis.
pub(super) fn positions(indices: &Array, size: usize) -> Result<Vec<usize>> {
    if !indices.dtype().is_int() {
        return Err(Error::invalid(format!("expected integers as positions, found {}", indices.dtype())));
    }
    indices.int64s()?.into_iter().map(|index| position(index, size)).collect()
}

/// A position on an axis, counted from its end when negative.
pub(super) fn position(index: i64, size: usize) -> Result<usize> {
    let found = if index < 0 { index.saturating_add(size as i64) } else { index };
    usize::try_from(found)
        .ok()
        .filter(|&found| found < size)
        .ok_or_else(|| Error::invalid(format!("position {index} is outside an axis of size {size}")))
}

/// `Gather`.
#[derive(Debug, Clone, Copy)]
pub struct Gather {
    /// The axis on which positions are looked up.
    pub axis: i64,
}

impl Gather {
    /// The axis of an array of some shape, and the position on it for every index.
    ///
    /// # Errors
    /// When there is no such axis, or an index is outside it.
    pub fn positions(&self, x: &[usize], indices: &Array) -> Result<(usize, Vec<usize>)> {
        let axis = axis(self.axis, x.len())?;
        Ok((axis, positions(indices, x[axis])?))
    }
}

impl Operator for Gather {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let (x, indices) = (inputs.array(0)?, inputs.array(1)?);
        let (axis, chosen) = self.positions(x.shape(), indices)?;
        let (outer, size, inner) = around(x.shape(), axis);
        let shape = [&x.shape()[..axis], indices.shape(), &x.shape()[axis + 1..]].concat();
        count(&shape)?;
        let starts: Vec<_> =
            (0..outer).flat_map(|o| chosen.iter().map(move |position| (o * size + position) * inner)).collect();
        one(x.blocks(shape, &starts, inner)?)
    }
}

/// For every index along an axis, the position of the element that it means.
///
/// # Errors
/// When the shapes do not fit, or an index is outside the axis.
pub(super) fn element_positions(x: &[usize], indices: &Array, axis: usize) -> Result<Vec<usize>> {
    let fits = |(i, (&from, &size)): (usize, (&usize, &usize))| i == axis || from <= size;
    if indices.rank() != x.len() || !indices.shape().iter().zip(x).enumerate().all(fits) {
        return Err(Error::invalid(format!("indices of shape {:?} do not fit shape {x:?}", indices.shape())));
    }
    let mut steps = strides(x);
    let step = std::mem::replace(&mut steps[axis], 0);
    let bases = crate::array::offsets(indices.shape(), &steps)?;
    let chosen = positions(indices, x[axis])?;
    Ok(bases.into_iter().zip(chosen).map(|(base, position)| base + position * step).collect())
}

/// `GatherElements`.
#[derive(Debug, Clone, Copy)]
pub struct GatherElements {
    axis: i64,
}

impl GatherElements {
    /// For every index, the position of the element that it means in an array of some shape.
    ///
    /// # Errors
    /// When the shapes do not fit, or an index is outside the axis.
    pub fn positions(&self, x: &[usize], indices: &Array) -> Result<Vec<usize>> {
        element_positions(x, indices, axis(self.axis, x.len())?)
    }
}

impl Operator for GatherElements {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let (x, indices) = (inputs.array(0)?, inputs.array(1)?);
        one(x.take(indices.shape().to_vec(), &self.positions(x.shape(), indices)?)?)
    }
}

/// Where the blocks begin that index vectors mean, and how large they are. The first `batch` axes are common to both.
///
/// # Errors
/// When the shapes do not fit, or an index is outside its axis.
pub(super) fn block_positions(x: &[usize], indices: &Array, batch: usize) -> Result<(Vec<usize>, usize)> {
    let depth = indices.shape().last().copied().unwrap_or(0);
    let misfit = || Error::invalid(format!("indices of shape {:?} do not fit shape {x:?}", indices.shape()));
    if batch >= indices.rank()
        || depth > x.len().saturating_sub(batch)
        || x.len() < batch
        || x[..batch] != indices.shape()[..batch]
    {
        return Err(misfit());
    }
    if !indices.dtype().is_int() {
        return Err(Error::invalid(format!("expected integers as positions, found {}", indices.dtype())));
    }
    let (steps, numbers) = (strides(x), indices.int64s()?);
    let block = x[batch + depth..].iter().product();
    let each_batch: usize = x[batch..].iter().product();
    let vectors: usize = indices.shape()[..indices.rank() - 1].iter().product();
    let per_batch: usize = indices.shape()[batch..indices.rank() - 1].iter().product();
    let mut starts = Vec::with_capacity(vectors);
    for vector in 0..vectors {
        let mut start = vector / per_batch.max(1) * each_batch;
        for (i, &index) in numbers[vector * depth..(vector + 1) * depth].iter().enumerate() {
            start += position(index, x[batch + i])? * steps[batch + i];
        }
        starts.push(start);
    }
    Ok((starts, block))
}

/// `GatherND`.
#[derive(Debug, Clone, Copy)]
pub struct GatherNd {
    batch: usize,
}

impl GatherNd {
    fn parse(node: &RawNode) -> Result<Self> {
        let batch = usize::try_from(node.attributes.int_or("batch_dims", 0)?);
        Ok(Self { batch: batch.map_err(|_| Error::invalid("batch_dims is negative"))? })
    }

    /// Where the blocks begin that the indices mean in an array of some shape, how large they are, and the shape that they fill.
    ///
    /// # Errors
    /// When the shapes do not fit, or an index is outside its axis.
    pub fn positions(&self, x: &[usize], indices: &Array) -> Result<(Vec<usize>, usize, Vec<usize>)> {
        let (starts, block) = block_positions(x, indices, self.batch)?;
        let depth = indices.shape().last().copied().unwrap_or(0);
        let shape = [&indices.shape()[..indices.rank() - 1], &x[self.batch + depth..]].concat();
        count(&shape)?;
        Ok((starts, block, shape))
    }
}

impl Operator for GatherNd {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let (x, indices) = (inputs.array(0)?, inputs.array(1)?);
        let (starts, block, shape) = self.positions(x.shape(), indices)?;
        one(x.blocks(shape, &starts, block)?)
    }
}

/// The parts whose condition holds: along an axis, or of all elements in a row.
fn compress(node: &RawNode) -> Parsed {
    let axis_given = node.attributes.int("axis")?;
    eval(move |inputs| {
        let (x, condition) = (inputs.array(0)?, inputs.array(1)?.expect::<bool>()?);
        let (x, axis) = match axis_given {
            Some(given) => (x.clone(), axis(given, x.rank())?),
            None => (x.reshaped(vec![x.len()])?, 0),
        };
        let size = x.shape()[axis];
        let mut axes = vec![None; x.rank()];
        axes[axis] = Some(
            condition
                .iter()
                .take(size)
                .enumerate()
                .filter(|(_, holds)| **holds)
                .map(|(position, _)| position)
                .collect(),
        );
        one(x.select(&axes)?)
    })
}
