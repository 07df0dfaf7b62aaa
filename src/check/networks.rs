//! The cases of one network: outputs, gradients, updates, and parameters as bytes.

use std::collections::HashMap;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::store::ModuleRecord;
use burn::tensor::{Device, Tensor};
use burn::train::TrainStep;
use rekindle_state::StateDict;

use super::fixture::{Fixture, Resume};
use super::measure::{Measure, floats, floor, largest, named, tensor};
use super::{CheckError, Result};
use crate::device::{Backend, DeviceName, OpenDevice};
use crate::kernels;
use crate::models::{Network, weights};
use crate::optim::{self, Group, Schedule};
use crate::train::{StepInput, trained_parameters};

/// Relative and absolute tolerance of outputs.
const OUTPUT: (f64, f64) = (1e-3, 1e-5);
/// Of gradients, as a part of the tensor's scale.
const GRADIENT: f64 = 1e-4;
/// Of changes by an optimizer, as a part of the largest change of the tensor.
const CHANGE: f64 = 1e-3;

/// The output in evaluation mode is PyTorch's.
pub fn forward(fixture: &Fixture, device: &OpenDevice) -> Result<Measure> {
    let network = fixture.network(fixture.state()?, &device.device)?;
    let output = network.forward(fixture.input(&device.device)?)?.values();
    let mut measure = Measure::none(OUTPUT.0);
    measure.relative(&output, &fixture.output()?, OUTPUT.1 / OUTPUT.0, "the output");
    Ok(measure)
}

/// A record taken of a copy holds the right bytes at once, here and after it was loaded on another device.
pub fn record(fixture: &Fixture, device: &OpenDevice) -> Result<Measure> {
    let other = if device.backend == Backend::Flex { DeviceName::NDARRAY } else { DeviceName::FLEX }.open()?;
    let expected = fixture.state()?;
    let network = fixture.network(expected, &device.device.clone().autodiff())?;
    let bytes = network.clone().into_record().into_bytes()?;
    let mut measure = Measure::none(0.0);
    same_bytes(&mut measure, &weights::to_state_dict(&network)?, expected, "after a record of a copy was taken")?;
    for target in [&other, device] {
        let blank = fixture.network(&StateDict::new(), &target.device)?;
        let loaded = blank.try_load_record(ModuleRecord::from_bytes(bytes.clone())?)?.fork(&target.device);
        same_bytes(&mut measure, &weights::to_state_dict(&loaded)?, expected, &format!("loaded on {}", target.name))?;
        let output = loaded.forward(fixture.input(&target.device)?)?.values();
        // Outputs have a tolerance of their own; here is only asked whether they are those of this network.
        let mut outputs = Measure::none(OUTPUT.0);
        outputs.relative(&output, &fixture.output()?, OUTPUT.1 / OUTPUT.0, "");
        if outputs.error > 10.0 * OUTPUT.0 {
            measure.note(outputs.error, &format!("the output of the network loaded on {}", target.name));
        }
    }
    Ok(measure)
}

fn same_bytes(measure: &mut Measure, found: &StateDict, expected: &StateDict, when: &str) -> Result<()> {
    for (name, expected) in expected.tensors() {
        let found =
            found.tensor(name).ok_or_else(|| CheckError::Wrong(format!("the network has no '{name}' {when}")))?;
        if found.bytes()? != expected.bytes()? || found.shape() != expected.shape() {
            let (found, expected) = (floats(found)?, floats(expected)?);
            measure.scaled(&found, &expected, 1.0, &format!("'{name}' {when}"));
            // Bytes may differ where numbers do not, by the sign of a zero.
            measure.note(f64::MIN_POSITIVE, &format!("'{name}' {when}"));
        }
    }
    Ok(())
}

/// The loss and the gradient of every parameter in training mode are PyTorch's.
pub fn gradients(fixture: &Fixture, device: &OpenDevice) -> Result<Measure> {
    let device = device.device.clone().autodiff();
    let network = fixture.network(fixture.state()?, &device)?;
    let (grads, loss) = backward(&network, fixture.batch(0, &device)?)?;
    let found = read(&network, &grads);
    let expected = named(fixture.gradients()?)?;
    let floor = floor(expected.iter().map(|(_, values)| values.as_slice()));
    let mut measure = Measure::none(GRADIENT);
    measure.relative(&[loss], &[fixture.train_loss()?], 0.0, "the loss");
    for (name, expected) in &expected {
        let found = found.get(*name).ok_or_else(|| CheckError::Wrong(format!("'{name}' has no gradient")))?;
        measure.scaled(found, expected, largest(expected).max(floor), &format!("the gradient of '{name}'"));
    }
    if found.len() != expected.len() {
        return Err(CheckError::Wrong(format!(
            "{} parameters have a gradient instead of {}",
            found.len(),
            expected.len()
        )));
    }
    Ok(measure)
}

/// The gradients of a step and its loss.
pub fn backward(network: &Network, input: StepInput) -> Result<(GradientsParams, f32)> {
    let output = TrainStep::step(network, input);
    let (_, loss, _) = output.item.reported()?.read();
    Ok((output.grads, loss as f32))
}

/// Gradients by PyTorch's names, in PyTorch's layout.
pub(super) fn read(network: &Network, grads: &GradientsParams) -> HashMap<String, Vec<f32>> {
    let leaves = weights::leaves(network).into_iter().map(|leaf| (leaf.id, leaf)).collect();
    let mut reader = GradientReader { leaves, grads, found: HashMap::new() };
    network.visit(&mut reader);
    reader.found
}

