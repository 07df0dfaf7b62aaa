//! The cases of layers whose training is random: dropout of values and of whole channels.

use burn::nn::DropoutConfig;
use burn::tensor::Tensor;

use super::measure::Measure;
use super::{CheckError, Result};
use crate::device::{OpenDevice, seed, seed_lock};
use crate::layers::Dropout2d;

const PROB: f64 = 0.3;
const SHAPE: [usize; 4] = [32, 64, 3, 3];
/// Five standard deviations of the share that is kept of 2048 channels.
const SHARE: f64 = 0.05;

/// `nn.Dropout`: the right share is kept, scaled by 1/(1-p); nothing happens in evaluation.
pub fn dropout(device: &OpenDevice) -> Result<Measure> {
    let layer = DropoutConfig::new(PROB).init();
    check(device, 1, |x| layer.forward(x))
}

/// `nn.Dropout2d`: the same for whole channels.
pub fn dropout2d(device: &OpenDevice) -> Result<Measure> {
    let layer = Dropout2d::new(PROB);
    check(device, SHAPE[2] * SHAPE[3], |x| layer.forward(x))
}

/// Drops of a tensor of ones, of which each `unit` neighbours live or die together.
fn check(device: &OpenDevice, unit: usize, forward: impl Fn(Tensor<4>) -> Tensor<4>) -> Result<Measure> {
    let numbers = |x: Tensor<4>| -> Vec<f32> { x.into_data().iter::<f32>().collect() };
    let untouched = numbers(forward(Tensor::ones(SHAPE, &device.device)));
    if untouched.iter().any(|&value| value != 1.0) {
        return Err(CheckError::Wrong("dropout is on in evaluation".to_string()));
    }
    let training = device.device.clone().autodiff();
    let _seeds = seed_lock();
    seed(&training, 7);
    let values = numbers(forward(Tensor::ones(SHAPE, &training)));
    let next = numbers(forward(Tensor::ones(SHAPE, &training)));
    if values == next {
        return Err(CheckError::Wrong("two steps drop the same values".to_string()));
    }
    let units: Vec<&[f32]> = values.chunks(unit).collect();
    if units.iter().any(|unit| unit.iter().any(|value| value != &unit[0])) {
        return Err(CheckError::Wrong("a channel is dropped in part".to_string()));
    }
    let scale = (1.0 / (1.0 - PROB)) as f32;
    if let Some(wrong) = values.iter().find(|&&value| value != 0.0 && (value - scale).abs() > 1e-6) {
        return Err(CheckError::Wrong(format!("what is kept is {wrong} times what it was instead of {scale}")));
    }
    let samples: Vec<f64> = units.chunks(units.len() / SHAPE[0]).map(kept).collect();
    if samples.iter().all(|share| *share == samples[0]) {
        return Err(CheckError::Wrong("every sample of a batch keeps the same share".to_string()));
    }
    let mut measure = Measure { rounding: false, ..Measure::none(SHARE) };
    measure.note((kept(&units) - (1.0 - PROB)).abs(), "the share of values that are kept");
    Ok(measure)
}

fn kept(units: &[&[f32]]) -> f64 {
    units.iter().filter(|unit| unit[0] != 0.0).count() as f64 / units.len().max(1) as f64
}
