//! Whether a pickled module has the settings of a network. Names and shapes of weights do not tell a stride, an epsilon or an
//! activation, and a file is taken for a network of the registry only when they agree too.

use rekindle_state::onnx::proto::NodeProto;
use rekindle_state::{ModuleTree, Value};

use super::capture::modules;
use super::summary::{Traced, attribute};
use crate::models::{Network, unwrapped};

/// The first setting in which a pickled module differs from a network on an input image (channels, height, width).
///
/// Layers with weights are compared by name. Activations and pools have no weights and may be called without a module: each that the
/// file has must be somewhere in the network. A network whose forward pass cannot be captured differs in nothing. As for
/// [`super::summary`], the network is one that nobody else holds.
pub fn difference(tree: &ModuleTree, network: Network, input: [usize; 3]) -> Option<String> {
    let nodes = modules(network.clone(), network.class());
    let traced = Traced::of(network, input, &nodes)?;
    let here = Nodes { all: traced.nodes.values().flatten().collect(), traced: &traced };
    differing(unwrapped(tree), "", &here)
}

/// What a network computes.
struct Nodes<'a> {
    all: Vec<&'a NodeProto>,
    traced: &'a Traced,
}

fn differing(tree: &ModuleTree, path: &str, here: &Nodes<'_>) -> Option<String> {
    let nodes = &here.all;
    let own = match nodes.iter().find(|node| node.input.get(1).is_some_and(|name| *name == format!("{path}.weight"))) {
        Some(node) => layer(tree, node).map(|how| format!("{path} has {how}")),
        None if tree.class.name == "MultiheadAttention" => heads(tree, here).map(|how| format!("{path} has {how}")),
        None if tree.class.module.starts_with("torch.nn.modules.") && tree.children.is_empty() => {
            (!occurs(tree, nodes)).then(|| format!("{path} is {}, which the network has nowhere", described(tree)))
        }
        None => None,
    };
    own.or_else(|| {
        tree.children.iter().find_map(|child| {
            let place = if path.is_empty() { child.name.clone() } else { format!("{path}.{}", child.name) };
            differing(child, &place, here)
        })
    })
}

/// How the heads of an attention differ from those of the network: the second axis of its weights over places.
fn heads(tree: &ModuleTree, here: &Nodes<'_>) -> Option<String> {
    let wanted = usize::try_from(setting(tree, "num_heads")?.as_int()?).ok()?;
    let softmax = here.all.iter().filter(|node| node.op_type == "Softmax");
    let mut known = softmax.filter_map(|node| here.traced.shape(node.output.first()?)?.get(1).copied()).peekable();
    let there = *known.peek()?;
    (!known.any(|heads| heads == wanted)).then(|| format!("num_heads {wanted}, where the network has {there}"))
}

fn setting<'t>(tree: &'t ModuleTree, name: &str) -> Option<&'t Value> {
    tree.hyper_parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// A size for each axis: `2` and `(2, 2)` are the same. None for what is no size, such as `"same"`.
fn sizes(value: &Value, axes: usize) -> Option<Vec<i64>> {
    match value.as_int() {
        Some(size) => Some(vec![size; axes]),
        None => value.as_slice()?.iter().map(Value::as_int).collect(),
    }
}

fn ints(node: &NodeProto, name: &str, axes: usize, default: i64) -> Vec<i64> {
    let mut found = attribute(node, name).map_or_else(|| vec![default; axes], |found| found.ints.clone());
    found.truncate(axes);
    found
}

/// How a layer with weights differs from the node that has them.
fn layer(tree: &ModuleTree, node: &NodeProto) -> Option<String> {
    let differs = |name: &str, here: &dyn std::fmt::Debug, there: &dyn std::fmt::Debug| {
        Some(format!("{name} {here:?}, where the network has {there:?}"))
    };
    match node.op_type.as_str() {
        "Conv" | "ConvTranspose" => {
            if let Some(mode) = setting(tree, "padding_mode").and_then(Value::as_str).filter(|mode| *mode != "zeros") {
                return differs("padding_mode", &mode, &"zeros");
            }
            let axes = attribute(node, "strides").map_or(2, |found| found.ints.len());
            for (name, stored, default) in
                [("stride", "strides", 1), ("padding", "pads", 0), ("dilation", "dilations", 1), ("groups", "group", 1)]
            {
                let axes = if name == "groups" { 1 } else { axes };
                let there = match attribute(node, stored) {
                    Some(found) if name == "groups" => vec![found.i],
                    _ => ints(node, stored, axes, default),
                };
                if let Some(here) = setting(tree, name).and_then(|value| sizes(value, axes))
                    && here != there
                {
                    return differs(name, &here, &there);
                }
            }
            None
        }
        "BatchNormalization" | "LayerNormalization" => {
            let here = setting(tree, "eps").and_then(Value::as_float)?;
            let there = f64::from(attribute(node, "epsilon").map_or(1e-5, |found| found.f));
            // The node's is a 32-bit float.
            if (here - there).abs() > 1e-3 * there { differs("eps", &here, &(there as f32)) } else { None }
        }
        _ => None,
    }
}

