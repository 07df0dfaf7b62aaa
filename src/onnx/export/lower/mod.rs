//! Burn's operations as nodes of ONNX, one operator for one operation where ONNX has it.

mod fused;
mod module;
mod numeric;
mod pool;
mod tensor;

use burn::backend::ir::{ActivationOperationIr, BoolOperationIr, FloatOperationIr, IntOperationIr, OperationIr};

use super::dims;
use super::graph::{Graph, UNKNOWN};
use crate::onnx::OnnxError;

/// Lowers every operation of the graph's trace.
///
/// # Errors
/// When there are operations without a place in ONNX: all of them are named.
pub fn lower(graph: &mut Graph<'_>) -> Result<(), OnnxError> {
    let operations = &graph.trace.operations;
    let mut missing = Vec::new();
    let mut place = 0;
    while place < operations.len() {
        let operation = &operations[place];
        let lowered = match fused::lower(graph, &operations[place..]) {
            Ok(None) => operation_node(graph, operation).map(|()| 1),
            Ok(Some(length)) => Ok(length),
            Err(reason) => Err(reason),
        };
        let length = lowered.unwrap_or_else(|reason| {
            missing.push(format!("{} ({reason}, operation {place} of {})", dims::kind(operation), operations.len()));
            // What follows needs names for its inputs.
            for output in operation.outputs() {
                graph.values.insert(output.id, format!("missing_{place}"));
            }
            1
        });
        place += length;
    }
    if missing.is_empty()
        && let Err(reason) = graph.finish()
    {
        missing.push(reason);
    }
    if missing.is_empty() { Ok(()) } else { Err(OnnxError::Unsupported { missing, opset: graph.opset }) }
}

fn operation_node(graph: &mut Graph<'_>, operation: &OperationIr) -> Result<(), String> {
    match operation {
        OperationIr::Module(operation) => module::lower(graph, operation),
        OperationIr::Activation(operation) => activation(graph, operation),
        OperationIr::BaseFloat(operation) | OperationIr::BaseInt(operation) | OperationIr::BaseBool(operation) => {
            tensor::lower(graph, operation)
        }
        OperationIr::NumericFloat(_, operation) | OperationIr::NumericInt(_, operation) => {
            numeric::lower(graph, operation)
        }
        OperationIr::Float(_, FloatOperationIr::IntoInt(cast))
        | OperationIr::Int(IntOperationIr::IntoFloat(cast))
        | OperationIr::Bool(BoolOperationIr::IntoFloat(cast) | BoolOperationIr::IntoInt(cast)) => {
            tensor::cast(graph, cast)
        }
        OperationIr::Float(_, operation) => numeric::lower_float(graph, operation),
        _ => Err(UNKNOWN.to_string()),
    }
}

fn activation(graph: &mut Graph<'_>, operation: &ActivationOperationIr) -> Result<(), String> {
    use super::graph::{float, int};
    let (class, operator, input, out, attributes) = match operation {
        ActivationOperationIr::Relu(op) => ("ReLU", "Relu", &op.input, &op.out, vec![]),
        ActivationOperationIr::Sigmoid(op) => ("Sigmoid", "Sigmoid", &op.input, &op.out, vec![]),
        ActivationOperationIr::LeakyRelu(op) => {
            ("LeakyReLU", "LeakyRelu", &op.lhs, &op.out, vec![float("alpha", op.rhs.elem())])
        }
        ActivationOperationIr::HardSigmoid(op) => {
            let attributes = vec![float("alpha", op.alpha.elem()), float("beta", op.beta.elem())];
            ("Hardsigmoid", "HardSigmoid", &op.tensor, &op.out, attributes)
        }
        ActivationOperationIr::Softmax(op) => {
            ("Softmax", "Softmax", &op.input, &op.out, vec![int("axis", op.axis as i64)])
        }
        ActivationOperationIr::LogSoftmax(op) => {
            ("LogSoftmax", "LogSoftmax", &op.input, &op.out, vec![int("axis", op.axis as i64)])
        }
        ActivationOperationIr::Gelu(op) if graph.opset >= 20 => ("GELU", "Gelu", &op.input, &op.out, vec![]),
        ActivationOperationIr::Gelu(op) => return numeric::gelu(graph, op),
        _ => return Err(UNKNOWN.to_string()),
    };
    let module = graph.names.layer(class);
    let input = graph.value(input)?;
    graph.node(&module, operator, vec![input], &[out], attributes);
    Ok(())
}
