//! What a network from a file is made of, whichever kind the file is: an ONNX model, or a program of PyTorch that becomes one.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Bytes, Device};
use rekindle_onnx::graph::Weight as Initializer;
use rekindle_onnx::{DType, Model, Node, ValueId};
use rekindle_program::{Example, Lowered, Mode, Program};
use rekindle_state::DType::{F32, I64};
use rekindle_state::Tensor;
use rekindle_state::onnx::proto::ModelProto;

use super::Settings;
use super::head::Head;
use crate::models::imported::{Named, Role, Values};
use crate::models::weights::shared;

/// Sizes of pictures that a scripted program, which says none, is tried with.
const USUAL_PICTURES: [[usize; 3]; 6] =
    [[3, 224, 224], [3, 32, 32], [1, 28, 28], [3, 64, 64], [1, 224, 224], [3, 299, 299]];

/// A model with its weights.
pub(super) struct Source {
    /// The graph of inference.
    pub model: Arc<Model>,
    /// Weights in the order of the file: of a program, that of its signature.
    pub weights: Vec<Weight>,
    /// The last layer, where it is a new one.
    pub head: Option<Head>,
    program: Option<Trainable>,
}

/// A weight of the file.
pub(super) struct Weight {
    pub name: String,
    /// Its name in the graph: another one's for tied parameters.
    stored: String,
    role: Role,
    tensor: Tensor,
    /// Its place in the graph of inference.
    pub id: Option<ValueId>,
    /// Whether it counts batches: an int64 without axes in the file.
    pub counts: bool,
}

/// A program, which can be read in another mode.
struct Trainable {
    program: Program,
    frozen_statistics: bool,
    examples: Option<Vec<Example>>,
    /// Parameters that share another one's values, with its name.
    tied: Vec<(String, String)>,
    training: OnceLock<Result<Training, String>>,
}

/// The graph of training.
pub(super) struct Training {
    pub model: Arc<Model>,
    /// Places of the weights in it.
    pub ids: Vec<Option<ValueId>>,
    /// Buffers that a step changes, with the output that has their next values.
    pub moved: Vec<(usize, usize)>,
    /// Buffers that count steps.
    pub counted: Vec<usize>,
}

impl Source {
    /// Opens an ONNX model.
    pub fn onnx(path: &Path, settings: &Settings) -> Result<Self, String> {
        let mut model = Model::open(path).map_err(|error| error.to_string())?;
        let missing = model.missing();
        if !missing.is_empty() {
            return Err(rekindle_onnx::Error::Unsupported(missing).to_string());
        }
        let weights = of_operators(&model).into_iter().filter_map(|(id, weight)| {
            let name = model.graph.names[id].clone();
            let role = if is_statistic(&model, id) { Role::Buffer } else { Role::Parameter };
            let tensor = weight.tensor()?.clone();
            Some(Weight { stored: name.clone(), name, role, tensor, id: Some(id), counts: false })
        });
        let weights: Vec<Weight> = weights.collect();
        let head = replaced(&mut model, &weights, settings)?;
        Ok(Self { weights, head, model: Arc::new(model), program: None })
    }

    /// Opens a program of PyTorch.
    pub fn program(path: &Path, settings: &Settings) -> Result<Self, String> {
        let program = Program::open(path).map_err(words)?;
        let (lowered, examples) = lowered(&program, settings)?;
        let mut model = lowered.model().map_err(words)?;
        let weights = of_program(&lowered, &model);
        let head = replaced(&mut model, &weights, settings)?;
        let frozen_statistics = settings.frozen_statistics;
        let tied = tied(&lowered, &weights);
        let trainable = Trainable { program, frozen_statistics, examples, tied, training: OnceLock::new() };
        Ok(Self { weights, head, model: Arc::new(model), program: Some(trainable) })
    }

    /// The message of an ONNX file that holds the graph of inference of a program, with the name that each weight has in it.
    pub fn message(&self) -> Option<Result<ModelProto, String>> {
        let trainable = self.program.as_ref()?;
        let lowered = trainable.program.lower_for(Mode::Eval, false, trainable.examples.as_deref());
        Some(lowered.map(|lowered| lowered.proto).map_err(words))
    }

