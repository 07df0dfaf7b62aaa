//! A network's layers as PyTorch prints them, with output shapes: from the tree of its modules and one capture of its forward pass.

use std::collections::HashMap;

use rekindle_state::onnx::proto::{AttributeProto, NodeProto};

use super::capture::modules;
use super::dims::Shapes;
use super::graph::Graph;
use super::messages::sizes;
use super::names::Names;
use super::{NEWEST_OPSET, Trace, lower};
use crate::models::tree::Node;
use crate::models::{Layer, Network, Summary, weights};

/// Describes a network on an input image (channels, height, width).
///
/// Output shapes are those of a capture of the forward pass. A network whose forward pass cannot be captured has none. The network
/// is one that nobody else holds: its weights are not drawn for this.
pub fn summary(network: Network, input: [usize; 3]) -> Summary {
    let class = network.class();
    let entries = weights::entries(&network);
    let nodes = modules(network.clone(), class);
    let mut traced = Traced::of(network, input, &nodes).unwrap_or_default();
    traced.shapes.extend(entries.iter().map(|entry| (entry.name.clone(), entry.shape.clone())));
    let mut parameters: HashMap<String, usize> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.trained) {
        let owner = entry.name.rsplit_once('.').map_or("", |(owner, _)| owner);
        *parameters.entry(owner.to_string()).or_default() += entry.shape.iter().product::<usize>();
    }
    let layer = |node: &Node| Layer {
        layer: if node.has_parts { node.class.clone() } else { traced.describe(node) },
        output: if node.has_parts { Vec::new() } else { traced.output(&node.path) },
        parameters: parameters.get(&node.path).copied().unwrap_or_default(),
        has_parts: node.has_parts,
        path: node.path.clone(),
    };
    Summary { class: class.to_string(), input, layers: nodes.iter().map(layer).collect() }
}

/// A graph by the modules that its nodes belong to.
#[derive(Default)]
pub(super) struct Traced {
    pub(super) nodes: HashMap<String, Vec<NodeProto>>,
    shapes: HashMap<String, Vec<usize>>,
}

impl Traced {
    /// Captures the forward pass on one image: no weights are read or drawn. None when it cannot be captured as a graph.
    pub(super) fn of(network: Network, [channels, height, width]: [usize; 3], modules: &[Node]) -> Option<Self> {
        let trace = Trace::consuming(network, [1, channels, height, width], |network, x| network.forward(x)).ok()?;
        let shapes = Shapes::fixed(&trace);
        let outputs: Vec<String> = (0..trace.outputs.len()).map(|place| format!("output_{place}")).collect();
        // The newest set has the most operators.
        let mut graph = Graph::new(&trace, &shapes, NEWEST_OPSET, Names::new(modules), "input", &outputs);
        lower::lower(&mut graph).ok()?;
        let mut traced = Self::default();
        for info in &graph.infos {
            traced.shapes.insert(info.name.clone(), sizes(info).into_iter().map(Option::unwrap_or_default).collect());
        }
        for (name, tensor) in outputs.iter().zip(&trace.outputs) {
            traced.shapes.insert(name.clone(), tensor.shape.to_vec());
        }
        for node in graph.nodes {
            // `/features.0/Conv` is of `features.0`.
            let path = node.name.trim_start_matches('/').rsplit_once('/').map_or("", |(path, _)| path).to_string();
            traced.nodes.entry(path).or_default().push(node);
        }
        Some(traced)
    }

