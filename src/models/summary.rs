//! A network's layers in words: the module tree as PyTorch prints it, with output shapes and parameter counts.

use std::fmt;

use serde::Serialize;

/// A module of a network.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// The path of attribute names: `features.0`; empty for the network itself.
    pub path: String,
    /// The layer as PyTorch prints it: `Linear(in_features=784, out_features=514, bias=True)`; of a module with parts, the class.
    pub layer: String,
    /// The output shape without the batch axis; empty where it is not known.
    pub output: Vec<usize>,
    /// Number of trained parameters of its own, without those of its parts.
    pub parameters: usize,
    /// Whether there are modules inside.
    #[serde(skip)]
    pub has_parts: bool,
}

/// All modules of a network.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The class of the network.
    pub class: String,
    /// The input shape without the batch axis.
    pub input: [usize; 3],
    /// The modules in the order in which they stand in the network, each before its parts.
    pub layers: Vec<Layer>,
}

impl Summary {
    /// Number of trained parameters.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Paths of the modules whose parts are being printed.
        let mut open: Vec<&str> = Vec::new();
        for layer in &self.layers {
            while let Some(last) = open.last().filter(|last| !is_inside(&layer.path, last)) {
                let depth = open.len() - 1;
                let _ = last;
                open.pop();
                writeln!(f, "{:1$})", "", 2 * depth)?;
            }
            let name = match (layer.path.rsplit('.').next(), open.is_empty()) {
                (Some(name), false) => format!("({name}): "),
                _ => String::new(),
            };
            let brace = if layer.has_parts { "(" } else { "" };
            let text = format!("{:1$}{name}{2}{brace}", "", 2 * open.len(), layer.layer);
            let count = match layer.parameters {
                0 => String::new(),
                count => format!("  {} parameters", grouped(count)),
            };
            match layer.output.as_slice() {
                [] => writeln!(f, "{text}{count}")?,
                shape => {
                    let shape: Vec<String> = shape.iter().map(usize::to_string).collect();
                    writeln!(f, "{text:<80} -> [N, {}]{count}", shape.join(", "))?;
                }
            }
            if layer.has_parts {
                open.push(&layer.path);
            }
        }
        while open.pop().is_some() {
            let end = if open.is_empty() { "" } else { "\n" };
            write!(f, "{:1$}){end}", "", 2 * open.len())?;
        }
        Ok(())
    }
}

/// Whether a path is that of a part of a module.
fn is_inside(path: &str, module: &str) -> bool {
    module.is_empty() || path.strip_prefix(module).is_some_and(|rest| rest.starts_with('.'))
}

/// `138357544` as `138,357,544`.
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
