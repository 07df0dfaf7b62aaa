//! Whether a message is a valid model: names, order, operators, sizes, and shapes where they follow from each other.
//!
//! It looks at the written file alone, and asks the operators what they say of themselves. It shares nothing with the exporter, so that a
//! mistake there is not repeated here.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use rekindle_onnx::infer::Fact;
use rekindle_onnx::{Axis, DType, ops};
use rekindle_state::onnx::proto::{
    GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, dimension, type_proto,
};
use rekindle_state::onnx::{External, tensor_value};
use rekindle_state::{Map, Value};

/// The greatest operator set of each version of the file format.
const NEWEST_OPSET_OF: [(i64, i64); 5] = [(7, 14), (8, 18), (9, 20), (10, 22), (11, 23)];

/// Everything that is wrong with a model file; nothing when it is valid.
///
/// # Errors
/// When the file cannot be read or is no ONNX at all.
pub fn check_file(path: &Path) -> rekindle_state::Result<Vec<String>> {
    // Reading it checks every initializer's size, in this file and beside it.
    let map = Map::open(path)?;
    rekindle_state::read_onnx(&map)?;
    let model = decode(&map)?;
    Ok(check(&model, path.parent().unwrap_or(Path::new("."))))
}

/// The message of a model file, without a copy of its weights.
///
/// # Errors
/// When the file is no ONNX.
pub fn decode(map: &Map) -> rekindle_state::Result<ModelProto> {
    use prost::Message;
    struct Whole(Map);
    impl AsRef<[u8]> for Whole {
        fn as_ref(&self) -> &[u8] {
            self.0.bytes()
        }
    }
    let bytes = prost::bytes::Bytes::from_owner(Whole(map.clone()));
    let damaged = |error| rekindle_state::Error::damaged(format!("it is no valid ONNX model: {error}")).at(map.path());
    ModelProto::decode(bytes).map_err(damaged)
}

/// Everything that is wrong with a model whose files of weights are in `folder`.
pub fn check(model: &ModelProto, folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let opset = model
        .opset_import
        .iter()
        .find(|opset| opset.domain.is_empty() || opset.domain == "ai.onnx")
        .map(|opset| opset.version);
    let Some(opset) = opset else { return vec!["it names no operator set".to_string()] };
    match NEWEST_OPSET_OF.iter().find(|(version, _)| *version == model.ir_version) {
        Some((version, newest)) if opset > *newest => {
            found.push(format!("format version {version} does not know opset {opset}"))
        }
        Some(_) => {}
        None => found.push(format!("its format version {} is not known", model.ir_version)),
    }
    let Some(graph) = &model.graph else {
        found.push("it has no graph".to_string());
        return found;
    };
    if graph.name.is_empty() {
        found.push("its graph has no name".to_string());
    }
    let mut checker = Checker { opset, known: HashMap::new(), found };
    checker.graph(graph, &mut External::new(folder));
    checker.found
}

struct Checker {
    opset: i64,
    /// What is known of every value so far.
    known: HashMap<String, Fact>,
    found: Vec<String>,
}

impl Checker {
    fn graph(&mut self, graph: &GraphProto, external: &mut External) {
        for initializer in &graph.initializer {
            self.initializer(initializer, external);
        }
        for input in &graph.input {
            match declared(input) {
                Some(known) => self.add(&input.name, known, "an input"),
                None => self.found.push(format!("the input '{}' has no type", input.name)),
            }
        }
        let infos: HashMap<&str, &ValueInfoProto> =
            graph.value_info.iter().chain(&graph.output).map(|info| (info.name.as_str(), info)).collect();
        let made: HashSet<&str> = graph.node.iter().flat_map(|node| &node.output).map(String::as_str).collect();
        let mut names = HashSet::new();
        for node in &graph.node {
            if !node.name.is_empty() && !names.insert(node.name.as_str()) {
                self.found.push(format!("two nodes are called '{}'", node.name));
            }
            self.node(node, &infos, &made);
        }
        for output in &graph.output {
            if !self.known.contains_key(&output.name) {
                self.found.push(format!("nothing makes the output '{}'", output.name));
            }
            if declared(output).is_none() {
                self.found.push(format!("the output '{}' has no type", output.name));
            }
        }
    }

