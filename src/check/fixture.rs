//! PyTorch's answers for the narrow networks, as they are in the program.

use std::path::Path;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rekindle_state::{DType, Map, StateDict, Value};

use super::measure::floats;
use super::{CheckError, Result};
use crate::data::{Batch, BatchTarget};
use crate::device::seed_lock;
use crate::models::{Architecture, Network, Registry, weights};
use crate::optim::{Compute, LossConfig, OptimizerConfig};
use crate::tasks::Objective;
use crate::train::StepInput;

/// A file in the program.
pub struct Embedded {
    name: &'static str,
    bytes: &'static [u8],
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        &[$(Embedded { name: $name, bytes: include_bytes!(concat!("fixtures/", $name, ".pth")) }),*]
    };
}

/// A network each.
pub const EMBEDDED: &[Embedded] =
    embedded!["the_model_class", "net", "fashion_classifier", "cifar_cnn", "super_resolution", "vgg16", "vgg11_bn"];

/// A network with PyTorch's answers; `fixtures/make_check_fixtures.py` says what is in it.
pub struct Fixture {
    name: &'static str,
    root: StateDict,
    architecture: Architecture,
    objective: Objective,
}

/// A checkpoint of PyTorch and what it did next.
pub struct Resume<'a> {
    /// The optimizer's settings.
    pub optimizer: OptimizerConfig,
    /// The network at the checkpoint.
    pub model: &'a StateDict,
    /// The optimizer's state.
    pub state: &'a StateDict,
    /// The losses of the next five steps.
    pub losses: Vec<f32>,
    /// The network after them.
    pub after: &'a StateDict,
}

impl Embedded {
    /// Reads the file as any file of PyTorch's.
    pub fn read(&self) -> Result<Fixture> {
        let file = rekindle_state::read(&Map::from_bytes(Path::new(self.name), self.bytes.to_vec()))?;
        let broken = |problem: &str| CheckError::Fixture { file: self.name, problem: problem.to_string() };
        let Value::Dict(root) = file.content.root else { return Err(broken("it is no dictionary")) };
        let text =
            |key: &str| root.get(key).and_then(Value::as_str).ok_or_else(|| broken(&format!("it has no text '{key}'")));
        let config = serde_json::from_str(text("config")?).map_err(|error| broken(&error.to_string()))?;
        let architecture = Registry::built_in().find(text("model")?)?.configure(&config)?;
        let loss: LossConfig = text("loss")?.parse()?;
        let objective = Objective::new(architecture.task(), Some(loss));
        Ok(Fixture { name: self.name, architecture, objective, root })
    }
}

