//! The two traits of a network, and a configuration of any type.
//!
//! A network is a Burn module that implements [`Forward`], and a serde configuration that implements [`ModelConfig`]. Everything
//! else (training, checkpoints, export, the command line) works through these two. [`Architecture`] holds a configuration of any
//! type.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use burn::module::Module;
use burn::tensor::Device;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::infer::Shapes;
use super::{FromInput, IntoOutputs, Invalid, Item, ModelError, Network};
use crate::tasks::{Classification, ImageToImage, Task};

/// A Burn module that computes.
pub trait Forward: Module + fmt::Display + Sync + 'static {
    /// What it takes: `Tensor<4>` for images, `Tensor<3>` for sequences, `Tensor<2>` for features, `Tensor<2, Int>` for ids,
    /// or a tuple of these.
    type Input: FromInput;
    /// What it gives: `Tensor<2>` for scores of classes, `Tensor<4>` for images, [`Scores`](super::Scores) or
    /// [`Maps`](super::Maps) with auxiliary heads.
    type Output: IntoOutputs;

    /// A segment in front of every name in Burn's records. The networks of the first release have one; a new network has none,
    /// so that Burn loads its record into the module itself.
    const RECORD_PREFIX: Option<&'static str> = None;

    /// Runs the module on a batch.
    fn forward(&self, input: Self::Input) -> Self::Output;
}

/// The arguments of a network's constructor: what a recipe's `[model]` holds.
///
/// The keys of a recipe are the fields that serde writes; give the type `#[serde(deny_unknown_fields)]`, so that a mistyped key
/// is an error.
pub trait ModelConfig: Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static {
    /// The network.
    type Model: Forward;

    /// The name in recipes and on the command line. Of a family with several rows in the registry, the family's name.
    const NAME: &'static str;

    /// Builds the network with fresh weights, drawn as PyTorch draws them.
    fn init(&self, device: &Device) -> Self::Model;

    /// What goes in, what comes out, and which inputs can pass.
    fn io(&self) -> Io;

    /// Checks values against each other.
    ///
    /// # Errors
    /// The key and what is wrong with it.
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }

    /// Other forms of the network, whose weights have other names: without its auxiliary heads, or with them.
    fn forms(&self) -> Vec<Self> {
        Vec::new()
    }

    /// The configuration whose network has the shapes of a weight file. Sizes that weights do not determine stay as they are.
    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        let _ = shapes;
        None
    }
}

/// Whether an image of a size (channels, height, width) can pass.
type Passes = Arc<dyn Fn([usize; 3]) -> bool + Send + Sync>;

/// What goes into a network and what comes out.
#[derive(Clone)]
pub struct Io {
    /// One item of the input; of images of any size, the usual size.
    pub input: Item,
    /// What the network is for.
    pub task: Arc<dyn Task>,
    /// The sizes of images that pass, in words, where others than those of `input` do.
    accepts: Option<(String, Passes)>,
}

impl Io {
    /// A network for an item and a task.
    pub fn new(input: Item, task: impl Task + 'static) -> Self {
        Self { input, task: Arc::new(task), accepts: None }
    }

    /// Images of one size (channels, height, width) into scores of classes: logits.
    pub fn classifier(image: [usize; 3], classes: usize) -> Self {
        Self::new(Item::Image(image), Classification::logits(classes))
    }

    /// Images into images, `factor` times as high and wide.
    pub fn enlarger(image: [usize; 3], factor: usize) -> Self {
        Self::new(Item::Image(image), ImageToImage::new(factor))
    }

    /// The same for a classifier that gives log-probabilities.
    #[must_use]
    pub fn with_log_probabilities(self) -> Self {
        match self.task.classes() {
            Some(classes) => Self { task: Arc::new(Classification::log_probabilities(classes)), ..self },
            None => self,
        }
    }

    /// Other image sizes that pass: in words (`3 channels and sides of at least 32`), and the test itself.
    #[must_use]
    pub fn accepting(
        self,
        expected: impl Into<String>,
        passes: impl Fn([usize; 3]) -> bool + Send + Sync + 'static,
    ) -> Self {
        Self { accepts: Some((expected.into(), Arc::new(passes))), ..self }
    }

    /// Images with the channels of the usual input and sides of at least `smallest`.
    #[must_use]
    pub fn with_sides_from(self, smallest: usize) -> Self {
        let [channels, ..] = self.input.image();
        self.accepting(format!("{channels} channels and sides of at least {smallest}"), move |[c, height, width]| {
            c == channels && height >= smallest && width >= smallest
        })
    }

    /// What passes, in words.
    pub fn expected(&self) -> String {
        self.accepts.as_ref().map_or_else(|| self.input.to_string(), |(expected, _)| expected.clone())
    }

    /// Whether an image of this size (channels, height, width) can pass.
    pub fn passes(&self, shape: [usize; 3]) -> bool {
        match (&self.accepts, &self.input) {
            (Some((_, passes)), _) => passes(shape),
            (None, Item::Image(expected)) => *expected == shape,
            // Images are taken as sequences of rows, or as features.
            (None, Item::Sequence(_)) => shape == self.input.image(),
            (None, Item::Features(count)) => shape.iter().product::<usize>() == *count,
            (None, Item::Ids(_) | Item::Several(_)) => false,
        }
    }
}

