//! Means over the pixels of an image, and over last axes.

use rekindle_kernels::{Pixels, Pool, PoolKind};

use super::conv::unfit;
use crate::DType;
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::ops::Reduce;

pub(super) fn mean(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let Some(reduce) = node.get::<Reduce>() else { return Ok(false) };
    let given = p.constant(node, 1)?.map(|axes| axes.int64s()).transpose()?;
    if given.is_none() && node.inputs.get(1).is_some_and(Option::is_some) {
        return Ok(false);
    }
    let axes = reduce.axes(given, x.shape.len())?;
    let keep = reduce.keep;
    let (Some(id), Some(&first)) = (node.inputs[0], axes.first()) else { return Ok(false) };
    // Axes side by side only.
    if axes.last().is_none_or(|last| last - first + 1 != axes.len()) {
        return Ok(false);
    }
    let shape: Vec<usize> = if keep {
        x.shape.iter().enumerate().map(|(at, &size)| if axes.contains(&at) { 1 } else { size }).collect()
    } else {
        x.shape.iter().enumerate().filter(|(at, _)| !axes.contains(at)).map(|(_, &size)| size).collect()
    };
    let one = |kernel: usize, batch: usize, channels: usize| Pool {
        kind: PoolKind::Average,
        batch,
        channels,
        input: [1, kernel],
        output: [1, 1],
        kernel: [1, kernel],
        stride: [1; 2],
        padding: [[0; 2]; 2],
        dilation: [1; 2],
    };
    let image = x.channels_last && axes == [2, 3];
    let x = if image { x } else { p.plain(id, &x)? };
    let (pool, last) = if image {
        (one(x.shape[2] * x.shape[3], x.shape[0], x.shape[1]), false)
    } else {
        let outer: usize = x.shape[..first].iter().product();
        let size: usize = axes.iter().map(|&at| x.shape[at]).product();
        let inner: usize = x.shape[first + axes.len()..].iter().product();
        (one(size, outer, inner), inner == 1)
    };
    let out = p.allocate(DType::F32, shape, false)?;
    let (input, len) = (x.source(), out.len());
    p.emit(
        Box::new(move |context, outputs| {
            let (values, out) = (context.floats(&input)?, outputs[0].values_mut::<f32>(len));
            if last {
                let size = pool.kernel[1];
                for (out, row) in out.iter_mut().zip(values.chunks_exact(size)) {
                    *out = sum(row) / size as f32;
                }
                return Ok(());
            }
            pool.forward(Pixels { values, stride: pool.channels }, out, pool.channels).map_err(unfit)
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}

fn sum(row: &[f32]) -> f32 {
    let (groups, rest) = row.as_chunks::<16>();
    let mut sums = [0.0; 16];
    for group in groups {
        sums.iter_mut().zip(group).for_each(|(sum, value)| *sum += value);
    }
    sums.iter().sum::<f32>() + rest.iter().sum::<f32>()
}