struct GradientReader<'a> {
    leaves: HashMap<ParamId, weights::Leaf>,
    grads: &'a GradientsParams,
    found: HashMap<String, Vec<f32>>,
}

impl ModuleVisitor for GradientReader<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let Some((leaf, grad)) = self.leaves.get(&param.id).zip(self.grads.get::<D>(param.id)) else { return };
        let grad = if leaf.transposed { grad.swap_dims(D - 2, D - 1) } else { grad };
        self.found.insert(leaf.name.clone(), grad.into_data().iter::<f32>().collect());
    }
}

/// A network with its optimizer.
pub struct Trainer {
    /// The network, on a device with autodiff.
    pub network: Network,
    /// The optimizer.
    pub optimizer: ModuleOptimizer,
    groups: Vec<Group>,
}

impl Trainer {
    /// A network with an optimizer that has seen nothing.
    pub fn new(network: Network, config: &optim::OptimizerConfig) -> Result<Self> {
        let parameters = trained_parameters(&network);
        let groups = config.resolve(&parameters)?;
        Ok(Self { optimizer: optim::module_optimizer(&groups, &parameters)?, network, groups })
    }

    /// A network with the optimizer of a checkpoint of PyTorch.
    fn resumed(network: Network, checkpoint: &Resume<'_>) -> Result<Self> {
        let parameters = trained_parameters(&network);
        let expected = checkpoint.optimizer.resolve(&parameters)?;
        let restored = optim::from_state_dict(checkpoint.state, &parameters, &expected)?;
        if let Some(difference) = restored.differences.first() {
            return Err(CheckError::Wrong(format!(
                "the checkpoint's '{}' is not the one it was made with",
                difference.key
            )));
        }
        let optimizer = optim::module_optimizer(&restored.groups, &parameters)?.load_record(restored.record);
        Ok(Self { network, optimizer, groups: restored.groups })
    }

    /// One step at a constant rate; gives the loss before it.
    pub fn step(self, input: StepInput) -> Result<(Self, f32)> {
        match self.network.devices().first().cloned() {
            Some(device) => kernels::step(&device, || self.stepped(input)),
            None => self.stepped(input),
        }
    }

    fn stepped(self, input: StepInput) -> Result<(Self, f32)> {
        let (grads, loss) = backward(&self.network, input)?;
        Ok((self.update(grads)?, loss))
    }

    /// What the optimizer makes of gradients, at a constant rate.
    pub fn update(mut self, grads: GradientsParams) -> Result<Self> {
        let constant = Schedule::constant();
        let parameters = trained_parameters(&self.network);
        let rate = optim::module_scheduler(&self.groups, &parameters, &constant, 1, 0)?.step();
        self.network = self.optimizer.step(rate, self.network, grads);
        Ok(self)
    }
}

/// One step of an optimizer changes every parameter and buffer as PyTorch's does.
pub fn step(fixture: &Fixture, index: usize, device: &OpenDevice) -> Result<Measure> {
    let device = device.device.clone().autodiff();
    let before = fixture.state()?;
    let (config, after) = fixture.step(index)?;
    let trainer = Trainer::new(fixture.network(before, &device)?, &config)?;
    let (trainer, _) = trainer.step(fixture.batch(0, &device)?)?;
    let mut measure = Measure::none(CHANGE);
    changes(&mut measure, before, after, &weights::to_state_dict(&trainer.network)?)?;
    Ok(measure)
}

/// Five steps from a checkpoint of PyTorch go as PyTorch's.
pub fn resume(fixture: &Fixture, index: usize, device: &OpenDevice) -> Result<Measure> {
    let device: Device = device.device.clone().autodiff();
    let checkpoint = fixture.resume(index)?;
    let mut trainer = Trainer::resumed(fixture.network(checkpoint.model, &device)?, &checkpoint)?;
    let mut measure = Measure::none(CHANGE);
    for (step, &expected) in checkpoint.losses.iter().enumerate() {
        let loss;
        // The checkpoint was made after four steps.
        (trainer, loss) = trainer.step(fixture.batch(4 + step, &device)?)?;
        measure.relative(&[loss], &[expected], 0.0, &format!("the loss of step {}", step + 1));
    }
    changes(&mut measure, checkpoint.model, checkpoint.after, &weights::to_state_dict(&trainer.network)?)?;
    Ok(measure)
}

/// Compares changes: a parameter moves by little of itself, so that a wrong change hides in the whole.
fn changes(measure: &mut Measure, before: &StateDict, after: &StateDict, found: &StateDict) -> Result<()> {
    let change = |before: &[f32], after: Vec<f32>| -> Vec<f32> {
        after.iter().zip(before).map(|(after, before)| after - before).collect()
    };
    let mut expected = Vec::new();
    for (name, before) in named(before)? {
        expected.push((name, change(&before, tensor(after, name)?), change(&before, tensor(found, name)?)));
    }
    // Buffers change by amounts of their own: a count by one.
    let parameter = |name: &str| name.ends_with("weight") || name.ends_with("bias");
    let floor = floor(expected.iter().filter(|(name, ..)| parameter(name)).map(|(_, expected, _)| expected.as_slice()));
    for (name, expected, found) in &expected {
        measure.scaled(found, expected, largest(expected).max(floor), &format!("the change of '{name}'"));
    }
    Ok(())
}