    fn initializer(&mut self, tensor: &TensorProto, external: &mut External) {
        let name = &tensor.name;
        match tensor_value(tensor, external) {
            Err(error) => self.found.push(format!("the initializer '{name}': {error}")),
            Ok(value) => {
                let shape = tensor.dims.iter().map(|&size| Axis::Size(size as usize)).collect();
                let ints = match &value {
                    Value::Tensor(held) if tensor.data_type == 7 && tensor.dims.len() < 2 => {
                        held.bytes().ok().map(|bytes| {
                            bytes
                                .chunks_exact(8)
                                .map(|chunk| i64::from_le_bytes(chunk.try_into().unwrap_or_default()))
                                .collect()
                        })
                    }
                    _ => None,
                };
                self.add(
                    name,
                    Fact { dtype: DType::from_number(tensor.data_type), shape: Some(shape), ints },
                    "an initializer",
                );
            }
        }
    }

    fn add(&mut self, name: &str, known: Fact, what: &str) {
        if name.is_empty() {
            self.found.push(format!("{what} has no name"));
        } else if self.known.insert(name.to_string(), known).is_some() {
            self.found.push(format!("'{name}' is made twice"));
        }
    }

    fn node(&mut self, node: &NodeProto, infos: &HashMap<&str, &ValueInfoProto>, made: &HashSet<&str>) {
        let at = format!("node '{}' ({})", node.name, node.op_type);
        let schema = ops::schema(&node.domain, &node.op_type).filter(|schema| schema.is_in(self.opset));
        let Some(schema) = schema else {
            self.found.push(format!("{at}: opset {} has no such operator, as far as is known here", self.opset));
            return;
        };
        let (least, most) = schema.inputs;
        if !(least..=most).contains(&node.input.len())
            || node.input[..least.min(node.input.len())].iter().any(String::is_empty)
        {
            self.found.push(format!("{at}: {} inputs, where the operator takes {least} to {most}", node.input.len()));
        }
        // Of operators that run nested graphs no attributes are listed.
        let listed = !schema.attributes.is_empty() || ops::find(&node.domain, &node.op_type).is_some();
        for attribute in node.attribute.iter().filter(|_| listed) {
            if schema.attributes_in(self.opset).all(|(known, _)| known != attribute.name) {
                self.found.push(format!("{at}: opset {} has no attribute '{}' there", self.opset, attribute.name));
            }
        }
        for (required, _) in schema.attributes_in(self.opset).filter(|(_, required)| *required) {
            if node.attribute.iter().all(|attribute| attribute.name != required) {
                self.found.push(format!("{at}: the attribute '{required}' is missing"));
            }
        }
        let mut inputs = Vec::new();
        for name in &node.input {
            if !name.is_empty() && !self.known.contains_key(name) {
                let why = if made.contains(name.as_str()) {
                    "is made only later, or by itself"
                } else {
                    "is made by nothing"
                };
                self.found.push(format!("{at}: its input '{name}' {why}"));
                return;
            }
            inputs.push(self.known.get(name).cloned().unwrap_or_default());
        }
        // An input that is there and of which nothing is known would pass for one that is left out.
        let told = inputs.iter().zip(&node.input).all(|(fact, name)| name.is_empty() || *fact != Fact::default());
        let inferred = if told { ops::infer(node, self.opset, &inputs) } else { Ok(Vec::new()) };
        let inferred = inferred.unwrap_or_else(|problem| {
            self.found.push(format!("{at}: {problem}"));
            Vec::new()
        });
        for (place, output) in node.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
            let inferred = inferred.get(place).cloned();
            let declared = infos.get(output.as_str()).and_then(|info| declared(info));
            if let (Some(inferred), Some(declared)) = (&inferred, &declared)
                && !inferred.agrees(declared)
            {
                self.found.push(format!("{at}: its output '{output}' is {inferred}, and the file says {declared}"));
            }
            // The file may know more: names of axes, or what does not follow by itself.
            let known = match (inferred, declared) {
                (Some(inferred), Some(declared)) if inferred.shape.is_none() || inferred.dtype.is_none() => declared,
                (Some(inferred), _) => inferred,
                (None, declared) => declared.unwrap_or_default(),
            };
            self.add(output, known, "an output of a node");
        }
    }
}

/// The type and shape that a file says a value has.
fn declared(info: &ValueInfoProto) -> Option<Fact> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref()?.value.as_ref() else { return None };
    let axis = |axis: &rekindle_state::onnx::proto::Dimension| match &axis.value {
        Some(dimension::Value::DimValue(size)) => Axis::Size(*size as usize),
        Some(dimension::Value::DimParam(name)) => Axis::Named(name.clone()),
        None => Axis::Any,
    };
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(axis).collect());
    (tensor.elem_type > 0).then(|| Fact { dtype: DType::from_number(tensor.elem_type), shape, ints: None })
}
