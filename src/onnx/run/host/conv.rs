//! Convolutions of one and two axes, with weights packed once.

use std::sync::{Arc, Mutex, PoisonError};

use rekindle_kernels::{Activation, Conv2d, PackedWeights};
use rekindle_onnx::{Node, Result};

use super::{Floats, HostOp};
use crate::kernels::CHECKED;
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;
use crate::onnx::run::conv::planar;

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    let activation = match node.attributes.text_or("activation", "")? {
        "" => Activation::None,
        "Relu" => Activation::Relu,
        _ => return Ok(None),
    };
    let latest: Mutex<Option<Arc<Ready>>> = Mutex::default();
    Ok((node.operator == "Conv").then(|| -> HostOp { Box::new(move |call| conv(call, activation, &latest)) }))
}

/// What follows from the shapes of the last call, and its weights.
struct Ready {
    shapes: [Vec<usize>; 2],
    geometry: Conv2d,
    /// What comes out.
    shape: Vec<usize>,
    /// The weight as it was given, and in the order in which the kernels read it: not the first time that it is seen, unless it is a
    /// constant.
    weight: Floats,
    packed: Option<PackedWeights>,
}

fn conv(call: &mut Call<'_, '_>, activation: Activation, latest: &Mutex<Option<Arc<Ready>>>) -> Outputs {
    let (Some(input), Some(weight)) = (call.floats(0), call.floats(1)) else { return Ok(None) };
    if call.has(2) && call.floats(2).is_none() {
        return Ok(None);
    }
    let before = latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let before = before.filter(|ready| ready.shapes[0] == input && ready.shapes[1] == weight);
    let shapes = [input.to_vec(), weight.to_vec()];
    let (geometry, shape) = match &before {
        Some(ready) => (ready.geometry, ready.shape.clone()),
        None => match planar(call)? {
            Some((geometry, shape)) => (geometry, shape),
            None => return Ok(None),
        },
    };
    let constant = call.is_constant(1);
    let ((x, _), (weight, _)) = (call.take_host(0)?, call.take_host(1)?);
    let bias = if call.has(2) { Some(call.take_host(2)?.0) } else { None };
    let bias = bias.as_ref().map(|bias| bias.values());
    let ready = match before.filter(|ready| ready.weight.same(&weight)) {
        Some(ready) if ready.packed.is_some() => ready,
        known => {
            let packed = (constant || known.is_some()).then(|| geometry.pack(weight.values()).expect(CHECKED));
            let ready = Arc::new(Ready { shapes, geometry, shape: shape.clone(), weight, packed });
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(ready.clone());
            ready
        }
    };
    let mut output = call.buffer(&shape)?;
    match &ready.packed {
        Some(packed) => geometry.forward_packed(x.values(), packed, bias, activation, output.values_mut()),
        None => geometry.forward(x.values(), ready.weight.values(), bias, activation, output.values_mut()),
    }
    .expect(CHECKED);
    call.answer(output, shape)
}