    /// The name of the network's weight that a tied parameter of another name shares.
    pub fn tied(&self, name: &str) -> Option<&str> {
        self.program.as_ref()?.tied.iter().find(|(own, _)| own == name).map(|(_, other)| other.as_str())
    }

    /// The name in the graph of the weight that a network has under a name; none for what no operator reads.
    pub fn stored(&self, name: &str) -> Option<&str> {
        let weight = self.weights.iter().find(|weight| weight.name == name)?;
        weight.id.filter(|_| !weight.counts).map(|_| weight.stored.as_str())
    }

    /// The graph of training, where it is another one than that of inference.
    pub fn training(&self) -> Option<Result<&Training, String>> {
        let trainable = self.program.as_ref()?;
        let training = trainable.training.get_or_init(|| trainable.read(&self.weights, self.head.as_ref()));
        Some(training.as_ref().map_err(Clone::clone))
    }

    /// The weights on a device: those of the file, and new ones for a new last layer.
    pub fn parameters(&self, device: &Device) -> Vec<Named> {
        let named = |weight: &Weight| {
            let Weight { name, stored, role, tensor, counts, .. } = weight;
            let drawn = self.head.as_ref().and_then(|head| head.draw(stored, device));
            let values = if let Some((values, shape)) = drawn {
                Values::new(values, shape, *role, device)?
            } else if *counts {
                let count = tensor.to_i64().ok()?.first().copied()? as f32;
                Values::new(Bytes::from_elems(vec![count]), &[1], *role, device)?
            } else {
                Values::new(shared(tensor).ok()?, &shape_of(tensor), *role, device)?
            };
            Some(Named { name: name.clone(), values })
        };
        self.weights.iter().filter_map(named).collect()
    }
}

impl Trainable {
    fn read(&self, weights: &[Weight], head: Option<&Head>) -> Result<Training, String> {
        let mode = if self.frozen_statistics { Mode::TrainFrozenStatistics } else { Mode::Train };
        let lowered = self.program.lower_for(mode, true, self.examples.as_deref()).map_err(words)?;
        let mut model = lowered.model().map_err(words)?;
        head.map_or(Ok(()), |head| head.fit(&mut model))?;
        let place = |name: &str| model.graph.outputs.iter().position(|port| port.name == name);
        let buffer = |name: &str| weights.iter().position(|weight| weight.name == name && weight.role == Role::Buffer);
        let (mut moved, mut counted) = (Vec::new(), Vec::new());
        for changed in &lowered.buffers {
            let Some(output) = changed.output.as_deref().and_then(place) else { continue };
            match buffer(&changed.name) {
                // Counted below, whether or not the program was exported with the count.
                Some(at) if weights[at].counts => {}
                Some(at) => moved.push((at, output)),
                None if is_count(&changed.name) => {}
                None => {
                    return Err(format!(
                        "it changes its buffer '{}' in training, which is no tensor of 32-bit floats with one to six axes",
                        changed.name
                    ));
                }
            }
            if let Some(path) = changed.name.strip_suffix("running_mean") {
                counted.extend(buffer(&format!("{path}num_batches_tracked")).filter(|&at| weights[at].counts));
            }
        }
        let ids = weights.iter().map(|weight| model.graph.names.iter().position(|name| *name == weight.stored));
        Ok(Training { ids: ids.collect(), moved, counted, model: Arc::new(model) })
    }
}

/// A new last layer in the place of a model's, where the settings ask for one.
fn replaced(model: &mut Model, weights: &[Weight], settings: &Settings) -> Result<Option<Head>, String> {
    let Some(classes) = settings.classes else { return Ok(None) };
    let head = Head::find(model, classes)?;
    if let Some(name) = head.names().find(|name| !weights.iter().any(|weight| weight.stored == *name)) {
        return Err(head.unfit(&format!("'{name}' of its last linear layer is no parameter of 32-bit floats")));
    }
    head.fit(model)?;
    Ok(Some(head))
}

