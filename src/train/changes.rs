//! What is different when a run goes on, and whether it can still be the run that was never interrupted.

use serde_json::Value;

use super::recipe::Recipe;
use super::{Plan, TrainError};
use crate::checkpoint::Manifest;

/// What a run goes on with, where that is not what it was saved with.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Keys of the recipe with the old and the new value.
    pub keys: Vec<(String, Value, Value)>,
    /// The devices, if they are not the same.
    pub device: Option<(String, String)>,
    /// How many ranks there were and are, if they are not as many.
    pub ranks: Option<(usize, usize)>,
}

/// Keys that do not touch what is computed: by name, or with everything in their section.
const HARMLESS: [&str; 6] = ["name", "checkpoint", "train.epochs", "train.early_stopping", "data.workers", "data.dir"];

impl Changes {
    /// Compares a checkpoint with the recipe, the device and the number of ranks that it goes on with.
    pub fn new(manifest: &Manifest, recipe: &Recipe, device: &str, ranks: usize) -> Self {
        let mut keys = Vec::new();
        compare("", &manifest.recipe, &serde_json::json!(recipe), &mut keys);
        let device = (manifest.device != device).then(|| (manifest.device.clone(), device.to_string()));
        let ranks = (manifest.ranks != ranks).then_some((manifest.ranks, ranks));
        Self { keys, device, ranks }
    }

    /// Refuses what cannot change within a run: the network, and the optimizer that its state is of.
    ///
    /// # Errors
    /// With the key.
    pub fn check(&self, plan: &Plan, run: &str) -> Result<(), TrainError> {
        let fixed = |key: &str| key == "model" || key.starts_with("model.") || key == "optimizer.name";
        let Some((key, old, new)) = self.keys.iter().find(|(key, ..)| fixed(key)) else { return Ok(()) };
        Err(plan.mismatch(format!(
            "{key} cannot change within a run: it is {}, not {}; start a new run from these weights with `rekindle train RECIPE --init {run}/model.bpk`",
            shown(old),
            shown(new)
        )))
    }

    /// What has changed, and whether the run is still the one that it would have been, a sentence each.
    pub fn sentences(&self, recipe: &Recipe) -> Vec<String> {
        let mut sentences = Vec::new();
        let mut inexact = Vec::new();
        for (key, old, new) in &self.keys {
            sentences.push(format!("{key} was {}, now it is {}", shown(old), shown(new)));
            if !is_harmless(key) || (key == "train.epochs" && stretches(recipe)) {
                inexact.push(key.as_str());
            }
        }
        if let Some((old, new)) = &self.device {
            sentences.push(format!("the run was trained on {old}, it goes on on {new}"));
            inexact.push("the device");
        }
        if let Some((old, new)) = self.ranks {
            let ranks = |count: usize| if count == 1 { "1 rank".to_string() } else { format!("{count} ranks") };
            sentences.push(format!("{} trained the run, {} go on with it", ranks(old), ranks(new)));
            inexact.push("the number of ranks");
        }
        if !inexact.is_empty() {
            sentences.push(format!(
                "so this is no longer, to the bit, the run that was never interrupted: {} makes a difference",
                inexact.join(", ")
            ));
        }
        sentences
    }
}

fn is_harmless(key: &str) -> bool {
    HARMLESS
        .iter()
        .any(|harmless| key.strip_prefix(harmless).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// Whether the schedule is as long as the training.
fn stretches(recipe: &Recipe) -> bool {
    recipe.scheduler.over_training
}

/// Notes each key that differs; sections are entered.
pub(super) fn compare(path: &str, old: &Value, new: &Value, keys: &mut Vec<(String, Value, Value)>) {
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let names = a.keys().chain(b.keys().filter(|name| !a.contains_key(*name)));
            for name in names {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                compare(&path, a.get(name).unwrap_or(&Value::Null), b.get(name).unwrap_or(&Value::Null), keys);
            }
        }
        (old, new) if old != new => keys.push((path.to_string(), old.clone(), new.clone())),
        _ => {}
    }
}

/// A value of a recipe for a message.
pub(super) fn shown(value: &Value) -> String {
    if value.is_null() { "not set".to_string() } else { value.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_by_their_paths() {
        let mut keys = Vec::new();
        let old = serde_json::json!({ "name": "a", "data": { "batch_size": 4, "limit": { "train": 3 } } });
        let new = serde_json::json!({ "name": "a", "data": { "batch_size": 8 }, "train": { "epochs": 2 } });
        compare("", &old, &new, &mut keys);
        let told: Vec<String> =
            keys.iter().map(|(key, old, new)| format!("{key}: {} {}", shown(old), shown(new))).collect();
        assert_eq!(
            told,
            ["data.batch_size: 4 8", "data.limit: {\"train\":3} not set", "train: not set {\"epochs\":2}"]
        );
        assert!(
            is_harmless("checkpoint.keep_last")
                && is_harmless("name")
                && !is_harmless("names")
                && !is_harmless("data.batch_size")
        );
    }
}
