//! An activation function after a convolution or product goes into its node.

use super::draft::{Draft, fuse, input, is};
use crate::DType;
use crate::graph::{Attribute, FUSED, Node};

/// `Relu` and other functions of single elements after `Conv`, `Gemm` or `MatMul` with constant weights.
pub(super) fn merge(draft: &mut Draft, at: usize) -> Option<()> {
    let node = draft.standard(at, &["Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid"])?;
    let before = draft.only_for_one(input(node, 0)?)?;
    let operators = ["Conv", "Gemm", "MatMul"];
    let layer = draft.node(before).filter(|layer| is(layer, "", &operators) || is(layer, FUSED, &operators))?;
    let floats = draft.weight(input(layer, 1)).is_some_and(|weight| matches!(weight.dtype, DType::F32 | DType::F64));
    if !floats || layer.attributes.get("activation").is_some() {
        return None;
    }
    let parameters = parameters(draft, node)?;
    let name = node.operator.clone();
    let activation = draft.take(at)?;
    let mut layer = draft.take(before)?;
    layer.attributes.insert("activation".to_string(), Attribute::Str(name.into_bytes()));
    if !parameters.is_empty() {
        layer.attributes.insert("activation_params".to_string(), Attribute::Floats(parameters));
    }
    fuse(&mut layer)?;
    layer.outputs = activation.outputs;
    draft.put(at, layer);
    Some(())
}

/// The constants of a function.
fn parameters(draft: &Draft, node: &Node) -> Option<Vec<f32>> {
    let float = |name: &str, default: f32| node.attributes.float_or(name, default).ok();
    Some(match node.operator.as_str() {
        "LeakyRelu" => vec![float("alpha", 0.01)?],
        "HardSigmoid" => vec![float("alpha", 0.2)?, float("beta", 0.5)?],
        "Clip" => {
            // Attributes up to version 10, then inputs.
            let bound = |name: &str, position: usize, default: f32| match input(node, position) {
                Some(id) => draft.number(Some(id)).map(|number| number as f32),
                None => float(name, default),
            };
            vec![bound("min", 1, f32::NEG_INFINITY)?, bound("max", 2, f32::INFINITY)?]
        }
        _ => Vec::new(),
    })
}
