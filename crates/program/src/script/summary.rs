//! A TorchScript program at a glance.

use rekindle_state::{Object, Value as Stored};

use super::{MAX_DEPTH, Script};
use crate::lower::Mode;
use crate::summary::{Described, Summary, Used, counted};

impl Script {
    /// The program at a glance: operators are those that its text names, whether or not they are reached.
    pub fn summary(&self) -> Summary {
        let mut modules = Vec::new();
        if let Stored::Object(root) = &self.root {
            walk(root, "", 0, &mut modules);
        }
        let texts: Vec<&str> = self.code.texts().collect();
        let mut summary = Summary {
            source: "TorchScript".to_string(),
            operators: counted(texts.iter().flat_map(|text| operators(text))),
            modules,
            ..Summary::default()
        };
        if self.traced.is_none() {
            summary
                .missing
                .push("a scripted program does not say what it takes: its inputs are known when it is run".into());
            return summary;
        }
        match self.lower(Mode::AsExported, false, None) {
            Ok(lowered) => {
                let inputs = self.traced.iter().flatten().zip(&lowered.inputs);
                summary.inputs = inputs
                    .map(|(example, input)| Described {
                        name: input.name.clone(),
                        dtype: example.dtype.to_string(),
                        shape: example.shape.iter().map(ToString::to_string).collect(),
                    })
                    .collect();
                let given = lowered.outputs.iter().filter(|output| !output.name.is_empty());
                summary.outputs = given
                    .map(|output| Described { name: output.name.clone(), dtype: "tensor".into(), shape: Vec::new() })
                    .collect();
                summary.parameters = lowered.parameters.into_iter().map(|parameter| parameter.name).collect();
                summary.buffers = lowered.buffers.into_iter().map(|buffer| buffer.name).collect();
            }
            Err(error) => summary.missing.push(error.to_string()),
        }
        summary
    }
}

/// Calls of `torch.NAME(` and `ops.NAMESPACE.NAME(` in a text.
fn operators(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices('(').filter_map(|(end, _)| {
        let head = &text[..end];
        let start = head.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).map_or(0, |at| at + 1);
        let name = head.get(start..)?;
        name.strip_prefix("torch.").or_else(|| name.strip_prefix("ops.")).filter(|name| !name.is_empty())
    })
}

fn walk(object: &Object, path: &str, depth: usize, modules: &mut Vec<Used>) {
    modules.push(Used { path: path.to_string(), class: object.class.name.clone(), source: String::new() });
    let Stored::Dict(state) = &object.state else { return };
    if depth > MAX_DEPTH {
        return;
    }
    for (key, value) in state.iter() {
        if let Stored::Object(child) = value {
            let name = key.text();
            walk(
                child,
                &if path.is_empty() { name.into_owned() } else { format!("{path}.{name}") },
                depth + 1,
                modules,
            );
        }
    }
}
