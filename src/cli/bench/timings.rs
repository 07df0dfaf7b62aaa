//! `rekindle bench`: the median seconds of several runs of each thing.

use std::path::{Path, PathBuf};
use std::time::Instant;

use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use rekindle_state::{StateDict, TorchOptions, Value};
use serde::Serialize;
use serde_json::Map;

use super::super::output::{json, table};
use super::super::{Answer, Exit};
use super::{Args, checkpoint};
use crate::check::Trainer;
use crate::data::{Batch, BatchTarget, Split};
use crate::device::{DeviceName, OpenDevice};
use crate::models::weights::{self, Layout};
use crate::models::{self, Architecture, Output};
use crate::optim::{LossConfig, OptimizerConfig};
use crate::train::{StepInput, fresh, recipe};

/// Enough runs for a median.
const RUNS: usize = 7;
/// No other run is begun after these.
const SECONDS: f64 = 5.0;
/// The models that are timed, and the largest batch of each that is timed unasked.
const FORWARD: &[(&str, usize)] =
    &[("the_model_class", 64), ("net", 64), ("fashion_classifier", 64), ("cifar_cnn", 64), ("super_resolution", 1), ("vgg16", 1)];
const BATCHES: [usize; 2] = [1, 64];

/// A thing that can be timed.
#[derive(Clone)]
struct Timing {
    name: String,
    /// Left out unless it is named: it takes minutes on a CPU.
    long: bool,
    /// How many of the unit are done.
    work: f64,
    /// Of the rate.
    unit: &'static str,
    what: What,
}

