//! A graph from a file as a network: its weights are parameters, and it is trained, evaluated and exported like any other.
//!
//! The file is an ONNX model, or a program of PyTorch (`.pt2` of `torch.export`, TorchScript), which becomes a graph.

mod computation;
mod head;
mod source;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{Device, Distribution, Int, Tensor};
use prost::Message;
use rekindle_onnx::graph::{Kind, Port};
use rekindle_onnx::{Axis, DType, Model};
use rekindle_program::Program;
use rekindle_state::StateDict;
use rekindle_state::onnx::proto::ModelProto;
use serde::{Deserialize, Serialize};

use super::imported::Imported;
use super::{Architecture, Input, Io, Item, ModelConfig, ModelError};
use crate::onnx::metadata::Told;
use crate::onnx::run::files;
use crate::tasks::{Classification, ImageToImage};
use computation::Graph;
use source::Source;

/// Height and width of inputs of any size, where a size is needed.
const USUAL_SIDE: usize = 224;
/// Steps of sequences of any length, where a length is needed.
const USUAL_STEPS: usize = 16;

/// Whether a file is an ONNX graph.
///
/// # Errors
/// When it cannot be read.
pub fn is_onnx(path: &Path) -> Result<bool, ModelError> {
    Ok(rekindle_state::is_onnx(rekindle_state::Map::open(path)?.bytes()))
}

/// Whether a file is a program of PyTorch.
///
/// # Errors
/// Never: what cannot be read is none.
pub fn is_program(path: &Path) -> Result<bool, ModelError> {
    Ok(Program::is_program(path))
}

/// The keys of the configuration, one of which names the file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    onnx: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    program: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    frozen_statistics: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<Vec<usize>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classes: Option<usize>,
}

impl From<GraphConfig> for Keys {
    fn from(GraphConfig { path, is_program, settings, .. }: GraphConfig) -> Self {
        let Settings { frozen_statistics, input, classes } = settings;
        let (onnx, program) = if is_program { (None, Some(path)) } else { (Some(path), None) };
        Self { onnx, program, frozen_statistics, input, classes }
    }
}

impl TryFrom<Keys> for GraphConfig {
    type Error = ModelError;

    fn try_from(keys: Keys) -> Result<Self, ModelError> {
        let Keys { onnx, program, frozen_statistics, input, classes } = keys;
        let settings = Settings { frozen_statistics, input, classes };
        match (onnx, program) {
            (Some(path), None) => Self::with(&path, settings),
            (None, Some(path)) => Self::with(&path, settings),
            _ => Err(ModelError::Config {
                name: Self::NAME.to_string(),
                problem: "it names one file: an ONNX model or a program".to_string(),
            }),
        }
    }
}

/// How a file is used.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Whether training normalises by the running statistics of batch norm as they are, as `module.eval()` in a training loop does.
    pub frozen_statistics: bool,
    /// The sizes of an item of the input, without the batch: for scripted programs, which do not say what they take.
    pub input: Option<Vec<usize>>,
    /// The number of classes of a new last linear layer, in the place of the file's.
    pub classes: Option<usize>,
}

/// A network from a file with its weights, whatever it takes and gives.
///
/// # Errors
/// When the file cannot be run, or takes other inputs than one of images, sequences, features or ids.
pub fn load(path: &Path, settings: &Settings, device: &Device) -> Result<Imported, ModelError> {
    let (graph, _, _) = opened(path, settings)?;
    Ok(network(&Arc::new(graph), device))
}

fn network(graph: &Arc<Graph>, device: &Device) -> Imported {
    Imported::new(graph.source.parameters(device), graph.clone())
}

/// A model that takes images, sequences, features or ids, and gives scores of classes or images.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Keys", into = "Keys")]
pub struct GraphConfig {
    path: PathBuf,
    is_program: bool,
    settings: Settings,
    graph: Arc<Graph>,
    item: Item,
    /// Channels, height and width of images, where the model fixes them.
    picture: [Option<usize>; 3],
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

/// What a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Images,
    Sequences,
    Features,
    Ids,
}

