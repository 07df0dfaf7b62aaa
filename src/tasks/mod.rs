//! What networks are for: what a batch's targets are, the loss, the metric, which data fits.
//!
//! A task is a value that a network's [`Io`](crate::models::Io) carries. One file each; [`KINDS`] lists what messages and
//! recipes have to know of all of them.

mod classification;
mod image_to_image;
mod segmentation;

use std::fmt;
use std::sync::Arc;

use burn::tensor::{Int, Tensor};

pub use classification::Classification;
pub use image_to_image::{ImageToImage, psnr};
pub use segmentation::Segmentation;

use crate::data::{BatchTarget, ImageDataset, Shape};
use crate::models::{ModelError, Output, Outputs};
use crate::optim::LossConfig;

/// What a network is for.
pub trait Task: fmt::Debug + Send + Sync {
    /// What is the same for all networks of the task.
    fn kind(&self) -> &'static Kind;

    /// The loss that fits the network's output.
    fn default_loss(&self) -> LossConfig;

    /// Checks that a loss fits the network's output.
    ///
    /// # Errors
    /// A sentence without its subject: what does not fit, and which loss does.
    fn check_loss(&self, loss: LossConfig) -> Result<(), String>;

    /// Checks that a data set's targets are of the kind that the network gives, for input images of a size.
    ///
    /// # Errors
    /// What does not fit.
    fn check_data(&self, input: Shape, dataset: &dyn ImageDataset) -> Result<(), String>;

    /// The loss of a batch, auxiliary heads included, and what is reported of it.
    ///
    /// # Errors
    /// When output and targets are not of the task.
    fn measure(&self, outputs: Outputs, target: BatchTarget, loss: LossConfig) -> Result<Measured, ModelError>;

    /// What the network says of each item of a batch, for people.
    ///
    /// # Errors
    /// When the output is not of the task.
    fn answers(&self, output: Output) -> Result<Vec<Answer>, ModelError>;

    /// Number of classes, of tasks that tell classes apart.
    fn classes(&self) -> Option<usize> {
        None
    }

    /// Number of names that its answers need: of classes, for a whole item or for each pixel.
    fn labels(&self) -> Option<usize> {
        self.classes()
    }

    /// Factor by which an output image is larger than the input image, of tasks that give images.
    fn upscale_factor(&self) -> Option<usize> {
        None
    }
}

/// What a network says of an item.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Classes with their probabilities, the likeliest first.
    Classes(Vec<(usize, f32)>),
    /// An image in the place of the item.
    Image {
        /// Channels, height, width.
        shape: [usize; 3],
        /// Values from 0 to 1, channel by channel.
        values: Vec<f32>,
    },
    /// A class for each pixel.
    Mask {
        /// Height, width.
        size: [usize; 2],
        /// The classes, row by row.
        classes: Vec<usize>,
    },
}

/// What all networks of a task have in common.
#[derive(Debug)]
pub struct Kind {
    /// The task: `classification`.
    pub name: &'static str,
    /// What its networks give, for messages: `classes`.
    pub gives: &'static str,
    /// What they are measured by, beside the loss.
    pub metric: Metric,
    /// Whether images keep their sizes when the network is asked: its answer is for every pixel.
    pub keeps_size: bool,
}

/// A number that says how good a network is; the mean over items. More is better.
#[derive(Debug)]
pub struct Metric {
    /// The name in metrics: `accuracy` of `valid.accuracy`.
    pub name: &'static str,
    /// The value as people read it.
    pub show: fn(f64) -> String,
}

/// Every task.
pub static KINDS: &[&Kind] = &[&classification::KIND, &image_to_image::KIND, &segmentation::KIND];

/// The metrics that runs record: loss and the metric of each task, in training and validation.
pub fn metric_names() -> Vec<String> {
    let names = std::iter::once("loss").chain(KINDS.iter().map(|kind| kind.metric.name));
    let names: Vec<&str> = names.collect();
    ["train", "valid"].iter().flat_map(|split| names.iter().map(move |name| format!("{split}.{name}"))).collect()
}

/// A task and the loss that its networks are trained with.
#[derive(Debug, Clone)]
pub struct Objective {
    /// The task.
    pub task: Arc<dyn Task>,
    /// The loss.
    pub loss: LossConfig,
}

impl Objective {
    /// A task with the loss that fits its output, or another.
    pub fn new(task: &Arc<dyn Task>, loss: Option<LossConfig>) -> Self {
        Self { task: task.clone(), loss: loss.unwrap_or_else(|| task.default_loss()) }
    }
}

/// A batch's loss, with gradients, and its score on the device.
#[derive(Debug)]
pub struct Measured {
    /// The mean loss over the batch, auxiliary heads included.
    pub loss: Tensor<1>,
    /// How good the answers are.
    pub score: RawScore,
}

/// A score before it is read from the device.
#[derive(Debug)]
pub enum RawScore {
    /// Number of right answers.
    Right(Tensor<1, Int>),
    /// A value of each item `[batch]`, and how a value becomes the score of its item.
    Each(Tensor<1>, fn(f32) -> f64),
}

impl RawScore {
    /// The sum of the score over items.
    pub fn read(self) -> f64 {
        match self {
            Self::Right(count) => count.into_data().iter::<i64>().next().unwrap_or(0) as f64,
            Self::Each(values, score) => values.into_data().iter::<f32>().map(score).sum(),
        }
    }
}

/// The error of an output or target that is not of the task.
fn unfit(kind: &Kind, expected: &str, found: String) -> ModelError {
    ModelError::Output { task: kind.name, expected: expected.to_string(), found }
}
