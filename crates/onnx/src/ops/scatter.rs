//! Elements put at given positions.

use super::gather::{block_positions, element_positions, position};
use super::{Inputs, around, one};
use crate::array::{Data, axis};
use crate::infer::Rule;
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::new("Scatter", &[9, 11], (3, 3)).attributes(&["axis"]).rule(Rule::Same), |node| {
        parsed(Scatter::elements(node)?)
    }),
    Entry::new(
        Schema::new("ScatterElements", &[11, 13, 16, 18], (3, 3))
            .attributes(&["axis", "reduction@16"])
            .rule(Rule::Same),
        |node| parsed(Scatter::elements(node)?),
    ),
    Entry::new(
        Schema::new("ScatterND", &[11, 13, 16, 18], (3, 3)).attributes(&["reduction@16"]).rule(Rule::Same),
        |node| parsed(Scatter { reduction: Reduction::parse(node)?, axis: None }),
    ),
    Entry::new(Schema::new("TensorScatter", &[24], (2, 3)).attributes(&["axis", "mode"]), tensor_scatter),
    Entry::new(Schema::new("OneHot", &[9, 11, 28], (3, 3)).attributes(&["axis"]), one_hot),
];

/// What becomes of what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reduction {
    /// It is gone; of several updates of one element the last stays.
    None,
    /// The sum.
    Add,
    /// The product.
    Mul,
    /// The greatest.
    Max,
    /// The least.
    Min,
}

impl Reduction {
    fn parse(node: &RawNode) -> Result<Self> {
        Ok(match node.attributes.text_or("reduction", "none")? {
            "none" => Self::None,
            "add" => Self::Add,
            "mul" => Self::Mul,
            "max" => Self::Max,
            "min" => Self::Min,
            other => return Err(Error::invalid(format!("reduction is '{other}', not none, add, mul, max or min"))),
        })
    }
}

/// Puts `updates` at positions of `x`, one after another.
fn put(x: &Array, positions: &[usize], updates: &Array, reduction: Reduction) -> Result<Array> {
    if updates.dtype() != x.dtype() || updates.len() != positions.len() {
        let found = format!("{} updates of type {}", updates.len(), updates.dtype());
        return Err(Error::invalid(format!(
            "expected {} updates of type {}, found {found}",
            positions.len(),
            x.dtype()
        )));
    }
    if reduction == Reduction::None {
        let pool =
            Data::concat(&[x.data(), updates.data()]).ok_or_else(|| Error::invalid("there is nothing to scatter"))?;
        let mut from: Vec<usize> = (0..x.len()).collect();
        positions.iter().enumerate().for_each(|(i, &position)| from[position] = x.len() + i);
        return Array::from_data(x.shape().to_vec(), pool.take(&from));
    }
    let of_floats: fn(f64, f64) -> f64 = match reduction {
        Reduction::None => |_, b| b,
        Reduction::Add => |a, b| a + b,
        Reduction::Mul => |a, b| a * b,
        Reduction::Max => f64::max,
        Reduction::Min => f64::min,
    };
    if x.dtype().is_int() || x.dtype() == crate::DType::Bool {
        let of_ints: fn(i128, i128) -> i128 = match reduction {
            Reduction::None => |_, b| b,
            Reduction::Add => i128::wrapping_add,
            Reduction::Mul => i128::wrapping_mul,
            Reduction::Max => i128::max,
            Reduction::Min => i128::min,
        };
        let mut values = x.ints()?;
        positions
            .iter()
            .zip(updates.ints()?)
            .for_each(|(&position, update)| values[position] = of_ints(values[position], update));
        return Array::of_ints(x.dtype(), x.shape().to_vec(), values);
    }
    let mut values = x.floats()?;
    positions
        .iter()
        .zip(updates.floats()?)
        .for_each(|(&position, update)| values[position] = of_floats(values[position], update));
    Array::of_floats(x.dtype(), x.shape().to_vec(), values)
}

/// `ScatterElements` and `ScatterND`.
#[derive(Debug, Clone, Copy)]
pub struct Scatter {
    /// What becomes of what is there.
    pub reduction: Reduction,
    /// The axis on which single elements are put; blocks are put by index vectors where there is none.
    axis: Option<i64>,
}