/// Opens a file of either kind: its graph, one item of its input, and the sizes of pictures that it fixes.
fn opened(path: &Path, settings: &Settings) -> Result<(Graph, Item, [Option<usize>; 3]), ModelError> {
    let problem = |problem: String| ModelError::Config { name: path.display().to_string(), problem };
    let source = if Program::is_program(path) {
        Source::program(path, settings)
    } else if settings.frozen_statistics || settings.input.is_some() {
        Err("only a program of PyTorch has the keys frozen_statistics and input".to_string())
    } else {
        Source::onnx(path, settings)
    };
    let source = source.map_err(|error| match error.strip_prefix(&format!("{}: ", path.display())) {
        Some(rest) => problem(rest.to_string()),
        None => problem(error),
    })?;
    let wanted: Vec<_> = source.model.graph.inputs.iter().filter(|port| !port.optional).collect();
    let [port] = wanted.as_slice() else {
        return Err(problem(format!(
            "it has {} inputs, and only `rekindle run` gives a model other inputs than one",
            wanted.len()
        )));
    };
    let (takes, item, picture) = item(port).map_err(problem)?;
    let batch = match &port.kind {
        Kind::Array(_, Some(axes)) => axes.first().and_then(size),
        _ => None,
    };
    let (input, scores) = (port.name.clone(), scores(&source.model));
    Ok((Graph { source, input, takes, batch, scores }, item, picture))
}

fn size(axis: &Axis) -> Option<usize> {
    if let Axis::Size(size) = axis { Some(*size) } else { None }
}

/// One item of an input.
fn item(port: &Port) -> Result<(Takes, Item, [Option<usize>; 3]), String> {
    if let Kind::Array(dtype, Some(axes)) = &port.kind {
        let floats = matches!(dtype, None | Some(DType::F32));
        match axes.as_slice() {
            [_, features @ Axis::Size(_)] if floats => {
                return Ok((Takes::Features, Item::Features(size(features).unwrap_or(1)), [None; 3]));
            }
            [_, steps, features @ Axis::Size(_)] if floats => {
                let sizes = [size(steps).unwrap_or(USUAL_STEPS), size(features).unwrap_or(1)];
                return Ok((Takes::Sequences, Item::Sequence(sizes), [None; 3]));
            }
            [_, steps] if *dtype == Some(DType::I64) => {
                return Ok((Takes::Ids, Item::Ids(size(steps).unwrap_or(USUAL_STEPS)), [None; 3]));
            }
            _ => {}
        }
    }
    let picture =
        files::image_shape(port).map_err(|error| format!("{error}; `rekindle run` gives a model any input"))?;
    Ok((Takes::Images, Item::Image(picture.map(|size| size.unwrap_or(USUAL_SIDE))), picture))
}

