//! Shapes, and arrays that are made of a shape alone.

use super::{HostOp, Inputs, dtype_attribute, one, sizes};
use crate::array::{axis, count};
use crate::{Array, DType, Error, Node, Result, Value};

pub(super) fn find(operator: &str) -> Option<HostOp> {
    Some(match operator {
        "Shape" => shape,
        "Size" => |_, inputs| one(Array::scalar(inputs.array(0)?.len() as i64)),
        "Reshape" => reshape,
        "Flatten" => flatten,
        "Squeeze" => squeeze,
        "Unsqueeze" => unsqueeze,
        "Identity" => |_, inputs| Ok(vec![inputs.value(0)?.clone()]),
        "Expand" => expand,
        "Tile" => tile,
        "ConstantOfShape" => constant_of_shape,
        "EyeLike" => eye_like,
        "Range" => range,
        _ => return None,
    })
}

fn shape(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let shape = inputs.array(0)?.shape();
    let rank = shape.len() as i64;
    let at =
        |position: i64| (if position < 0 { position.saturating_add(rank) } else { position }).clamp(0, rank) as usize;
    let (start, end) = (at(node.attributes.int_or("start", 0)?), at(node.attributes.int_or("end", rank)?));
    one(Array::vector(shape[start.min(end)..end].iter().map(|&size| size as i64).collect()))
}

/// 0 keeps an axis, -1 stands for what is left.
fn reshape(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let wanted = match inputs.ints(1)? {
        Some(wanted) => wanted,
        None => {
            node.attributes.ints("shape")?.ok_or_else(|| Error::invalid("input 1, the shape, is missing"))?.to_vec()
        }
    };
    let keep_zero = node.attributes.flag("allowzero", false)?;
    let mut shape = Vec::with_capacity(wanted.len());
    let mut open = None;
    for (i, &size) in wanted.iter().enumerate() {
        shape.push(match size {
            -1 if open.replace(i).is_none() => 1,
            0 if !keep_zero => *x
                .shape()
                .get(i)
                .ok_or_else(|| Error::invalid(format!("shape {wanted:?} keeps an axis that is not there")))?,
            size => usize::try_from(size).map_err(|_| Error::invalid(format!("{wanted:?} is no shape")))?,
        });
    }
    if let Some(open) = open {
        let rest = count(&shape)?;
        if rest == 0 || !x.len().is_multiple_of(rest) {
            return Err(Error::invalid(format!("shape {:?} cannot become {wanted:?}", x.shape())));
        }
        shape[open] = x.len() / rest;
    }
    one(x.reshaped(shape)?)
}

fn flatten(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let (given, rank) = (node.attributes.int_or("axis", 1)?, x.rank());
    let cut = if given == rank as i64 { rank } else { axis(given, rank)? };
    one(x.reshaped(vec![x.shape()[..cut].iter().product(), x.shape()[cut..].iter().product()])?)
}

/// The axes, which are an input since version 13.
fn axes(node: &Node, inputs: &Inputs<'_>) -> Result<Option<Vec<i64>>> {
    Ok(match inputs.ints(1)? {
        Some(axes) => Some(axes),
        None => node.attributes.ints("axes")?.map(<[i64]>::to_vec),
    })
}

fn squeeze(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let mut gone: Vec<bool> = x.shape().iter().map(|&size| size == 1).collect();
    if let Some(axes) = axes(node, inputs)? {
        gone.fill(false);
        for given in axes {
            let axis = axis(given, x.rank())?;
            if x.shape()[axis] != 1 {
                return Err(Error::invalid(format!("axis {given} of shape {:?} is not of size 1", x.shape())));
            }
            gone[axis] = true;
        }
    }
    let shape = x.shape().iter().zip(gone).filter(|(_, gone)| !gone).map(|(&size, _)| size).collect();
    one(x.reshaped(shape)?)
}

fn unsqueeze(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let given = axes(node, inputs)?.ok_or_else(|| Error::invalid("input 1, the axes, is missing"))?;
    let rank = x.rank() + given.len();
    let mut new = vec![false; rank];
    for &one in &given {
        if std::mem::replace(&mut new[axis(one, rank)?], true) {
            return Err(Error::invalid(format!("axes {given:?} name one axis twice")));
        }
    }
    let mut old = x.shape().iter();
    let shape = new.iter().map(|new| if *new { 1 } else { old.next().copied().unwrap_or(1) }).collect();
    one(x.reshaped(shape)?)
}

