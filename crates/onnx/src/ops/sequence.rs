//! Sequences and optional values. Their elements are tensors, as the specification has it: no nesting grows without end.

use super::gather::position;
use super::movement::parts;
use super::{HostOp, Inputs, concat, one, sizes};
use crate::array::axis;
use crate::{Array, Error, Node, Result, Value};

pub(super) fn find(operator: &str) -> Option<HostOp> {
    Some(match operator {
        "SequenceEmpty" => |_, _| Ok(vec![Value::Sequence(Vec::new())]),
        "SequenceConstruct" => {
            |_, inputs| Ok(vec![Value::Sequence(inputs.arrays()?.into_iter().cloned().map(Value::from).collect())])
        }
        "SequenceLength" => |_, inputs| one(Array::scalar(inputs.value(0)?.sequence()?.len() as i64)),
        "SequenceAt" => at,
        "SequenceInsert" => insert,
        "SequenceErase" => erase,
        "SplitToSequence" => split,
        "ConcatFromSequence" => join,
        "Optional" => optional,
        "OptionalHasElement" => {
            |_, inputs| one(Array::scalar(!matches!(inputs.get(0), None | Some(Value::Optional(None)))))
        }
        "OptionalGetElement" => get,
        _ => return None,
    })
}

fn at(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let list = inputs.value(0)?.sequence()?;
    Ok(vec![list[position(inputs.array(1)?.int()?, list.len())?].clone()])
}

fn insert(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let mut list = inputs.value(0)?.sequence()?.to_vec();
    // After the last element is a place too.
    let place = inputs.optional(2)?.map_or(Ok(list.len()), |place| match place.int()? {
        place if place == list.len() as i64 => Ok(list.len()),
        place => position(place, list.len()),
    })?;
    list.insert(place, inputs.array(1)?.clone().into());
    Ok(vec![Value::Sequence(list)])
}

fn erase(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let mut list = inputs.value(0)?.sequence()?.to_vec();
    let place = inputs.optional(1)?.map_or(Ok(-1), Array::int)?;
    list.remove(position(place, list.len())?);
    Ok(vec![Value::Sequence(list)])
}

/// Without lengths into parts of 1, which may lose the axis; with one length into parts of it and a rest.
fn split(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let axis = axis(node.attributes.int_or("axis", 0)?, x.rank())?;
    let size = x.shape()[axis];
    let lengths = match inputs.optional(1)? {
        None => vec![1; size],
        Some(each) if each.rank() == 0 => {
            let each = usize::try_from(each.int()?).ok().filter(|&each| each > 0);
            let each = each.ok_or_else(|| Error::invalid("it is split into parts of no length"))?;
            (0..size).step_by(each).map(|start| each.min(size - start)).collect()
        }
        Some(lengths) => sizes(&lengths.int64s()?)?,
    };
    let mut parts = parts(x, axis, &lengths)?;
    if inputs.get(1).is_none() && !node.attributes.flag("keepdims", true)? {
        for part in &mut parts {
            let mut shape = part.shape().to_vec();
            shape.remove(axis);
            *part = part.reshaped(shape)?;
        }
    }
    Ok(vec![Value::Sequence(parts.into_iter().map(Value::from).collect())])
}

fn join(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let mut arrays =
        inputs.value(0)?.sequence()?.iter().map(|value| value.array().cloned()).collect::<Result<Vec<_>>>()?;
    let new = node.attributes.flag("new_axis", false)?;
    let rank = arrays.first().map_or(0, Array::rank) + usize::from(new);
    let axis = axis(node.attributes.int_or("axis", 0)?, rank)?;
    if new {
        for array in &mut arrays {
            let mut shape = array.shape().to_vec();
            shape.insert(axis.min(shape.len()), 1);
            *array = array.reshaped(shape)?;
        }
    }
    one(concat(&arrays.iter().collect::<Vec<_>>(), axis)?)
}

fn optional(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    match inputs.get(0) {
        Some(value @ Value::Optional(_)) => {
            Err(Error::invalid(format!("expected a tensor or a sequence, found {}", value.kind())))
        }
        value => Ok(vec![Value::Optional(value.cloned().map(Box::new))]),
    }
}

fn get(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    match inputs.value(0)? {
        Value::Optional(Some(value)) => Ok(vec![(**value).clone()]),
        Value::Optional(None) => Err(Error::invalid("the optional value is absent")),
        value => Ok(vec![value.clone()]),
    }
}
