//! The proof that a written file is the network: it is valid, and engines that share no code with the exporter compute the same.
//!
//! [`structure`] reads the file again and holds it against the standard. Then every [`Engine`] runs it on random inputs, at two
//! batch sizes where the batch axis is open, beside the network's own forward pass. If an engine disagrees, [`first_difference`]
//! replays the network operation by operation and names the first node whose value is another.

mod compare;
mod engine;
mod own;
mod replay;
mod runtime;
pub mod structure;
#[cfg(feature = "verify")]
mod tract;

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use prost::Message;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rekindle_state::onnx::proto::ValueInfoProto;

pub use compare::{Difference, Tolerance, USUAL, Values};
pub use engine::Engine;
pub use runtime::OnnxRuntime;

use super::export::{Exported, Trace};
use crate::models::Network;
use crate::onnx::OnnxError;

/// The engines that are part of this program.
pub fn built_in() -> Vec<&'static dyn Engine> {
    [vec![&own::Interpreter as &dyn Engine], others()].concat()
}

/// Those of them that others wrote.
pub fn others() -> Vec<&'static dyn Engine> {
    vec![
        #[cfg(feature = "verify")]
        &tract::Tract,
    ]
}

/// Batch sizes that an open batch axis is tried with.
pub const BATCHES: [usize; 2] = [1, 3];

/// What one engine found at one batch size.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The engine.
    pub engine: &'static str,
    /// The batch size.
    pub batch: usize,
    /// How far it is from the network.
    pub difference: Difference,
}

/// Checks that a written file is valid ONNX.
///
/// # Errors
/// When it is not: everything that is wrong.
pub fn check_structure(model: &Path) -> Result<(), OnnxError> {
    let found = structure::check_file(model)?;
    if found.is_empty() { Ok(()) } else { Err(OnnxError::Structure(found)) }
}

/// What one engine says of a graph that came from a file.
#[derive(Debug, Clone)]
pub struct Verdict {
    /// The engine.
    pub engine: &'static str,
    /// What it found, or why it cannot run the graph.
    pub found: Result<Vec<Finding>, String>,
}

/// Runs a written file with engines, and compares with the network in evaluation mode on flex.
///
/// # Errors
/// When an engine cannot run the file.
pub fn compare(
    network: &Network,
    exported: &Graphed<'_>,
    engines: &[&dyn Engine],
    tolerance: Tolerance,
) -> Result<Vec<Finding>, OnnxError> {
    let inputs: Vec<Values> = exported.batches().into_iter().map(|batch| random(batch, exported.item)).collect();
    let expected = inputs.iter().map(|input| forward(network, input)).collect::<Result<Vec<_>, _>>()?;
    let mut findings = Vec::new();
    for engine in engines {
        let failed = |reason| OnnxError::Engine { engine: engine.name(), reason };
        let found = engine.run(exported.path, exported.input, &inputs).map_err(failed)?;
        for ((found, expected), input) in found.iter().zip(&expected).zip(&inputs) {
            let [found] = &found[..] else {
                return Err(failed(format!("it gives {} outputs instead of one", found.len())));
            };
            let difference = Difference::between(found, expected, tolerance);
            findings.push(Finding { engine: engine.name(), batch: input.shape[0], difference });
        }
    }
    Ok(findings)
}

/// Runs a graph that came from a file with every engine, beside rekindle's interpreter. An engine that cannot run the graph is no
/// error: nobody says that an engine must know every operator of other people's graphs.
///
/// # Errors
/// When the interpreter itself cannot run the file.
pub fn compare_engines(
    graphed: &Graphed<'_>,
    engines: &[&dyn Engine],
    tolerance: Tolerance,
) -> Result<Vec<Verdict>, OnnxError> {
    let inputs: Vec<Values> = graphed.batches().into_iter().map(|batch| random(batch, graphed.item)).collect();
    let own = &own::Interpreter;
    let failed = |reason| OnnxError::Engine { engine: own.name(), reason };
    let expected = own.run(graphed.path, graphed.input, &inputs).map_err(failed)?;
    let held = |engine: &dyn Engine| -> Result<Vec<Finding>, String> {
        let found = engine.run(graphed.path, graphed.input, &inputs)?;
        let mut findings = Vec::new();
        for ((found, expected), input) in found.iter().zip(&expected).zip(&inputs) {
            if found.len() != expected.len() {
                return Err(format!("it gives {} outputs instead of {}", found.len(), expected.len()));
            }
            findings.extend(found.iter().zip(expected).map(|(found, expected)| Finding {
                engine: engine.name(),
                batch: input.shape[0],
                difference: Difference::between(found, expected, tolerance),
            }));
        }
        Ok(findings)
    };
    Ok(engines.iter().map(|engine| Verdict { engine: engine.name(), found: held(*engine) }).collect())
}

