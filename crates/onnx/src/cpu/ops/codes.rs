//! Functions of 8-bit codes, and of floats to and from them.

use rekindle_kernels::{
    Binary, Quantization, dequantize as floats, dynamic, pair, quantize as codes, requantize, table,
};

use super::movement::around;
use crate::array::axis;
use crate::cpu::fuse;
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::{DType, Result};

/// Whether a tensor is of codes, and not empty.
pub(super) fn is_codes(tensor: &Tensor) -> bool {
    matches!(tensor.dtype, DType::U8 | DType::I8) && !tensor.shape.contains(&0)
}

/// Scale and zero point at two places of a node, if they are the same for all values and in every run.
pub(super) fn quantization(
    p: &mut Planner<'_>,
    node: &Node,
    [scale, zero]: [usize; 2],
) -> Result<Option<Quantization>> {
    let scale = p.constant(node, scale)?.filter(|scale| scale.dtype() == DType::F32 && scale.len() == 1);
    let Some(scale) = scale else { return Ok(None) };
    let (zero, dtype) = match node.inputs.get(zero).copied().flatten() {
        None => (0.0, DType::U8),
        Some(_) => match p.constant(node, zero)?.filter(|zero| zero.len() == 1) {
            Some(zero) => (zero.float()?, zero.dtype()),
            None => return Ok(None),
        },
    };
    let scale = scale.float()? as f32;
    let fits = scale > 0.0 && scale.is_finite() && matches!(dtype, DType::U8 | DType::I8);
    Ok(fits.then_some(Quantization { scale, zero: zero as i32, signed: dtype == DType::I8 }))
}

/// The same of a quantization or its inverse, without blocks and other types.
fn simple(p: &mut Planner<'_>, node: &Node) -> Result<Option<Quantization>> {
    let rare = ["block_size", "output_dtype", "precision"];
    if rare.iter().any(|name| node.attributes.get(name).is_some()) { Ok(None) } else { quantization(p, node, [1, 2]) }
}

fn dtype(by: Quantization) -> DType {
    if by.signed { DType::I8 } else { DType::U8 }
}

