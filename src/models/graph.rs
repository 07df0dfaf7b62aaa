//! An ONNX graph as a network: its weights are parameters, and it is trained, evaluated and exported like any other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use rekindle_onnx::graph::{Kind, Weight};
use rekindle_onnx::{Axis, DType, Model, Node, Session, Slot, ValueId};

use serde::{Deserialize, Serialize};

use super::imported::{Computation, Imported, Kept, Named, Values};
use super::weights::shared;
use super::{Architecture, Io, Item, ModelConfig, ModelError, Output};
use crate::onnx::metadata::Told;
use crate::onnx::run::{BurnDevice, DeviceTensor, files};
use crate::tasks::{Classification, ImageToImage};

/// Height and width of inputs of any size, where a size is needed.
const USUAL_SIDE: usize = 224;

/// Whether a file is an ONNX graph.
///
/// # Errors
/// When it cannot be read.
pub fn is_graph(path: &Path) -> Result<bool, ModelError> {
    Ok(rekindle_state::is_onnx(rekindle_state::Map::open(path)?.bytes()))
}

/// Opens an ONNX graph as a network.
///
/// # Errors
/// As for [`GraphConfig::open`].
pub fn open(path: &Path) -> Result<Architecture, ModelError> {
    Ok(Architecture::named(path.display().to_string(), GraphConfig::open(path)?))
}

/// The one key of the configuration.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    onnx: PathBuf,
}

impl From<GraphConfig> for Keys {
    fn from(config: GraphConfig) -> Self {
        Self { onnx: config.path }
    }
}

impl TryFrom<Keys> for GraphConfig {
    type Error = ModelError;

    fn try_from(keys: Keys) -> Result<Self, ModelError> {
        Self::open(&keys.onnx)
    }
}

/// An ONNX model that takes images and gives scores of classes or images.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct GraphConfig {
    path: PathBuf,
    graph: Arc<Graph>,
    /// Channels, height and width, where the model fixes them.
    input: [Option<usize>; 3],
    kind: Answer,
}

/// What a model gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Classes(usize),
    /// Pictures so many times larger than the input.
    Images(usize),
}

/// How the scores of classes come out of the last operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scores {
    Logits,
    LogProbabilities,
    /// Their logarithm is given instead.
    Probabilities,
}

/// A graph with what is known of its input and output.
struct Graph {
    model: Arc<Model>,
    input: String,
    /// The number of pictures that the model takes at once, if it is fixed.
    batch: Option<usize>,
    scores: Scores,
    /// Weights in the order of the file.
    weights: Vec<ValueId>,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("input", &self.input)
            .field("batch", &self.batch)
            .field("scores", &self.scores)
            .finish_non_exhaustive()
    }
}

impl GraphConfig {
    /// Opens a model.
    ///
    /// # Errors
    /// When it cannot be run, has other inputs than one of pictures, or gives neither scores of classes nor grey pictures.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let name = path.display().to_string();
        let problem = |problem: String| ModelError::Config { name: name.clone(), problem };
        let model = Model::open(path).map_err(|error| ModelError::Graph(error.to_string()))?;
        let missing = model.missing();
        if !missing.is_empty() {
            return Err(problem(rekindle_onnx::Error::Unsupported(missing).to_string()));
        }
        let wanted: Vec<_> = model.graph.inputs.iter().filter(|port| !port.optional).collect();
        let [port] = wanted.as_slice() else {
            return Err(problem(format!(
                "it has {} inputs, and only `rekindle run` gives a model other inputs than one",
                wanted.len()
            )));
        };
        let input = files::image_shape(port)
            .map_err(|error| problem(format!("{error}; `rekindle run` gives a model any input")))?;
        let batch = match &port.kind {
            Kind::Array(_, Some(axes)) => {
                axes.first().and_then(|axis| if let Axis::Size(size) = axis { Some(*size) } else { None })
            }
            _ => None,
        };
        let graph = Graph {
            input: port.name.clone(),
            batch,
            scores: scores(&model),
            weights: weights(&model),
            model: Arc::new(model),
        };
        let mut config = Self { path: path.to_path_buf(), graph: Arc::new(graph), input, kind: Answer::Classes(0) };
        config.kind = config.answer().map_err(problem)?;
        Ok(config)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says of its pictures.
    pub fn told(&self) -> Told {
        Told::read(&self.graph.model.metadata)
    }

    /// Whether the file's own output is probabilities of classes: a softmax comes last.
    pub fn gives_probabilities(&self) -> bool {
        self.graph.scores == Scores::Probabilities
    }

    /// The name of the input.
    pub fn input_name(&self) -> &str {
        &self.graph.input
    }

    /// The shape of one item of the input (channels, height, width); of open sizes, the usual one.
    pub fn item(&self) -> [usize; 3] {
        self.input.map(|size| size.unwrap_or(USUAL_SIDE))
    }

