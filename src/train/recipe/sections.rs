//! The sections of a recipe that are about the model, the training and its checkpoints.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::checkpoint::Mode;
use crate::models::{FILES, FileKind};
use crate::optim::LossConfig;

/// The network of a recipe.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(expecting = "a section such as { name = \"net\" }")]
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
