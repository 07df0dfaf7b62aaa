//! The cases of a small training: five linear layers, two epochs of 256 real images.

use std::path::Path;
use std::sync::OnceLock;

use burn::module::Module;
use burn::optim::OptimizerRecord;
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use serde_json::json;

use super::measure::{Measure, named};
use super::networks::Trainer;
use super::{CheckError, Result};
use crate::data::{DataConfig, Loader, Split};
use crate::device::{Backend, DeviceName, OpenDevice};
use crate::models::{Architecture, FashionClassifierConfig, Network, weights};
use crate::optim::OptimizerConfig;
use crate::tasks::Objective;
use crate::train::{StepInput, fresh};

/// Allowed differences of a step's loss.
const LOSS: f64 = 1e-3;

/// A network and its optimizer as bytes between two epochs, as a checkpoint has them.
struct Saved {
    model: Bytes,
    optimizer: Bytes,
}

/// What an epoch gives.
struct Epoch {
    losses: Vec<f32>,
    trainer: Trainer,
}

fn wrong(problem: impl std::fmt::Display) -> CheckError {
    CheckError::Wrong(problem.to_string())
}

fn architecture() -> Architecture {
    let hidden = [64, 32, 32, 16];
    Architecture::new(FashionClassifierConfig { inputs: 784, hidden, classes: 10, dropout: 0.0 })
}

/// The network of all these trainings, with the same fresh weights on the CPU. Without dropout: random numbers differ by device.
fn network() -> Network {
    fresh(&architecture(), 42)
}

fn loader(device: &Device) -> Result<Loader> {
    let data: DataConfig = serde_json::from_value(json!({
        "name": "fashion-mnist-sample", "batch_size": 16, "workers": 0, "limit": { "train": 256 },
        "normalize": { "mean": [0.286], "std": [0.353] },
    }))
    .map_err(wrong)?;
    Ok(data.loader(Path::new(""), Split::Train, 42, device)?)
}

fn optimizer() -> Result<OptimizerConfig> {
    // Momentum, not Adam: Adam's first steps divide rounding errors by themselves.
    serde_json::from_value(json!({ "name": "sgd", "lr": 0.1, "momentum": 0.9 })).map_err(wrong)
}

/// Trains an epoch, from fresh weights or from what another device saved.
fn epoch(number: usize, saved: Option<&Saved>, device: &OpenDevice) -> Result<Epoch> {
    let device = device.device.clone().autodiff();
    let network = match saved {
        None => network(),
        Some(saved) => network().try_load_record(ModuleRecord::from_bytes(saved.model.clone())?)?,
    };
    let mut trainer = Trainer::new(network.train().fork(&device), &optimizer()?)?;
    if let Some(saved) = saved {
        trainer.optimizer = trainer.optimizer.load_record(OptimizerRecord::from_bytes(saved.optimizer.clone())?);
    }
    go_on(trainer, number, &device)
}

fn go_on(mut trainer: Trainer, number: usize, device: &Device) -> Result<Epoch> {
    let mut losses = Vec::new();
    let objective = Objective::new(architecture().task(), None);
    for batch in loader(device)?.batches(number, 0) {
        let loss;
        (trainer, loss) = trainer.step(StepInput { batch: batch?, objective: objective.clone() })?;
        losses.push(loss);
    }
    Ok(Epoch { losses, trainer })
}

fn save(trainer: &Trainer) -> Result<Saved> {
    Ok(Saved {
        model: trainer.network.clone().into_record().into_bytes()?,
        optimizer: trainer.optimizer.to_record().into_bytes()?,
    })
}

/// Two epochs without a break: the losses of all steps, and the network.
fn two_epochs(device: &OpenDevice) -> Result<(Vec<f32>, Network)> {
    let first = epoch(0, None, device)?;
    let mut losses = first.losses;
    let second = go_on(first.trainer, 1, &device.device.clone().autodiff())?;
    losses.extend(second.losses);
    Ok((losses, second.trainer.network))
}

/// The losses on burn-flex, which all other devices must agree with.
fn reference() -> Result<&'static [f32]> {
    static LOSSES: OnceLock<Vec<f32>> = OnceLock::new();
    if let Some(losses) = LOSSES.get() {
        return Ok(losses);
    }
    let (losses, _) = two_epochs(&DeviceName::FLEX.open()?)?;
    Ok(LOSSES.get_or_init(|| losses))
}

fn compare(losses: &[f32]) -> Result<Measure> {
    let mut measure = Measure::none(LOSS);
    let reference = reference()?;
    measure.relative(losses, reference, 0.0, "a step's loss");
    let mean = |losses: &[f32]| losses.iter().sum::<f32>() / losses.len().max(1) as f32;
    let (first, second) = losses.split_at(losses.len() / 2);
    if mean(second) >= mean(first) * 0.95 {
        return Err(wrong(format!(
            "the loss does not fall: {} in the first epoch, {} in the second",
            mean(first),
            mean(second)
        )));
    }
    Ok(measure)
}

/// The loss falls, and as on burn-flex.
pub fn agrees(device: &OpenDevice) -> Result<Measure> {
    compare(&two_epochs(device)?.0)
}

/// An epoch on another device, saved, loaded here and gone on with; and the other way round.
pub fn moves(device: &OpenDevice) -> Result<Measure> {
    let other = if device.backend == Backend::Flex { DeviceName::NDARRAY } else { DeviceName::FLEX }.open()?;
    let mut worst = Measure::none(LOSS);
    for (from, to) in [(&other, device), (device, &other)] {
        let Epoch { mut losses, trainer } = epoch(0, None, from)?;
        losses.extend(epoch(1, Some(&save(&trainer)?), to)?.losses);
        worst.note(compare(&losses)?.error, &format!("a step's loss on the way from {} to {}", from.name, to.name));
    }
    Ok(worst)
}

/// The same training twice gives the same weights, bit for bit.
pub fn deterministic(device: &OpenDevice) -> Result<Measure> {
    let (first, second) = (two_epochs(device)?.1, two_epochs(device)?.1);
    let (first, second) = (weights::to_state_dict(&first)?, weights::to_state_dict(&second)?);
    let mut measure = Measure::none(0.0);
    for ((name, first), (_, second)) in named(&first)?.iter().zip(named(&second)?) {
        measure.scaled(&second, first, 1.0, &format!("'{name}' of the second training"));
    }
    Ok(measure)
}
