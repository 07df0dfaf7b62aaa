//! Elements put at given positions.

use super::gather::{block_positions, element_positions, position};
use super::later;
use super::{Inputs, around, one};
use crate::array::{Data, axis};
use crate::infer::Rule;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::new("Scatter", &[9, 11], (3, 3)).attributes(&["axis"]).rule(Rule::Same), |node| {
        later(node, scatter_elements)
    }),
    Entry::new(
        Schema::new("ScatterElements", &[11, 13, 16, 18], (3, 3))
            .attributes(&["axis", "reduction@16"])
            .rule(Rule::Same),
        |node| later(node, scatter_elements),
    ),
    Entry::new(
        Schema::new("ScatterND", &[11, 13, 16, 18], (3, 3)).attributes(&["reduction@16"]).rule(Rule::Same),
        |node| later(node, scatter_nd),
    ),
    Entry::new(Schema::new("TensorScatter", &[24], (2, 3)).attributes(&["axis", "mode"]), tensor_scatter),
    Entry::new(Schema::new("OneHot", &[9, 11, 28], (3, 3)).attributes(&["axis"]), one_hot),
];

/// Puts `updates` at positions of `x`, one after another; `reduction` says what becomes of what is there.
fn put(x: &Array, positions: &[usize], updates: &Array, reduction: &str) -> Result<Array> {
    if updates.dtype() != x.dtype() || updates.len() != positions.len() {
        let found = format!("{} updates of type {}", updates.len(), updates.dtype());
        return Err(Error::invalid(format!(
            "expected {} updates of type {}, found {found}",
            positions.len(),
            x.dtype()
        )));
    }
    if reduction == "none" {
        let pool =
            Data::concat(&[x.data(), updates.data()]).ok_or_else(|| Error::invalid("there is nothing to scatter"))?;
        let mut from: Vec<usize> = (0..x.len()).collect();
        positions.iter().enumerate().for_each(|(i, &position)| from[position] = x.len() + i);
        return Array::from_data(x.shape().to_vec(), pool.take(&from));
    }
    let of_floats: fn(f64, f64) -> f64 = match reduction {
        "add" => |a, b| a + b,
        "mul" => |a, b| a * b,
        "max" => f64::max,
        "min" => f64::min,
        other => return Err(Error::invalid(format!("reduction is '{other}', not none, add, mul, max or min"))),
    };
    if x.dtype().is_int() || x.dtype() == crate::DType::Bool {
        let of_ints: fn(i128, i128) -> i128 = match reduction {
            "add" => i128::wrapping_add,
            "mul" => i128::wrapping_mul,
            "max" => i128::max,
            _ => i128::min,
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

fn scatter_elements(node: &RawNode, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (x, indices, updates) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
    let axis = axis(node.attributes.int_or("axis", 0)?, x.rank())?;
    if indices.shape() != updates.shape() {
        return Err(Error::invalid(format!(
            "indices of shape {:?} for updates of shape {:?}",
            indices.shape(),
            updates.shape()
        )));
    }
    one(put(x, &element_positions(x, indices, axis)?, updates, node.attributes.text_or("reduction", "none")?)?)
}

fn scatter_nd(node: &RawNode, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (x, indices, updates) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
    let (starts, block) = block_positions(x, indices, 0)?;
    crate::array::count(&[starts.len(), block])?;
    let positions: Vec<_> = starts.iter().flat_map(|&start| start..start + block).collect();
    one(put(x, &positions, updates, node.attributes.text_or("reduction", "none")?)?)
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
        one(put(cache, &positions, update, "none")?)
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
