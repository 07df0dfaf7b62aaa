//! Layers: convolutions, linear layers, normalization, pooling, embedding.

use burn::backend::ir::{Conv2dOpIr, ConvTranspose2dOpIr, LinearOpIr, ModuleOperationIr, TensorIr};

use super::super::graph::{Graph, float, int, ints};
use super::{UNKNOWN, pool};

pub fn lower(graph: &mut Graph<'_>, operation: &ModuleOperationIr) -> Result<(), String> {
    match operation {
        ModuleOperationIr::Conv1d(op) => {
            let [(left, right)] = op.options.padding;
            let options = Options {
                strides: &op.options.stride,
                dilations: &op.options.dilation,
                pads: &[left, right],
                group: op.options.groups,
            };
            convolution(graph, "Conv", [&op.x, &op.weight, &op.out], op.bias.as_ref(), options, vec![])
        }
        ModuleOperationIr::Conv2d(op) => conv2d(graph, op),
        ModuleOperationIr::ConvTranspose2d(op) => conv_transpose2d(graph, op),
        ModuleOperationIr::Linear(op) => linear(graph, op),
        ModuleOperationIr::BatchNorm(op) => {
            let module = graph.owner(&op.gamma);
            let inputs = values(graph, &[&op.x, &op.gamma, &op.beta, &op.mean, &op.variance])?;
            graph.node(&module, "BatchNormalization", inputs, &[&op.out], vec![float("epsilon", op.epsilon.elem())]);
            Ok(())
        }
        ModuleOperationIr::LayerNorm(op) if graph.opset >= 17 => {
            let module = graph.owner(&op.gamma);
            let mut inputs = values(graph, &[&op.input, &op.gamma])?;
            if let Some(beta) = &op.beta {
                inputs.push(graph.value(beta)?);
            }
            graph.node(
                &module,
                "LayerNormalization",
                inputs,
                &[&op.out],
                vec![int("axis", -1), float("epsilon", op.epsilon.elem())],
            );
            Ok(())
        }
        ModuleOperationIr::LayerNorm(_) => Err("it needs opset 17".to_string()),
        ModuleOperationIr::Embedding(op) => {
            let module = graph.owner(&op.weights);
            let inputs = values(graph, &[&op.weights, &op.indices])?;
            graph.node(&module, "Gather", inputs, &[&op.out], vec![int("axis", 0)]);
            Ok(())
        }
        ModuleOperationIr::MaxPool2d(op) => pool::max_pool2d(graph, op),
        ModuleOperationIr::AvgPool2d(op) => pool::avg_pool2d(graph, op),
        ModuleOperationIr::AdaptiveAvgPool2d(op) => pool::adaptive_avg_pool2d(graph, op),
        _ => Err(UNKNOWN.to_string()),
    }
}

fn values(graph: &mut Graph<'_>, tensors: &[&TensorIr]) -> Result<Vec<String>, String> {
    tensors.iter().map(|tensor| graph.value(tensor)).collect()
}

/// What every convolution has.
struct Options<'a> {
    strides: &'a [usize],
    dilations: &'a [usize],
    /// At the start of every axis, then at the end of every axis.
    pads: &'a [usize],
    group: usize,
}

fn convolution(
    graph: &mut Graph<'_>,
    operator: &str,
    [x, weight, out]: [&TensorIr; 3],
    bias: Option<&TensorIr>,
    options: Options<'_>,
    mut attributes: Vec<rekindle_state::onnx::proto::AttributeProto>,
) -> Result<(), String> {
    let module = graph.owner(weight);
    let mut inputs = values(graph, &[x, weight])?;
    if let Some(bias) = bias {
        inputs.push(graph.value(bias)?);
    }
    attributes.extend([
        ints("kernel_shape", &weight.shape.to_vec()[2..]),
        ints("strides", options.strides),
        ints("dilations", options.dilations),
        ints("pads", options.pads),
        int("group", options.group as i64),
    ]);
    graph.node(&module, operator, inputs, &[out], attributes);
    Ok(())
}

fn conv2d(graph: &mut Graph<'_>, op: &Conv2dOpIr) -> Result<(), String> {
    let [(top, bottom), (left, right)] = op.options.padding;
    let options = Options {
        strides: &op.options.stride,
        dilations: &op.options.dilation,
        pads: &[top, left, bottom, right],
        group: op.options.groups,
    };
    convolution(graph, "Conv", [&op.x, &op.weight, &op.out], op.bias.as_ref(), options, vec![])
}

fn conv_transpose2d(graph: &mut Graph<'_>, op: &ConvTranspose2dOpIr) -> Result<(), String> {
    let [height, width] = op.options.padding;
    let options = Options {
        strides: &op.options.stride,
        dilations: &op.options.dilation,
        pads: &[height, width, height, width],
        group: op.options.groups,
    };
    let extra = vec![ints("output_padding", &op.options.padding_out)];
    convolution(graph, "ConvTranspose", [&op.x, &op.weight, &op.out], op.bias.as_ref(), options, extra)
}

fn linear(graph: &mut Graph<'_>, op: &LinearOpIr) -> Result<(), String> {
    if op.x.shape.num_dims() == 2 {
        return gemm(graph, &op.x, &op.weight, op.bias.as_ref(), &op.out);
    }
    let module = graph.owner(&op.weight);
    let (x, weight) = (graph.value(&op.x)?, graph.value(&op.weight)?);
    let Some(bias) = &op.bias else {
        graph.node(&module, "MatMul", vec![x, weight], &[&op.out], vec![]);
        return Ok(());
    };
    let shape = graph.shape(&op.out);
    let product = graph.inner(&module, "MatMul", vec![x, weight], &op.out, &shape, vec![])?;
    let bias = graph.value(bias)?;
    graph.node(&module, "Add", vec![product, bias], &[&op.out], vec![]);
    Ok(())
}

/// A linear layer on a matrix is one `Gemm` with the state dict's own weight `[outputs, inputs]`.
pub fn gemm(
    graph: &mut Graph<'_>,
    x: &TensorIr,
    weight: &TensorIr,
    bias: Option<&TensorIr>,
    out: &TensorIr,
) -> Result<(), String> {
    let module = graph.owner(weight);
    let x = graph.value(x)?;
    let (weight, transposed) = match graph.parameter(weight) {
        Some(found) => found,
        None => (graph.value(weight)?, false),
    };
    let mut inputs = vec![x, weight];
    if let Some(bias) = bias {
        inputs.push(graph.value(bias)?);
    }
    let attributes =
        vec![float("alpha", 1.0), float("beta", 1.0), int("transA", 0), int("transB", i64::from(transposed))];
    graph.node(&module, "Gemm", inputs, &[out], attributes);
    Ok(())
}
