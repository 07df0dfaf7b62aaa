//! The manifest of a checkpoint: what its files are, and the state of the run that is not in them.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::optim::PlateauState;

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
    /// Processes that trained together.
    #[serde(default = "one")]
    pub ranks: usize,
    /// The seed of order, augmentation and dropout.
    pub seed: u64,
    /// Metrics of the last completed epoch, by name (`valid.loss`).
    #[serde(deserialize_with = "floats")]
    pub metrics: BTreeMap<String, f64>,
    /// Running sums of the epoch that is under way.
    pub sums: EpochSums,
    /// The best value of the monitored metric so far.
    pub best: Option<Best>,
    /// The state of early stopping.
    pub early_stopping: Option<EarlyState>,
    /// What a schedule that follows a metric has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plateau: Option<PlateauState>,
    /// The resolved recipe.
    pub recipe: Value,
    /// Size and hash of each file.
    pub files: BTreeMap<String, FileEntry>,
}

impl Manifest {
    /// The text of `manifest.json`, which [`Manifest::from_json`] reads back with every bit of every number: serde_json prints as
    /// many digits as tell a float from its neighbours, and its feature `float_roundtrip` reads them exactly.
    ///
    /// # Errors
    /// When a map has keys that JSON cannot have.
    pub fn to_json(&self) -> serde_json::Result<String> {
        serde_json::to_string_pretty(self)
    }

    /// Reads the text of `manifest.json`.
    ///
    /// # Errors
    /// When it is no manifest.
    pub fn from_json(text: &str) -> serde_json::Result<Self> {
        let mut json = serde_json::from_str(text)?;
        restore(&mut json);
        serde_json::from_value(json)
    }

    /// Whether the checkpoint holds the weights alone.
    pub fn weights_only(&self) -> bool {
        !self.files.is_empty() && super::FILES[1..].iter().all(|name| !self.files.contains_key(*name))
    }
}

fn one() -> usize {
    1
}

/// Puts numbers where earlier versions wrote `{"float": "digits"}`, for floats that a less exact reader would have changed.
fn restore(json: &mut Value) {
    match json {
        Value::Array(items) => items.iter_mut().for_each(restore),
        Value::Object(entries) => {
            let digits = if entries.len() == 1 { entries.get("float").and_then(Value::as_str) } else { None };
            match digits.and_then(|digits| digits.parse::<f64>().ok()) {
                Some(float) => *json = json!(float),
                None => entries.values_mut().for_each(restore),
            }
        }
        _ => {}
    }
}

/// A float; JSON has `null` for one that is no number.
fn float<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

/// Floats by name, likewise.
fn floats<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let floats = BTreeMap::<String, Option<f64>>::deserialize(deserializer)?;
    Ok(floats.into_iter().map(|(name, float)| (name, float.unwrap_or(f64::NAN))).collect())
}

/// Running sums of an epoch: what its metrics are computed from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochSums {
    /// Items seen.
    pub items: u64,
    /// Sum of the loss over items.
    #[serde(deserialize_with = "float")]
    pub loss: f64,
    /// Sum of the score over items: right answers, or decibels of PSNR.
    #[serde(deserialize_with = "float")]
    pub score: f64,
}

impl EpochSums {
    /// These sums and others.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { items: self.items + other.items, loss: self.loss + other.loss, score: self.score + other.score }
    }
}

/// The best value of the monitored metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// The metric.
    pub metric: String,
    /// Its best value.
    #[serde(deserialize_with = "float")]
    pub value: f64,
    /// The step at which it was reached.
    pub step: u64,
}

/// The state of early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EarlyState {
    /// The best value so far.
    #[serde(deserialize_with = "float")]
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(loss: f64) -> String {
        serde_json::to_string(&EpochSums { items: 1, loss, score: f64::NAN }).unwrap()
    }

    #[test]
    fn every_bit_of_a_float_survives() {
        // A generator of its own: bits of all exponents that loss sums and learning rates have.
        let mut bits = 0x9E37_79B9_7F4A_7C15_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let exponent = 1023 - 40 + bits % 60;
            let float = f64::from_bits((bits >> 12) | (exponent << 52));
            let read: EpochSums = serde_json::from_str(&sums(float)).unwrap();
            assert_eq!(read.loss.to_bits(), float.to_bits());
            assert!(read.score.is_nan());
        }
    }

    /// As version 0.1 wrote what its reader would have changed.
    #[test]
    fn floats_as_text_are_still_read() {
        let digits = "0.30000000000000004";
        let mut json: Value =
            serde_json::from_str(&format!(r#"{{"sums": [{{"float": "{digits}"}}, {{"float": 1}}]}}"#)).unwrap();
        restore(&mut json);
        assert_eq!(json["sums"][0].as_f64().unwrap().to_bits(), digits.parse::<f64>().unwrap().to_bits());
        assert_eq!(json["sums"][1]["float"], 1);
    }
}
