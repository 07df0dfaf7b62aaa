//! The manifest of a checkpoint: what its files are, and the state of the run that is not in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::exact;

/// The version of the directory's format.
pub const FORMAT: u32 = 1;

/// Everything about a checkpoint that is not in its burnpack files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the directory's format.
    pub format: u32,
    /// The program that wrote it.
    pub program: String,
    /// The version of Burn whose records these are.
    pub burn: String,
    /// Seconds since 1970 at which it was written.
    pub written: u64,
    /// How many times the run had been saved, this one included: tells which of two checkpoints is the newer.
    #[serde(default)]
    pub save: u64,
    /// The device on which it was trained.
    pub device: String,
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs completed.
    pub epoch: usize,
    /// Batches done in the epoch after those.
    pub batch: usize,
    /// Batches of a whole epoch; 0 where it was not known.
    #[serde(default)]
    pub batches: usize,
    /// The seed of order, augmentation and dropout.
    pub seed: u64,
    /// Metrics of the last completed epoch, by name (`valid.loss`).
    #[serde(deserialize_with = "exact::floats")]
    pub metrics: BTreeMap<String, f64>,
    /// Running sums of the epoch that is under way.
    pub sums: EpochSums,
    /// The best value of the monitored metric so far.
    pub best: Option<Best>,
    /// The state of early stopping.
    pub early_stopping: Option<EarlyState>,
    /// The resolved recipe.
    pub recipe: serde_json::Value,
    /// Size and hash of each file.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// The text of `manifest.json`, which [`Manifest::from_json`] reads back with every bit of every number.
    ///
    /// # Errors
    /// When a map has keys that JSON cannot have.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let mut json = serde_json::to_value(self)?;
        exact::protect(&mut json);
        serde_json::to_string_pretty(&json)
    }

    /// Reads the text of `manifest.json`.
    ///
    /// # Errors
    /// When it is no manifest.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        let mut json = serde_json::from_str(text)?;
        exact::restore(&mut json);
        serde_json::from_value(json)
    }

    /// Whether the checkpoint holds the weights alone.
    pub fn weights_only(&self) -> bool {
        !self.files.is_empty() && super::FILES[1..].iter().all(|name| !self.files.contains_key(*name))
    }
}

/// Running sums of an epoch: what its metrics are computed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Items seen.
    pub items: u64,
    /// Sum of the loss over items.
    #[serde(deserialize_with = "exact::float")]
    pub loss: f64,
    /// Sum of the score over items: right answers, or decibels of PSNR.
    #[serde(deserialize_with = "exact::float")]
    pub score: f64,
}

/// The best value of the monitored metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The metric.
    pub metric: String,
    /// Its best value.
    #[serde(deserialize_with = "exact::float")]
    pub value: f64,
    /// The step at which it was reached.
    pub step: u64,
}

/// The state of early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyState {
    /// The best value so far.
    #[serde(deserialize_with = "exact::float")]
    pub best: f64,
    /// Epochs without improvement.
    pub bad_epochs: usize,
}

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Its size.
    pub bytes: u64,
    /// Its sha256 in hexadecimal digits.
    pub sha256: String,
}
