//! From a run's folder to what its page shows.

use std::path::Path;

use burn::tensor::Device;
use serde_json::Value;

use super::data::{CheckpointData, Epoch, Evaluation, LayerRow, Layers, RunData};
use super::evaluate;
use crate::checkpoint::{Checkpoint, Manifest, RECIPE, Run, Which};
use crate::device::OpenDevice;
use crate::models::Registry;
use crate::onnx::export::summary;
use crate::train::recipe::{self, Mode};
use crate::train::{Recipe, TrainError};

/// Reads a run. With a device, its best checkpoint is run on the test set.
///
/// # Errors
/// When the folder is no run, or its recipe cannot be read. What is wrong with single checkpoints, the network or the data is in
/// the answer instead.
pub fn gather(registry: &Registry, path: &Path, device: Option<&OpenDevice>) -> Result<RunData, TrainError> {
    read(registry, path, |recipe| layers(registry, recipe), device)
}

/// Reads a run whose training goes on in this process: without running or building its network, whose layers are known.
///
/// # Errors
/// As for [`gather`].
pub fn gather_live(registry: &Registry, path: &Path, layers: Layers) -> Result<RunData, TrainError> {
    read(registry, path, |_| layers, None)
}

/// The layers of a run's network, which is built for it.
pub fn layers_of(registry: &Registry, path: &Path) -> Layers {
    let loaded = recipe::load(registry, &path.join(RECIPE), &[]);
    loaded.map(|loaded| layers(registry, &loaded.recipe)).unwrap_or_default()
}

fn read(
    registry: &Registry,
    path: &Path,
    layers: impl FnOnce(&Recipe) -> Layers,
    device: Option<&OpenDevice>,
) -> Result<RunData, TrainError> {
    let run = Run::open(path)?;
    let all = run.newest_first();
    let newest = all.iter().find_map(|(_, manifest)| manifest.as_ref().ok());
    let recipe = match newest {
        Some(manifest) => Some(serde_json::from_value::<Recipe>(manifest.recipe.clone()).map_err(|error| {
            let problem = format!("its recipe cannot be used: {error}");
            TrainError::Mismatch { place: path.display().to_string(), problem }
        })?),
        // A run that has no checkpoint yet.
        None => recipe::load(registry, &path.join(RECIPE), &[]).ok().map(|loaded| loaded.recipe),
    };
    let best = run.find(Which::Best).ok().filter(|_| newest.is_some_and(|manifest| manifest.best.is_some()));
    let last = run.find(Which::Last).ok();
    let recipe_text = std::fs::read_to_string(path.join(RECIPE)).unwrap_or_default();
    let mut data = RunData {
        name: name_of(path),
        path: path.display().to_string(),
        recipe_text,
        epochs: epochs(&run.metrics()),
        best_step: best.as_ref().map(|best| best.step),
        active: run.is_being_written(),
        environment: environment(newest),
        ..RunData::default()
    };
    if let Some(recipe) = &recipe {
        let section = &recipe.checkpoint;
        data.model = match recipe.model.file() {
            Some((_, file)) => file.display().to_string(),
            None => recipe.model.name.clone(),
        };
        data.recipe = serde_json::to_value(recipe).unwrap_or(Value::Null);
        data.planned = recipe.train.epochs;
        data.monitor = section.monitor.clone();
        data.minimize = section.mode() == Mode::Min;
        data.layers = layers(recipe);
    }
    let steps = (last.as_ref().map(|last| last.step), data.best_step);
    data.checkpoints =
        all.iter().map(|(at, manifest)| checkpoint(at, manifest.as_ref(), &data.monitor, steps)).collect();
    data.checkpoints.sort_by_key(|checkpoint| checkpoint.step);
    data.evaluation = match (device, &recipe, best.or(last)) {
        (Some(device), Some(recipe), Some(checkpoint)) => evaluate::evaluate(registry, recipe, &checkpoint, device)
            .unwrap_or_else(|error| Evaluation::Failed(error.to_string())),
        (Some(_), ..) => Evaluation::Failed("there is no checkpoint yet".into()),
        (None, ..) => Evaluation::Skipped,
    };
    Ok(data)
}

/// The folder's own name, also where it was given as `.`.
fn name_of(path: &Path) -> String {
    let whole = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    whole.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned())
}

