//! Training steps of narrow forms of torchvision's networks: `fixtures/make_zoo_fixtures.py` writes what PyTorch computes.
//!
//! PyTorch computed in 64 bits with inputs for which the rounding of 32 bits decides nothing: no input of a ReLU is as near to
//! zero, and no two values of a maximum as near to each other.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, Int, Tensor, TensorData};
use rekindle_state::{DType, StateDict};
use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::measure::{Measure, floats};
use super::networks::{Trainer, read};
use super::{CheckError, Result};
use crate::data::BatchTarget;
use crate::device::OpenDevice;
use crate::models::weights::Kind;
use crate::models::{Architecture, Network, Outputs, Registry, weights};
use crate::optim::OptimizerConfig;
use crate::tasks::Objective;

const STEPS: &str = include_str!("fixtures/zoo.json");

/// Number of classes of every network.
const CLASSES: usize = 10;

/// Of a tensor's largest element.
const ALLOWED: f64 = 1e-4;

/// A gradient below this part of the network's largest is zero but for rounding: batch normalization takes the bias before it out
/// again.
const ZERO: f64 = 1e-9;

/// The least scale of parameters and statistics.
const LEAST: f64 = 1e-3;

/// Steps of a network, with what PyTorch computes in them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// The row of the registry.
    name: String,
    config: Map<String, Json>,
    /// Shape of a batch of images.
    input: [usize; 4],
    /// Learning rate of SGD.
    rate: f64,
    /// Seed of the inputs.
    seed: u64,
    /// By how many deviations normalizations shift, so that few ReLUs see both signs; 0 where they need not.
    steady: f64,
    steps: usize,
    losses: Vec<f64>,
    /// Logits of the first step, in training mode.
    logits: Vec<f32>,
    gradients: BTreeMap<String, Gradient>,
    /// Parameters and buffers after the last step.
    after: BTreeMap<String, Sample>,
    /// Logits after it of the last input, in evaluation mode.
    evaluated: Vec<f32>,
}

/// The largest absolute value of a tensor, and its first element, that at a third, and the last.
type Sample = [f64; 4];
/// The same, and the product with fixed signs.
type Gradient = [f64; 5];

/// The steps of every family.
pub fn all() -> Result<Vec<Steps>> {
    serde_json::from_str(STEPS).map_err(|error| CheckError::Wrong(format!("the program's file zoo.json: {error}")))
}

impl Steps {
    /// The network, and the number of steps where there are several.
    pub fn name(&self) -> String {
        if self.steps == 1 { self.name.clone() } else { format!("{}/{}-steps", self.name, self.steps) }
    }

    fn architecture(&self) -> Result<Architecture> {
        let mut keys = self.config.clone();
        keys.insert("classes".into(), CLASSES.into());
        Ok(Registry::built_in().find(&self.name)?.configure(&keys)?)
    }

    /// The network with the parameters that follow from their names, on a device with autodiff.
    fn network(&self, architecture: &Architecture, device: &Device) -> Result<Network> {
        let fresh = architecture.build(&Device::flex());
        let entries = weights::entries(&fresh);
        let mut state = StateDict::ordered();
        for entry in &entries {
            if entry.kind != Kind::Float || entry.name.ends_with("relative_coords_table") {
                continue;
            }
            let owner = entry.name.rsplit_once('.').map_or("", |(owner, _)| owner);
            let statistic = format!("{owner}.running_var");
            let normalizes = entries.iter().any(|entry| entry.name == statistic);
            let values = values(&entry.name, &entry.shape, if normalizes { self.steady } else { 0.0 });
            let shape: Vec<u64> = entry.shape.iter().map(|&axis| axis as u64).collect();
            let bytes = values.into_iter().flat_map(f32::to_le_bytes).collect();
            state.insert(entry.name.as_str(), rekindle_state::Tensor::from_bytes(DType::F32, &shape, bytes)?);
        }
        Ok(weights::load(fresh, &state, weights::Layout::RowMajor)?.train().fork(device))
    }

    fn images(&self, step: usize, device: &Device) -> Tensor<4> {
        let values = uniform(&format!("input {} {step}", self.seed), self.input.iter().product(), 0);
        Tensor::from_data(TensorData::new(values.map(|value| value as f32).collect(), self.input), device)
    }

    fn classes(&self, step: usize, device: &Device) -> Tensor<1, Int> {
        let classes: Vec<i64> = (0..self.input[0]).map(|i| ((3 * i + step) % CLASSES) as i64).collect();
        Tensor::from_data(TensorData::new(classes, [self.input[0]]), device)
    }