impl Scatter {
    fn elements(node: &RawNode) -> Result<Self> {
        Ok(Self { reduction: Reduction::parse(node)?, axis: Some(node.attributes.int_or("axis", 0)?) })
    }

    /// Where each update goes in an array of some shape.
    ///
    /// # Errors
    /// When the shapes do not fit, or an index is outside its axis.
    pub fn positions(&self, x: &[usize], indices: &Array, updates: &[usize]) -> Result<Vec<usize>> {
        if let Some(along) = self.axis {
            let along = axis(along, x.len())?;
            if indices.shape() != updates {
                let indices = indices.shape();
                return Err(Error::invalid(format!("indices of shape {indices:?} for updates of shape {updates:?}")));
            }
            return element_positions(x, indices, along);
        }
        let (starts, block) = block_positions(x, indices, 0)?;
        crate::array::count(&[starts.len(), block])?;
        Ok(starts.iter().flat_map(|&start| start..start + block).collect())
    }
}

impl Operator for Scatter {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let (x, indices, updates) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
        one(put(x, &self.positions(x.shape(), indices, updates.shape())?, updates, self.reduction)?)
    }
}

/// Writes new entries into a cache, each batch from a position of its own on.
fn tensor_scatter(node: &RawNode) -> Parsed {
    let circular = match node.attributes.text_or("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(Error::invalid(format!("mode is '{other}', not linear or circular"))),
    };
    let axis_given = node.attributes.int_or("axis", -2)?;
    eval(move |inputs| {
        let (cache, update) = (inputs.array(0)?, inputs.array(1)?);
        let axis = axis(axis_given, cache.rank())?;
        let fits = |(i, (&new, &old)): (usize, (&usize, &usize))| if i == axis { new <= old } else { new == old };
        if axis == 0 || update.rank() != cache.rank() || !update.shape().iter().zip(cache.shape()).enumerate().all(fits)
        {
            return Err(Error::invalid(format!(
                "an update of shape {:?} does not fit a cache of shape {:?}",
                update.shape(),
                cache.shape()
            )));
        }
        let (outer, size, inner) = around(cache.shape(), axis);
        let (new, batch) = (update.shape()[axis], cache.shape()[0]);
        let begins = inputs.ints(2)?.unwrap_or_else(|| vec![0; batch]);
        if begins.len() != batch {
            return Err(Error::invalid(format!("{} write indices for a batch of {batch}", begins.len())));
        }
        let mut positions = Vec::with_capacity(update.len());
        for o in 0..outer {
            let begin = begins[o / (outer / batch)];
            for i in 0..new as i64 {
                let at = begin
                    .checked_add(i)
                    .filter(|&at| at >= 0)
                    .ok_or_else(|| Error::invalid(format!("write index {begin} is out of range")))?;
                let at = position(if circular { at % size as i64 } else { at }, size)?;
                positions.extend((0..inner).map(|rest| (o * size + at) * inner + rest));
            }
        }
        one(put(cache, &positions, update, Reduction::None)?)
    })
}

/// Two values: the first everywhere, the second where the index is that of the place on the new axis.
fn one_hot(node: &RawNode) -> Parsed {
    let axis_given = node.attributes.int_or("axis", -1)?;
    eval(move |inputs| {
        let (indices, values) = (inputs.array(0)?, inputs.array(2)?);
        let depth = inputs.array(1)?.int()?;
        let along = axis(axis_given, indices.rank() + 1)?;
        if values.len() != 2 {
            return Err(Error::invalid(format!("expected the values for off and on, found {} values", values.len())));
        }
        let mut shape = indices.shape().to_vec();
        shape.insert(along, usize::try_from(depth).map_err(|_| Error::invalid(format!("depth {depth} is negative")))?);
        let mut chosen = vec![0; crate::array::count(&shape)?];
        let (_, size, inner) = around(&shape, along);
        for (i, index) in indices.int64s()?.into_iter().enumerate() {
            // An index out of range is on nowhere.
            if let Ok(at) = position(index, size) {
                chosen[(i / inner * size + at) * inner + i % inner] = 1;
            }
        }
        one(values.take(shape, &chosen)?)
    })
}
