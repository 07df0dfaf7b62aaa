//! What a page shows: plain values, gathered before anything is written.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::masks::MasksData;

/// One run as its page shows it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct RunData {
    /// The folder's name.
    pub name: String,
    /// The folder.
    pub path: String,
    /// The network by name, or the file of its graph.
    pub model: String,
    /// The resolved recipe.
    pub recipe: Value,
    /// The recipe as it is stored.
    pub recipe_text: String,
    /// Completed epochs, in order.
    pub epochs: Vec<Epoch>,
    /// Epochs that the recipe asks for.
    pub planned: usize,
    /// The metric that chooses the best checkpoint.
    pub monitor: String,
    /// Whether less of it is better.
    pub minimize: bool,
    /// The step of the best checkpoint.
    pub best_step: Option<u64>,
    /// Whether a process writes to the run at this moment.
    pub active: bool,
    /// The layers of the network.
    pub layers: Layers,
    /// Checkpoints on the disk, by step.
    pub checkpoints: Vec<CheckpointData>,
    /// Name and value: program, device, processor.
    pub environment: Vec<(String, String)>,
    /// The network on the test set.
    pub evaluation: Evaluation,
}

/// A completed epoch: a line of `metrics.jsonl`.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Epoch {
    /// Its number, from 1.
    pub epoch: u64,
    /// Optimizer steps done by its end.
    pub step: u64,
    /// `train.loss`, `valid.accuracy` and so on.
    pub metrics: BTreeMap<String, f64>,
    /// The learning rate of its last step.
    pub lr: Option<f64>,
    /// Seconds that it took, validation included.
    pub seconds: Option<f64>,
    /// Steps of it that were done in those seconds; fewer than all of them where a run was resumed.
    pub steps: Option<u64>,
    /// Seconds for which training stood still to save.
    pub stall: Option<f64>,
    /// Seconds from the start of its saves until everything was on the disk, beside the training.
    pub saving: Option<f64>,
}

/// The layers of a network, or why they are not known.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Layers {
    /// The class as PyTorch prints it.
    pub class: String,
    /// The shape of one input.
    pub input: Vec<usize>,
    /// The layers, in order.
    pub rows: Vec<LayerRow>,
    /// Why there are none.
    pub missing: Option<String>,
}

/// One layer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LayerRow {
    /// `features.0`.
    pub path: String,
    /// As PyTorch prints it.
    pub layer: String,
    /// The output's shape without the batch axis.
    pub output: Vec<usize>,
    /// Number of parameters.
    pub parameters: usize,
}

impl Layers {
    /// Number of parameters.
    pub fn parameters(&self) -> usize {
        self.rows.iter().map(|row| row.parameters).sum()
    }
}

/// A checkpoint on the disk.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CheckpointData {
    /// Steps done.
    pub step: u64,
    /// Epochs completed.
    pub epoch: u64,
    /// Whether it is the last one saved.
    pub last: bool,
    /// Whether it is the best.
    pub best: bool,
    /// Seconds since 1970 at which it was written.
    pub written: u64,
    /// The monitored metric, where an epoch was completed.
    pub value: Option<f64>,
    /// Name, bytes and sha256 of each file.
    pub files: Vec<(String, u64, String)>,
    /// What is wrong with it.
    pub damage: Option<String>,
}

impl CheckpointData {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, bytes, _)| bytes).sum()
    }
}

/// What the network does with the test set.
#[derive(Debug, Clone, Default, Serialize)]
pub enum Evaluation {
    /// It was not asked for.
    #[default]
    Skipped,
    /// It could not be done.
    Failed(String),
    /// A classifier.
    Classes(ClassesData),
    /// A network that gives images.
    Images(ImagesData),
    /// A network that gives a class for each pixel.
    Masks(MasksData),
}

/// A classifier on the test set.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ClassesData {
    /// The checkpoint.
    pub of: String,
    /// Names of the classes.
    pub names: Vec<String>,
    /// Rows are the true classes, columns the answers.
    pub confusion: Vec<Vec<u64>>,
    /// Mean loss.
    pub loss: f64,
    /// The most confident wrong answers.
    pub mistakes: Vec<Mistake>,
}

/// A wrong answer.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Mistake {
    /// The picture as a `data:` address.
    pub image: String,
    /// Its place in the test set.
    pub index: usize,
    /// The true class.
    pub truth: usize,
    /// The answer.
    pub answer: usize,
    /// Its probability, 0 to 1.
    pub confidence: f32,
    /// The probability of the true class.
    pub of_truth: f32,
}

impl ClassesData {
    /// Number of items.
    pub fn items(&self) -> u64 {
        self.confusion.iter().flatten().sum()
    }

    /// Share of right answers, 0 to 1.
    pub fn accuracy(&self) -> f64 {
        ratio((0..self.confusion.len()).map(|class| self.confusion[class][class]).sum(), self.items())
    }

    /// Number of items of a class, precision, recall and F1.
    pub fn scores(&self, class: usize) -> (u64, f64, f64, f64) {
        let right = self.confusion[class][class];
        let items = self.confusion[class].iter().sum();
        let answered = self.confusion.iter().map(|row| row[class]).sum();
        let (precision, recall) = (ratio(right, answered), ratio(right, items));
        (items, precision, recall, ratio(2 * right, items + answered))
    }
}

/// A share, 0 where there is nothing to share.
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// A network that gives images, on the test set.
#[derive(Debug, Clone, Default, Serialize)]
pub struct ImagesData {
    /// The checkpoint.
    pub of: String,
    /// Factor by which images grow.
    pub factor: usize,
    /// Number of items.
    pub items: u64,
    /// Mean loss.
    pub loss: f64,
    /// Mean PSNR of the network in decibels.
    pub psnr: f64,
    /// Mean PSNR of bicubic interpolation.
    pub bicubic: f64,
    /// Some items.
    pub pairs: Vec<Pair>,
}

/// One item before and after.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Pair {
    /// The input, enlarged by bicubic interpolation, as a `data:` address.
    pub before: String,
    /// The network's image.
    pub after: String,
    /// The target.
    pub target: String,
    /// PSNR of the interpolation.
    pub psnr_before: f64,
    /// PSNR of the network.
    pub psnr_after: f64,
    /// Its place in the test set.
    pub index: usize,
}
