//! The sections of a recipe that are about the model, the training and its checkpoints.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::models::{FILES, FileKind};
use crate::optim::LossConfig;
use crate::train::ByteSize;

/// The network of a recipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ModelSection {
    /// A name of the registry; none when a file is named (`onnx = "model.onnx"`, relative to the recipe's folder).
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The arguments of its constructor, or the key of a file.
    #[serde(flatten)]
    pub config: serde_json::Map<String, serde_json::Value>,
}

/// The section `[train]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainSection {
    /// Passes through the training set.
    pub epochs: usize,
    /// Determines initial weights, order, augmentation and dropout.
    pub seed: u64,
    /// The loss; by default the one that fits the network's output.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<LossConfig>,
    /// Batches whose gradients are added up for one step of the optimizer: the step is that of a batch as many times as large.
    #[serde(skip_serializing_if = "is_one")]
    pub accumulate: usize,
    /// Items of one step of the optimizer, over all ranks and accumulated batches; `data.batch_size` follows from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_batch: Option<usize>,
    /// Whether batch normalisation takes the statistics of all ranks' batches in training, as `SyncBatchNorm`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sync_batch_norm: bool,
    /// Largest norm of all gradients together, as `clip_grad_norm_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_norm: Option<f64>,
    /// Largest absolute value of a gradient, as `clip_grad_value_`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_grad_value: Option<f64>,
    /// Parameters that do not move: regular expressions on their names.
    pub freeze: Vec<String>,
    /// Weights to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<InitSection>,
    /// When to stop before the last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<EarlyStopping>,
    /// Whether the numbers of epochs are also written as event files that TensorBoard reads.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tensorboard: bool,
}

impl Default for TrainSection {
    fn default() -> Self {
        Self {
            epochs: 10,
            seed: 42,
            loss: None,
            accumulate: 1,
            global_batch: None,
            sync_batch_norm: false,
            clip_grad_norm: None,
            clip_grad_value: None,
            freeze: Vec::new(),
            init: None,
            early_stopping: None,
            tensorboard: false,
        }
    }
}

// Serde gives a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_one(count: &usize) -> bool {
    *count == 1
}

/// Weights to start from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitSection {
    /// A model file, relative to the recipe's folder.
    pub weights: PathBuf,
    /// Whether names and shapes that do not fit are passed over (a new head on loaded weights).
    #[serde(default)]
    pub partial: bool,
}

/// Stops when a metric has not improved for some epochs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// The metric, `valid.loss` by default.
    #[serde(default = "default_monitor")]
    pub monitor: String,
    /// Whether less or more of it is better; by default, what fits the metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Epochs without improvement before stopping, at least 1.
    pub patience: usize,
    /// A change smaller than this is no improvement.
    #[serde(default)]
    pub min_delta: f64,
}

fn default_monitor() -> String {
    "valid.loss".to_string()
}

/// Which direction of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Less is better.
    Min,
    /// More is better.
    Max,
}

impl Mode {
    /// The direction that fits a metric's name: losses fall, the others rise.
    pub fn of(metric: &str) -> Self {
        if metric.ends_with("loss") { Self::Min } else { Self::Max }
    }

    /// Whether `new` is better than `old` by more than `min_delta`.
    pub fn better(self, new: f64, old: f64, min_delta: f64) -> bool {
        match self {
            Self::Min => new < old - min_delta,
            Self::Max => new > old + min_delta,
        }
    }
}

/// The section `[checkpoint]`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointSection {
    /// A checkpoint every so many epochs; 0 for none but the last.
    pub every_epochs: usize,
    /// A checkpoint every so many steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_steps: Option<usize>,
    /// A checkpoint when so many minutes have passed since the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_minutes: Option<f64>,
    /// How many of the newest checkpoints are kept.
    pub keep_last: usize,
    /// Whether none is ever removed because of its age.
    pub keep_all: bool,
    /// How many of the best checkpoints are kept.
    pub top_k: usize,
    /// The metric that says which is best.
    pub monitor: String,
    /// Whether less or more of it is better; by default, what fits the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// How much all checkpoints of the run may take together; `last` and `best` are kept in any case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_total_size: Option<ByteSize>,
    /// Whether the optimizer's state is left out, without which a run cannot go on.
    pub weights_only: bool,
    /// Whether a training that breaks off on an error saves first.
    pub on_exception: bool,
}

impl Default for CheckpointSection {
    fn default() -> Self {
        Self {
            every_epochs: 1,
            every_steps: None,
            every_minutes: None,
            keep_last: 2,
            keep_all: false,
            top_k: 1,
            monitor: default_monitor(),
            mode: None,
            max_total_size: None,
            weights_only: false,
            on_exception: true,
        }
    }
}

impl CheckpointSection {
    /// The direction of the metric that is monitored.
    pub fn mode(&self) -> Mode {
        self.mode.unwrap_or_else(|| Mode::of(&self.monitor))
    }
}

impl ModelSection {
    /// What the model is called: its name in the registry, or the name of the file.
    pub fn title(&self) -> String {
        match self.file() {
            Some((_, path)) => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            None => self.name.clone(),
        }
    }

    /// The file that is the model, if one is.
    pub fn file(&self) -> Option<(&'static FileKind, &Path)> {
        let file = |kind: &'static FileKind| Some((kind, Path::new(self.config.get(kind.key)?.as_str()?)));
        FILES.iter().find_map(file)
    }
}
