//! Positions in row-major arrays.

use super::count;
use crate::{Error, Result};

/// Distance between neighbours along each axis of a contiguous array.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis].max(1);
    }
    strides
}

/// The coordinates of the element at a row-major position.
pub fn index_of(mut position: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        index[axis] = position % shape[axis];
        position /= shape[axis];
    }
    index
}

/// For every element of a shape in row-major order: its offset in an array of the given strides.
///
/// # Errors
/// When the shape is too large.
pub fn offsets(shape: &[usize], strides: &[usize]) -> Result<Vec<usize>> {
    let total = count(shape)?;
    let mut offsets = Vec::with_capacity(total);
    let mut index = vec![0; shape.len()];
    let mut offset = 0;
    for _ in 0..total {
        offsets.push(offset);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < shape[axis] {
                break;
            }
            offset -= strides[axis] * shape[axis];
            index[axis] = 0;
        }
    }
    Ok(offsets)
}

/// The shape that shapes broadcast to, as NumPy does.
///
/// # Errors
/// When two axes differ and neither is 1.
pub fn broadcast_shape(shapes: &[&[usize]]) -> Result<Vec<usize>> {
    let rank = shapes.iter().map(|shape| shape.len()).max().unwrap_or(0);
    let mut result = vec![1; rank];
    for shape in shapes {
        for (axis, &size) in shape.iter().rev().enumerate() {
            let slot = &mut result[rank - 1 - axis];
            match (*slot, size) {
                (1, _) => *slot = size,
                (_, 1) => {}
                (a, b) if a == b => {}
                _ => {
                    let shapes: Vec<_> = shapes.iter().map(|shape| super::show(shape)).collect();
                    return Err(Error::invalid(format!("shapes {} do not broadcast together", shapes.join(" and "))));
                }
            }
        }
    }
    Ok(result)
}

/// How arrays line up under broadcasting.
pub struct Broadcast {
    /// The common shape.
    pub shape: Vec<usize>,
    /// For each array, the offset of its element for every element of the common shape; `None` when that is the position itself.
    pub offsets: Vec<Option<Vec<usize>>>,
}

impl Broadcast {
    /// Lines up arrays of these shapes.
    ///
    /// # Errors
    /// When they do not broadcast together.
    pub fn new(shapes: &[&[usize]]) -> Result<Self> {
        let shape = broadcast_shape(shapes)?;
        let offsets = shapes
            .iter()
            .map(|own| if *own == shape { Ok(None) } else { offsets(&shape, &stretched(own, &shape)).map(Some) });
        Ok(Self { offsets: offsets.collect::<Result<_>>()?, shape })
    }

    /// The position in array `which` of element `i` of the common shape.
    pub fn at(&self, which: usize, i: usize) -> usize {
        self.offsets[which].as_ref().map_or(i, |offsets| offsets[i])
    }
}

/// Strides of an array of shape `own` when it is stretched to `shape`: 0 along stretched axes.
pub(super) fn stretched(own: &[usize], shape: &[usize]) -> Vec<usize> {
    let lead = shape.len() - own.len();
    let mut result = vec![0; shape.len()];
    for (axis, (stride, &size)) in strides(own).into_iter().zip(own).enumerate() {
        if size != 1 {
            result[lead + axis] = stride;
        }
    }
    result
}
