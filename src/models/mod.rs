//! The built-in networks: Burn modules whose parameter names and order are exactly those of the PyTorch modules.
//!
//! A network is generic over its backend through the [`Device`] that it is built on. [`build`] makes one from a name and its
//! configuration; [`weights`] moves its state in and out as a [`rekindle_state::StateDict`].

mod cifar_cnn;
mod fashion_classifier;
pub mod import;
pub mod imported;
pub mod infer;
mod summary;
mod super_resolution;
mod transpose;
mod two_conv;
mod vgg;
pub mod weights;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use cifar_cnn::{CifarCnn, CifarCnnConfig};
pub use fashion_classifier::{FashionClassifier, FashionClassifierConfig};
pub use imported::Imported;
pub use summary::{Layer, Summary, grouped};
pub use super_resolution::{SuperResolution, SuperResolutionConfig};
pub use two_conv::{Net, NetConfig, TheModelClass, TheModelClassConfig};
pub use vgg::{Vgg, VggConfig, VggDepth};

/// A built-in network.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a process holds a network or two, and a box would be one more hop to each layer"
)]
pub enum Network {
    /// Two convolutions and three linear layers.
    TheModelClass(TheModelClass),
    /// The same with other sizes.
    Net(Net),
    /// Five linear layers for Fashion-MNIST.
    FashionClassifier(FashionClassifier),
    /// Three convolutions for CIFAR-10.
    CifarCnn(CifarCnn),
    /// ESPCN super-resolution.
    SuperResolution(SuperResolution),
    /// torchvision's VGG.
    Vgg(Vgg),
    /// A graph from a file.
    Imported(Imported),
}

/// What a network gives.
#[derive(Debug, Clone)]
pub enum Output {
    /// Scores `[batch, classes]`: logits, or log-probabilities where [`Architecture::log_probabilities`] says so.
    Classes(Tensor<2>),
    /// Images `[batch, channels, height, width]`.
    Images(Tensor<4>),
}

impl Network {
    /// Runs the network on `[batch, channels, height, width]`, checked before by [`Architecture::check_input`].
    ///
    /// In evaluation mode (a device without autodiff) dropout is off and batch normalisation uses its running statistics.
    pub fn forward(&self, x: Tensor<4>) -> Output {
        match self {
            Self::TheModelClass(model) => Output::Classes(model.forward(x)),
            Self::Net(model) => Output::Classes(model.forward(x)),
            Self::FashionClassifier(model) => Output::Classes(model.forward(x)),
            Self::CifarCnn(model) => Output::Classes(model.forward(x)),
            Self::SuperResolution(model) => Output::Images(model.forward(x)),
            Self::Vgg(model) => Output::Classes(model.forward(x)),
            Self::Imported(model) => model.forward(x),
        }
    }
}

/// What a network's configuration knows without any weights.
pub trait Architecture: std::fmt::Debug + Send + Sync {
    /// Builds the network with fresh weights, drawn as PyTorch draws them.
    fn build(&self, device: &Device) -> Network;

    /// The smallest (for images of any size, the usual) input: channels, height, width.
    fn input_shape(&self) -> [usize; 3];

    /// Checks that an input of this size can pass.
    ///
    /// # Errors
    /// A sentence that says what the network expects.
    fn check_input(&self, shape: [usize; 3]) -> Result<(), ModelError>;

    /// Number of classes, or none for networks that give images.
    fn classes(&self) -> Option<usize>;

    /// Whether the scores are log-probabilities (to be trained with the NLL loss).
    fn log_probabilities(&self) -> bool {
        false
    }

    /// Factor by which an output image is larger than the input image.
    fn upscale_factor(&self) -> Option<usize> {
        None
    }

    /// The layers in order, with output shapes for the given input.
    fn summary(&self, input: [usize; 3]) -> Summary;

    /// The configuration with every key, as a recipe would give it.
    fn config(&self) -> Value;
}

/// Why a network cannot be built or used as asked. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No built-in network has the name.
    #[error("unknown model '{name}'{nearest}; `rekindle models` lists them")]
    Unknown {
        /// What was asked for.
        name: String,
        /// A suggestion, or nothing.
        nearest: String,
    },
    /// A key of the configuration is unknown, of a wrong type, or impossible.
    #[error("model '{name}': {problem}")]
    Config {
        /// The network.
        name: String,
        /// The key and what is wrong with it.
        problem: String,
    },
    /// The input does not fit the network.
    #[error("model '{name}' expects {expected}, found an input of {channels} × {height} × {width} (channels, height, width)", channels = found[0], height = found[1], width = found[2])]
    Input {
        /// The network.
        name: String,
        /// Sizes that pass.
        expected: String,
        /// The size that was given.
        found: [usize; 3],
    },
    /// The names or shapes of a weight file do not fit the network.
    #[error("the weights do not fit the model; --partial loads what fits\n{table}")]
    Weights {
        /// What matched and what did not.
        table: Box<import::Report>,
    },
    /// A graph cannot be read.
    #[error("{0}")]
    Graph(String),
    /// A file or a state dict cannot be read.
    #[error(transparent)]
    State(#[from] rekindle_state::Error),
}

