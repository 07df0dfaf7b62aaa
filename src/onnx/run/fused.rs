//! Nodes that do the work of several, in a prepared graph.

use burn::tensor::activation;
use rekindle_onnx::Node;

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::DeviceTensor;
use super::{conv, linear};

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        // max(0, x) is part of the convolution itself.
        "Conv" => |call| match Activation::of(call.node)? {
            Some(Activation::Relu) => conv::conv_relu(call),
            _ => activated(call, conv::conv),
        },
        "Gemm" => |call| activated(call, linear::gemm),
        "MatMul" => |call| activated(call, linear::matmul_biased),
        _ => return None,
    })
}

fn activated(call: &mut Call<'_, '_>, operator: DeviceOp) -> Outputs {
    let Some(activation) = Activation::of(call.node)? else { return Ok(None) };
    let outputs = operator(call)?;
    Ok(outputs.map(|outputs| outputs.into_iter().map(|output| activation.apply(output)).collect()))
}

/// The function of single elements at the end of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Activation {
    None,
    Relu,
    LeakyRelu(f64),
    Clip(f64, f64),
    Sigmoid,
    Tanh,
    HardSigmoid(f64, f64),
}

impl Activation {
    /// As the attributes of a node say; `None` where only the host knows the function.
    fn of(node: &Node) -> rekindle_onnx::Result<Option<Self>> {
        let parameters = node.attributes.floats("activation_params")?.unwrap_or_default();
        Ok(Some(match (node.attributes.text_or("activation", "")?, parameters) {
            ("", _) => Self::None,
            ("Relu", _) => Self::Relu,
            ("LeakyRelu", &[alpha]) => Self::LeakyRelu(alpha.into()),
            ("Clip", &[low, high]) => Self::Clip(low.into(), high.into()),
            ("Sigmoid", _) => Self::Sigmoid,
            ("Tanh", _) => Self::Tanh,
            ("HardSigmoid", &[alpha, beta]) => Self::HardSigmoid(alpha.into(), beta.into()),
            _ => return Ok(None),
        }))
    }

    fn apply(self, x: DeviceTensor) -> DeviceTensor {
        match self {
            Self::None => x,
            Self::Relu => x.map(activation::relu),
            Self::LeakyRelu(alpha) => x.map(|x| activation::leaky_relu(x, alpha)),
            Self::Clip(low, high) => x.map(|x| {
                let x = if low == f64::NEG_INFINITY { x } else { x.clamp_min(low) };
                if high == f64::INFINITY { x } else { x.clamp_max(high) }
            }),
            Self::Sigmoid => x.map(activation::sigmoid),
            Self::Tanh => x.map(|x| x.tanh()),
            Self::HardSigmoid(alpha, beta) => x.map(|x| (x * alpha + beta).clamp(0.0, 1.0)),
        }
    }
}
