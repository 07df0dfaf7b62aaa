//! Pools over two axes.

use rekindle_kernels::{Pixels, Pool, PoolKind, max_pool};

use super::codes::is_codes;
use super::conv::{Sliding, unfit};
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::ops::{AveragePool, MaxPool};
use crate::{DType, Result};

pub(super) fn pool(p: &mut Planner<'_>, node: &Node) -> Planned {
    let most = node.operator == "MaxPool";
    let Some(x) = p.input(node, 0)?.filter(|x| x.is_float() || most && is_codes(x)) else { return Ok(false) };
    let (Some(id), &[batch, channels, height, width]) = (node.inputs[0], x.shape.as_slice()) else { return Ok(false) };
    if node.outputs.get(1).is_some_and(Option::is_some) {
        return Ok(false);
    }
    let input = [height, width];
    let (kind, windows) = match (node.get::<MaxPool>(), node.get::<AveragePool>()) {
        (Some(pool), _) => (PoolKind::Max, Some(&pool.windows)),
        (_, Some(pool)) if pool.with_padding => (PoolKind::AverageWithPadding, Some(&pool.windows)),
        (_, Some(pool)) => (PoolKind::Average, Some(&pool.windows)),
        _ if node.operator == "GlobalMaxPool" => (PoolKind::Max, None),
        _ => (PoolKind::Average, None),
    };
    let one = [1; 2];
    let sliding = match windows {
        None => Some(Sliding { kernel: input, stride: one, dilation: one, padding: [[0; 2]; 2], output: one }),
        Some(windows) => Sliding::of(windows, &input, None)?,
    };
    let Some(Sliding { kernel, stride, dilation, mut padding, output }) = sliding else { return Ok(false) };
    for axis in 0..2 {
        let span = dilation[axis] * (kernel[axis] - 1) + 1;
        let size = input[axis] + padding[axis][0] + padding[axis][1];
        // Windows that see nothing but padding are for the plain operator.
        if span > size || padding[axis].iter().any(|&pad| pad >= span) || output[axis] == 0 {
            return Ok(false);
        }
        // A last window may reach past the padding.
        let past = ((output[axis] - 1) * stride[axis] + span).saturating_sub(size);
        if past > 0 && kind == PoolKind::AverageWithPadding {
            return Ok(false);
        }
        padding[axis][1] += past;
    }
    let pool = Pool { kind, batch, channels, input, output, kernel, stride, padding, dilation };
    let x = p.channels_last(id, &x)?;
    let out = emit(p, pool, &x)?;
    p.set(node.outputs[0], out);
    Ok(true)
}

/// A step that pools an image whose channels are last.
fn emit(p: &mut Planner<'_>, pool: Pool, x: &Tensor) -> Result<Tensor> {
    let Pool { batch, channels, output: [height, width], .. } = pool;
    let out = p.allocate(x.dtype, vec![batch, channels, height, width], true)?;
    let (input, len, dtype) = (x.source(), out.len(), x.dtype);
    p.emit(
        Box::new(move |context, outputs| {
            let out = &mut outputs[0];
            match dtype {
                DType::U8 => max_pool(&pool, context.read::<u8>(&input)?, out.values_mut(len)).map_err(unfit),
                DType::I8 => max_pool(&pool, context.read::<i8>(&input)?, out.values_mut(len)).map_err(unfit),
                _ => {
                    let pixels = Pixels { values: context.floats(&input)?, stride: channels };
                    pool.forward(pixels, out.values_mut(len), channels).map_err(unfit)
                }
            }
        }),
        &[&out],
    )?;
    Ok(out)
}
