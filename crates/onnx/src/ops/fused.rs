//! Operators with what follows them in a graph: a bias added to a product, and an activation function.
//!
//! No file has these: they are made when a graph is prepared for inference.

use super::microsoft::activate;
use super::{HostOp, Inputs, binary, conv, matmul, one};
use crate::{Array, Error, Node, Result, Value};

/// The operator with its bias (input 2) and its activation (`activation`, `activation_params`).
pub(crate) fn find(operator: &str) -> Option<HostOp> {
    Some(match operator {
        "Conv" => |node, inputs| activated(node, plain("Conv", node, inputs)?),
        "Gemm" => |node, inputs| activated(node, plain("Gemm", node, inputs)?),
        "MatMul" => |node, inputs| {
            let product = plain("MatMul", node, inputs)?;
            let sum = match (product.first(), inputs.get(2)) {
                (Some(product), Some(bias)) => plain("Add", node, &Inputs::new(vec![Some(product), Some(bias)]))?,
                _ => product,
            };
            activated(node, sum)
        },
        _ => return None,
    })
}

fn plain(operator: &str, node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let found = [conv::find, matmul::find, binary::find].iter().find_map(|family| family(operator));
    found.ok_or_else(|| Error::beyond(format!("a fused {operator}")))?(node, inputs)
}

fn activated(node: &Node, values: Vec<Value>) -> Result<Vec<Value>> {
    let [value] = values.as_slice() else { return Ok(values) };
    if node.attributes.get("activation").is_none() {
        return Ok(values);
    }
    let array = value.array()?;
    let parameters = node.attributes.floats("activation_params")?.unwrap_or_default();
    let mut floats = array.floats()?;
    activate(node, parameters, &mut floats)?;
    one(Array::of_floats(array.dtype(), array.shape().to_vec(), floats)?)
}
