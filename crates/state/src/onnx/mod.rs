//! ONNX models: their weights in order, and what goes in and out. Reading them runs nothing and allocates no more than they hold.

mod external;
mod outline;
// Its comments are those of onnx.proto.
#[allow(rustdoc::bare_urls)]
pub mod proto;
mod tensor;

use indexmap::IndexMap;
use prost::Message;
use prost::bytes::Bytes;
use serde::Serialize;

use crate::format::{Format, Opened, Probe};
use crate::{Content, Error, Map, Result, StateDict, Value};
pub use external::External;
pub use tensor::value as tensor_value;

/// What an ONNX file says of its model, besides the weights.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnnxSummary {
    /// Version of the file format.
    pub ir_version: i64,
    /// The program that wrote it, with its version.
    pub producer: String,
    /// Operator sets, the main one under `ai.onnx`.
    pub opsets: Vec<(String, i64)>,
    /// Name of the graph.
    pub graph: String,
    /// What goes in, without the weights.
    pub inputs: Vec<OnnxValue>,
    /// What comes out.
    pub outputs: Vec<OnnxValue>,
    /// Operators and how often each is used, in order of first use, those of nested graphs included.
    pub operators: Vec<(String, u64)>,
}

/// An input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OnnxValue {
    /// The name.
    pub name: String,
    /// PyTorch's name of the element type, or ONNX's where PyTorch has none.
    pub dtype: String,
    /// The axes, if the file says them: a number, a name such as `batch`, or `?`.
    pub shape: Option<Vec<String>>,
}

/// An ONNX model, whose weights are read.
#[derive(Debug)]
pub struct Onnx;

impl Format for Onnx {
    fn name(&self) -> &'static str {
        "onnx"
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        is_onnx(file.bytes())
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        let (content, summary) = read_onnx(file.map()?)?;
        Ok(Opened { onnx: Some(summary), ..Opened::from(content) })
    }
}

/// Whether bytes have the outline of an ONNX model: a plausible version and a graph, in fields that end where the file does.
pub fn is_onnx(bytes: &[u8]) -> bool {
    outline::has_outline(bytes)
}

/// Reads an ONNX model. Weights stay in the file; those in other files are found beside it and nowhere else.
///
/// # Errors
/// When it is no valid ONNX model, a weight does not hold what it claims, or a file of weights is missing.
pub fn read_onnx(map: &Map) -> Result<(Content, OnnxSummary)> {
    read(map).map_err(|error| error.at(map.path()))
}

fn read(map: &Map) -> Result<(Content, OnnxSummary)> {
    let bytes = Bytes::from_owner(Whole(map.clone()));
    let model = proto::ModelProto::decode(bytes)
        .map_err(|error| Error::damaged(format!("it is no valid ONNX model: {error}")))?;
    let graph = model.graph.as_ref().ok_or_else(|| Error::damaged("the ONNX model has no graph"))?;
    let mut external = External::of(map);
    let mut root = StateDict::new();
    for initializer in &graph.initializer {
        let value = tensor::value(initializer, &mut external)
            .map_err(|error| error.within(format!("initializer '{}'", initializer.name)))?;
        if root.insert(initializer.name.as_str(), value).is_some() {
            return Err(Error::damaged(format!("the initializer '{}' is there twice", initializer.name)));
        }
    }
    let metadata = model.metadata_props.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect();
    let summary = summary(&model, graph, &root);
    Ok((Content { root: Value::Dict(root), metadata, globals: Vec::new() }, summary))
}

/// The bytes of a map, as an owner for [`Bytes`]: decoding then copies no weights.
struct Whole(Map);

impl AsRef<[u8]> for Whole {
    fn as_ref(&self) -> &[u8] {
        self.0.bytes()
    }
}

fn summary(model: &proto::ModelProto, graph: &proto::GraphProto, weights: &StateDict) -> OnnxSummary {
    let mut operators = IndexMap::new();
    count(graph, &mut operators);
    let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_string() } else { domain.to_string() };
    OnnxSummary {
        ir_version: model.ir_version,
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_string(),
        opsets: model.opset_import.iter().map(|opset| (domain(&opset.domain), opset.version)).collect(),
        graph: graph.name.clone(),
        // Before version 4 of the format, weights were inputs too.
        inputs: graph.input.iter().filter(|input| weights.get(&input.name).is_none()).map(described).collect(),
        outputs: graph.output.iter().map(described).collect(),
        operators: operators.into_iter().collect(),
    }
}

fn count(graph: &proto::GraphProto, operators: &mut IndexMap<String, u64>) {
    for node in &graph.node {
        let standard = node.domain.is_empty() || node.domain == "ai.onnx";
        let name = if standard { node.op_type.clone() } else { format!("{}.{}", node.domain, node.op_type) };
        *operators.entry(name).or_default() += 1;
        for attribute in &node.attribute {
            attribute.g.iter().chain(&attribute.graphs).for_each(|graph| count(graph, operators));
        }
    }
}

fn described(info: &proto::ValueInfoProto) -> OnnxValue {
    use proto::dimension::Value as Axis;
    use proto::type_proto::Value as Type;
    let name = info.name.clone();
    let Some(kind) = info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return OnnxValue { name, dtype: "?".to_string(), shape: None };
    };
    let Type::TensorType(tensor) = kind else {
        let dtype = match kind {
            Type::SequenceType(_) => "sequence",
            Type::MapType(_) => "map",
            Type::OptionalType(_) => "optional",
            Type::SparseTensorType(_) => "sparse tensor",
            Type::OpaqueType(_) => "opaque",
            Type::TensorType(_) => "tensor",
        };
        return OnnxValue { name, dtype: dtype.to_string(), shape: None };
    };
    let axis = |axis: &proto::Dimension| match &axis.value {
        Some(Axis::DimValue(size)) => size.to_string(),
        Some(Axis::DimParam(name)) if !name.is_empty() => name.clone(),
        _ => "?".to_string(),
    };
    let shape = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(axis).collect());
    OnnxValue { name, dtype: tensor::type_name(tensor.elem_type), shape }
}