/// A program as a graph of inference, and the examples that it was read for.
fn lowered(program: &Program, settings: &Settings) -> Result<(Lowered, Option<Vec<Example>>), String> {
    let picture = |item: &[usize]| {
        let shape = std::iter::once(2).chain(item.iter().copied()).collect();
        vec![Example { dtype: DType::F32, shape }]
    };
    if let Some(item) = &settings.input {
        let examples = picture(item);
        let lowered = program.lower_for(Mode::Eval, false, Some(&examples)).map_err(words)?;
        return Ok((lowered, Some(examples)));
    }
    if program.says_inputs() {
        return Ok((program.lower(Mode::Eval, false).map_err(words)?, None));
    }
    let mut first = None;
    for item in USUAL_PICTURES {
        let examples = picture(&item);
        match program.lower_for(Mode::Eval, false, Some(&examples)) {
            Ok(lowered) => return Ok((lowered, Some(examples))),
            Err(error) => first = first.or(Some(error)),
        }
    }
    let first = first.map(|error| error.to_string()).unwrap_or_default();
    Err(format!("{first}; a scripted program does not say what it takes: a recipe does with `input = [3, 48, 48]`"))
}

/// The weights of a program: its parameters in their order, then its buffers.
fn of_program(lowered: &Lowered, model: &Model) -> Vec<Weight> {
    let mut known = HashSet::new();
    let parameters = lowered.parameters.iter().map(|own| (&own.name, &own.stored, &own.tensor, Role::Parameter));
    let buffers = lowered.buffers.iter().filter(|own| own.persistent);
    let buffers = buffers.map(|own| (&own.name, &own.name, &own.tensor, Role::Buffer));
    let mut weights = Vec::new();
    for (name, stored, tensor, role) in parameters.chain(buffers) {
        let counts = role == Role::Buffer && is_count(name) && tensor.dtype() == I64 && tensor.shape().is_empty();
        if (counts || is_trainable(tensor)) && known.insert(stored) {
            let id = model.graph.names.iter().position(|own| own == stored);
            let (name, stored, tensor) = (name.clone(), stored.clone(), tensor.clone());
            weights.push(Weight { name, stored, role, tensor, id, counts });
        }
    }
    weights
}

/// Parameters that are no weights of their own, with the name of the weight whose values they share.
fn tied(lowered: &Lowered, weights: &[Weight]) -> Vec<(String, String)> {
    let other = |own: &rekindle_program::Parameter| {
        let weight = weights.iter().find(|weight| weight.stored == own.stored && weight.name != own.name)?;
        Some((own.name.clone(), weight.name.clone()))
    };
    lowered.parameters.iter().filter_map(other).collect()
}

fn is_count(name: &str) -> bool {
    name.rsplit('.').next() == Some("num_batches_tracked")
}

/// Whether a network can hold a tensor as its own.
fn is_trainable(tensor: &Tensor) -> bool {
    let shape = tensor.shape();
    tensor.dtype() == F32 && (1..=6).contains(&shape.len()) && !shape.contains(&0) && tensor.view().is_some()
}

fn shape_of(tensor: &Tensor) -> Vec<usize> {
    tensor.shape().iter().map(|&axis| axis as usize).collect()
}

/// The float initializers that are weights of some operator.
fn of_operators(model: &Model) -> Vec<(ValueId, &Initializer)> {
    let graph = &model.graph;
    let used = |id: ValueId| graph.nodes.iter().filter(move |node| node.inputs.contains(&Some(id)));
    let is_weight = |id: ValueId| {
        used(id).next().is_some() && used(id).all(|node| node.schema().is_some_and(|schema| schema.weights))
    };
    let weights =
        graph.constants.iter().filter(|(id, weight)| weight.tensor().is_some_and(is_trainable) && is_weight(*id));
    weights.map(|(id, weight)| (*id, weight)).collect()
}

/// Whether a weight is a statistic of batch normalisation, which stays as it is: an ONNX graph normalises by it in training too.
fn is_statistic(model: &Model, id: ValueId) -> bool {
    let statistics = |node: &Node| {
        let statistics = node.schema().map_or(usize::MAX, |schema| schema.statistics);
        node.inputs.iter().skip(statistics).any(|input| *input == Some(id))
    };
    model.graph.nodes.iter().any(statistics)
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
