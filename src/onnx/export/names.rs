//! Names of nodes: the module that an operation belongs to, and the operator, as PyTorch's exporter writes them (`/features.0/Conv`).

use std::collections::HashMap;

use crate::models::tree::Node;

/// A layer of the network.
#[derive(Debug, Clone)]
struct Layer {
    path: String,
    /// PyTorch's class, such as `MaxPool2d`.
    class: String,
}

/// Gives names out.
#[derive(Debug, Default)]
pub struct Names {
    layers: Vec<Layer>,
    /// The layer of the last operation.
    at: Option<usize>,
    /// How often a name was wanted.
    used: HashMap<String, usize>,
}

impl Names {
    /// For a network of these modules.
    pub fn new(modules: &[Node]) -> Self {
        let layers = modules.iter().filter(|node| !node.has_parts);
        let layers = layers.map(|node| Layer { path: node.path.clone(), class: node.class.clone() });
        Self { layers: layers.collect(), ..Self::default() }
    }

    /// The module that owns a parameter: its name without the last part.
    pub fn owner(&mut self, parameter: &str) -> String {
        let path = parameter.rsplit_once('.').map_or("", |(module, _)| module).to_string();
        if let Some(place) = self.layers.iter().position(|layer| layer.path == path) {
            self.at = Some(place);
        }
        path
    }

    /// The module of an operation without parameters: the next layer of the class, else the only one, else the network itself.
    pub fn layer(&mut self, class: &str) -> String {
        let of_class = |place: &usize| self.layers[*place].class == class;
        let next = (self.at.map_or(0, |at| at + 1)..self.layers.len()).find(of_class);
        if let Some(place) = next {
            self.at = Some(place);
            return self.layers[place].path.clone();
        }
        let all: Vec<usize> = (0..self.layers.len()).filter(of_class).collect();
        match all.as_slice() {
            [only] => self.layers[*only].path.clone(),
            _ => String::new(),
        }
    }

    /// A name for a node that no other has.
    pub fn node(&mut self, module: &str, operator: &str) -> String {
        let name = if module.is_empty() { format!("/{operator}") } else { format!("/{module}/{operator}") };
        let count = self.used.entry(name.clone()).or_default();
        *count += 1;
        if *count == 1 { name } else { format!("{name}_{}", *count - 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_follow_the_order_of_the_network() {
        let layer = |path: &str, class: &str| Layer { path: path.to_string(), class: class.to_string() };
        let layers = vec![
            layer("pool", "MaxPool2d"),
            layer("f.0", "Conv2d"),
            layer("f.1", "ReLU"),
            layer("f.2", "Conv2d"),
            layer("f.3", "ReLU"),
        ];
        let mut names = Names { layers, ..Names::default() };
        assert_eq!(names.owner("f.0.weight"), "f.0");
        assert_eq!(names.layer("ReLU"), "f.1");
        assert_eq!(names.owner("f.2.weight"), "f.2");
        assert_eq!(names.layer("ReLU"), "f.3");
        // The only pool there is, though it is listed before.
        assert_eq!(names.layer("MaxPool2d"), "pool");
        assert_eq!(names.layer("Softmax"), "");
        assert_eq!(names.node("f.0", "Conv"), "/f.0/Conv");
        assert_eq!(names.node("f.0", "Conv"), "/f.0/Conv_1");
        assert_eq!(names.node("", "Relu"), "/Relu");
    }
}
