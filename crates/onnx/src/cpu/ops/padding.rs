//! Borders of one value around a tensor.

use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::ops::Pad;
use crate::{DType, Result};

/// The integers of an input that is the same in every run; `None` if it isn't, and a list of none if it is left out.
fn known(p: &mut Planner<'_>, node: &Node, position: usize) -> Result<Option<Option<Vec<i64>>>> {
    if node.inputs.get(position).copied().flatten().is_none() {
        return Ok(Some(None));
    }
    p.constant(node, position)?.map(|list| list.int64s().map(Some)).transpose()
}

pub(super) fn pad(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(pad) = node.get::<Pad>() else { return Ok(false) };
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let (Some(pads), Some(axes)) = (known(p, node, 1)?, known(p, node, 3)?) else { return Ok(false) };
    let value = match (node.inputs.get(2).copied().flatten(), p.constant(node, 2)?) {
        (None, _) => pad.value,
        (Some(_), Some(value)) if value.dtype() == DType::F32 && value.len() == 1 => value.float()? as f32,
        _ => return Ok(false),
    };
    let borders = pad.borders(pads, axes, x.shape.len())?;
    if borders.iter().all(|&border| border == (0, 0)) {
        let (shape, channels_last) = (x.shape.clone(), x.channels_last);
        p.alias(node.outputs[0], &x, shape, channels_last);
        return Ok(true);
    }
    if !pad.constant() {
        return Ok(false);
    }
    let mut before = Vec::new();
    let mut shape = Vec::new();
    for (&size, &(first, last)) in x.shape.iter().zip(&borders) {
        let (Ok(first), Ok(last)) = (usize::try_from(first), usize::try_from(last)) else { return Ok(false) };
        let Some(length) = size.checked_add(first).and_then(|length| length.checked_add(last)) else {
            return Ok(false);
        };
        before.push(first);
        shape.push(length);
    }
    let out = p.allocate(DType::F32, shape, x.channels_last)?;
    let whole = Tensor { channels_last: x.channels_last, ..out.clone() };
    let (from, to) = (x.stored(), whole.stored());
    let before = if x.channels_last { [0, 2, 3, 1].map(|axis| before[axis]).to_vec() } else { before };
    let (source, len) = (x.source(), out.len());
    p.emit(
        Box::new(move |context, outputs| {
            let out = outputs[0].values_mut::<f32>(len);
            out.fill(value);
            inside(context.floats(&source)?, &from, &before, &to, out);
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}

/// Copies rows along the last axis to their places in a larger tensor.
fn inside(x: &[f32], from: &[usize], before: &[usize], to: &[usize], out: &mut [f32]) {
    let Some(last) = from.len().checked_sub(1) else { return };
    for (row, values) in x.chunks_exact(from[last]).enumerate() {
        let (mut rest, mut at, mut apart) = (row, before[last], to[last]);
        for axis in (0..last).rev() {
            at += (rest % from[axis] + before[axis]) * apart;
            rest /= from[axis];
            apart *= to[axis];
        }
        out[at..][..values.len()].copy_from_slice(values);
    }
}
