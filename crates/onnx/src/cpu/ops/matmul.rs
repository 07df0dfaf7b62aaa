//! Products of matrices, with what follows them.

use rekindle_kernels::{Epilogue, Linear, PackedMatrix, Pointwise, Residual, WeightOrder};

use super::conv::unfit;
use crate::cpu::fuse::{Following, merged};
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::ops::{BiasedMatMul, Fused, Gemm};
use crate::{DType, Result};

/// The bias of a product, if it is a constant row, or none is given; `None` if there is another one.
fn bias(p: &mut Planner<'_>, node: &Node, columns: usize) -> Result<Option<Option<Vec<f32>>>> {
    if node.inputs.get(2).copied().flatten().is_none() {
        return Ok(Some(None));
    }
    let Some(array) = p.constant(node, 2)? else { return Ok(None) };
    let row = array.shape().iter().rev().skip(1).all(|&size| size == 1);
    Ok(match array.values::<f32>() {
        Some(values) if row && array.shape().last() == Some(&columns) => Some(Some(values.to_vec())),
        Some(&[value]) => Some(Some(vec![value; columns])),
        _ => None,
    })
}

pub(super) fn gemm(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some((gemm, own)) = merged::<Gemm>(node) else { return Ok(false) };
    if node.domain.is_empty() && node.version < 7 || gemm.alpha != 1.0 || gemm.beta != 1.0 || gemm.transpose_a {
        return Ok(false);
    }
    let Some(x) = p.plain_input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let &[rows, depth] = x.shape.as_slice() else { return Ok(false) };
    constant(p, node, &x, gemm.transpose_b, own, vec![rows], depth)
}

pub(super) fn matmul(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.plain_input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let Some((&depth, before)) = x.shape.split_last() else { return Ok(false) };
    if p.weight(node.inputs.get(1).copied().flatten()).is_some_and(|weight| weight.shape.len() == 2) {
        let own = match node.get::<Fused<BiasedMatMul>>() {
            None => Pointwise::None,
            Some(_) => match merged::<BiasedMatMul>(node) {
                Some((_, own)) => own,
                None => return Ok(false),
            },
        };
        return constant(p, node, &x, false, own, before.to_vec(), depth);
    }
    if !node.domain.is_empty() {
        return Ok(false);
    }
    matrices(p, node, &x)
}

/// One matrix on the right that is a weight, for every row of the left operand.
fn constant(
    p: &mut Planner<'_>,
    node: &Node,
    x: &Tensor,
    turned: bool,
    own: Pointwise,
    before: Vec<usize>,
    depth: usize,
) -> Planned {
    let Some(weight_id) = node.inputs.get(1).copied().flatten() else { return Ok(false) };
    let Some(weight) = p.weight(Some(weight_id)).filter(|weight| weight.dtype == DType::F32) else { return Ok(false) };
    let &[b0, b1] = weight.shape.as_slice() else { return Ok(false) };
    let (inputs, columns) = if turned { (b1, b0) } else { (b0, b1) };
    if inputs != depth || columns == 0 {
        return Ok(false);
    }
    let Some(bias) = bias(p, node, columns)? else { return Ok(false) };
    let strides = if turned { [1, depth] } else { [columns, 1] };
    let packed = p.source.packed.get(weight_id, 2 + u64::from(turned), || {
        Ok(PackedMatrix::new(weight.array()?.expect::<f32>()?, depth, columns, strides))
    })?;
    let rows: usize = before.iter().product();
    let shape: Vec<usize> = before.into_iter().chain([columns]).collect();
    let following = Following::of(p, node, own, &shape, false)?;
    let out = p.allocate(DType::F32, shape, false)?;
    let (input, len) = (x.source(), out.len());
    let residual = following.residual.as_ref().map(|(_, tensor)| tensor.source());
    let function: Pointwise = following.function;
    p.emit(
        Box::new(move |context, outputs| {
            let residual = residual.as_ref().map(|residual| context.floats(residual)).transpose()?;
            let epilogue = Epilogue {
                bias: bias.as_deref(),
                residual: residual.map(|values| Residual { values, stride: columns }),
                function,
            };
            packed.multiply(context.floats(&input)?, depth, rows, &epilogue, outputs[0].values_mut(len), columns);
            Ok(())
        }),
        &[&out],
    )?;
    following.finish(p, out);
    Ok(true)
}

/// As many matrices on the right as on the left.
fn matrices(p: &mut Planner<'_>, node: &Node, x: &Tensor) -> Planned {
    let Some(y) = p.plain_input(node, 1)?.filter(Tensor::is_float) else { return Ok(false) };
    let ([left @ .., batch, depth], [right @ .., inputs, outputs]) = (x.shape.as_slice(), y.shape.as_slice()) else {
        return Ok(false);
    };
    let layer = Linear { batch: *batch, inputs: *inputs, outputs: *outputs };
    if left != right || depth != inputs || layer.check().is_err() {
        return Ok(false);
    }
    let count: usize = left.iter().product();
    let shape: Vec<usize> = left.iter().copied().chain([layer.batch, layer.outputs]).collect();
    let out = p.allocate(DType::F32, shape, false)?;
    let (sources, len) = ([x.source(), y.source()], out.len());
    p.emit(
        Box::new(move |context, outputs| {
            let (x, y) = (context.floats(&sources[0])?, context.floats(&sources[1])?);
            layer.each(count, x, y, WeightOrder::InputsFirst, outputs[0].values_mut(len)).map_err(unfit)
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}