#[derive(Clone)]
enum What {
    Forward(&'static str, usize),
    TrainStep(&'static str, usize),
    File(FileWork),
    Epoch,
    Checkpoint,
}

#[derive(Clone, Copy)]
enum FileWork {
    Save,
    SaveUnsynced,
    List,
    Load,
}

/// What was measured.
#[derive(Serialize)]
struct Row {
    name: String,
    device: String,
    median_seconds: f64,
    runs: usize,
    rate: f64,
    unit: &'static str,
}

impl Timing {
    fn row(&self, device: &str, seconds: &[f64]) -> Row {
        let median_seconds = median(seconds);
        let rate = self.work / median_seconds.max(1e-9);
        Row { name: self.name.clone(), device: device.to_string(), median_seconds, runs: seconds.len(), rate, unit: self.unit }
    }
}

pub fn run(args: &Args) -> Answer {
    let timings = timings()?;
    args.check_names(&timings.iter().map(|timing| timing.name.as_str()).collect::<Vec<_>>())?;
    let device = args.device.unwrap_or(DeviceName::AUTO).open()?;
    let mut rows = Vec::new();
    let folder = Folder::new()?;
    for timing in timings.iter().filter(|timing| args.wants(&timing.name)) {
        if timing.long && args.names.iter().all(|name| *name != timing.name) {
            eprintln!("{} takes long and is left out; name it to time it", timing.name);
            continue;
        }
        eprintln!("timing {} on {}", timing.name, device.name);
        let seconds = match timing.what {
            What::Forward(model, batch) => forward(model, batch, &device)?,
            What::TrainStep(model, batch) => train_step(model, batch, &device)?,
            What::File(work) => file(work, &folder.0)?,
            What::Epoch => epoch(&device)?,
            What::Checkpoint => {
                let cost = checkpoint::measure(&folder.0, args.device.unwrap_or(DeviceName::AUTO))?;
                let megabytes = Timing { work: cost.bytes * 1e-6, ..timing.clone() };
                rows.push(megabytes.row(&device.name, &cost.saving));
                let stall = Timing { name: timing.name.replacen("save", "stall", 1), unit: "stalls/s", ..timing.clone() };
                rows.push(stall.row(&device.name, &cost.stall));
                continue;
            }
        };
        let on = if matches!(timing.what, What::File(_)) { "files" } else { device.name.as_str() };
        rows.push(timing.row(on, &seconds));
    }
    if args.json {
        json(&rows)?;
    } else {
        let shown = rows.iter().map(|row| {
            let rate = format!("{:.0} {}", row.rate, row.unit);
            vec![row.name.clone(), row.device.clone(), format!("{:.4}", row.median_seconds), row.runs.to_string(), rate]
        });
        table(&["", "on", "median seconds", "runs", "rate"], &shown.collect::<Vec<_>>())?;
    }
    Ok(Exit::Done)
}

fn timings() -> anyhow::Result<Vec<Timing>> {
    let mut timings = Vec::new();
    for &(model, largest) in FORWARD {
        for batch in BATCHES {
            let name = format!("forward/{model}/{batch}");
            timings.push(Timing { name, long: batch > largest, work: batch as f64, unit: "images/s", what: What::Forward(model, batch) });
        }
    }
    for &(model, largest) in FORWARD {
        let name = format!("train-step/{model}/64");
        timings.push(Timing { name, long: largest < 64, work: 64.0, unit: "images/s", what: What::TrainStep(model, 64) });
    }
    let megabytes = vgg16()?.1.iter().map(|entry| entry.shape.iter().product::<usize>() as f64 * 4e-6).sum();
    for (name, work) in [
        ("save/vgg16", FileWork::Save),
        ("save-unsynced/vgg16", FileWork::SaveUnsynced),
        ("list/vgg16", FileWork::List),
        ("load/vgg16", FileWork::Load),
    ] {
        // Listing reads no weights: its time does not grow with them.
        let (amount, unit) = if matches!(work, FileWork::List) { (1.0, "files/s") } else { (megabytes, "MB/s") };
        timings.push(Timing { name: name.to_string(), long: false, work: amount, unit, what: What::File(work) });
    }
    let sample = Timing { name: "epoch/fashion_mnist_sample".into(), long: false, work: 6000.0, unit: "images/s", what: What::Epoch };
    timings.push(sample);
    // Four saves of 1.6 GB, which not every disk has room for unasked.
    let checkpoint = Timing { name: "save-checkpoint/vgg16".into(), long: true, work: 1.0, unit: "MB/s", what: What::Checkpoint };
    timings.push(checkpoint);
    Ok(timings)
}

/// Runs something once to warm up, then until there are enough runs.
fn repeat(mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<Vec<f64>> {
    let begun = Instant::now();
    run()?;
    let mut seconds = Vec::new();
    while seconds.is_empty() || (seconds.len() < RUNS && begun.elapsed().as_secs_f64() < SECONDS) {
        let started = Instant::now();
        run()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(seconds)
}

fn median(seconds: &[f64]) -> f64 {
    let mut sorted = seconds.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle.saturating_sub(1)] + sorted.get(middle).unwrap_or(&0.0)) / 2.0 }
}

fn architecture(model: &str) -> anyhow::Result<Box<dyn Architecture>> {
    Ok(models::find(model)?.configure(&Map::new())?)
}

/// Numbers that look like images.
fn images(shape: [usize; 4], device: &burn::tensor::Device) -> Tensor<4> {
    let values: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| (i * 37 % 255) as f32 / 127.5 - 1.0).collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

fn forward(model: &str, batch: usize, device: &OpenDevice) -> anyhow::Result<Vec<f64>> {
    let architecture = architecture(model)?;
    let network = fresh(&*architecture, 42).fork(&device.device);
    let [channels, height, width] = architecture.input_shape();
    let input = images([batch, channels, height, width], &device.device);
    repeat(|| {
        // Reading the result back is what waits for a GPU.
        match network.forward(input.clone()) {
            Output::Classes(scores) => drop(scores.into_data()),
            Output::Images(images) => drop(images.into_data()),
        }
        Ok(())
    })
}

fn train_step(model: &str, batch: usize, device: &OpenDevice) -> anyhow::Result<Vec<f64>> {
    let architecture = architecture(model)?;
    let training = device.device.clone().autodiff();
    let network = fresh(&*architecture, 42).train().fork(&training);
    let optimizer: OptimizerConfig = serde_json::from_value(serde_json::json!({ "name": "adam", "lr": 1e-4 }))?;
    let mut trainer = Some(Trainer::new(network, &optimizer)?);
    let [channels, height, width] = architecture.input_shape();
    let input = images([batch, channels, height, width], &training);
    let (target, loss) = match architecture.classes() {
        Some(classes) => {
            let labels: Vec<i64> = (0..batch).map(|i| (i % classes) as i64).collect();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [batch]), &training);
            let loss = if architecture.log_probabilities() { LossConfig::Nll } else { LossConfig::CrossEntropy };
            (BatchTarget::Classes(labels), loss)
        }
        None => {
            let factor = architecture.upscale_factor().unwrap_or(1);
            (BatchTarget::Images(images([batch, channels, height * factor, width * factor], &training)), LossConfig::Mse)
        }
    };
    let input = StepInput { batch: Batch { input, target, len: batch }, loss };
    repeat(|| {
        if let Some(before) = trainer.take() {
            trainer = Some(before.step(input.clone())?.0);
        }
        Ok(training.sync()?)
    })
}