    /// The number of pictures that the model takes at once, if it is fixed.
    pub fn batch(&self) -> Option<usize> {
        self.graph.batch
    }

    /// Finds what the model gives by running it on a black picture.
    fn answer(&self) -> Result<Answer, String> {
        let [channels, height, width] = self.item();
        let device = Device::flex();
        let x = Tensor::<4>::zeros([self.graph.batch.unwrap_or(1), channels, height, width], &device);
        let shape = self.graph.run(Vec::new(), x)?.shape().to_vec();
        let other = || {
            format!(
                "its output of shape {shape:?} is neither scores of classes nor grey pictures; `rekindle run` shows any output"
            )
        };
        match shape.as_slice() {
            [_, classes] | [_, classes, 1, 1] => Ok(Answer::Classes(*classes)),
            [_, 1, high, wide] if channels == 1 && high % height == 0 && high / height * width == *wide => {
                Ok(Answer::Images(high / height))
            }
            _ => Err(other()),
        }
    }
}

/// What the last operator makes of the scores.
fn scores(model: &Model) -> Scores {
    let output = model.graph.outputs.first().map(|port| port.id);
    let last = model
        .graph
        .nodes
        .iter()
        .find(|node| node.outputs.first().is_some_and(|first| *first == output && first.is_some()));
    match last.map(|node| node.operator.as_str()) {
        Some("LogSoftmax") => Scores::LogProbabilities,
        Some("Softmax") => Scores::Probabilities,
        _ => Scores::Logits,
    }
}

/// The float initializers that are weights of some operator.
fn weights(model: &Model) -> Vec<ValueId> {
    let graph = &model.graph;
    let used = |id: ValueId| graph.nodes.iter().filter(move |node| node.inputs.contains(&Some(id)));
    let is_weight = |id: ValueId| {
        used(id).next().is_some() && used(id).all(|node| node.schema().is_some_and(|schema| schema.weights))
    };
    let weights = graph.constants.iter().filter(|(id, weight)| {
        weight.dtype == DType::F32
            && weight.tensor().is_some()
            && (1..=6).contains(&weight.shape.len())
            && !weight.shape.contains(&0)
            && is_weight(*id)
    });
    weights.map(|(id, _)| *id).collect()
}

/// Whether a weight is a statistic of batch normalisation, which stays as it is: batches are normalised by it in training too.
fn is_statistic(model: &Model, id: ValueId) -> bool {
    let statistics = |node: &Node| {
        let statistics = node.schema().map_or(usize::MAX, |schema| schema.statistics);
        node.inputs.iter().skip(statistics).any(|input| *input == Some(id))
    };
    model.graph.nodes.iter().any(statistics)
}

impl ModelConfig for GraphConfig {
    type Model = Imported;
    const NAME: &'static str = "graph";

    fn init(&self, device: &Device) -> Imported {
        let model = &self.graph.model;
        let parameters = self.graph.weights.iter().filter_map(|&id| {
            let (_, weight) = model.graph.constants.iter().find(|(value, _)| *value == id)?;
            let values = Values::new(shared(weight.tensor()?).ok()?, &weight.shape, is_statistic(model, id), device)?;
            Some(Named { name: model.graph.names[id].clone(), values })
        });
        Imported::new(parameters.collect(), self.graph.clone())
    }

    fn io(&self) -> Io {
        let wanted = self.input;
        let item = Item::Image(self.item());
        let io = match self.kind {
            Answer::Classes(classes) if self.graph.scores == Scores::Logits => {
                Io::new(item, Classification::logits(classes))
            }
            Answer::Classes(classes) => Io::new(item, Classification::log_probabilities(classes)),
            Answer::Images(factor) => Io::new(item, ImageToImage::new(factor)),
        };
        let [channels, height, width] = wanted.map(|size| size.map_or("any".to_string(), |size| size.to_string()));
        io.accepting(format!("{channels} × {height} × {width}"), move |shape| {
            wanted.iter().zip(shape).all(|(wanted, size)| wanted.is_none_or(|wanted| wanted == size))
        })
    }
}

/// A model with its parameters, its nodes merged for inference.
struct Ready {
    device: Device,
    session: Session<BurnDevice>,
}

impl Graph {
    /// Runs the model with its nodes as in the file, so that gradients reach every parameter.
    fn run(&self, parameters: Vec<Slot<DeviceTensor>>, x: Tensor<4>) -> Result<DeviceTensor, String> {
        let mut session = Session::new(self.model.clone(), BurnDevice::new(&x.device())).map_err(words)?;
        for (id, slot) in self.weights.iter().zip(parameters) {
            session.constants_mut().replace(*id, slot);
        }
        self.answer(&session, x)
    }

