//! Operators with kernels, a file for each family. Whether a node is one of them is decided before anything is changed.

mod conv;
mod elementwise;
mod matmul;
mod movement;
mod padding;
mod pool;
mod recurrent;
mod reduce;
mod rows;
mod shape;

use super::plan::{Planned, Planner};
use super::quantized::DYNAMIC;
use crate::graph::{FUSED, Node};

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
    (&["QuantizeLinear"], elementwise::quantize),
    (&[DYNAMIC], elementwise::dynamic),
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
    if !matches!(node.domain.as_str(), "" | FUSED) {
        return Ok(false);
    }
    let family = FAMILIES.iter().find(|(names, _)| names.contains(&node.operator.as_str()));
    match family {
        Some((_, family)) => family(p, node),
        None => elementwise::unary(p, node),
    }
}

/// Bytes of four axes in another order.
pub(super) fn bytes_in_order(input: &[u8], shape: &[usize], order: &[usize; 4], out: &mut [u8]) {
    let mut strides = [1; 4];
    (1..4).rev().for_each(|axis| strides[axis - 1] = strides[axis] * shape[axis]);
    let sizes = order.map(|axis| shape[axis]);
    let strides = order.map(|axis| strides[axis]);
    let mut at = 0;
    for a in 0..sizes[0] {
        for b in 0..sizes[1] {
            for c in 0..sizes[2] {
                let start = a * strides[0] + b * strides[1] + c * strides[2];
                for d in 0..sizes[3] {
                    out[at] = input[start + d * strides[3]];
                    at += 1;
                }
            }
        }
    }
}
