//! One step of training or validation: forward, loss, gradients.

use burn::tensor::{ExecutionError, Int, Tensor};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use crate::data::{Batch, BatchTarget};
use crate::models::{Network, Output};
use crate::optim::{LossConfig, cross_entropy, l1, mse, nll};

/// A batch with the loss that it is judged by.
#[derive(Debug, Clone)]
pub struct StepInput {
    /// Inputs and targets.
    pub batch: Batch,
    /// The loss.
    pub loss: LossConfig,
}

/// What a step gives besides gradients; its values are read from the device when they are needed.
#[derive(Debug)]
pub struct StepOutput {
    items: u64,
    loss: Tensor<1>,
    score: RawScore,
}

/// A score before it is read from the device.
#[derive(Debug)]
enum RawScore {
    /// Number of right answers.
    Right(Tensor<1, Int>),
    /// Mean squared error of each image, `[batch]`.
    SquaredError(Tensor<1>),
}

impl StepOutput {
    /// Number of items, mean loss, and the sum of the score over items.
    pub fn read(self) -> (u64, f64, f64) {
        let loss = f64::from(self.loss.into_data().iter::<f32>().next().unwrap_or(f32::NAN));
        let score = match self.score {
            RawScore::Right(count) => count.into_data().iter::<i64>().next().unwrap_or(0) as f64,
            RawScore::SquaredError(errors) => errors.into_data().iter::<f32>().map(psnr).sum(),
        };
        (self.items, loss, score)
    }
}

/// Decibels of a mean squared error of values in 0 to 1. An exact image counts as 100 dB.
pub fn psnr(squared_error: f32) -> f64 {
    (-10.0 * f64::from(squared_error).log10()).min(100.0)
}

impl ItemLazy for StepOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        Ok(self)
    }
}

impl TrainStep for Network {
    type Input = StepInput;
    type Output = StepOutput;

    fn step(&self, input: StepInput) -> TrainOutput<StepOutput> {
        let (loss, output) = measure(self, input);
        TrainOutput::new(self, loss.backward(), output)
    }
}

impl InferenceStep for Network {
    type Input = StepInput;
    type Output = StepOutput;

    fn step(&self, input: StepInput) -> StepOutput {
        measure(self, input).1
    }
}

/// The loss, and what is reported of the step. That network, loss and targets fit is checked before training starts.
fn measure(network: &Network, input: StepInput) -> (Tensor<1>, StepOutput) {
    let items = input.batch.len as u64;
    let (loss, score) = match (network.forward(input.batch.input), input.batch.target) {
        (Output::Classes(scores), BatchTarget::Classes(classes)) => {
            let answers = scores.clone().without_autodiff().argmax(1).flatten::<1>(0, 1);
            let right = answers.equal(classes.clone().without_autodiff()).int().sum();
            let loss =
                if input.loss == LossConfig::Nll { nll(scores, classes) } else { cross_entropy(scores, classes) };
            (loss, RawScore::Right(right))
        }
        (Output::Images(images), BatchTarget::Images(targets)) => {
            let difference = images.clone().without_autodiff() - targets.clone().without_autodiff();
            let [batch, channels, height, width] = difference.dims();
            let squared = difference.powi_scalar(2).reshape([batch, channels * height * width]).mean_dim(1);
            let loss = if input.loss == LossConfig::L1 { l1(images, targets) } else { mse(images, targets) };
            (loss, RawScore::SquaredError(squared.flatten(0, 1)))
        }
        (Output::Classes(_), BatchTarget::Images(_)) | (Output::Images(_), BatchTarget::Classes(_)) => {
            unreachable!("a session checks that its network and its data are of one kind")
        }
    };
    let reported = loss.clone().without_autodiff();
    (loss, StepOutput { items, loss: reported, score })
}