/// Names and shapes of VGG16's parameters; the weights themselves are never drawn.
fn vgg16() -> anyhow::Result<(models::Network, Vec<weights::Entry>)> {
    let network = architecture("vgg16")?.build(&burn::tensor::Device::flex());
    let entries = weights::entries(&network);
    Ok((network, entries))
}

/// Saving, listing or loading a file of VGG16's size.
fn file(work: FileWork, folder: &Path) -> anyhow::Result<Vec<f64>> {
    let path = folder.join("vgg16.pth");
    let save = || -> anyhow::Result<Value> {
        let mut dict = StateDict::ordered();
        for entry in vgg16()?.1 {
            let shape: Vec<u64> = entry.shape.iter().map(|&axis| axis as u64).collect();
            let values: Vec<f32> = (0..entry.shape.iter().product::<usize>()).map(|i| (i % 1009) as f32 * 1e-3).collect();
            dict.insert(entry.name, rekindle_state::Tensor::from_f32(&shape, &values)?);
        }
        Ok(Value::Dict(dict))
    };
    let saves = matches!(work, FileWork::Save | FileWork::SaveUnsynced);
    let dict = if path.exists() && !saves { None } else { Some(save()?) };
    let write = |dict: &Value| -> anyhow::Result<()> {
        let unsynced = matches!(work, FileWork::SaveUnsynced);
        rekindle_state::write_torch(&path, dict, &TorchOptions { unsynced, ..TorchOptions::default() })?;
        Ok(())
    };
    if let Some(dict) = &dict {
        if saves {
            return repeat(|| write(dict));
        }
        write(dict)?;
    }
    repeat(|| {
        let file = rekindle_state::open(&path)?;
        let Value::Dict(found) = &file.content.root else { anyhow::bail!("{}: it is no dictionary", path.display()) };
        if matches!(work, FileWork::Load) {
            // Reads every byte: checksums are checked.
            weights::load(vgg16()?.0, found, Layout::AsStored)?;
        }
        Ok(())
    })
}

/// An epoch of the sample through loader, network and optimizer.
fn epoch(device: &OpenDevice) -> anyhow::Result<Vec<f64>> {
    let recipe::Loaded { recipe, base, .. } = recipe::load(Path::new("fashion_mnist_sample"), &[])?;
    let architecture = recipe::architecture(&recipe)?;
    let training = device.device.clone().autodiff();
    let loader = recipe.data.loader(&base, Split::Train, recipe.train.seed, &training)?;
    let network = fresh(&*architecture, recipe.train.seed).train().fork(&training);
    let mut trainer = Some(Trainer::new(network, &recipe.optimizer)?);
    let loss = recipe.loss(&*architecture);
    let mut number = 0;
    repeat(|| {
        for batch in loader.batches(number, 0) {
            if let Some(before) = trainer.take() {
                trainer = Some(before.step(StepInput { batch: batch?, loss })?.0);
            }
        }
        number += 1;
        Ok(training.sync()?)
    })
}

/// A folder for the files, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("rekindle-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Best effort: what is left is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
