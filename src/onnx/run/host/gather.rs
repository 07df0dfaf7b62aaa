//! Slices along an axis by their numbers.

use rekindle_onnx::array::axis;
use rekindle_onnx::{Node, Result};

use super::HostOp;
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    if node.operator != "Gather" {
        return Ok(None);
    }
    let along = node.attributes.int_or("axis", 0)?;
    Ok(Some(Box::new(move |call| gather(call, along))))
}

fn gather(call: &mut Call<'_, '_>, along: i64) -> Outputs {
    let Some(shape) = call.floats(0).filter(|shape| !shape.is_empty()) else { return Ok(None) };
    let along = axis(along, shape.len())?;
    let size = shape[along];
    let inner: usize = shape[along + 1..].iter().product();
    let Some(indices) = call.host(1)?.filter(|indices| !indices.is_empty()) else { return Ok(None) };
    let out: Vec<usize> = shape[..along].iter().chain(indices.shape()).chain(&shape[along + 1..]).copied().collect();
    let wrapped = |index: i64| {
        usize::try_from(if index < 0 { index + size as i64 } else { index }).ok().filter(|&index| index < size)
    };
    let Some(indices) = indices.int64s()?.into_iter().map(wrapped).collect::<Option<Vec<usize>>>() else {
        return Ok(None);
    };
    let (x, _) = call.take_host(0)?;
    let mut output = call.buffer(&out)?;
    let blocks = x.values().chunks_exact(size * inner).zip(output.values_mut().chunks_exact_mut(indices.len() * inner));
    for (block, output) in blocks {
        for (&index, output) in indices.iter().zip(output.chunks_exact_mut(inner)) {
            output.copy_from_slice(&block[index * inner..][..inner]);
        }
    }
    call.answer(output, out)
}