    /// Losses, logits, gradients, parameters and statistics are PyTorch's.
    pub fn check(&self, device: &OpenDevice) -> Result<Measure> {
        let architecture = self.architecture()?;
        let training = device.device.clone().autodiff();
        let optimizer = serde_json::json!({ "name": "sgd", "lr": self.rate });
        let optimizer: OptimizerConfig =
            serde_json::from_value(optimizer).map_err(|error| CheckError::Wrong(error.to_string()))?;
        let mut trainer = Trainer::new(self.network(&architecture, &training)?, &optimizer)?;
        let objective = Objective::new(architecture.task(), None);
        let mut measure = Measure::none(ALLOWED);
        for step in 0..self.steps {
            let outputs = trainer.network.outputs(self.images(step, &training))?;
            let logits = logits(outputs.clone());
            let target = BatchTarget::Classes(self.classes(step, &training));
            let loss = objective.task.measure(outputs, target, objective.loss)?.loss;
            let value: Vec<f32> = loss.clone().into_data().iter::<f32>().collect();
            let expected = self.losses.get(step).copied().unwrap_or(f64::NAN);
            measure.scaled(&value, &[expected as f32], expected.max(1.0), &format!("the loss of step {}", step + 1));
            let grads = GradientsParams::from_grads(loss.backward(), &trainer.network);
            if step == 0 {
                measure.scaled(&logits, &self.logits, scale(&self.logits), "a logit in training mode");
                self.gradients(&mut measure, &trainer.network, &grads)?;
            }
            trainer = trainer.update(grads)?;
        }
        let state = weights::to_state_dict(&trainer.network)?;
        for (name, expected) in &self.after {
            let found = state.tensor(name).ok_or_else(|| CheckError::Wrong(format!("the network has no '{name}'")))?;
            let [largest, elements @ ..] = *expected;
            sampled(
                &mut measure,
                &floats(found)?,
                largest,
                elements,
                largest.max(LEAST),
                &format!("'{name}' after the steps"),
            );
        }
        let images = self.images(self.steps - 1, &device.device);
        let evaluated = logits(trainer.network.valid().outputs(images)?);
        // Differences of all parameters come together here: ten times as much is allowed.
        let scale = 10.0 * scale(&self.evaluated).max(1.0);
        measure.scaled(&evaluated, &self.evaluated, scale, "a logit in evaluation mode");
        Ok(measure)
    }

    fn gradients(&self, measure: &mut Measure, network: &Network, grads: &GradientsParams) -> Result<()> {
        let found = read(network, grads);
        if found.len() != self.gradients.len() {
            let (found, expected) = (found.len(), self.gradients.len());
            return Err(CheckError::Wrong(format!("{found} parameters have a gradient instead of {expected}")));
        }
        let largest = self.gradients.values().map(|numbers| numbers[0]).fold(0.0, f64::max);
        for (name, &[own, first, third, last, product]) in &self.gradients {
            let gradient = found.get(name).ok_or_else(|| CheckError::Wrong(format!("'{name}' has no gradient")))?;
            let place = format!("the gradient of '{name}'");
            // The scale of what is zero is that of the whole network.
            let scale = if own > ZERO * largest { own } else { largest };
            sampled(measure, gradient, own, [first, third, last], scale, &place);
            let signs = uniform(name, gradient.len(), 1).map(|u| if u < 0.0 { -1.0 } else { 1.0 });
            let sum: f64 = gradient.iter().zip(signs).map(|(value, sign)| f64::from(*value) * sign).sum();
            // Rounding of independent elements adds up by the root of their number.
            measure.note((sum - product).abs() / (scale * (gradient.len() as f64).sqrt()), &place);
        }
        Ok(())
    }
}

/// Notes the differences of a tensor's largest absolute value and three elements, in units of its scale.
fn sampled(measure: &mut Measure, found: &[f32], largest: f64, elements: [f64; 3], scale: f64, place: &str) {
    let place_of = [0, found.len() / 3, found.len().saturating_sub(1)];
    for (at, expected) in place_of.into_iter().zip(elements) {
        let found = found.get(at).map_or(f64::NAN, |&value| f64::from(value));
        measure.note((found - expected).abs() / scale, place);
    }
    // One element that is no number counts, wherever it is.
    let own = found.iter().fold(
        0.0,
        |own: f64, &value| {
            if value.is_nan() { f64::INFINITY } else { own.max(f64::from(value.abs())) }
        },
    );
    measure.note((own - largest).abs() / scale, place);
}

fn scale(values: &[f32]) -> f64 {
    super::measure::largest(values)
}

fn logits(outputs: Outputs) -> Vec<f32> {
    outputs.main.values()
}

/// `count` numbers in -1 to 1 that follow from a name: splitmix64 from the name's FNV-1a hash.
fn uniform(name: &str, count: usize, salt: u64) -> impl Iterator<Item = f64> + use<> {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    (0..count as u64).map(move |i| {
        let mut z = hash.wrapping_add(salt).wrapping_add((i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ z >> 31) >> 11) as f64 * 2_f64.powi(-52) - 1.0
    })
}

/// The values of a parameter or buffer, as in `make_zoo_fixtures.py`.
fn values(name: &str, shape: &[usize], steady: f64) -> Vec<f32> {
    let count = shape.iter().product::<usize>();
    let last = name.rsplit('.').next().unwrap_or(name);
    let value = |u: f64| match (shape.len(), last) {
        (_, "weight") if steady > 0.0 => (1.0 + 0.1 * u) / steady,
        (_, "bias") if steady > 0.0 => u.signum() + 0.1 * u,
        (2.., _) => u * (3.0 / (count / shape[0]) as f64).sqrt(),
        (_, "weight") => 1.0 + 0.2 * u,
        (_, "running_var") => 1.0 + 0.5 * u.abs(),
        _ => 0.5 * u,
    };
    uniform(name, count, 0).map(|u| value(u) as f32).collect()
}
