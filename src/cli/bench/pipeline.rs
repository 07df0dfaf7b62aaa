//! Whole pipelines: an epoch from the data set's files to the updated weights, and a process from its start to a prediction.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use burn::module::Module;
use rekindle_state::{TorchOptions, Value};

use super::networks::{architecture, step};
use super::{Bench, Work};
use crate::check::Trainer;
use crate::data::Split;
use crate::models::weights;
use crate::train::{StepInput, fresh, recipe};

/// An epoch of a recipe: decoding, transforms, loader, network and optimizer.
pub(super) fn epoch(name: &'static str, bench: &Bench) -> anyhow::Result<Work> {
    let settings = match &bench.data {
        Some(folder) if name == "fashion_mnist" => {
            let folder = std::path::absolute(folder)?;
            vec![format!("data.dir={}", toml::Value::from(folder.display().to_string()))]
        }
        _ => Vec::new(),
    };
    let recipe::Loaded { recipe, base, .. } = recipe::load(&bench.registry, Path::new(name), &settings)?;
    let architecture = recipe::architecture(&bench.registry, &recipe)?;
    let training = bench.device.device.clone().autodiff();
    let network = fresh(&architecture, recipe.train.seed).train().fork(&training);
    let mut trainer = Some(Trainer::new(network, &recipe.optimizer)?);
    let objective = recipe.objective(&architecture);
    let mut number = 0;
    Ok(Box::new(move || {
        let loader = recipe.data.loader(&base, Split::Train, recipe.train.seed, &training)?;
        for batch in loader.batches(number, 0) {
            step(&mut trainer, StepInput { batch: batch?, objective: objective.clone() })?;
        }
        number += 1;
        Ok(training.sync()?)
    }))
}

/// This program, started to enlarge a picture with the weights of a `.pth` file.
pub(super) fn cold_start(bench: &Bench) -> anyhow::Result<Work> {
    const MODEL: &str = "super_resolution";
    let architecture = architecture(&bench.registry, MODEL, None)?;
    let [_, height, width] = architecture.input_shape().map(|side| side as u32);
    let (weights_file, picture) = (bench.folder.join("super_resolution.pth"), bench.folder.join("picture.png"));
    let state = weights::to_state_dict(&fresh(&architecture, 42))?;
    rekindle_state::write_torch(&weights_file, &Value::Dict(state), &TorchOptions::default())?;
    let pixels = image::GrayImage::from_fn(width, height, |x, y| image::Luma([((x * 37 + y * 11) % 255) as u8]));
    pixels.save(&picture).with_context(|| format!("{}: cannot write the picture", picture.display()))?;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program")?);
    command.args(["predict", MODEL]).arg(&picture).arg("--weights").arg(&weights_file);
    command.arg("--output").arg(bench.folder.join("enlarged")).args([
        "--normalize",
        "none",
        "--device",
        &bench.device_name.to_string(),
    ]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    Ok(Box::new(move || match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => bail!("{command:?} ended with {status}"),
        Err(error) => bail!("{command:?} cannot be started: {error}"),
    }))
}
