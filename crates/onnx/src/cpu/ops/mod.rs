//! Operators with kernels, a file for each family. Whether a node is one of them is decided before anything is changed.

mod codes;
mod conv;
mod elementwise;
mod matmul;
mod movement;
mod padding;
mod pool;
mod quantized;
mod recurrent;
mod reduce;
mod rows;
mod shape;

use super::plan::{Planned, Planner};
use super::quantized::{CONV, MATMUL};
use crate::graph::{FUSED, Node};
use crate::infer::Fact;

/// Operators of one kind: whether a node is one of them, and is planned.
type Family = fn(&mut Planner<'_>, &Node) -> Planned;

const FAMILIES: &[(&[&str], Family)] = &[
    (&["Conv"], conv::conv),
    (&["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"], pool::pool),
    (&["ReduceMean"], reduce::mean),
    (&["Gemm"], matmul::gemm),
    (&["MatMul"], matmul::matmul),
    (&["Add", "Sub", "Mul", "Div"], elementwise::binary),
    (&["BatchNormalization"], elementwise::batch_normalization),
    (&[CONV, MATMUL], quantized::layer),
    (&["QuantizeLinear"], codes::quantize),
    (&["DequantizeLinear"], codes::dequantize),
    (&["DynamicQuantizeLinear"], codes::dynamic_quantize),
    (&["QLinearAdd", "QLinearMul"], codes::binary),
    (&["QLinearConcat"], codes::concat),
    (&["Softmax", "LogSoftmax", "LayerNormalization"], rows::rows),
    (&["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"], shape::reshape),
    (&["Transpose"], shape::transpose),
    (&["DepthToSpace"], shape::depth_to_space),
    (&["Concat"], movement::concat),
    (&["Pad"], padding::pad),
    (&["Split"], movement::split),
    (&["Slice"], movement::slice),
    (&["Gather"], movement::gather),
    (&["LSTM", "GRU"], recurrent::recurrent),
];

/// Plans a node, if there is a kernel for it.
///
/// # Errors
/// When attributes cannot be read, or the kernel fails.
pub(super) fn plan(p: &mut Planner<'_>, node: &Node) -> Planned {
    if !matches!(node.domain.as_str(), "" | FUSED | "com.microsoft") {
        return Ok(false);
    }
    let family = FAMILIES.iter().find(|(names, _)| names.contains(&node.operator.as_str()));
    match family {
        Some((_, family)) => {
            check(p, node)?;
            family(p, node)
        }
        None => elementwise::unary(p, node),
    }
}

/// Whether what comes out of a node is within limits: a kernel can't be left in the middle.
fn check(p: &mut Planner<'_>, node: &Node) -> crate::Result<()> {
    let Some(op) = node.op() else { return Ok(()) };
    let mut facts = Vec::with_capacity(node.inputs.len());
    for position in 0..node.inputs.len() {
        let tensor = p.input(node, position)?;
        facts.push(tensor.map_or_else(Fact::default, |tensor| Fact::sized(tensor.dtype, &tensor.shape)));
    }
    op.check(&facts)
}