impl GraphConfig {
    /// Opens a model.
    ///
    /// # Errors
    /// When it cannot be run, has other inputs than one, or gives neither scores of classes nor grey pictures.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        Self::with(path, Settings::default())
    }

    /// As [`GraphConfig::open`], with settings.
    ///
    /// # Errors
    /// As for [`GraphConfig::open`]; when an ONNX model is given settings of programs; when it is to have other classes, and no
    /// linear layer gives its scores.
    pub fn with(path: &Path, settings: Settings) -> Result<Self, ModelError> {
        let (graph, item, picture) = opened(path, &settings)?;
        let is_program = Program::is_program(path);
        let kind = Answer::Classes(0);
        let mut config =
            Self { path: path.to_path_buf(), is_program, settings, graph: Arc::new(graph), item, picture, kind };
        let answer = config.answer().and_then(|answer| match config.settings.classes {
            Some(classes) if answer != Answer::Classes(classes) => Err("it gives something else then".to_string()),
            _ => Ok(answer),
        });
        let unfit = |problem: String| match &config.graph.source.head {
            Some(head) => head.unfit(&problem),
            None => problem,
        };
        config.kind = answer
            .map_err(|problem| ModelError::Config { name: path.display().to_string(), problem: unfit(problem) })?;
        Ok(config)
    }

    /// Opens the model that keys of a recipe name.
    ///
    /// # Errors
    /// As for [`GraphConfig::open`], and when a key is unknown.
    pub fn from_keys(
        path: &Path,
        keys: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<Architecture, ModelError> {
        let settings = crate::keys::read_json(keys)
            .map_err(|error| ModelError::Config { name: path.display().to_string(), problem: error.to_string() })?;
        Ok(Architecture::named(path.display().to_string(), Self::with(path, settings)?))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is used.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Adds to the state dict of a network what the file's has beside: other names of tied parameters, integers and tables, so
    /// that `load_state_dict` of the module finds all that it looks for.
    ///
    /// # Errors
    /// When the file can no longer be read.
    pub fn complete(&self, dict: &mut StateDict) -> Result<(), ModelError> {
        if !self.is_program {
            return Ok(());
        }
        let changed = |problem: String| ModelError::Config { name: self.path.display().to_string(), problem };
        let program = Program::open(&self.path).map_err(|error| changed(error.to_string()))?;
        let file = rekindle_state::open(&self.path)?;
        let own = file.content.root.as_dict().into_iter().flat_map(StateDict::tensors);
        for (name, tensor) in own.filter(|(name, _)| program.is_state(name)) {
            if dict.get(name).is_none() {
                let tied = self.graph.source.tied(name).and_then(|other| dict.tensor(other));
                let tensor = tied.unwrap_or(tensor).clone();
                dict.insert(name, tensor);
            }
        }
        Ok(())
    }

    /// Whether the file is a program of PyTorch.
    pub fn is_program(&self) -> bool {
        self.is_program
    }

    /// The graph of inference with the weights of the file.
    pub fn model(&self) -> &Model {
        &self.graph.source.model
    }

    /// The message of an ONNX file that holds the graph of inference, with the weights of the file; of a new last layer, only the
    /// shapes.
    ///
    /// # Errors
    /// When the file can no longer be read.
    pub fn message(&self) -> Result<ModelProto, ModelError> {
        let changed = |problem: String| ModelError::Config { name: self.path.display().to_string(), problem };
        let source = &self.graph.source;
        let mut message = match source.message() {
            Some(message) => message.map_err(changed)?,
            None => {
                let map = rekindle_state::Map::open(&self.path)?;
                ModelProto::decode(map.bytes()).map_err(|error| changed(error.to_string()))?
            }
        };
        if let Some(head) = &source.head {
            head.fit_message(&mut message);
        }
        Ok(message)
    }

    /// The name in the graph of the weight that a network has under a name; none for what no operator reads.
    pub fn stored(&self, name: &str) -> Option<&str> {
        self.graph.source.stored(name)
    }

    /// Whether it takes images.
    pub fn takes_images(&self) -> bool {
        self.graph.takes == Takes::Images
    }

    /// A batch of random items.
    pub fn sample(&self, items: usize) -> Input {
        self.batch_of(items, 1.0)
    }

    /// What the file says of its pictures.
    pub fn told(&self) -> Told {
        Told::read(&self.model().metadata)
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
        self.item.image()
    }

    /// The number of items that the model takes at once, if it is fixed.
    pub fn batch(&self) -> Option<usize> {
        self.graph.batch
    }

    /// Items with values from 0 to `most`; ids are all 0.
    fn batch_of(&self, items: usize, most: f32) -> Input {
        fn random<const D: usize>(shape: [usize; D], most: f32) -> Input
        where
            Input: From<Tensor<D>>,
        {
            Input::from(Tensor::<D>::random(shape, Distribution::Uniform(0.0, 1.0), &Device::flex()) * most)
        }
        match self.item {
            Item::Sequence([steps, features]) => random([items, steps, features], most),
            Item::Features(count) => random([items, count], most),
            Item::Ids(steps) => Input::Ids(Tensor::<2, Int>::zeros([items, steps], &Device::flex())),
            _ => {
                let [channels, height, width] = self.item();
                random([items, channels, height, width], most)
            }
        }
    }

    /// Finds what the model gives by running it on a black picture, zeros or the id 0.
    fn answer(&self) -> Result<Answer, String> {
        let input = self.batch_of(self.graph.batch.unwrap_or(1), 0.0);
        let shape = self.graph.run(&[], input)?.shape().to_vec();
        let other = || {
            format!(
                "its output of shape {shape:?} is neither scores of classes nor grey pictures; `rekindle run` shows any output"
            )
        };
        let [channels, height, width] = self.item();
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

impl ModelConfig for GraphConfig {
    type Model = Imported;
    const NAME: &'static str = "graph";

    fn init(&self, device: &Device) -> Imported {
        network(&self.graph, device)
    }

    fn io(&self) -> Io {
        let item = self.item.clone();
        let io = match self.kind {
            Answer::Classes(classes) if self.graph.scores == Scores::Logits => {
                Io::new(item, Classification::logits(classes))
            }
            Answer::Classes(classes) => Io::new(item, Classification::log_probabilities(classes)),
            Answer::Images(factor) => Io::new(item, ImageToImage::new(factor)),
        };
        let wanted = self.picture;
        match self.graph.takes {
            Takes::Images => {
                let [channels, height, width] =
                    wanted.map(|size| size.map_or("any".to_string(), |size| size.to_string()));
                io.accepting(format!("{channels} × {height} × {width}"), move |shape| {
                    wanted.iter().zip(shape).all(|(wanted, size)| wanted.is_none_or(|wanted| wanted == size))
                })
            }
            // Images are taken as their values, row by row.
            Takes::Features => {
                let count = self.item.values();
                io.accepting(format!("images of {count} values"), move |shape| shape.iter().product::<usize>() == count)
            }
            Takes::Sequences | Takes::Ids => io,
        }
    }
}
