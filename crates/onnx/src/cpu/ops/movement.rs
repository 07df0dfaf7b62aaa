//! Parts of tensors put together and taken apart.

use crate::array::axis;
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::ops::{Concat, Cut, Gather, Slice, Split};
use crate::{DType, Result};

/// Sizes before an axis and after it, in the order in which the values are stored.
pub(super) fn around(tensor: &Tensor, along: usize) -> (usize, usize, usize) {
    let stored = tensor.stored();
    let along = if tensor.channels_last { [0, 3, 1, 2][along] } else { along };
    (stored[..along].iter().product(), stored[along], stored[along + 1..].iter().product())
}

pub(super) fn concat(p: &mut Planner<'_>, node: &Node) -> Planned {
    let mut parts = Vec::new();
    for position in 0..node.inputs.len() {
        match (p.input(node, position)?.filter(Tensor::is_float), node.inputs[position]) {
            (Some(part), Some(id)) => parts.push((id, part)),
            _ => return Ok(false),
        }
    }
    let Some((_, first)) = parts.first() else { return Ok(false) };
    let rank = first.shape.len();
    let Some(concat) = node.get::<Concat>() else { return Ok(false) };
    let along = axis(concat.axis, rank)?;
    let alike = |part: &Tensor| {
        part.shape.len() == rank && (0..rank).all(|at| at == along || part.shape[at] == first.shape[at])
    };
    if !parts.iter().all(|(_, part)| alike(part)) {
        return Ok(false);
    }
    let mut shape = first.shape.clone();
    shape[along] = parts.iter().map(|(_, part)| part.shape[along]).sum();
    let channels_last = parts.iter().any(|(_, part)| part.channels_last);
    let mut sources = Vec::new();
    for (id, part) in parts {
        let part = if channels_last { p.channels_last(id, &part)? } else { p.plain(id, &part)? };
        // One pixel or channel is in either order.
        let (_, size, inner) = around(&Tensor { channels_last, ..part.clone() }, along);
        sources.push((part.source(), size * inner));
    }
    let out = p.allocate(DType::F32, shape, channels_last)?;
    let whole = Tensor { channels_last, ..out.clone() };
    let (outer, size, inner) = around(&whole, along);
    let (row, len) = (size * inner, out.len());
    p.emit(
        Box::new(move |context, outputs| {
            let out = outputs[0].values_mut::<f32>(len);
            let mut start = 0;
            for (source, block) in &sources {
                let values = context.floats(source)?;
                rekindle_kernels::copy_blocks(values, *block, 0, *block, &mut out[start..], row, outer);
                start += block;
            }
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}

pub(super) fn split(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let Some(op) = node.get::<Split>() else { return Ok(false) };
    let along = axis(op.axis, x.shape.len())?;
    let size = x.shape[along];
    let given = p.constant(node, 1)?;
    if given.is_none() && node.inputs.get(1).is_some_and(Option::is_some) {
        return Ok(false);
    }
    let sizes = op.lengths(size, given.map(|sizes| sizes.int64s()).transpose()?.as_deref())?;
    if sizes.len() != node.outputs.len()
        || sizes.contains(&0)
        || sizes.iter().try_fold(0usize, |a, &b| a.checked_add(b)) != Some(size)
    {
        return Ok(false);
    }
    let mut start = 0;
    for (at, part) in sizes.into_iter().enumerate() {
        let out = part_of(p, &x, along, start, part)?;
        p.set(node.outputs[at], out);
        start += part;
    }
    Ok(true)
}

/// A step that copies a part along an axis.
fn part_of(p: &mut Planner<'_>, x: &Tensor, along: usize, start: usize, size: usize) -> Result<Tensor> {
    let (outer, whole, inner) = around(x, along);
    let mut shape = x.shape.clone();
    shape[along] = size;
    let out = p.allocate(DType::F32, shape, x.channels_last)?;
    let (source, len) = (x.source(), out.len());
    p.emit(
        Box::new(move |context, outputs| {
            let values = context.floats(&source)?;
            let out = outputs[0].values_mut::<f32>(len);
            rekindle_kernels::copy_blocks(values, whole * inner, start * inner, size * inner, out, size * inner, outer);
            Ok(())
        }),
        &[&out],
    )?;
    Ok(out)
}

pub(super) fn slice(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(slice) = node.get::<Slice>() else { return Ok(false) };
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let mut lists = Vec::new();
    for position in 1..5 {
        let given = node.inputs.get(position).is_some_and(Option::is_some);
        lists.push(match p.constant(node, position)? {
            None if given => return Ok(false),
            array => array.map(|array| array.int64s()).transpose()?,
        });
    }
    let cuts = slice.cuts(|position| Ok(lists[position - 1].clone()), x.shape.len())?;
    let mut parts = Vec::new();
    for (along, bounds) in cuts {
        let Cut { start, step, count } = Cut::new(x.shape[along], bounds)?;
        if step != 1 || count == 0 {
            return Ok(false);
        }
        if count != x.shape[along] {
            parts.push((along, start, count));
        }
    }
    let mut tensor = x;
    if parts.is_empty() {
        let (shape, channels_last) = (tensor.shape.clone(), tensor.channels_last);
        p.alias(node.outputs[0], &tensor, shape, channels_last);
        return Ok(true);
    }
    for (at, (along, start, size)) in parts.into_iter().enumerate() {
        // A shape that either order fits is stored in the order of the one before.
        let part = part_of(p, &tensor, along, start, size)?;
        if at > 0 {
            p.free(&tensor);
        }
        tensor = part;
    }
    p.set(node.outputs[0], tensor);
    Ok(true)
}

pub(super) fn gather(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.plain_input(node, 0)?.filter(|x| x.is_float() && !x.shape.is_empty()) else { return Ok(false) };
    let Some(op) = node.get::<Gather>() else { return Ok(false) };
    let along = axis(op.axis, x.shape.len())?;
    let Some(indices) = p.input(node, 1)?.filter(|indices| indices.dtype == DType::I64 && indices.len() > 0) else {
        return Ok(false);
    };
    let size = x.shape[along];
    let (outer, inner): (usize, usize) = (x.shape[..along].iter().product(), x.shape[along + 1..].iter().product());
    let shape: Vec<usize> =
        x.shape[..along].iter().chain(&indices.shape).chain(&x.shape[along + 1..]).copied().collect();
    let out = p.allocate(DType::F32, shape, false)?;
    let (source, positions, len) = (x.source(), indices.source(), out.len());
    let emitted = p.emit(
        Box::new(move |context, outputs| {
            let (values, positions) = (context.floats(&source)?, context.read::<i64>(&positions)?);
            let out = outputs[0].values_mut::<f32>(len);
            let blocks = values.chunks_exact(size * inner).zip(out.chunks_exact_mut(positions.len() * inner));
            for (block, out) in blocks.take(outer) {
                for (&position, out) in positions.iter().zip(out.chunks_exact_mut(inner)) {
                    let at = if position < 0 { position + size as i64 } else { position };
                    let at = usize::try_from(at).ok().filter(|&at| at < size);
                    let at = at.ok_or_else(|| {
                        crate::Error::invalid(format!("index {position} is out of range for an axis of {size}"))
                    })?;
                    out.copy_from_slice(&block[at * inner..][..inner]);
                }
            }
            Ok(())
        }),
        &[&out],
    );
    emitted?;
    p.set(node.outputs[0], out);
    Ok(true)
}