    /// Runs the model on as many pictures as it takes at once.
    fn answer(&self, session: &Session<BurnDevice>, x: Tensor<4>) -> Result<DeviceTensor, String> {
        let (device, shape) = (x.device(), x.dims().to_vec());
        let inputs = vec![(self.input.clone(), Slot::device(DeviceTensor::new(x, shape, DType::F32)))];
        let outputs = session.run_slots(inputs).map_err(words)?;
        let first = outputs.into_iter().next().ok_or("the model has no output")?;
        first.into_tensor(|source| DeviceTensor::place(source, &device)).map_err(words)
    }

    /// The model with these parameters on a device, prepared for many runs.
    fn ready(&self, parameters: &[Named], device: Device) -> Result<Ready, String> {
        let accelerator = BurnDevice::new(&device);
        let replaced = self.weights.iter().zip(parameters).map(|(id, named)| {
            let slot = slot(named);
            let (own, reader) = (slot.clone(), accelerator.clone());
            let read = move || own.value(&reader)?.array().cloned();
            let shape = slot.on_device().map_or(&[][..], DeviceTensor::shape).to_vec();
            (*id, Weight::deferred(DType::F32, shape, Arc::new(read)), slot)
        });
        let replaced = replaced.collect();
        let session = Session::prepared_with(self.model.clone(), accelerator, replaced).map_err(words)?;
        Ok(Ready { device, session })
    }

    /// Runs the model on any number of pictures; those that it does not take at once one after another.
    fn run_all(
        &self,
        x: Tensor<4>,
        run: impl Fn(Tensor<4>) -> Result<DeviceTensor, String>,
    ) -> Result<DeviceTensor, String> {
        let [count, channels, height, width] = x.dims();
        let Some(batch) = self.batch.filter(|batch| *batch != count) else { return run(x) };
        let (mut parts, mut shape): (Vec<Tensor<2>>, Vec<usize>) = (Vec::new(), Vec::new());
        for start in (0..count).step_by(batch.max(1)) {
            let here = batch.min(count - start);
            let mut part = x.clone().narrow(0, start, here);
            if here < batch {
                let filler = Tensor::zeros([batch - here, channels, height, width], &x.device());
                part = Tensor::cat(vec![part, filler], 0);
            }
            let out = run(part)?;
            shape = out.shape().to_vec();
            let each = out.count() / batch;
            parts.push(out.view::<2>([batch, each]).narrow(0, 0, here));
        }
        shape[0] = count;
        Ok(DeviceTensor::new(Tensor::cat(parts, 0), shape, DType::F32))
    }

    /// Runs the model, prepared where no gradients are asked for.
    fn run_best(&self, parameters: &[Named], kept: &Kept, x: Tensor<4>) -> Result<DeviceTensor, String> {
        let device = x.device();
        // Pictures may lie elsewhere than the parameters that learn from them.
        if !device.is_autodiff() && !parameters.iter().any(|named| named.values.is_autodiff()) {
            if kept.get().is_none() {
                let ready = self.ready(parameters, device.clone())?;
                // Another thread may have been first: its work is as good.
                let _ = kept.set(Box::new(ready));
            }
            let ready = kept.get().and_then(|kept| kept.downcast_ref::<Ready>()).filter(|ready| ready.device == device);
            if let Some(ready) = ready {
                return self.run_all(x, |x| self.answer(&ready.session, x));
            }
        }
        let slots: Vec<Slot<DeviceTensor>> = parameters.iter().map(slot).collect();
        self.run_all(x, |x| self.run(slots.clone(), x))
    }
}

fn words(error: rekindle_onnx::Error) -> String {
    error.to_string()
}

fn slot(named: &Named) -> Slot<DeviceTensor> {
    let (values, shape) = named.values.flat();
    Slot::device(DeviceTensor::new(values, shape, DType::F32).following_gradients())
}

impl Computation for Graph {
    /// What the model takes and gives was tried when it was opened, for one size of images; of others it may take not all.
    fn forward(&self, parameters: &[Named], kept: &Kept, x: Tensor<4>) -> Result<Output, ModelError> {
        let [_, channels, height, width] = x.dims();
        let out = self.run_best(parameters, kept, x).map_err(|error| {
            ModelError::Graph(format!("the graph cannot be run on images of {channels} × {height} × {width}: {error}"))
        })?;
        Ok(match *out.shape() {
            [batch, channels, height, width] if height * width > 1 => {
                Output::Images(out.view([batch, channels, height, width]))
            }
            [batch, ..] => {
                let classes = out.count() / batch;
                let scores: Tensor<2> = out.view([batch, classes]);
                Output::Classes(if self.scores == Scores::Probabilities {
                    scores.clamp_min(f32::MIN_POSITIVE).log()
                } else {
                    scores
                })
            }
            [] => return Err(ModelError::Graph("the graph gives one number for a whole batch".to_string())),
        })
    }
}