pub(super) fn quantize(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let Some(by) = simple(p, node)? else { return Ok(false) };
    let out = p.allocate(dtype(by), x.shape.clone(), x.channels_last)?;
    let (source, len) = (x.source(), x.len());
    p.emit(
        Box::new(move |context, outputs| {
            codes(context.floats(&source)?, by, outputs[0].values_mut(len));
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}

pub(super) fn dequantize(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.input(node, 0)?.filter(is_codes) else { return Ok(false) };
    let Some(by) = simple(p, node)? else { return Ok(false) };
    if dtype(by) != x.dtype {
        return Ok(false);
    }
    let (source, len) = (x.source(), x.len());
    if let Some((nodes, function, to)) = between(p, node)? {
        let values = by.table(function, to);
        let out = p.allocate(dtype(to), x.shape.clone(), x.channels_last)?;
        p.emit(
            Box::new(move |context, outputs| {
                table(context.bytes(&source)?, &values, outputs[0].values_mut(len));
                Ok(())
            }),
            &[&out],
        )?;
        let last = p.graph_node(nodes[1]).outputs.first().copied().flatten();
        p.set(last, out);
        nodes.into_iter().for_each(|at| p.absorb(at));
        return Ok(true);
    }
    let out = p.allocate(DType::F32, x.shape.clone(), x.channels_last)?;
    p.emit(
        Box::new(move |context, outputs| {
            floats(context.bytes(&source)?, by, outputs[0].values_mut(len));
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}

/// A function of single values and a quantization that alone follow: their nodes and what they are.
fn between(
    p: &mut Planner<'_>,
    node: &Node,
) -> Result<Option<([usize; 2], rekindle_kernels::Pointwise, Quantization)>> {
    let Some(user) = node.outputs.first().copied().flatten().and_then(|id| p.only_user(id)) else { return Ok(None) };
    let middle = p.graph_node(user);
    if middle.inputs[0] != node.outputs[0] {
        return Ok(None);
    }
    let Some(function) = fuse::function(p, middle)? else { return Ok(None) };
    let Some(last) = middle.outputs.first().copied().flatten().and_then(|id| p.only_user(id)) else {
        return Ok(None);
    };
    let quantizing = p.graph_node(last);
    if quantizing.operator != "QuantizeLinear" || quantizing.inputs[0] != middle.outputs[0] {
        return Ok(None);
    }
    Ok(simple(p, quantizing)?.map(|to| ([user, last], function, to)))
}

/// Quantized with a scale of its own in each run.
pub(super) fn dynamic_quantize(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let out = p.allocate(DType::U8, x.shape.clone(), x.channels_last)?;
    let scale = p.allocate(DType::F32, Vec::new(), false)?;
    let zero = p.allocate(DType::U8, Vec::new(), false)?;
    let (source, len) = (x.source(), x.len());
    p.emit(
        Box::new(move |context, outputs| {
            let [out, scale, zero] = outputs else { unreachable!("three outputs were given") };
            let (by, at) = dynamic(context.floats(&source)?, out.values_mut(len));
            scale.values_mut::<f32>(1)[0] = by;
            zero.values_mut::<u8>(1)[0] = at;
            Ok(())
        }),
        &[&out, &scale, &zero],
    )?;
    for (position, tensor) in [out, scale, zero].into_iter().enumerate() {
        p.set(node.outputs.get(position).copied().flatten(), tensor);
    }
    Ok(true)
}

/// A function of two quantized values.
pub(super) fn binary(p: &mut Planner<'_>, node: &Node) -> Planned {
    let function = if node.operator == "QLinearAdd" { Binary::Add } else { Binary::Mul };
    let (Some(a), Some(b)) = (p.input(node, 0)?.filter(is_codes), p.input(node, 3)?.filter(is_codes)) else {
        return Ok(false);
    };
    let (Some(a_id), Some(b_id)) = (node.inputs[0], node.inputs[3]) else { return Ok(false) };
    let (a_by, b_by) = (quantization(p, node, [1, 2])?, quantization(p, node, [4, 5])?);
    let (Some(a_by), Some(b_by), Some(to)) = (a_by, b_by, quantization(p, node, [6, 7])?) else { return Ok(false) };
    if dtype(a_by) != a.dtype || dtype(b_by) != b.dtype {
        return Ok(false);
    }
    // Both functions are the same with their operands the other way round: the one with more values comes first.
    let turned = b.len() > a.len();
    let [(a_id, a, a_by), (b_id, b, b_by)] =
        if turned { [(b_id, b, b_by), (a_id, a, a_by)] } else { [(a_id, a, a_by), (b_id, b, b_by)] };
    let channels_last = a.channels_last || b.channels_last && b.shape == a.shape;
    let (a, b) = if b.shape == a.shape {
        if channels_last { (p.channels_last(a_id, &a)?, p.channels_last(b_id, &b)?) } else { (a, b) }
    } else if b.len() == 1 && b.shape.len() <= a.shape.len() {
        (a, b)
    } else if a.channels_last {
        // One value for each channel.
        let c = a.shape[1];
        if b.len() != c || b.shape.len() < 3 || b.shape[b.shape.len() - 3] != c {
            return Ok(false);
        }
        (a, b)
    } else {
        let rest = a.shape.len().checked_sub(b.shape.len());
        let b = p.plain(b_id, &b)?;
        let first = b.shape.iter().position(|size| *size != 1).unwrap_or(b.shape.len());
        if rest.is_none_or(|rest| a.shape[rest + first..] != b.shape[first..]) {
            return Ok(false);
        }
        (a, b)
    };
    let out = p.allocate(dtype(to), a.shape.clone(), a.channels_last)?;
    let (sources, len) = ([a.source(), b.source()], a.len());
    p.emit(
        Box::new(move |context, outputs| {
            let [a, b] = [context.bytes(&sources[0])?, context.bytes(&sources[1])?];
            pair(function, (a, a_by), (b, b_by), to, outputs[0].values_mut(len));
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}

pub(super) fn concat(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(to) = quantization(p, node, [0, 1])? else { return Ok(false) };
    let mut parts = Vec::new();
    for at in (2..node.inputs.len()).step_by(3) {
        let Some(part) = p.input(node, at)?.filter(is_codes) else { return Ok(false) };
        let (Some(id), Some(by)) = (node.inputs[at], quantization(p, node, [at + 1, at + 2])?) else {
            return Ok(false);
        };
        if dtype(by) != part.dtype {
            return Ok(false);
        }
        parts.push((id, part, by));
    }
    let Some((_, first, _)) = parts.first() else { return Ok(false) };
    let rank = first.shape.len();
    let along = axis(node.attributes.int_or("axis", 1)?, rank)?;
    let mut shape = first.shape.clone();
    let alike =
        |part: &Tensor| part.shape.len() == rank && (0..rank).all(|at| at == along || part.shape[at] == shape[at]);
    if !parts.iter().all(|(_, part, _)| alike(part)) {
        return Ok(false);
    }
    shape[along] = parts.iter().map(|(_, part, _)| part.shape[along]).sum();
    let channels_last = parts.iter().any(|(_, part, _)| part.channels_last);
    let mut sources = Vec::new();
    for (id, part, by) in parts {
        let part = if channels_last { p.channels_last(id, &part)? } else { p.plain(id, &part)? };
        let (_, size, inner) = around(&Tensor { channels_last, ..part.clone() }, along);
        sources.push((part.source(), size * inner, by));
    }
    let out = p.allocate(dtype(to), shape, channels_last)?;
    let (_, size, inner) = around(&Tensor { channels_last, ..out.clone() }, along);
    let (row, len) = (size * inner, out.len());
    p.emit(
        Box::new(move |context, outputs| {
            let out = outputs[0].values_mut::<u8>(len);
            let mut start = 0;
            for (source, block, by) in &sources {
                requantize(context.bytes(source)?, *by, to, *block, &mut out[start..], row);
                start += block;
            }
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}