/// Whether a module without weights is somewhere among the nodes.
fn occurs(tree: &ModuleTree, nodes: &[&NodeProto]) -> bool {
    let any = |names: &[&str]| nodes.iter().any(|node| names.contains(&node.op_type.as_str()));
    match (tree.class.module.as_str(), tree.class.name.as_str()) {
        ("torch.nn.modules.activation", name) => match name {
            "ReLU" => any(&["Relu"]),
            "ReLU6" => any(&["Clip"]),
            "SiLU" | "Sigmoid" => any(&["Sigmoid"]),
            "GELU" if setting(tree, "approximate").and_then(Value::as_str) == Some("tanh") => any(&["Tanh"]),
            "GELU" => any(&["Gelu", "Erf"]),
            "Hardswish" | "Hardsigmoid" => any(&["HardSwish", "HardSigmoid", "Clip"]),
            "Tanh" => any(&["Tanh"]),
            "Softmax" => any(&["Softmax"]),
            "LogSoftmax" => any(&["LogSoftmax"]),
            "LeakyReLU" => nodes.iter().any(|node| {
                let slope = setting(tree, "negative_slope").and_then(Value::as_float);
                let alpha = f64::from(attribute(node, "alpha").map_or(0.01, |found| found.f));
                node.op_type == "LeakyRelu" && slope.is_none_or(|slope| (slope - alpha).abs() <= 1e-6)
            }),
            _ => false,
        },
        ("torch.nn.modules.pooling", name) => match name {
            "MaxPool2d" => pooled(tree, nodes, "MaxPool"),
            "AvgPool2d" => pooled(tree, nodes, "AveragePool"),
            "AdaptiveAvgPool2d" => {
                let one = setting(tree, "output_size").and_then(|value| sizes(value, 2)) == Some(vec![1, 1]);
                !one || any(&["GlobalAveragePool", "ReduceMean"])
            }
            _ => false,
        },
        // Dropout, flattening and the like do nothing here, or follow from the shapes.
        _ => true,
    }
}

fn pooled(tree: &ModuleTree, nodes: &[&NodeProto], operator: &str) -> bool {
    nodes.iter().filter(|node| node.op_type == operator).any(|node| {
        let settings = [
            ("kernel_size", "kernel_shape", 1),
            ("stride", "strides", 1),
            ("padding", "pads", 0),
            ("dilation", "dilations", 1),
        ];
        settings.into_iter().all(|(name, stored, default)| {
            let here = setting(tree, name).and_then(|value| sizes(value, 2));
            here.is_none_or(|here| here == ints(node, stored, 2, default))
        })
    })
}

/// A module without weights as PyTorch prints it.
fn described(tree: &ModuleTree) -> String {
    let settings = tree.hyper_parameters.iter().filter(|(name, _)| name != "inplace");
    let settings: Vec<String> = settings
        .filter_map(|(name, value)| {
            let text = value.as_int().map(|int| int.to_string());
            let text = text.or_else(|| value.as_float().map(|float| float.to_string()));
            let text = text.or_else(|| value.as_str().map(str::to_string));
            let text = text.or_else(|| sizes(value, 1).map(|sizes| format!("{sizes:?}")));
            text.map(|text| format!("{name}={text}"))
        })
        .collect();
    format!("{}({})", tree.class.name, settings.join(", "))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;
    use rekindle_state::Global;

    use super::*;
    use crate::models::Registry;

    #[test]
    fn the_heads_of_an_attention_are_compared() {
        let class = |module: &str, name: &str| Global { module: module.to_string(), name: name.to_string() };
        let keys = [("image_size".to_string(), 32.into())].into_iter().collect();
        let network =
            || Registry::built_in().find("vit_b_32").unwrap().configure(&keys).unwrap().build(&Device::flex());
        let heads = |count: i64| {
            let attention = ModuleTree {
                class: class("torch.nn.modules.activation", "MultiheadAttention"),
                name: "attention".to_string(),
                hyper_parameters: vec![("num_heads".to_string(), Value::Int(count))],
                children: Vec::new(),
            };
            let class = class("torchvision.models.vision_transformer", "VisionTransformer");
            let tree =
                ModuleTree { class, name: String::new(), hyper_parameters: Vec::new(), children: vec![attention] };
            difference(&tree, network(), [3, 32, 32])
        };
        assert_eq!(heads(12), None);
        assert_eq!(heads(6).unwrap(), "attention has num_heads 6, where the network has 12");
    }
}
