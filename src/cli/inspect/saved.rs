//! A run or checkpoint in the terms in which files are listed.

use rekindle_state::{Burnpack, Content, Listing, Map, ModelFile, StateDict, Value, read};
use serde_json::{Map as JsonMap, Value as Json, json};

use super::super::output::say;
use super::Report;
use crate::cli::source::Saved;

/// Lists a checkpoint: weights under PyTorch's names, parameter groups with the recipe's settings, and the manifest's values.
pub fn report(saved: &Saved, hash: bool) -> anyhow::Result<Report> {
    let mut listing = match tree(saved) {
        Ok(tree) => {
            let mut listing = list(Value::Dict(tree), hash)?;
            listing.tensors.retain_mut(|tensor| match tensor.name.strip_prefix("model/") {
                Some(name) => {
                    tensor.name = name.to_string();
                    true
                }
                None => false,
            });
            listing
        }
        // Made by a program with other models: the record's own names tell at least something.
        Err(error) => {
            say!("{error:#}; the names below are those of Burn's record");
            read(&Map::from_bytes(&saved.checkpoint.path.join("model.bpk"), saved.contents.model.clone()))?
                .listing(hash)?
        }
    };
    let contents = saved.files();
    listing.format = if saved.run.is_some() { "run" } else { "checkpoint" }.to_string();
    listing.files = contents.len() as u64;
    listing.bytes = contents.iter().map(|(_, bytes)| bytes).sum();
    listing.values = values(saved);
    listing.safe = true;
    let (modules, metadata, notes, fits) = Default::default();
    Ok(Report { listing, modules, onnx: None, program: None, metadata, contents, notes, fits })
}

/// Weights and optimizer state, the parameters of each group by name.
fn tree(saved: &Saved) -> anyhow::Result<StateDict> {
    let snapshot = saved.snapshot()?;
    let mut tree = StateDict::new();
    tree.insert("model", snapshot.model()?);
    tree.insert("optimizer", snapshot.optimizer(&saved.contents, &saved.place())?);
    Ok(tree)
}

fn list(root: Value, hash: bool) -> rekindle_state::Result<Listing> {
    let content = Content { root, metadata: Vec::new(), globals: Vec::new() };
    let file = ModelFile {
        path: Default::default(),
        format: &Burnpack,
        files: 1,
        bytes: 0,
        content,
        modules: Vec::new(),
        onnx: None,
        notes: Vec::new(),
    };
    file.listing(hash)
}

/// What the manifest says, flat.
fn values(saved: &Saved) -> JsonMap<String, Json> {
    let manifest = &saved.contents.manifest;
    let mut values = JsonMap::new();
    let mut put = |key: &str, value: Json| {
        values.insert(key.to_string(), value);
    };
    if let Some(run) = &saved.run {
        let steps: Vec<u64> = run.checkpoints().iter().map(|checkpoint| checkpoint.step).collect();
        put("checkpoints", json!(steps));
        put("checkpoint", json!(saved.checkpoint.path.file_name().map(|name| name.to_string_lossy())));
    }
    put("epoch", json!(manifest.epoch));
    put("step", json!(manifest.step));
    put("batch", json!(manifest.batch));
    put("seed", json!(manifest.seed));
    for (name, value) in &manifest.metrics {
        put(&format!("metrics/{name}"), json!(value));
    }
    if let Some(best) = &manifest.best {
        put("best/metric", json!(best.metric));
        put("best/value", json!(best.value));
        put("best/step", json!(best.step));
    }
    if let Some(early) = &manifest.early_stopping {
        put("early_stopping", json!(early));
    }
    put("recipe/name", manifest.recipe["name"].clone());
    put("recipe/model", manifest.recipe["model"].clone());
    put("device", json!(manifest.device));
    put("program", json!(manifest.program));
    put("burn", json!(manifest.burn));
    put("written", json!(manifest.written));
    values
}
