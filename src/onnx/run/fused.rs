//! Nodes that do the work of several, in a prepared graph.

use burn::tensor::activation;
use rekindle_onnx::operator::Operator;
use rekindle_onnx::ops::{BiasedMatMul, Conv, Fused, FusedActivation, Gemm};

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::DeviceTensor;
use super::{conv, linear};

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "Conv" => |call| match call.node.get::<Fused<Conv>>() {
            // max(0, x) is part of the convolution itself.
            Some(Fused { activation: Some(FusedActivation::Relu), .. }) => conv::conv_relu(call),
            _ => activated::<Conv>(call, conv::conv),
        },
        "Gemm" => |call| activated::<Gemm>(call, linear::gemm),
        "MatMul" => |call| activated::<BiasedMatMul>(call, linear::matmul_biased),
        _ => return None,
    })
}

/// An operator, then the function that was merged with it.
fn activated<O: Operator>(call: &mut Call<'_, '_>, operator: DeviceOp) -> Outputs {
    let Some(activation) = call.node.get::<Fused<O>>().map(|fused| fused.activation) else { return Ok(None) };
    let outputs = operator(call)?;
    Ok(outputs.map(|outputs| outputs.into_iter().map(|output| applied(activation, output)).collect()))
}

fn applied(activation: Option<FusedActivation>, x: DeviceTensor) -> DeviceTensor {
    match activation {
        None => x,
        Some(FusedActivation::Relu) => x.map(activation::relu),
        Some(FusedActivation::LeakyRelu(alpha)) => x.map(|x| activation::leaky_relu(x, alpha)),
        Some(FusedActivation::Clip(low, high)) => x.map(|x| {
            let x = if low == f64::NEG_INFINITY { x } else { x.clamp_min(low) };
            if high == f64::INFINITY { x } else { x.clamp_max(high) }
        }),
        Some(FusedActivation::Sigmoid) => x.map(activation::sigmoid),
        Some(FusedActivation::Tanh) => x.map(|x| x.tanh()),
        Some(FusedActivation::HardSigmoid(alpha, beta)) => x.map(|x| (x * alpha + beta).clamp(0.0, 1.0)),
    }
}