impl fmt::Debug for Io {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Io")
            .field("input", &self.input)
            .field("task", &self.task)
            .field("expected", &self.expected())
            .finish()
    }
}

/// A network that is described but not built: a configuration of any type, with the name that it goes by.
#[derive(Clone)]
pub struct Architecture {
    name: String,
    io: Io,
    config: Arc<dyn DynConfig>,
}

impl Architecture {
    /// Of a configuration, under the name of its type.
    pub fn new<C: ModelConfig>(config: C) -> Self {
        Self::named(C::NAME, config)
    }

    /// Of a configuration, under a name of its own: a row of the registry, or a file.
    pub fn named(name: impl Into<String>, config: impl ModelConfig) -> Self {
        Self { name: name.into(), io: config.io(), config: Arc::new(config) }
    }

    /// The name in the registry, or that of a file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Builds the network with fresh weights, drawn as PyTorch draws them.
    pub fn build(&self, device: &Device) -> Network {
        self.config.build(device)
    }

    /// What goes in and what comes out.
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// What the network is for.
    pub fn task(&self) -> &Arc<dyn Task> {
        &self.io.task
    }

    /// The smallest (for images of any size, the usual) input image: channels, height, width.
    pub fn input_shape(&self) -> [usize; 3] {
        self.io.input.image()
    }

    /// Checks that an input image of this size can pass.
    ///
    /// # Errors
    /// A sentence that says what the network expects.
    pub fn check_input(&self, shape: [usize; 3]) -> Result<(), ModelError> {
        if self.io.passes(shape) {
            return Ok(());
        }
        let [channels, height, width] = shape;
        Err(ModelError::Input {
            name: self.name.clone(),
            expected: self.io.expected(),
            found: format!("an input of {channels} × {height} × {width} (channels, height, width)"),
        })
    }

    /// Number of classes, or none for networks that give no scores.
    pub fn classes(&self) -> Option<usize> {
        self.io.task.classes()
    }

    /// Factor by which an output image is larger than the input image.
    pub fn upscale_factor(&self) -> Option<usize> {
        self.io.task.upscale_factor()
    }

    /// The configuration with every key, as a recipe would give it.
    pub fn config(&self) -> Value {
        self.config.keys()
    }

    /// The configuration, if it is of this type.
    pub fn get<C: ModelConfig>(&self) -> Option<&C> {
        self.config.as_any().downcast_ref()
    }

    /// The network and its other forms: of each, the keys that differ from these.
    pub(super) fn forms(&self) -> Vec<Map<String, Value>> {
        let others = self.config.forms();
        std::iter::once(Map::new()).chain(others.iter().map(|form| self.differing(form.keys()))).collect()
    }

    /// The keys that differ from these, with which the network has the shapes of a weight file; none when no configuration of
    /// the kind fits.
    pub(super) fn fit(&self, shapes: &Shapes) -> Option<Map<String, Value>> {
        Some(self.differing(self.config.fit(shapes)?.keys()))
    }

    /// Those of some keys that the configuration has with another value.
    pub(super) fn differing_in(&self, keys: &[(&str, f64)]) -> Map<String, Value> {
        let standard = self.config();
        let differ = keys.iter().filter(|(key, value)| standard.get(key).is_some_and(|own| *own != *value));
        differ.map(|(key, value)| ((*key).to_string(), Value::from(*value))).collect()
    }

    fn differing(&self, keys: Value) -> Map<String, Value> {
        let Value::Object(mut found) = keys else { return Map::new() };
        let standard = self.config();
        found.retain(|key, value| standard.get(key) != Some(value));
        found
    }
}

impl fmt::Debug for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.name, self.config)
    }
}

/// What [`Architecture`] asks of a configuration, without its type.
trait DynConfig: fmt::Debug + Send + Sync {
    fn build(&self, device: &Device) -> Network;
    fn keys(&self) -> Value;
    fn forms(&self) -> Vec<Box<dyn DynConfig>>;
    fn fit(&self, shapes: &Shapes) -> Option<Box<dyn DynConfig>>;
    fn as_any(&self) -> &dyn Any;
}

impl<C: ModelConfig> DynConfig for C {
    fn build(&self, device: &Device) -> Network {
        Network::new(self.init(device))
    }

    fn keys(&self) -> Value {
        serde_json::json!(self)
    }

    fn forms(&self) -> Vec<Box<dyn DynConfig>> {
        ModelConfig::forms(self).into_iter().map(|form| Box::new(form) as Box<dyn DynConfig>).collect()
    }

    fn fit(&self, shapes: &Shapes) -> Option<Box<dyn DynConfig>> {
        let fitted = ModelConfig::fit(self, shapes)?;
        fitted.check().is_ok().then(|| Box::new(fitted) as Box<dyn DynConfig>)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
