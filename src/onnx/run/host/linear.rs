//! Matrix products.

use rekindle_kernels::{Activation, Linear, WeightOrder};
use rekindle_onnx::{FUSED, Node, Result};

use super::HostOp;
use crate::kernels::CHECKED;
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    let activation = match node.attributes.text_or("activation", "")? {
        "" => Activation::None,
        "Relu" => Activation::Relu,
        _ => return Ok(None),
    };
    Ok(match node.operator.as_str() {
        "Gemm" => {
            let one = |name: &str| node.attributes.float_or(name, 1.0).map(|factor| factor == 1.0);
            if node.version < 7 || !one("alpha")? || !one("beta")? || node.attributes.flag("transA", false)? {
                return Ok(None);
            }
            let order = if node.attributes.flag("transB", false)? {
                WeightOrder::OutputsFirst
            } else {
                WeightOrder::InputsFirst
            };
            Some(Box::new(move |call| gemm(call, order, activation)))
        }
        "MatMul" if node.domain == FUSED => Some(Box::new(move |call| rows(call, activation))),
        "MatMul" => Some(Box::new(|call| match call.floats(1) {
            Some(&[_, _]) => rows(call, Activation::None),
            _ => matrices(call),
        })),
        _ => None,
    })
}

/// Whether an input is a row of so many values, or is not there.
fn is_row(call: &Call<'_, '_>, position: usize, columns: usize, most_axes: usize) -> bool {
    if !call.has(position) {
        return true;
    }
    let row = |shape: &[usize]| {
        shape.len() <= most_axes
            && matches!(shape, [before @ .., last] if *last == columns && before.iter().all(|&size| size == 1))
    };
    call.floats(position).is_some_and(row)
}

fn gemm(call: &mut Call<'_, '_>, order: WeightOrder, activation: Activation) -> Outputs {
    let (Some(&[batch, depth]), Some(&[b0, b1])) = (call.floats(0), call.floats(1)) else { return Ok(None) };
    let (inputs, outputs) = if order == WeightOrder::OutputsFirst { (b1, b0) } else { (b0, b1) };
    if inputs != depth || !is_row(call, 2, outputs, 2) {
        return Ok(None);
    }
    run(call, Linear { batch, inputs, outputs }, order, activation, vec![batch, outputs])
}

/// One matrix on the right, for every row of the left operand.
fn rows(call: &mut Call<'_, '_>, activation: Activation) -> Outputs {
    let (Some(left @ [before @ .., depth]), Some(&[inputs, outputs])) = (call.floats(0), call.floats(1)) else {
        return Ok(None);
    };
    if inputs != *depth || before.is_empty() || !is_row(call, 2, outputs, left.len()) {
        return Ok(None);
    }
    let shape = before.iter().copied().chain([outputs]).collect();
    let layer = Linear { batch: before.iter().product(), inputs, outputs };
    run(call, layer, WeightOrder::InputsFirst, activation, shape)
}

fn run(
    call: &mut Call<'_, '_>,
    layer: Linear,
    order: WeightOrder,
    activation: Activation,
    shape: Vec<usize>,
) -> Outputs {
    if layer.check().is_err() {
        return Ok(None);
    }
    let ((x, _), (weight, _)) = (call.take_host(0)?, call.take_host(1)?);
    let bias = if call.has(2) { Some(call.take_host(2)?.0) } else { None };
    let mut output = call.buffer(&shape)?;
    let bias = bias.as_ref().map(|bias| bias.values());
    layer.forward(x.values(), weight.values(), order, bias, activation, output.values_mut()).expect(CHECKED);
    call.answer(output, shape)
}

/// As many matrices on the right as on the left.
fn matrices(call: &mut Call<'_, '_>) -> Outputs {
    let (Some([left @ .., batch, depth]), Some([right @ .., inputs, outputs])) = (call.floats(0), call.floats(1))
    else {
        return Ok(None);
    };
    let layer = Linear { batch: *batch, inputs: *inputs, outputs: *outputs };
    if left != right || depth != inputs || layer.check().is_err() {
        return Ok(None);
    }
    let count: usize = left.iter().product();
    let shape: Vec<usize> = left.iter().copied().chain([layer.batch, layer.outputs]).collect();
    let ((x, _), (y, _)) = (call.take_host(0)?, call.take_host(1)?);
    let mut output = call.buffer(&shape)?;
    layer.each(count, x.values(), y.values(), WeightOrder::InputsFirst, output.values_mut()).expect(CHECKED);
    call.answer(output, shape)
}
