//! A network as an ONNX graph.
//!
//! Burn's capture gives the operations of a forward pass in evaluation mode ([`Trace`]); every operation becomes the one node of
//! ONNX that does the same, where there is one. burn-onnx's own exporter does not serve here: it lacks permutation, log-softmax and
//! adaptive pooling, names values by numbers, and writes linear layers as products with a transposed weight. Weights are not taken
//! from the trace but from the state dict, under its names and in its layout, so that an initializer is the same bytes as the
//! tensor of the same name in a `.pth`.
//!
//! The batch axis is left open by tracing twice with different batch sizes: an axis that grows with the batch is called `batch`.

mod capture;
pub mod dims;
mod graph;
mod lower;
mod messages;
mod names;
mod rewrite;
mod settings;
mod summary;
mod write;

use std::fmt::Display;

use burn::module::Module;
use burn::tensor::Tensor;
use rekindle_state::onnx::proto::{GraphProto, ModelProto, OperatorSetIdProto, TensorProto};
use rekindle_state::{DType, StateDict, Value};

pub use capture::{Outputs, Trace};
pub use messages::entry;
pub use rewrite::rewrite;
pub use settings::difference;
pub use summary::summary;
pub use write::{EXTERNAL_ABOVE, write};

use crate::models::{Network, class, weights};
use crate::onnx::OnnxError;
pub use crate::onnx::opset::{NEWEST_OPSET, OLDEST_OPSET};
use dims::{Shapes, TRACED};
use graph::{Graph, element_type};
use messages::value_info;
use names::Names;

/// The operator set that is written unless another is asked for.
pub const DEFAULT_OPSET: i64 = 17;

/// How a network is written.
#[derive(Debug, Clone)]
pub struct ExportOptions {
    /// The operator set, 13 to 21.
    pub opset: i64,
    /// A fixed batch size, or none to leave it open.
    pub batch: Option<usize>,
    /// Names of the inputs; `input` when empty.
    pub input_names: Vec<String>,
    /// Free entries: how the network was trained, what its classes are.
    pub metadata: Vec<(String, String)>,
}

impl Default for ExportOptions {
    fn default() -> Self {
        Self { opset: DEFAULT_OPSET, batch: None, input_names: Vec::new(), metadata: Vec::new() }
    }
}

/// A network as a graph, not written yet.
#[derive(Debug)]
pub struct Exported {
    /// The message. Weights share the bytes of the state dict.
    pub model: ModelProto,
    /// The name of the input.
    pub input: String,
    /// The shape of one item of the input.
    pub item: [usize; 3],
    /// The fixed batch size, if it is not open.
    pub batch: Option<usize>,
    /// For every output of every traced operation, in order, the name of its value if it is one of the graph.
    pub values: Vec<Option<String>>,
}

/// Exports a network for inputs of a size (channels, height, width).
///
/// # Errors
/// When the operator set is not supported, or an operation of the network has no ONNX.
pub fn export_network(network: &Network, size: [usize; 3], options: &ExportOptions) -> Result<Exported, OnnxError> {
    export(network, network.class(), size, |network, x| network.forward(x), options)
}

/// Exports a module with one input, `[batch, channels, height, width]` for `item` = `[channels, height, width]`.
///
/// # Errors
/// As for [`export_network`].
pub fn export_module<M: Module + Display, O: Outputs>(
    module: &M,
    item: [usize; 3],
    forward: impl Fn(&M, Tensor<4>) -> O,
    options: &ExportOptions,
) -> Result<Exported, OnnxError> {
    export(module, class::<M>(), item, forward, options)
}

fn export<M: Module + Display, O: Outputs>(
    module: &M,
    class: &str,
    item: [usize; 3],
    forward: impl Fn(&M, Tensor<4>) -> O,
    options: &ExportOptions,
) -> Result<Exported, OnnxError> {
    let opset = options.opset;
    if !(OLDEST_OPSET..=NEWEST_OPSET).contains(&opset) {
        return Err(OnnxError::Opset { found: opset });
    }
    let trace = |batch: usize| Trace::new(module, [batch, item[0], item[1], item[2]], &forward);
    let (trace, shapes) = match options.batch {
        Some(batch) => {
            let trace = trace(batch)?;
            let shapes = Shapes::fixed(&trace);
            (trace, shapes)
        }
        None => {
            let first = trace(TRACED[0])?;
            let shapes = Shapes::open(&first, &trace(TRACED[1])?)?;
            (first, shapes)
        }
    };
    let input = input_name(&options.input_names)?;
    let outputs: Vec<String> = match trace.outputs.len() {
        1 => vec!["output".to_string()],
        count => (0..count).map(|place| format!("output_{place}")).collect(),
    };
    let modules = capture::modules(module.valid(), class);
    let mut graph = Graph::new(&trace, &shapes, opset, Names::new(&modules), &input, &outputs);
    lower::lower(&mut graph)?;
    let weights = weights::to_unstacked(module)?;
    clash(&input, &outputs, &graph, &weights)?;
    let operations =
        trace.operations.iter().flat_map(|operation| operation.outputs().map(|output| output.id).collect::<Vec<_>>());
    let values = operations.map(|id| graph.values.get(&id).cloned()).collect();
    let model = assemble(graph, weights, &input, &outputs, class, options)?;
    Ok(Exported { model, input, item, batch: options.batch, values })
}

