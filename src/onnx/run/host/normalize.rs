//! Softmax and layer normalization.

use rekindle_kernels::RowFunction;
use rekindle_onnx::array::axis;
use rekindle_onnx::{Node, Result};

use super::HostOp;
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    Ok(match node.operator.as_str() {
        operator @ ("Softmax" | "LogSoftmax") => {
            let old = node.version < 13;
            let along = node.attributes.int_or("axis", if old { 1 } else { -1 })?;
            let function = if operator == "Softmax" { RowFunction::Softmax } else { RowFunction::LogSoftmax };
            Some(Box::new(move |call| softmax(call, along, old, function)))
        }
        "LayerNormalization" if !node.outputs.iter().skip(1).any(Option::is_some) => {
            let from = node.attributes.int_or("axis", -1)?;
            let epsilon = node.attributes.float_or("epsilon", 1e-5)?;
            Some(Box::new(move |call| layer(call, from, epsilon)))
        }
        _ => None,
    })
}

/// Along the last axis; before version 13 along all from an axis on.
fn softmax(call: &mut Call<'_, '_>, along: i64, old: bool, function: RowFunction<'static>) -> Outputs {
    let Some(shape) = call.floats(0).filter(|shape| !shape.is_empty()) else { return Ok(None) };
    let along = axis(along, shape.len())?;
    let after: usize = shape[along + 1..].iter().product();
    if after != 1 && !old {
        return Ok(None);
    }
    let row = shape[along] * after;
    let (x, shape) = call.take_host(0)?;
    let mut values = x.into_buffer(call.buffers());
    function.apply(values.values_mut(), row);
    call.answer(values, shape)
}

/// Over all axes from one on.
fn layer(call: &mut Call<'_, '_>, from: i64, epsilon: f32) -> Outputs {
    let Some(shape) = call.floats(0).filter(|shape| !shape.is_empty()) else { return Ok(None) };
    let from = axis(from, shape.len())?;
    let whole = |position: usize| call.floats(position) == Some(&shape[from..]);
    if !whole(1) || call.has(2) && !whole(2) {
        return Ok(None);
    }
    let row = shape[from..].iter().product();
    let ((x, shape), (scale, _)) = (call.take_host(0)?, call.take_host(1)?);
    let shift = if call.has(2) { Some(call.take_host(2)?.0) } else { None };
    let mut values = x.into_buffer(call.buffers());
    let shift = shift.as_ref().map(|shift| shift.values());
    RowFunction::LayerNorm { epsilon, scale: scale.values(), shift }.apply(values.values_mut(), row);
    call.answer(values, shape)
}
