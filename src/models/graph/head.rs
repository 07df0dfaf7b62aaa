//! The last linear layer of a graph, and a new one with another number of classes in its place.

use burn::tensor::{Bytes, Device, Distribution, Tensor};
use rekindle_onnx::graph::{Graph, Kind, Weight};
use rekindle_onnx::ops::{Conv, Gemm, Transpose};
use rekindle_onnx::{Array, Axis, Model, Node, ValueId};
use rekindle_state::onnx::proto::{Dimension, ModelProto, ValueInfoProto, dimension, type_proto};

/// Operators between the last linear layer and the output that take any number of classes.
const AFTER: &[&str] = &[
    "AveragePool",
    "Cast",
    "Clip",
    "Dropout",
    "Flatten",
    "GlobalAveragePool",
    "HardSigmoid",
    "Identity",
    "LogSoftmax",
    "MaxPool",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Softmax",
    "Squeeze",
];

/// The tensors of the last linear layer, as they are to be.
#[derive(Debug)]
pub(super) struct Head {
    /// The weight, and the bias if there is one.
    tensors: Vec<Part>,
    /// Input features of one score, which say how far the new values lie apart.
    features: usize,
    /// The number of classes before.
    former: usize,
    classes: usize,
    /// The names of the values from the layer to the output, whose shapes change.
    after: Vec<String>,
}

#[derive(Debug)]
struct Part {
    name: String,
    shape: Vec<usize>,
}

impl Head {
    /// Finds the last linear layer of a graph, which is to have other classes.
    ///
    /// # Errors
    /// When the first output does not come from one, or its weights are used elsewhere too.
    pub fn find(model: &Model, classes: usize) -> Result<Self, String> {
        let found =
            if classes == 0 { Err("there must be at least one".to_string()) } else { find(&model.graph, classes) };
        found.map_err(|why| format!("it cannot have {classes} classes: {why}"))
    }

    /// The names in the graph of the layer's weights.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|part| part.name.as_str())
    }

    /// The new shape of a weight of the layer.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.iter().find(|part| part.name == name).map(|part| part.shape.as_slice())
    }

    /// Puts tensors of the new shapes into a graph: zeros, until a network has values.
    pub fn fit(&self, model: &mut Model) -> Result<(), String> {
        let graph = &mut model.graph;
        for (id, weight) in &mut graph.constants {
            if let Some(shape) = self.shape(&graph.names[*id]) {
                let zeros = vec![0_f32; shape.iter().product()];
                *weight = Weight::from(Array::new(shape.to_vec(), zeros).map_err(|error| error.to_string())?);
            }
        }
        for port in &mut graph.outputs {
            if let Kind::Array(_, Some(axes)) = &mut port.kind
                && self.after.contains(&port.name)
                && let Some(axis @ Axis::Size(_)) = axes.get_mut(1)
            {
                *axis = Axis::Size(self.classes);
            }
        }
        Ok(())
    }

    /// Changes what the message of an ONNX file says of the shapes that depend on the layer. Values are put in by whoever has them.
    pub fn fit_message(&self, message: &mut ModelProto) {
        let Some(graph) = &mut message.graph else { return };
        for tensor in &mut graph.initializer {
            if let Some(shape) = self.shape(&tensor.name) {
                tensor.dims = shape.iter().map(|&size| size as i64).collect();
            }
        }
        graph.value_info.retain(|info| !self.after.contains(&info.name) && self.shape(&info.name).is_none());
        for info in graph.output.iter_mut().filter(|info| self.after.contains(&info.name)) {
            if let Some(Dimension { value: Some(dimension::Value::DimValue(size)), .. }) = classes_of(info) {
                *size = self.classes as i64;
            }
        }
    }

    /// Values for a weight of the layer with their shape, as PyTorch draws those of a new linear layer: uniform within 1 / √features,
    /// from the random numbers of a device.
    pub fn draw(&self, name: &str, device: &Device) -> Option<(Bytes, &[usize])> {
        let shape = self.shape(name)?;
        let count: usize = shape.iter().product();
        let bound = 1.0 / (self.features as f64).sqrt();
        let values = Tensor::<1>::random([count], Distribution::Uniform(-bound, bound), device).into_data();
        Some((Bytes::from_elems(values.iter::<f32>().collect::<Vec<f32>>()), shape))
    }

    /// What is wrong when the graph with the new layer gives a number of scores that is not the number of classes.
    pub fn unfit(&self, why: &str) -> String {
        let Self { classes, former, .. } = self;
        format!("it cannot have {classes} classes instead of {former}: {why}")
    }
}