fn expand(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let wanted = sizes(&inputs.array(1)?.int64s()?)?;
    one(x.broadcast_to(&crate::array::broadcast_shape(&[x.shape(), &wanted])?)?)
}

/// Version 1 repeats along one axis.
fn tile(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let repeats = if node.version < 6 {
        let mut repeats = vec![1; x.rank()];
        repeats[axis(inputs.array(2)?.int()?, x.rank())?] = inputs.array(1)?.int()?;
        sizes(&repeats)?
    } else {
        sizes(&inputs.array(1)?.int64s()?)?
    };
    if repeats.len() != x.rank() {
        return Err(Error::invalid(format!("{} repeats for {} axes", repeats.len(), x.rank())));
    }
    let pairs = |first: fn(usize, usize) -> [usize; 2]| {
        x.shape().iter().zip(&repeats).flat_map(|(&size, &repeat)| first(size, repeat)).collect()
    };
    let (apart, stretched): (Vec<_>, Vec<_>) = (pairs(|size, _| [1, size]), pairs(|size, repeat| [repeat, size]));
    let shape = x.shape().iter().zip(&repeats).map(|(&size, &repeat)| size.saturating_mul(repeat)).collect();
    one(x.reshaped(apart)?.broadcast_to(&stretched)?.reshaped(shape)?)
}

fn constant_of_shape(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let shape = sizes(&inputs.array(0)?.int64s()?)?;
    let zero = Array::scalar(0_f32);
    let value = node.attributes.array("value")?.unwrap_or(&zero);
    if value.len() != 1 {
        return Err(Error::invalid(format!("attribute 'value' holds {} values instead of one", value.len())));
    }
    one(value.reshaped(Vec::new())?.broadcast_to(&shape)?)
}

fn eye_like(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let &[rows, columns] = x.shape() else {
        return Err(Error::invalid(format!("expected a matrix, found shape {:?}", x.shape())));
    };
    let dtype = dtype_attribute(node, "dtype")?.unwrap_or(x.dtype());
    let shift = i128::from(node.attributes.int_or("k", 0)?);
    let mut values = vec![0_i128; x.len()];
    for row in 0..rows {
        if let Some(column) = usize::try_from(row as i128 + shift).ok().filter(|&column| column < columns) {
            values[row * columns + column] = 1;
        }
    }
    one(Array::of_ints(dtype, vec![rows, columns], values)?)
}

fn range(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (start, limit, delta) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
    let dtype = start.dtype();
    if limit.dtype() != dtype || delta.dtype() != dtype {
        return Err(Error::invalid(format!(
            "its inputs are of types {dtype}, {} and {}",
            limit.dtype(),
            delta.dtype()
        )));
    }
    let no_step = || Error::invalid("the step is 0");
    if dtype.is_int() {
        let (start, limit, delta) = (wide(start)?, wide(limit)?, wide(delta)?);
        let steps = (limit - start).checked_div(delta).ok_or_else(no_step)?;
        let length =
            (steps + i128::from((limit - start) % delta != 0 && steps >= 0 && ((limit > start) == (delta > 0)))).max(0);
        let length = count(&[usize::try_from(length).unwrap_or(usize::MAX)])?;
        return one(Array::of_ints(dtype, vec![length], (0..length as i128).map(|i| start + i * delta).collect())?);
    }
    let (start, limit, delta) = (start.float()?, limit.float()?, delta.float()?);
    if delta == 0.0 || dtype == DType::Bool {
        return Err(no_step());
    }
    // A float too large for usize saturates, and NaN is 0.
    let length = count(&[((limit - start) / delta).ceil() as usize])?;
    one(Array::of_floats(dtype, vec![length], (0..length).map(|i| start + i as f64 * delta).collect())?)
}

/// The only element as it is: 64-bit unsigned integers included.
fn wide(array: &Array) -> Result<i128> {
    match array.ints()?.as_slice() {
        [value] => Ok(*value),
        values => Err(Error::invalid(format!("expected one number, found {}", values.len()))),
    }
}
