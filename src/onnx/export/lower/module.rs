//! Layers: convolutions, linear layers, normalization, pooling, embedding.

use burn::backend::ir::{
    Conv2dOpIr, ConvTranspose2dOpIr, InterpolateModeIr, InterpolateOpIr, LayerNormOpIr, LinearOpIr, ModuleOperationIr,
    TensorIr,
};

use super::super::dims::Dim;
use super::super::graph::{Graph, float, int, ints, text};
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
        ModuleOperationIr::LayerNorm(op) => layer_norm(graph, op),
        ModuleOperationIr::Interpolate(op) => resize(graph, op),
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

/// Layer normalisation in parts, for operator sets without `LayerNormalization`.
fn layer_norm(graph: &mut Graph<'_>, op: &LayerNormOpIr) -> Result<(), String> {
    let module = graph.owner(&op.gamma);
    let shape = graph.shape(&op.input);
    let mut narrow = shape.clone();
    if let Some(last) = narrow.last_mut() {
        *last = Dim::Fixed(1);
    }
    let axis = shape.len() - 1;
    let mean_attributes = || vec![ints("axes", &[axis]), int("keepdims", 1)];
    let x = graph.value(&op.input)?;
    let epsilon = graph.scalar(op.epsilon.elem(), &op.input)?;
    let mean = graph.inner(&module, "ReduceMean", vec![x.clone()], &op.input, &narrow, mean_attributes())?;
    let centred = graph.inner(&module, "Sub", vec![x, mean], &op.input, &shape, vec![])?;
    let squared = graph.inner(&module, "Mul", vec![centred.clone(), centred.clone()], &op.input, &shape, vec![])?;
    let variance = graph.inner(&module, "ReduceMean", vec![squared], &op.input, &narrow, mean_attributes())?;
    let sum = graph.inner(&module, "Add", vec![variance, epsilon], &op.input, &narrow, vec![])?;
    let deviation = graph.inner(&module, "Sqrt", vec![sum], &op.input, &narrow, vec![])?;
    let scaled = graph.inner(&module, "Div", vec![centred, deviation], &op.input, &shape, vec![])?;
    let gamma = graph.value(&op.gamma)?;
    let Some(beta) = &op.beta else {
        graph.node(&module, "Mul", vec![scaled, gamma], &[&op.out], vec![]);
        return Ok(());
    };
    let product = graph.inner(&module, "Mul", vec![scaled, gamma], &op.input, &shape, vec![])?;
    let beta = graph.value(beta)?;
    graph.node(&module, "Add", vec![product, beta], &[&op.out], vec![]);
    Ok(())
}

/// Bilinear interpolation to another size.
fn resize(graph: &mut Graph<'_>, op: &InterpolateOpIr) -> Result<(), String> {
    if op.options.mode != InterpolateModeIr::Bilinear {
        return Err(format!("ONNX's Resize has no {:?} as Burn computes it", op.options.mode));
    }
    let module = graph.names.layer("Upsample");
    let x = graph.value(&op.x)?;
    let shape = graph.shape(&op.out);
    let sizes = graph.sizes(&shape);
    let coordinates = if op.options.align_corners { "align_corners" } else { "half_pixel" };
    let attributes = vec![text("mode", "linear"), text("coordinate_transformation_mode", coordinates)];
    graph.node(&module, "Resize", vec![x, String::new(), String::new(), sizes], &[&op.out], attributes);
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
