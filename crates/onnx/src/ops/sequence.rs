//! Sequences and optional values. Their elements are tensors, as the specification has it: no nesting grows without end.

use super::gather::position;
use super::movement::parts;
use super::{Inputs, concat, one, sizes};
use crate::array::axis;
use crate::operator::{ANY, Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::plain(Schema::new("SequenceEmpty", &[11], (0, 0)).attributes(&["dtype"]), |_| {
        Ok(vec![Value::Sequence(Vec::new())])
    }),
    Entry::plain(Schema::new("SequenceConstruct", &[11], (1, ANY)), |inputs| {
        Ok(vec![Value::Sequence(inputs.arrays()?.into_iter().cloned().map(Value::from).collect())])
    }),
    Entry::plain(Schema::new("SequenceLength", &[11], (1, 1)), |inputs| {
        one(Array::scalar(inputs.value(0)?.sequence()?.len() as i64))
    }),
    Entry::plain(Schema::new("SequenceAt", &[11], (2, 2)), at),
    Entry::plain(Schema::new("SequenceInsert", &[11], (2, 3)), insert),
    Entry::plain(Schema::new("SequenceErase", &[11], (1, 2)), erase),
    Entry::new(Schema::new("SplitToSequence", &[11, 24], (1, 2)).attributes(&["axis", "keepdims"]), split),
    Entry::new(Schema::new("ConcatFromSequence", &[11], (1, 1)).attributes(&["!axis", "new_axis"]), join),
    Entry::plain(Schema::new("Optional", &[15, 28], (0, 1)).attributes(&["type"]), optional),
    Entry::plain(Schema::new("OptionalHasElement", &[15, 18, 28], (0, 1)), |inputs| {
        one(Array::scalar(!matches!(inputs.get(0), None | Some(Value::Optional(None)))))
    }),
    Entry::plain(Schema::new("OptionalGetElement", &[15, 18, 28], (1, 1)), get),
];

fn at(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let list = inputs.value(0)?.sequence()?;
    Ok(vec![list[position(inputs.array(1)?.int()?, list.len())?].clone()])
}

fn insert(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let mut list = inputs.value(0)?.sequence()?.to_vec();
    // After the last element is a place too.
    let place = inputs.optional(2)?.map_or(Ok(list.len()), |place| match place.int()? {
        place if place == list.len() as i64 => Ok(list.len()),
        place => position(place, list.len()),
    })?;
    list.insert(place, inputs.array(1)?.clone().into());
    Ok(vec![Value::Sequence(list)])
}

fn erase(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let mut list = inputs.value(0)?.sequence()?.to_vec();
    let place = inputs.optional(1)?.map_or(Ok(-1), Array::int)?;
    list.remove(position(place, list.len())?);
    Ok(vec![Value::Sequence(list)])
}

/// Without lengths into parts of 1, which may lose the axis; with one length into parts of it and a rest.
fn split(node: &RawNode) -> Parsed {
    let axis_given = node.attributes.int_or("axis", 0)?;
    let keepdims = node.attributes.flag("keepdims", true)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let axis = axis(axis_given, x.rank())?;
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
        if inputs.get(1).is_none() && !keepdims {
            for part in &mut parts {
                let mut shape = part.shape().to_vec();
                shape.remove(axis);
                *part = part.reshaped(shape)?;
            }
        }
        Ok(vec![Value::Sequence(parts.into_iter().map(Value::from).collect())])
    })
}

fn join(node: &RawNode) -> Parsed {
    let new = node.attributes.flag("new_axis", false)?;
    let axis_given = node.attributes.int_or("axis", 0)?;
    eval(move |inputs| {
        let mut arrays =
            inputs.value(0)?.sequence()?.iter().map(|value| value.array().cloned()).collect::<Result<Vec<_>>>()?;
        let rank = arrays.first().map_or(0, Array::rank) + usize::from(new);
        let axis = axis(axis_given, rank)?;
        if new {
            for array in &mut arrays {
                let mut shape = array.shape().to_vec();
                shape.insert(axis.min(shape.len()), 1);
                *array = array.reshaped(shape)?;
            }
        }
        one(concat(&arrays.iter().collect::<Vec<_>>(), axis)?)
    })
}

fn optional(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    match inputs.get(0) {
        Some(value @ Value::Optional(_)) => {
            Err(Error::invalid(format!("expected a tensor or a sequence, found {}", value.kind())))
        }
        value => Ok(vec![Value::Optional(value.cloned().map(Box::new))]),
    }
}

fn get(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    match inputs.value(0)? {
        Value::Optional(Some(value)) => Ok(vec![(**value).clone()]),
        Value::Optional(None) => Err(Error::invalid("the optional value is absent")),
        value => Ok(vec![value.clone()]),
    }
}
