//! The tree of modules of a network: paths, classes and settings, in the order in which the fields stand.
//!
//! Burn's visitor tells the names of modules and the types of those that have parts. The type of a module without parts (a pool,
//! a ReLU) and its settings are in Burn's display of the network, a line each.

use std::collections::HashMap;
use std::fmt::Display;

use burn::module::{Flag, Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor};

/// A module of a network.
#[derive(Debug, Clone)]
pub struct Node {
    /// The path under PyTorch's names: `features.0`; empty for the network itself.
    pub path: String,
    /// PyTorch's name of the class: `Conv2d`, `ReLU`; of one's own modules, the type's name.
    pub class: String,
    /// Whether there are modules inside.
    pub has_parts: bool,
    /// Settings as Burn shows them: `("prob", "0.5")`.
    pub settings: Vec<(String, String)>,
}

/// The modules of a network, the network itself first, each before its parts.
pub fn modules<M: Module + Display>(network: &M, class: &str) -> Vec<Node> {
    let mut visitor = Visitor::default();
    network.visit(&mut visitor);
    let shown = shown(&network.to_string());
    let mut nodes = vec![Node { path: String::new(), class: class.to_string(), has_parts: true, settings: Vec::new() }];
    for Found { path, container, leaf } in &visitor.found {
        if *leaf {
            continue;
        }
        let text = shown.get(path.as_str());
        // A module's type is the container of its parts.
        let own = container.as_deref().map(|text| text.strip_prefix("Struct:").unwrap_or("Sequential").to_string());
        let own = own.or_else(|| text.map(|shown| shown.class.clone())).unwrap_or_default();
        let prefix = format!("{path}.");
        nodes.push(Node {
            has_parts: visitor.found.iter().any(|other| !other.leaf && other.path.starts_with(&prefix)),
            path: path.clone(),
            class: torch_class(&own).to_string(),
            settings: text.map(|shown| shown.settings.clone()).unwrap_or_default(),
        });
    }
    nodes
}

/// PyTorch's name for the class of Burn's of the same make-up.
fn torch_class(class: &str) -> &str {
    match class {
        "Relu" => "ReLU",
        "LeakyRelu" => "LeakyReLU",
        "PRelu" => "PReLU",
        "Gelu" => "GELU",
        "Elu" => "ELU",
        "HardSigmoid" => "Hardsigmoid",
        "HardSwish" => "Hardswish",
        "SwiGlu" => "SwiGLU",
        "Lstm" => "LSTM",
        "Gru" => "GRU",
        "RmsNorm" => "RMSNorm",
        "BatchNorm" => "BatchNorm2d",
        other => other,
    }
}

/// A module that the visitor came to.
#[derive(Debug)]
struct Found {
    path: String,
    /// The type that its parts say.
    container: Option<String>,
    /// Whether it is a parameter or a flag and no module.
    leaf: bool,
}

#[derive(Default)]
struct Visitor {
    /// For every segment its place in `found`, or none for a variant of an enum, which is no part of PyTorch's names.
    open: Vec<Option<usize>>,
    found: Vec<Found>,
}

impl Visitor {
    fn leaf(&mut self) {
        if let Some(place) = self.open.iter().rev().find_map(|place| *place) {
            self.found[place].leaf = true;
        }
    }
}

impl ModuleVisitor for Visitor {
    fn enter_module(&mut self, name: &str, container: &str) {
        let parent = self.open.iter().rev().find_map(|place| *place);
        if container.starts_with("Enum:") {
            return self.open.push(None);
        }
        if let Some(parent) = parent {
            self.found[parent].container.get_or_insert_with(|| container.to_string());
        }
        let path = match parent.map(|parent| self.found[parent].path.as_str()) {
            Some(path) => format!("{path}.{name}"),
            None => name.to_string(),
        };
        self.open.push(Some(self.found.len()));
        self.found.push(Found { path, container: None, leaf: false });
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.open.pop();
    }

    fn visit_float<const D: usize>(&mut self, _: &Param<Tensor<D>>) {
        self.leaf();
    }

    fn visit_int<const D: usize>(&mut self, _: &Param<Tensor<D, Int>>) {
        self.leaf();
    }

    fn visit_bool<const D: usize>(&mut self, _: &Param<Tensor<D, Bool>>) {
        self.leaf();
    }

    fn visit_flag(&mut self, _: &Param<Flag>) {
        self.leaf();
    }
}

/// What Burn's display says of a module.
#[derive(Debug)]
struct Shown {
    class: String,
    settings: Vec<(String, String)>,
}

/// Reads Burn's display: `NAME: TYPE {`, then settings and parts further in, then `}`; a module without parts may be on one line. The
/// value of an enum's variant is called `_0`, and is no part of PyTorch's names.
fn shown(text: &str) -> HashMap<String, Shown> {
    let mut found: HashMap<String, Shown> = HashMap::new();
    let mut open: Vec<&str> = Vec::new();
    for line in text.lines().skip(1) {
        let line = line.trim();
        if line == "}" {
            open.pop();
            continue;
        }
        let Some((name, value)) = line.split_once(": ") else { continue };
        let parent = join(&open);
        let path = join(&[open.as_slice(), &[name]].concat());
        let class: String = value.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let settings = match value.split_once(" {") {
            Some((_, rest)) => rest.strip_suffix('}').map(pairs).unwrap_or_default(),
            None => Vec::new(),
        };
        if name != "_0"
            && let Some(parent) = found.get_mut(&parent)
        {
            parent.settings.push((name.to_string(), value.to_string()));
        }
        found.insert(path, Shown { class, settings });
        if value.ends_with('{') {
            open.push(name);
        }
    }
    found
}

fn join(segments: &[&str]) -> String {
    segments.iter().filter(|segment| **segment != "_0").copied().collect::<Vec<_>>().join(".")
}

/// `prob: 0.5, size: [1, 2]` as names and values.
fn pairs(text: &str) -> Vec<(String, String)> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for part in text.split(", ") {
        match (part.split_once(": "), pairs.last_mut()) {
            (Some((name, value)), _) => pairs.push((name.to_string(), value.to_string())),
            // The rest of a list.
            (None, Some((_, value))) => {
                value.push_str(", ");
                value.push_str(part);
            }
            (None, None) => {}
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::models::{ModelConfig, VggConfig, VggDepth};

    #[test]
    fn modules_without_parts_have_a_class() {
        let vgg = VggConfig { widths: [2; 5], hidden: [4, 4], classes: 3, ..VggConfig::of(VggDepth::Eleven, true) };
        let nodes = modules(&vgg.init(&Device::flex()), "VGG");
        let of = |path: &str| nodes.iter().find(|node| node.path == path).unwrap();
        assert_eq!(of("features").class, "Sequential");
        assert!(of("features").has_parts && !of("features.0").has_parts);
        let classes: Vec<&str> = nodes.iter().filter(|node| !node.has_parts).map(|node| node.class.as_str()).collect();
        assert_eq!(classes[..4], ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d"]);
        assert_eq!(of("avgpool").class, "AdaptiveAvgPool2d");
        assert_eq!(of("classifier.2").class, "Dropout");
        assert_eq!(of("classifier.2").settings, [("prob".to_string(), "0.5".to_string())]);
    }
}
