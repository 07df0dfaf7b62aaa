//! The same values under other shapes, and in another order of axes.

use crate::array::count;
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::run::in_memory;
use crate::cpu::tensor::{Place, Tensor};
use crate::graph::Node;
use crate::ops::{Blocks, Flatten, Reshape, SingleAxes, Transpose};
use crate::{DType, Result};

/// The shape that a node gives, if it is known.
fn target(p: &mut Planner<'_>, node: &Node, shape: &[usize]) -> Result<Option<Vec<usize>>> {
    let given = p.constant(node, 1)?.map(|list| list.int64s());
    let open = given.is_none() && node.inputs.get(1).is_some_and(Option::is_some);
    Ok(if let Some(flatten) = node.get::<Flatten>() {
        let (first, rest) = shape.split_at(flatten.cut(shape.len())?);
        Some(vec![first.iter().product(), rest.iter().product()])
    } else if let Some(reshape) = node.get::<Reshape>().filter(|_| !open) {
        let target = reshape.target(given.transpose()?, shape)?;
        let len: usize = shape.iter().product();
        (count(&target)? == len).then_some(target)
    } else if let Some(axes) = node.get::<SingleAxes>().filter(|_| !open) {
        Some(axes.apply(given.transpose()?, shape, 1, |&size| size == 1)?)
    } else {
        matches!(node.operator.as_str(), "Identity" | "Dropout").then(|| shape.to_vec())
    })
}

pub(super) fn reshape(p: &mut Planner<'_>, node: &Node) -> Planned {
    if !node.domain.is_empty() || node.outputs.iter().skip(1).any(Option::is_some) {
        return Ok(false);
    }
    if node.operator == "Dropout" && (node.version < 7 || node.inputs.get(2).is_some_and(Option::is_some)) {
        return Ok(false);
    }
    let Some(x) = p.input(node, 0)? else { return Ok(false) };
    let (Some(id), true) = (node.inputs[0], x.dtype != DType::Str) else { return Ok(false) };
    let Some(shape) = target(p, node, &x.shape)? else { return Ok(false) };
    if shuffle(p, node, &x, &shape)? {
        return Ok(true);
    }
    let same = shape == x.shape;
    let x = if same { x } else { p.plain(id, &x)? };
    let channels_last = same && x.channels_last;
    p.alias(node.outputs[0], &x, shape, channels_last);
    Ok(true)
}

/// A shuffle of channels: `[n, groups * c, h, w]` seen as groups, their order turned, and put together again, on an image whose channels
/// are last.
fn shuffle(p: &mut Planner<'_>, node: &Node, x: &Tensor, grouped: &[usize]) -> Planned {
    let (&[n, channels, h, w], &[gn, groups, each, gh, gw]) = (x.shape.as_slice(), grouped) else { return Ok(false) };
    if !x.channels_last || [gn, groups * each, gh, gw] != [n, channels, h, w] {
        return Ok(false);
    }
    let mut users = Vec::new();
    let mut id = node.outputs.first().copied().flatten();
    for operator in ["Transpose", "Reshape"] {
        let Some(user) = id.and_then(|id| p.only_user(id)) else { return Ok(false) };
        let next = p.graph_node(user);
        if next.operator != operator || !next.domain.is_empty() || next.inputs[0] != id {
            return Ok(false);
        }
        id = next.outputs.first().copied().flatten();
        users.push(user);
    }
    let (turned, joined) = (p.graph_node(users[0]), p.graph_node(users[1]));
    if turned.get::<Transpose>().is_none_or(|turned| turned.order.as_deref() != Some(&[0, 2, 1, 3, 4]))
        || target(p, joined, &[n, each, groups, h, w])? != Some(x.shape.clone())
    {
        return Ok(false);
    }
    let out = p.allocate(DType::F32, x.shape.clone(), true)?;
    let (source, len) = (x.source(), x.len());
    p.emit(
        Box::new(move |context, outputs| {
            let sizes = [n * h * w, groups, each];
            rekindle_kernels::permute(context.floats(&source)?, &sizes, &[0, 2, 1], outputs[0].values_mut(len));
            Ok(())
        }),
        &[&out],
    )?;
    p.set(id, out);
    users.into_iter().for_each(|at| p.absorb(at));
    Ok(true)
}

pub(super) fn transpose(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.input(node, 0)? else { return Ok(false) };
    let (Some(id), true) = (node.inputs[0], x.is_float()) else { return Ok(false) };
    let Some(transpose) = node.get::<Transpose>() else { return Ok(false) };
    let rank = x.shape.len();
    let order = transpose.order(rank)?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.into_iter().eq(0..rank) {
        return Ok(false);
    }
    let shape: Vec<usize> = order.iter().map(|&along| x.shape[along]).collect();
    // The order in which the values are stored already.
    if x.channels_last && order == [0, 2, 3, 1] {
        p.alias(node.outputs[0], &x, shape, false);
        return Ok(true);
    }
    if !x.channels_last && order == [0, 3, 1, 2] && matches!(x.place, Place::Memory(_)) && in_memory(x.dtype) {
        p.alias(node.outputs[0], &x, shape, true);
        return Ok(true);
    }
    let x = p.plain(id, &x)?;
    // Axes of one value do not matter.
    let moved = |order: &[usize]| order.iter().copied().filter(|&along| x.shape[along] != 1).collect::<Vec<_>>();
    if moved(&order).is_sorted() {
        p.alias(node.outputs[0], &x, shape, false);
        return Ok(true);
    }
    let out = p.allocate(DType::F32, shape, false)?;
    let (source, sizes, len) = (x.source(), x.shape.clone(), x.len());
    p.emit(
        Box::new(move |context, outputs| {
            rekindle_kernels::permute(context.floats(&source)?, &sizes, &order, outputs[0].values_mut(len));
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}

/// Channels as pixels: `[n, block * block * c, h, w]` to `[n, c, h * block, w * block]`, in whichever order the input is stored.
pub(super) fn depth_to_space(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.input(node, 0)? else { return Ok(false) };
    let Some(&Blocks { block, depth_first: first, to_space: true }) = node.get::<Blocks>() else { return Ok(false) };
    let &[n, channels, h, w] = x.shape.as_slice() else { return Ok(false) };
    if !x.is_float() || !channels.is_multiple_of(block * block) {
        return Ok(false);
    }
    let c = channels / (block * block);
    // The axes of the input: of block rows, block columns and channels, of the channels; and of the pixels.
    let parts = if first { [block, block, c] } else { [c, block, block] };
    let (sizes, start, pixels) = if x.channels_last {
        (vec![n, h, w, parts[0], parts[1], parts[2]], 3, 1)
    } else {
        (vec![n, parts[0], parts[1], parts[2], h, w], 1, 4)
    };
    let [down, across, depth] = if first { [start, start + 1, start + 2] } else { [start + 1, start + 2, start] };
    let order = [0, depth, pixels, down, pixels + 1, across];
    let out = p.allocate(DType::F32, vec![n, c, h * block, w * block], false)?;
    let (source, len) = (x.source(), x.len());
    p.emit(
        Box::new(move |context, outputs| {
            rekindle_kernels::permute(context.floats(&source)?, &sizes, &order, outputs[0].values_mut(len));
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}