/// A built-in network in the list.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name on the command line and in recipes.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    configure: Configurer,
}

/// Reads the keys of a network's configuration.
type Configurer = fn(&'static str, &Map<String, Value>) -> Result<Box<dyn Architecture>, ModelError>;

/// Every built-in network.
pub const MODELS: &[Entry] = &[
    entry::<TheModelClassConfig>(
        "the_model_class",
        "two convolutions, three linear layers; the tutorial's first classifier",
    ),
    entry::<NetConfig>("net", "two convolutions, three linear layers; the tutorial's checkpoint example"),
    entry::<FashionClassifierConfig>(
        "fashion_classifier",
        "five linear layers with dropout for Fashion-MNIST; gives log-probabilities",
    ),
    entry::<CifarCnnConfig>("cifar_cnn", "three convolutions with dropout for CIFAR-10"),
    entry::<SuperResolutionConfig>(
        "super_resolution",
        "ESPCN: four convolutions and a pixel shuffle enlarge a luma image",
    ),
    vgg("vgg11", "torchvision's VGG with 8 convolutions"),
    vgg("vgg11_bn", "torchvision's VGG with 8 convolutions and batch normalisation"),
    vgg("vgg13", "torchvision's VGG with 10 convolutions"),
    vgg("vgg13_bn", "torchvision's VGG with 10 convolutions and batch normalisation"),
    vgg("vgg16", "torchvision's VGG with 13 convolutions"),
    vgg("vgg16_bn", "torchvision's VGG with 13 convolutions and batch normalisation"),
    vgg("vgg19", "torchvision's VGG with 16 convolutions"),
    vgg("vgg19_bn", "torchvision's VGG with 16 convolutions and batch normalisation"),
];

/// A configuration that its keys alone describe and check.
trait Configure: Architecture + DeserializeOwned + Sized + 'static {
    /// The keys in the order of the constructor's arguments.
    const KEYS: &'static [&'static str];

    /// Checks values against each other.
    fn check(&self) -> Result<(), String>;
}

const fn entry<C: Configure>(name: &'static str, about: &'static str) -> Entry {
    Entry { name, about, configure: |name, config| Ok(Box::new(read::<C>(name, config)?)) }
}

const fn vgg(name: &'static str, about: &'static str) -> Entry {
    Entry {
        name,
        about,
        configure: |name, config| {
            let (depth, batch_norm) = VggDepth::from_name(name);
            Ok(Box::new(read::<VggConfig>(name, config)?.with_depth(depth, batch_norm)))
        },
    }
}

/// Reads a configuration, naming the key that is wrong.
fn read<C: Configure>(name: &str, config: &Map<String, Value>) -> Result<C, ModelError> {
    let problem = |problem: String| ModelError::Config { name: name.to_string(), problem };
    for key in config.keys() {
        if !C::KEYS.contains(&key.as_str()) {
            let nearest = crate::error::nearest(key, C::KEYS.iter().copied());
            return Err(problem(format!("unknown key '{key}'{nearest}; its keys are {}", C::KEYS.join(", "))));
        }
        // Each key alone first, so that the message can name it.
        let alone: Map<String, Value> = [(key.clone(), config[key].clone())].into_iter().collect();
        if let Err(error) = serde_json::from_value::<C>(Value::Object(alone)) {
            return Err(problem(format!("key '{key}': {error}")));
        }
    }
    let config: C =
        serde_json::from_value(Value::Object(config.clone())).map_err(|error| problem(error.to_string()))?;
    config.check().map_err(problem)?;
    Ok(config)
}

/// The built-in network of a name.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<&'static Entry, ModelError> {
    MODELS.iter().find(|entry| entry.name == name).ok_or_else(|| ModelError::Unknown {
        name: name.to_string(),
        nearest: crate::error::nearest(name, MODELS.iter().map(|entry| entry.name)),
    })
}

impl Entry {
    /// The network with the given keys; keys that are absent have the published architecture's values.
    ///
    /// # Errors
    /// When a key is unknown, of a wrong type or impossible.
    pub fn configure(&self, config: &Map<String, Value>) -> Result<Box<dyn Architecture>, ModelError> {
        (self.configure)(self.name, config)
    }
}

/// Checks that an input has the channels and exactly the sizes that a network passes.
fn expect_input(name: &str, passes: bool, expected: String, found: [usize; 3]) -> Result<(), ModelError> {
    if passes { Ok(()) } else { Err(ModelError::Input { name: name.to_string(), expected, found }) }
}

/// Checks that sizes are not zero.
fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), String> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((key, _)) => Err(format!("key '{key}' must be at least 1, found 0")),
        None => Ok(()),
    }
}

/// Checks that a probability of dropout is one (1 would drop everything, and is refused as Burn refuses it).
fn check_probability(key: &str, prob: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&prob) {
        Ok(())
    } else {
        Err(format!("key '{key}' must be at least 0 and less than 1, found {prob}"))
    }
}
