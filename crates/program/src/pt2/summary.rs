//! An exported program at a glance.

use serde_json::Value as Json;

use super::Exported;
use super::json::{Graph, Node, Size, dtype};
use super::lower::{missing, place};
use crate::summary::{Described, Summary, Used, counted, once};

impl Exported {
    /// The program at a glance.
    pub fn summary(&self) -> Summary {
        let module = &self.program.graph_module;
        let graph = &module.graph;
        let names = |kind: &str, field: &str| {
            let name = |spec: &serde_json::Map<String, Json>| Some(spec.get(kind)?.get(field)?.as_str()?.to_string());
            module.signature.input_specs.iter().filter_map(name).collect()
        };
        let ports = |specs: &[serde_json::Map<String, Json>], kind: &str| {
            let described = |spec: &serde_json::Map<String, Json>| {
                let arg = spec.get(kind)?.get("arg")?;
                describe(graph, arg.get("as_tensor").unwrap_or(arg).get("name")?.as_str()?)
            };
            specs.iter().filter_map(described).collect()
        };
        let target = |node: &'_ Node| node.target.strip_prefix("torch.ops.").unwrap_or(&node.target).to_string();
        let targets: Vec<String> = graph.nodes.iter().map(target).collect();
        Summary {
            source: match self.torch_version() {
                "" => "torch.export".to_string(),
                version => format!("torch.export of PyTorch {version}"),
            },
            inputs: ports(&module.signature.input_specs, "user_input"),
            outputs: ports(&module.signature.output_specs, "user_output"),
            operators: counted(targets.iter().map(String::as_str)),
            parameters: names("parameter", "parameter_name"),
            buffers: names("buffer", "buffer_name"),
            modules: once(graph.nodes.iter().filter_map(used)),
            missing: missing(graph).iter().map(ToString::to_string).collect(),
        }
    }
}

fn describe(graph: &Graph, name: &str) -> Option<Described> {
    let meta = graph.tensor_values.get(name)?;
    let size = |json: &Json| match Size::read(json) {
        Ok(Size::Known(size)) => size.to_string(),
        Ok(open @ Size::Open { .. }) => open.symbol().unwrap_or("?").to_string(),
        Err(_) => "?".to_string(),
    };
    Some(Described {
        name: name.to_string(),
        dtype: dtype(meta.dtype).map_or_else(|_| "?".to_string(), |dtype| dtype.to_string()),
        shape: meta.sizes.iter().map(size).collect(),
    })
}

/// The innermost module of a node.
fn used(node: &Node) -> Option<Used> {
    let stack = node.metadata.get("nn_module_stack")?;
    let class = stack.rsplit(';').find_map(|entry| entry.split(',').nth(2))?;
    let place = place(node);
    // What PyTorch adds itself, such as checks of sizes, is of no module.
    if place.module.starts_with("_empty_nn_module_stack") {
        return None;
    }
    Some(Used { path: place.module, class: class.to_string(), source: place.source })
}