    /// The shape of a value or weight.
    pub(super) fn shape(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// The shape that a module gives without the batch axis; of one that is used several times, that of the last.
    fn output(&self, path: &str) -> Vec<usize> {
        let last = self.nodes.get(path).and_then(|nodes| nodes.last()).and_then(|node| node.output.first());
        let shape = last.and_then(|name| self.shapes.get(name));
        shape.map(|shape| shape.iter().skip(1).copied().collect()).unwrap_or_default()
    }

    /// A module as PyTorch prints it.
    fn describe(&self, node: &Node) -> String {
        let first = self.nodes.get(node.path.as_str()).and_then(|nodes| nodes.first());
        let described = first.and_then(|operator| match operator.op_type.as_str() {
            "Conv" => self.convolution(operator),
            "Gemm" | "MatMul" => self.linear(node, operator),
            "MaxPool" => Some(pool(operator)),
            "BatchNormalization" => {
                let eps = attribute(operator, "epsilon").map_or(1e-5, |found| found.f);
                Some(format!("{}({}, eps={eps:e})", node.class, self.weight(operator)?.first()?))
            }
            _ => None,
        });
        described.unwrap_or_else(|| {
            let is_setting = |(key, value): &&(String, String)| key != "params" && !value.starts_with("ParamTensor");
            let settings = node.settings.iter().filter(is_setting);
            let settings: Vec<String> = settings.map(|(key, value)| format!("{key}={value}")).collect();
            format!("{}({})", node.class, settings.join(", "))
        })
    }

    fn weight(&self, node: &NodeProto) -> Option<&Vec<usize>> {
        self.shapes.get(node.input.get(1)?.as_str())
    }

    fn convolution(&self, node: &NodeProto) -> Option<String> {
        let weight = self.weight(node)?;
        let groups = attribute(node, "group").map_or(1, |found| found.i as usize);
        let kernel = &weight[2..];
        let dimensions = kernel.len();
        let list = |name: &str, default: usize| {
            attribute(node, name)
                .map_or(vec![default; dimensions], |found| found.ints.iter().map(|&n| n as usize).collect())
        };
        let mut text = format!(
            "Conv{dimensions}d({}, {}, kernel_size={}, stride={}",
            weight[1] * groups,
            weight[0],
            tuple(kernel),
            tuple(&list("strides", 1))
        );
        let padding: Vec<usize> = list("pads", 0).into_iter().take(dimensions).collect();
        let dilation = list("dilations", 1);
        if padding.iter().any(|&size| size > 0) {
            text.push_str(&format!(", padding={}", tuple(&padding)));
        }
        if dilation.iter().any(|&size| size > 1) {
            text.push_str(&format!(", dilation={}", tuple(&dilation)));
        }
        if groups > 1 {
            text.push_str(&format!(", groups={groups}"));
        }
        if node.input.len() < 3 {
            text.push_str(", bias=False");
        }
        Some(text + ")")
    }

    fn linear(&self, module: &Node, node: &NodeProto) -> Option<String> {
        let [outputs, inputs] = *self.weight(node)?.as_slice() else { return None };
        // A product with a transposed weight has it as Burn keeps it.
        let turned = node.op_type == "MatMul" && attribute(node, "transB").is_none();
        let (inputs, outputs) = if turned { (outputs, inputs) } else { (inputs, outputs) };
        let bias = node.input.len() > 2 || self.nodes[module.path.as_str()].iter().any(|node| node.op_type == "Add");
        let bias = if bias { "True" } else { "False" };
        Some(format!("Linear(in_features={inputs}, out_features={outputs}, bias={bias})"))
    }
}

fn pool(node: &NodeProto) -> String {
    let list = |name: &str| -> Vec<usize> {
        attribute(node, name).map(|found| found.ints.iter().map(|&n| n as usize).collect()).unwrap_or_default()
    };
    let one = |sizes: &[usize], default: usize| match sizes {
        [] => default.to_string(),
        [first, rest @ ..] if rest.iter().all(|size| size == first) => first.to_string(),
        several => tuple(several),
    };
    let kernel = list("kernel_shape");
    let padding = list("pads");
    format!(
        "MaxPool{}d(kernel_size={}, stride={}, padding={}, dilation={}, ceil_mode={})",
        kernel.len(),
        one(&kernel, 1),
        one(&list("strides"), 1),
        one(&padding[..padding.len() / 2], 0),
        one(&list("dilations"), 1),
        if attribute(node, "ceil_mode").is_some_and(|found| found.i == 1) { "True" } else { "False" },
    )
}

pub(super) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

/// `(3, 3)`.
fn tuple(sizes: &[usize]) -> String {
    match sizes {
        [one] => format!("({one},)"),
        several => format!("({})", several.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    }
}
