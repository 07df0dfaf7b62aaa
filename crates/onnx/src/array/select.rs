//! Arrays made of parts of other arrays.

use super::strides::stretched;
use super::{Array, Data, broadcast_shape, count, offsets, show, strides};
use crate::{Error, Result};

/// Where an element along an axis comes from; `None`: it is filled.
pub type Positions = Vec<Option<usize>>;

impl Array {
    /// The array stretched to a shape, as NumPy broadcasts.
    ///
    /// # Errors
    /// When it does not stretch to that shape.
    pub fn broadcast_to(&self, shape: &[usize]) -> Result<Self> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        if broadcast_shape(&[self.shape(), shape])? != shape {
            return Err(Error::invalid(format!("shape {} does not broadcast to {}", show(self.shape()), show(shape))));
        }
        self.take(shape.to_vec(), &offsets(shape, &stretched(self.shape(), shape))?)
    }

    /// The array with its axes in another order: axis `i` of the result is axis `order[i]` of this one.
    ///
    /// # Errors
    /// When the order does not name each axis once.
    pub fn transposed(&self, order: &[usize]) -> Result<Self> {
        let mut sorted = order.to_vec();
        sorted.sort_unstable();
        if sorted != (0..self.rank()).collect::<Vec<_>>() {
            return Err(Error::invalid(format!("{order:?} is no order of {} axes", self.rank())));
        }
        let from = strides(self.shape());
        let shape: Vec<usize> = order.iter().map(|&axis| self.shape()[axis]).collect();
        // Trailing axes that stay where they are move as one block.
        let kept = order.iter().enumerate().rev().take_while(|(to, from)| to == *from).count();
        let moved = self.rank() - kept;
        let block = shape[moved..].iter().product();
        let steps: Vec<usize> = order[..moved].iter().map(|&axis| from[axis]).collect();
        let starts = offsets(&shape[..moved], &steps)?;
        self.blocks(shape, &starts, block)
    }

    /// An array whose values are runs of `block` values of this one, beginning at positions.
    ///
    /// # Errors
    /// When they do not fill the shape.
    ///
    /// # Panics
    /// When a run ends past the last value: callers compute positions from checked shapes.
    pub fn blocks(&self, shape: Vec<usize>, starts: &[usize], block: usize) -> Result<Self> {
        if count(&shape)? == 0 {
            return Self::from_data(shape, Data::zeros(self.dtype(), 0));
        }
        if block == 1 {
            return self.take(shape, starts);
        }
        Self::from_data(shape, self.data().blocks(starts, block))
    }

    /// The elements at chosen positions of each axis (`None`: the whole axis).
    ///
    /// # Errors
    /// When there is a list too many or too few, a position is outside its axis, or the result is too large.
    pub fn select(&self, axes: &[Option<Vec<usize>>]) -> Result<Self> {
        let shape: Vec<usize> =
            axes.iter().zip(self.shape()).map(|(list, &size)| list.as_ref().map_or(size, Vec::len)).collect();
        let outside =
            |(list, &size): (&Option<Vec<usize>>, &usize)| list.iter().flatten().any(|&position| position >= size);
        if axes.len() != self.rank() || axes.iter().zip(self.shape()).any(outside) {
            return Err(Error::invalid(format!("a position is outside shape {}", show(self.shape()))));
        }
        if count(&shape)? == 0 {
            return self.blocks(shape, &[], 1);
        }
        let last = axes.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        let steps = strides(self.shape());
        let mut starts = vec![0];
        for (axis, list) in axes[..last].iter().enumerate() {
            let step = steps[axis];
            starts = match list {
                Some(list) => {
                    starts.iter().flat_map(|start| list.iter().map(move |position| start + position * step)).collect()
                }
                None => starts
                    .iter()
                    .flat_map(|start| (0..self.shape()[axis]).map(move |position| start + position * step))
                    .collect(),
            };
        }
        let block = shape[last..].iter().product();
        self.blocks(shape, &starts, block)
    }

    /// As [`Array::select`], with a value where an axis has none.
    ///
    /// # Errors
    /// As [`Array::select`], and when `fill` is not one value of the same type.
    pub fn select_or(&self, axes: &[Positions], fill: &Self) -> Result<Self> {
        const FILL: usize = usize::MAX;
        let shape: Vec<usize> = axes.iter().map(Vec::len).collect();
        let outside = |(list, &size): (&Positions, &usize)| list.iter().flatten().any(|&position| position >= size);
        if axes.len() != self.rank() || axes.iter().zip(self.shape()).any(outside) {
            return Err(Error::invalid(format!("a position is outside shape {}", show(self.shape()))));
        }
        if fill.len() != 1 || fill.dtype() != self.dtype() {
            return Err(Error::invalid(format!("the value to fill with should be one {}", self.dtype())));
        }
        if count(&shape)? == 0 {
            return self.blocks(shape, &[], 1);
        }
        let mut from = vec![0];
        for (list, step) in axes.iter().zip(strides(self.shape())) {
            let next = |start: usize, position: Option<usize>| match position {
                Some(position) if start != FILL => start + position * step,
                _ => FILL,
            };
            from = from.iter().flat_map(|&start| list.iter().map(move |&position| next(start, position))).collect();
        }
        let pool = Data::concat(&[self.data(), fill.data()])
            .ok_or_else(|| Error::invalid("there is nothing to choose from"))?;
        from.iter_mut().filter(|from| **from == FILL).for_each(|from| *from = self.len());
        Self::from_data(shape, pool.take(&from))
    }
}