impl Fixture {
    /// The network's name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn broken(&self, problem: impl Into<String>) -> CheckError {
        CheckError::Fixture { file: self.name, problem: problem.into() }
    }

    fn part<'a>(&self, dict: &'a StateDict, key: &str) -> Result<&'a StateDict> {
        dict.dict(key).ok_or_else(|| self.broken(format!("it has no dictionary '{key}'")))
    }

    fn list(&self, key: &str) -> Result<&[Value]> {
        self.root.get(key).and_then(Value::as_slice).ok_or_else(|| self.broken(format!("it has no list '{key}'")))
    }

    fn numbers(&self, key: &str) -> Result<Vec<f32>> {
        floats(self.root.tensor(key).ok_or_else(|| self.broken(format!("it has no tensor '{key}'")))?)
    }

    /// Parameters and buffers.
    pub fn state(&self) -> Result<&StateDict> {
        self.part(&self.root, "state")
    }

    /// The output in evaluation mode.
    pub fn output(&self) -> Result<Vec<f32>> {
        self.numbers("output")
    }

    /// The input of that output.
    pub fn input(&self, device: &Device) -> Result<Tensor<4>> {
        self.image(self.root.get("input"), device)
    }

    /// The loss of the first batch.
    pub fn train_loss(&self) -> Result<f32> {
        let loss = self.root.get("train_loss").and_then(Value::as_float);
        loss.map(|loss| loss as f32).ok_or_else(|| self.broken("it has no number 'train_loss'"))
    }

    /// The gradients of the first batch.
    pub fn gradients(&self) -> Result<&StateDict> {
        self.part(&self.root, "gradients")
    }

    /// The network with some parameters, on a device.
    pub fn network(&self, state: &StateDict, device: &Device) -> Result<Network> {
        // Building may draw random weights, even if none of them stays.
        let fresh = {
            let _seeds = seed_lock();
            self.architecture.build(&Device::flex()).materialize()
        };
        let network = weights::load(fresh, state, weights::Layout::RowMajor)?;
        let network = if device.is_autodiff() { network.train() } else { network };
        Ok(network.fork(device))
    }

    /// A batch to train on; the two batches take turns.
    pub fn batch(&self, step: usize, device: &Device) -> Result<StepInput> {
        let (inputs, targets) = (self.list("x")?, self.list("y")?);
        let index = step % inputs.len().max(1);
        let input = self.image(inputs.get(index), device)?;
        let target = targets.get(index);
        let target = if !matches!(self.objective.loss.compute(), Compute::Values(_)) {
            let target = target.and_then(Value::as_tensor).ok_or_else(|| self.broken("a batch has no classes"))?;
            let classes: Vec<i64> = floats(target)?.into_iter().map(|class| class as i64).collect();
            let len = classes.len();
            BatchTarget::Classes(Tensor::from_data(TensorData::new(classes, [len]), device))
        } else {
            BatchTarget::Images(self.image(target, device)?)
        };
        let len = input.dims()[0];
        Ok(StepInput { batch: Batch { input: input.into(), target, len }, objective: self.objective.clone() })
    }

    /// A batch of images; bytes stand for (x − 128) / 64.
    fn image(&self, value: Option<&Value>, device: &Device) -> Result<Tensor<4>> {
        let tensor = value.and_then(Value::as_tensor).ok_or_else(|| self.broken("it has no image"))?;
        let shape: Vec<usize> = tensor.shape().iter().map(|&axis| axis as usize).collect();
        if shape.len() != 4 {
            return Err(self.broken("an image is not of four axes"));
        }
        let mut values = floats(tensor)?;
        if tensor.dtype() == DType::U8 {
            values.iter_mut().for_each(|value| *value = (*value - 128.0) / 64.0);
        }
        Ok(Tensor::from_data(TensorData::new(values, shape), device))
    }

    /// Names of the optimizers of which one step is known.
    pub fn steps(&self) -> Result<Vec<&'static str>> {
        (0..self.list("steps")?.len()).map(|index| Ok(self.step(index)?.0.rule.name())).collect()
    }

    /// An optimizer, and the network after one step of it.
    pub fn step(&self, index: usize) -> Result<(OptimizerConfig, &StateDict)> {
        let entry = self.entry("steps", index)?;
        Ok((self.optimizer(entry)?, self.part(entry, "state")?))
    }

    /// Names of the optimizers of which there is a checkpoint.
    pub fn resumes(&self) -> Result<Vec<&'static str>> {
        (0..self.list("resume")?.len()).map(|index| Ok(self.resume(index)?.optimizer.rule.name())).collect()
    }

    /// A checkpoint.
    pub fn resume(&self, index: usize) -> Result<Resume<'_>> {
        let entry = self.entry("resume", index)?;
        let losses = entry.get("losses").and_then(Value::as_slice).unwrap_or_default();
        Ok(Resume {
            optimizer: self.optimizer(entry)?,
            model: self.part(entry, "model_state_dict")?,
            state: self.part(entry, "optimizer_state_dict")?,
            losses: losses.iter().filter_map(Value::as_float).map(|loss| loss as f32).collect(),
            after: self.part(entry, "after")?,
        })
    }

    fn entry(&self, key: &str, index: usize) -> Result<&StateDict> {
        self.list(key)?
            .get(index)
            .and_then(Value::as_dict)
            .ok_or_else(|| self.broken(format!("'{key}' has no entry {index}")))
    }

    fn optimizer(&self, entry: &StateDict) -> Result<OptimizerConfig> {
        let text = entry.get("optimizer").and_then(Value::as_str).unwrap_or_default();
        serde_json::from_str(text).map_err(|error| self.broken(format!("the settings of an optimizer: {error}")))
    }
}