/// The message of a graph whose nodes are there.
fn assemble(
    graph: Graph<'_>,
    weights: StateDict,
    input: &str,
    outputs: &[String],
    name: &str,
    options: &ExportOptions,
) -> Result<ModelProto, OnnxError> {
    let info = |name: &str, tensor: &burn::backend::ir::TensorIr| {
        let kind = element_type(tensor.dtype).map_err(OnnxError::Trace)?;
        Ok::<_, OnnxError>(value_info(name, kind, &graph.shape(tensor)))
    };
    let inputs = vec![info(input, &graph.trace.input)?];
    let outputs =
        outputs.iter().zip(&graph.trace.outputs).map(|(name, tensor)| info(name, tensor)).collect::<Result<_, _>>()?;
    let mut initializer = initializers(weights, &graph)?;
    initializer.extend(graph.constants);
    let graph = GraphProto {
        name: name.to_string(),
        node: graph.nodes,
        initializer,
        input: inputs,
        output: outputs,
        value_info: graph.infos,
        ..GraphProto::default()
    };
    Ok(ModelProto {
        ir_version: ir_version(options.opset),
        producer_name: "rekindle".to_string(),
        producer_version: env!("CARGO_PKG_VERSION").to_string(),
        graph: Some(graph),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: options.opset }],
        metadata_props: options.metadata.iter().map(|(key, value)| entry(key, value)).collect(),
        ..ModelProto::default()
    })
}

/// The version of the file format that came with an operator set: what reads the one reads the other.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        _ => 10,
    }
}

fn input_name(names: &[String]) -> Result<String, OnnxError> {
    let name = match names {
        [] => "input",
        [name] => name.trim(),
        more => {
            let message =
                format!("the model has one input, and --input-names gives {} names: {}", more.len(), more.join(", "));
            return Err(OnnxError::Names(message));
        }
    };
    if name.is_empty() {
        return Err(OnnxError::Names("the name of an input is empty: give --input-names a name".to_string()));
    }
    Ok(name.to_string())
}

/// Refuses the name of an input that something else in the graph has.
fn clash(input: &str, outputs: &[String], graph: &Graph<'_>, weights: &StateDict) -> Result<(), OnnxError> {
    if outputs.iter().any(|output| output == input) || weights.get(input).is_some() || graph.taken().contains(input) {
        return Err(OnnxError::Names(format!(
            "the input cannot be called '{input}': another value of the graph has that name"
        )));
    }
    Ok(())
}

/// The parameters that the graph uses, in the order of the state dict, which gives its bytes away.
fn initializers(mut weights: StateDict, graph: &Graph<'_>) -> Result<Vec<TensorProto>, OnnxError> {
    if let Some(missing) = graph.parameters.iter().find(|name| weights.tensor(name).is_none()) {
        return Err(OnnxError::Trace(format!("its parameter '{missing}' is not in its state dict")));
    }
    let names: Vec<String> = weights.tensors().map(|(name, _)| name.to_string()).collect();
    let mut found = Vec::new();
    for name in names {
        let Some(Value::Tensor(tensor)) = weights.remove(&name) else { continue };
        if !graph.parameters.contains(&name) {
            continue;
        }
        let data_type = match tensor.dtype() {
            DType::F32 => 1,
            DType::I32 => 6,
            DType::I64 => 7,
            DType::F16 => 10,
            DType::F64 => 11,
            DType::BF16 => 16,
            DType::Bool => 9,
            other => return Err(OnnxError::Trace(format!("its parameter '{name}' is of type {other}"))),
        };
        let dims = tensor.shape().iter().map(|&size| size as i64).collect();
        let raw_data = Some(tensor.bytes()?.into_owned().into());
        found.push(TensorProto { name, dims, data_type, raw_data, ..TensorProto::default() });
    }
    Ok(found)
}
