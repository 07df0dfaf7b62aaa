//! Forward passes and training steps of the built-in networks.

use anyhow::ensure;
use burn::module::Module;
use burn::tensor::{Int, Tensor, TensorData};
use serde_json::json;

use super::lstm::LstmClassifierConfig;
use super::{Bench, Work};
use crate::check::Trainer;
use crate::data::{Batch, BatchTarget};
use crate::models::{Architecture, ModelConfig, Registry};
use crate::optim::OptimizerConfig;
use crate::tasks::Objective;
use crate::train::{StepInput, fresh};

/// A vision transformer of DeiT's smallest size, which torchvision has no name for.
const VIT_TINY: &str = "vit_tiny";
/// Networks of training steps that are not in the registry.
pub(super) const OTHERS: [&str; 2] = [VIT_TINY, LstmClassifierConfig::NAME];

/// The optimizers of training steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Optimizer {
    /// With momentum.
    Sgd,
    Adam,
}

impl Optimizer {
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "sgd" => Some(Self::Sgd),
            "adam" => Some(Self::Adam),
            _ => None,
        }
    }

    fn config(self) -> anyhow::Result<OptimizerConfig> {
        Ok(serde_json::from_value(match self {
            Self::Sgd => json!({ "name": "sgd", "lr": 1e-3, "momentum": 0.9 }),
            Self::Adam => json!({ "name": "adam", "lr": 1e-4 }),
        })?)
    }
}

/// A network with its published sizes, but for images of another side where it has one in its configuration.
pub(super) fn architecture(registry: &Registry, model: &str, side: Option<usize>) -> anyhow::Result<Architecture> {
    let (name, mut keys) = match model {
        LstmClassifierConfig::NAME => return Ok(Architecture::new(LstmClassifierConfig {})),
        VIT_TINY => ("vit_b_16", vec![("hidden_dim", 192), ("num_heads", 3), ("mlp_dim", 768)]),
        name => (name, Vec::new()),
    };
    let entry = registry.find(name)?;
    let configured = |keys: &[(&str, usize)]| {
        entry.configure(&keys.iter().map(|(key, value)| (key.to_string(), json!(value))).collect())
    };
    if let Some(side) = side {
        keys.push(("image_size", side));
        if let Ok(architecture) = configured(&keys) {
            return Ok(architecture);
        }
        keys.pop();
    }
    Ok(configured(&keys)?)
}

/// The usual input of a network, or one of another side.
pub(super) fn input_shape(architecture: &Architecture, side: Option<usize>) -> anyhow::Result<[usize; 3]> {
    let [channels, height, width] = architecture.input_shape();
    let [height, width] = side.map_or([height, width], |side| [side, side]);
    architecture.check_input([channels, height, width])?;
    Ok([channels, height, width])
}

/// Numbers that look like images.
pub(super) fn pixels(count: usize) -> Vec<f32> {
    (0..count).map(|i| (i * 37 % 255) as f32 / 127.5 - 1.0).collect()
}

fn images(shape: [usize; 4], device: &burn::tensor::Device) -> Tensor<4> {
    Tensor::from_data(TensorData::new(pixels(shape.iter().product()), shape), device)
}

/// A forward pass in evaluation mode.
pub(super) fn forward(model: &str, batch: usize, side: Option<usize>, bench: &Bench) -> anyhow::Result<Work> {
    let device = &bench.device;
    let architecture = architecture(&bench.registry, model, side)?;
    let network = fresh(&architecture, 42).fork(&device.device);
    let [channels, height, width] = input_shape(&architecture, side)?;
    let input = images([batch, channels, height, width], &device.device);
    Ok(Box::new(move || {
        // Reading the result back is what waits for a GPU.
        drop(network.forward(input.clone())?.into_data());
        Ok(())
    }))
}

/// Forward pass, loss, gradients and update.
pub(super) fn train_step(
    model: &str,
    batch: usize,
    side: Option<usize>,
    optimizer: Optimizer,
    bench: &Bench,
) -> anyhow::Result<Work> {
    let device = &bench.device;
    let architecture = architecture(&bench.registry, model, side)?;
    let training = device.device.clone().autodiff();
    let network = fresh(&architecture, 42).train().fork(&training);
    let mut trainer = Some(Trainer::new(network, &optimizer.config()?)?);
    let [channels, height, width] = input_shape(&architecture, side)?;
    let input = images([batch, channels, height, width], &training);
    let target = match architecture.classes() {
        Some(classes) => {
            let labels: Vec<i64> = (0..batch).map(|i| (i % classes) as i64).collect();
            let labels = Tensor::<1, Int>::from_data(TensorData::new(labels, [batch]), &training);
            BatchTarget::Classes(labels)
        }
        None => match architecture.upscale_factor() {
            Some(factor) => BatchTarget::Images(images([batch, channels, height * factor, width * factor], &training)),
            None => BatchTarget::Masks(Tensor::zeros([batch, height, width], &training)),
        },
    };
    let objective = Objective::new(architecture.task(), None);
    let input = StepInput { batch: Batch { input: input.into(), target, len: batch }, objective };
    Ok(Box::new(move || {
        step(&mut trainer, input.clone())?;
        Ok(training.sync()?)
    }))
}

/// One step of a trainer, which is gone after an error.
pub(super) fn step(trainer: &mut Option<Trainer>, input: StepInput) -> anyhow::Result<()> {
    let before = trainer.take();
    ensure!(before.is_some(), "the step before this one failed");
    if let Some(before) = before {
        *trainer = Some(before.step(input)?.0);
    }
    Ok(())
}