fn classes_of(info: &mut ValueInfoProto) -> Option<&mut Dimension> {
    match info.r#type.as_mut()?.value.as_mut()? {
        type_proto::Value::TensorType(tensor) => tensor.shape.as_mut()?.dim.get_mut(1),
        _ => None,
    }
}

/// A linear layer in a graph: its weight with the axis of the scores, and its bias.
struct Layer {
    weight: Option<ValueId>,
    axis: usize,
    bias: Option<ValueId>,
}

fn layer(graph: &Graph, node: &Node) -> Option<Layer> {
    let input = |at: usize| node.inputs.get(at).copied().flatten();
    let (axis, bias) = if let Some(gemm) = node.get::<Gemm>() {
        (usize::from(!gemm.transpose_b), input(2))
    } else if node.operator == "MatMul" && node.domain.is_empty() {
        (1, None)
    } else if node.get::<Conv>().is_some_and(|conv| conv.groups == 1) {
        (0, input(2))
    } else {
        return None;
    };
    // A transposed weight is stored the other way round.
    let (mut weight, mut axis) = (input(1), axis);
    while let Some(before) = weight.and_then(|id| producer(graph, id)) {
        if let Some(order) = before.get::<Transpose>().and_then(|turned| turned.order(2).ok()) {
            axis = *order.get(axis)?;
        } else if before.operator != "Identity" {
            return None;
        }
        weight = before.inputs.first().copied().flatten();
    }
    Some(Layer { weight, axis, bias })
}

fn find(graph: &Graph, classes: usize) -> Result<Head, String> {
    let mut at = graph.outputs.first().map(|port| port.id).ok_or("it gives nothing")?;
    let (mut after, mut added) = (Vec::new(), None);
    loop {
        after.push(graph.names[at].clone());
        let node = producer(graph, at).ok_or("its output is what goes in")?;
        if let Some(layer) = layer(graph, node) {
            return of_layer(graph, &layer, layer.bias.or(added), classes, after);
        }
        let first = node.inputs.first().copied().flatten();
        let next = match (node.operator.as_str(), node.inputs.as_slice()) {
            ("Add", &[a, b]) if added.is_none() => {
                let (bias, rest) = if constant(graph, b).is_some() { (b, a) } else { (a, b) };
                added = bias;
                rest
            }
            (operator, _) if AFTER.contains(&operator) && node.domain.is_empty() => first,
            _ => None,
        };
        at = next.ok_or_else(|| {
            format!("its scores come from node '{}' ({}), not from a linear layer", node.name, node.full_operator())
        })?;
    }
}

fn of_layer(
    graph: &Graph,
    layer: &Layer,
    bias: Option<ValueId>,
    classes: usize,
    after: Vec<String>,
) -> Result<Head, String> {
    let weight = constant(graph, layer.weight).ok_or("its last linear layer has no weights of its own")?;
    let former = *weight.shape.get(layer.axis).ok_or("its last linear layer has no matrix of weights")?;
    let features = weight.shape.iter().product::<usize>() / former.max(1);
    let mut tensors = Vec::new();
    for (id, axis) in [(layer.weight, layer.axis), (bias, 0)] {
        let Some(id) = id else { continue };
        let name = graph.names[id].clone();
        let Some(Weight { shape, .. }) = constant(graph, Some(id)).filter(|own| own.shape.get(axis) == Some(&former))
        else {
            return Err(format!("'{name}', which its last linear layer adds, is no bias"));
        };
        if readers(graph, id) != 1 {
            return Err(format!("the weight '{name}' of its last linear layer is used elsewhere too"));
        }
        let mut shape = shape.clone();
        shape[axis] = classes;
        tensors.push(Part { name, shape });
    }
    Ok(Head { tensors, features, former, classes, after })
}

fn producer(graph: &Graph, id: ValueId) -> Option<&Node> {
    graph.nodes.iter().find(|node| node.outputs.contains(&Some(id)))
}

fn constant(graph: &Graph, id: Option<ValueId>) -> Option<&Weight> {
    graph.constants.iter().find(|(own, _)| Some(*own) == id).map(|(_, weight)| weight)
}

fn readers(graph: &Graph, id: ValueId) -> usize {
    graph.nodes.iter().flat_map(|node| &node.inputs).filter(|input| **input == Some(id)).count()
}