/// The lines of `metrics.jsonl`.
pub(super) fn epochs(lines: &[Value]) -> Vec<Epoch> {
    let mut before = 0;
    let read = |line: &Value, before: &mut u64| {
        let step = line["step"].as_u64().unwrap_or(0);
        let done = step.saturating_sub(*before);
        *before = step;
        let known = ["epoch", "step", "lr", "seconds", "steps", "save_seconds", "save_stall_seconds", "wait_seconds"];
        let metrics = line.as_object().into_iter().flatten().filter(|(key, _)| !known.contains(&key.as_str()));
        Epoch {
            epoch: line["epoch"].as_u64().unwrap_or(0),
            step,
            metrics: metrics.filter_map(|(key, value)| Some((key.clone(), value.as_f64()?))).collect(),
            lr: line["lr"].as_f64(),
            seconds: line["seconds"].as_f64(),
            steps: line["steps"].as_u64().or(Some(done)).filter(|steps| *steps > 0),
            stall: line["save_stall_seconds"].as_f64(),
            saving: line["save_seconds"].as_f64(),
        }
    };
    lines.iter().map(|line| read(line, &mut before)).collect()
}

fn checkpoint(
    at: &Checkpoint,
    manifest: Result<&Manifest, &crate::checkpoint::CheckpointError>,
    monitor: &str,
    (last, best): (Option<u64>, Option<u64>),
) -> CheckpointData {
    let (last, best) = (last == Some(at.step), best == Some(at.step));
    let manifest = match manifest {
        Ok(manifest) => manifest,
        Err(error) => {
            return CheckpointData { step: at.step, last, best, damage: Some(error.to_string()), ..Default::default() };
        }
    };
    let files = manifest.files.iter().map(|(name, entry)| (name.clone(), entry.bytes, entry.sha256.clone()));
    // Sizes alone: hashes are compared by `rekindle runs --verify`, which reads every byte.
    let wrong = manifest.files.iter().find_map(|(name, entry)| {
        let found = std::fs::metadata(at.path.join(name)).map(|metadata| metadata.len());
        match found {
            Ok(bytes) if bytes == entry.bytes => None,
            Ok(bytes) => Some(format!("{name} has {bytes} bytes, the manifest says {}", entry.bytes)),
            Err(error) => Some(format!("{name} cannot be read: {error}")),
        }
    });
    CheckpointData {
        step: at.step,
        epoch: manifest.epoch as u64,
        last,
        best,
        written: manifest.written,
        value: manifest.metrics.get(monitor).copied(),
        files: files.collect(),
        damage: wrong,
    }
}

fn layers(registry: &Registry, recipe: &Recipe) -> Layers {
    let missing = |reason: String| Layers { missing: Some(reason), ..Layers::default() };
    let architecture = match recipe::architecture(registry, recipe) {
        Ok(architecture) => architecture,
        Err(error) => return missing(format!("The network cannot be built: {error}")),
    };
    let summary = summary(architecture.build(&Device::flex()), architecture.input_shape());
    let rows =
        summary.layers.iter().filter(|layer| !layer.path.is_empty() || layer.parameters > 0).map(|layer| LayerRow {
            path: layer.path.clone(),
            layer: layer.layer.clone(),
            output: layer.output.clone(),
            parameters: layer.parameters,
        });
    Layers { class: summary.class, input: summary.input.to_vec(), rows: rows.collect(), missing: None }
}

fn environment(newest: Option<&Manifest>) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    if let Some(manifest) = newest {
        pairs.extend([
            ("trained by".to_string(), manifest.program.clone()),
            ("Burn".to_string(), manifest.burn.clone()),
            ("device of the training".to_string(), manifest.device.clone()),
            ("seed".to_string(), manifest.seed.to_string()),
            ("batches of an epoch".to_string(), manifest.batches.to_string()),
            ("saved".to_string(), format!("{} times", manifest.save)),
        ]);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    pairs.push(("page made by".into(), concat!("rekindle ", env!("CARGO_PKG_VERSION")).into()));
    pairs.push(("on".into(), format!("{os} {arch}, {threads} threads")));
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_has_its_metrics_and_the_steps_since_the_one_before() {
        let lines = [
            serde_json::json!({"epoch": 1, "step": 94, "train.loss": 1.5, "lr": 1e-3, "seconds": 2.0, "save_seconds": null}),
            serde_json::json!({"epoch": 2, "step": 188, "train.loss": 1.0, "lr": 1e-3, "seconds": 2.0, "steps": 40}),
        ];
        let epochs = epochs(&lines);
        assert_eq!(epochs[0].steps, Some(94));
        // A resumed epoch: what this process did is less than the epoch's steps.
        assert_eq!(epochs[1].steps, Some(40));
        assert_eq!(epochs[1].metrics.keys().collect::<Vec<_>>(), ["train.loss"]);
        assert_eq!(epochs[0].saving, None);
    }
}