/// A graph in a file, as far as an engine must know it.
#[derive(Debug, Clone, Copy)]
pub struct Graphed<'a> {
    /// The file.
    pub path: &'a Path,
    /// The name of the input.
    pub input: &'a str,
    /// The shape of one item of the input.
    pub item: [usize; 3],
    /// The fixed batch size, if it is not open.
    pub batch: Option<usize>,
    /// For every output of every traced operation, the name of its value.
    pub values: &'a [Option<String>],
}

impl<'a> Graphed<'a> {
    /// An exported network that has been written to `path`.
    pub fn new(path: &'a Path, exported: &'a Exported) -> Self {
        Self { path, input: &exported.input, item: exported.item, batch: exported.batch, values: &exported.values }
    }

    fn batches(&self) -> Vec<usize> {
        self.batch.map_or_else(|| BATCHES.to_vec(), |batch| vec![batch])
    }
}

/// Names the first node whose value in an engine is not the network's, and how far it is off; none if every value that can be
/// looked at is right.
///
/// # Errors
/// When the engine or the network cannot be run with all its values.
pub fn first_difference(
    network: &Network,
    exported: &Graphed<'_>,
    engine: &dyn Engine,
    batch: usize,
    tolerance: Tolerance,
) -> Result<Option<String>, OnnxError> {
    let failed = |reason| OnnxError::Engine { engine: engine.name(), reason };
    let input = random(batch, exported.item);
    let [channels, height, width] = exported.item;
    let trace = Trace::new(network, [batch, channels, height, width], |network, x| network.forward(x))?;
    let made: usize = trace.operations.iter().map(|operation| operation.outputs().count()).sum();
    if made != exported.values.len() {
        return Err(OnnxError::Batch(format!("the network runs other operations for a batch of {batch}")));
    }
    let (model, names) = with_all_values(exported.path)?;
    // Beside the original: weights in another file are found there.
    let folder = exported.path.parent().unwrap_or(Path::new("."));
    let path = folder.join("all-values.onnx");
    std::fs::write(&path, model)
        .map_err(|error| rekindle_state::Error::new(rekindle_state::ErrorKind::Io, error.to_string()).at(&path))?;
    let found = engine.run(&path, exported.input, std::slice::from_ref(&input)).map_err(failed)?.remove(0);
    let mut answer = None;
    replay::replay(&network.valid(), &trace, &input, |place, expected| {
        let name = exported.values.get(place).and_then(Option::as_ref);
        let place = name.and_then(|name| names.iter().position(|(value, _)| value == name));
        if let Some((place, found)) = place.and_then(|place| found.get(place).map(|found| (place, found))) {
            let difference = Difference::between(found, &expected, tolerance);
            if !difference.is_small() {
                answer = Some(format!("node '{}': {difference}", names[place].1));
            }
        }
        answer.is_none()
    })
    .map_err(OnnxError::Trace)?;
    Ok(answer)
}

/// The name of a value and that of the node that makes it.
type Made = (String, String);

/// A model with every value as an output: the message, and what the outputs are.
fn with_all_values(path: &Path) -> Result<(Vec<u8>, Vec<Made>), OnnxError> {
    let mut model = structure::decode(&rekindle_state::Map::open(path)?)?;
    let Some(graph) = &mut model.graph else { return Ok((Vec::new(), Vec::new())) };
    let known = |name: &str| graph.value_info.iter().chain(&graph.output).find(|info| info.name == name).cloned();
    let mut names = Vec::new();
    let mut outputs = Vec::new();
    for node in &graph.node {
        for output in node.output.iter().filter(|output| !output.is_empty()) {
            names.push((output.clone(), node.name.clone()));
            outputs.push(
                known(output).unwrap_or_else(|| ValueInfoProto { name: output.clone(), ..ValueInfoProto::default() }),
            );
        }
    }
    graph.output = outputs;
    graph.value_info.clear();
    Ok((model.encode_to_vec(), names))
}

/// The network's own answer in evaluation mode, on flex.
fn forward(network: &Network, input: &Values) -> Result<Values, OnnxError> {
    let data = TensorData::new(input.data.clone(), input.shape.clone());
    let x = Tensor::<4>::from_data(data, &Device::flex());
    let output = network.forward(x).map_err(|error| OnnxError::Trace(error.to_string()))?;
    Ok(Values { shape: output.shape(), data: output.values() })
}

/// Numbers between -1 and 1, the same every time, and others for another batch size.
fn random(batch: usize, item: [usize; 3]) -> Values {
    let mut random = ChaCha8Rng::seed_from_u64(batch as u64);
    let shape = vec![batch, item[0], item[1], item[2]];
    let data = (0..shape.iter().product()).map(|_| (random.next_u32() >> 8) as f32 / (1 << 23) as f32 - 1.0).collect();
    Values { shape, data }
}
