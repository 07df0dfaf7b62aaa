//! A network's layers in words: the module tree as PyTorch prints it, with output shapes and parameter counts.

use std::fmt;

use serde::Serialize;

/// One layer, in order of the forward pass.
#[derive(Debug, Clone, Serialize)]
pub struct Layer {
    /// The path of attribute names: `features.0`.
    pub path: String,
    /// The layer as PyTorch prints it: `Linear(in_features=784, out_features=514, bias=True)`.
    pub layer: String,
    /// The output shape without the batch axis.
    pub output: Vec<usize>,
    /// Number of trained parameters.
    pub parameters: usize,
}

/// All layers of a network.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// The class as PyTorch prints it.
    pub class: &'static str,
    /// The input shape without the batch axis.
    pub input: [usize; 3],
    /// The layers, in the order in which PyTorch registers them.
    pub layers: Vec<Layer>,
}

impl Summary {
    /// Number of trained parameters.
    pub fn parameters(&self) -> usize {
        self.layers.iter().map(|layer| layer.parameters).sum()
    }

    /// Appends a layer.
    pub(super) fn push(
        &mut self,
        path: impl Into<String>,
        layer: impl Into<String>,
        output: &[usize],
        parameters: usize,
    ) {
        self.layers.push(Layer { path: path.into(), layer: layer.into(), output: output.to_vec(), parameters });
    }

    /// Appends a square convolution of `shape` (channels, height, width), which becomes its output.
    pub(super) fn conv(
        &mut self,
        path: impl Into<String>,
        shape: &mut [usize; 3],
        out: usize,
        kernel: usize,
        padding: usize,
    ) {
        let [channels, height, width] = *shape;
        *shape = [out, height + 2 * padding + 1 - kernel, width + 2 * padding + 1 - kernel];
        let padded = if padding == 0 { String::new() } else { format!(", padding=({padding}, {padding})") };
        let layer = format!("Conv2d({channels}, {out}, kernel_size=({kernel}, {kernel}), stride=(1, 1){padded})");
        self.push(path, layer, shape.as_slice(), out * (channels * kernel * kernel + 1));
    }

    /// Appends a linear layer.
    pub(super) fn linear(&mut self, path: impl Into<String>, inputs: usize, outputs: usize) {
        let layer = format!("Linear(in_features={inputs}, out_features={outputs}, bias=True)");
        self.push(path, layer, &[outputs], (inputs + 1) * outputs);
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}(", self.class)?;
        let mut open: Option<&str> = None;
        for layer in &self.layers {
            let (parent, name) = match layer.path.split_once('.') {
                Some((parent, name)) => (Some(parent), name),
                None => (None, layer.path.as_str()),
            };
            if open != parent {
                if open.is_some() {
                    writeln!(f, "  )")?;
                }
                if let Some(parent) = parent {
                    writeln!(f, "  ({parent}): Sequential(")?;
                }
                open = parent;
            }
            let indent = if parent.is_some() { "    " } else { "  " };
            let text = format!("{indent}({name}): {}", layer.layer);
            let shape: Vec<String> = layer.output.iter().map(usize::to_string).collect();
            let count = if layer.parameters > 0 {
                format!("  {} parameters", grouped(layer.parameters))
            } else {
                String::new()
            };
            writeln!(f, "{text:<80} -> [N, {}]{count}", shape.join(", "))?;
        }
        if open.is_some() {
            writeln!(f, "  )")?;
        }
        write!(f, ")")
    }
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
