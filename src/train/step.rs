//! One step of training or validation: forward, loss, gradients.

use burn::optim::GradientsParams;
use burn::tensor::{ExecutionError, Tensor};
use burn::train::{InferenceStep, ItemLazy, TrainOutput, TrainStep};

use crate::data::Batch;
use crate::models::{ModelError, Network};
use crate::tasks::{Measured, Objective, RawScore};

/// A batch with what it is trained for.
#[derive(Debug, Clone)]
pub struct StepInput {
    /// Inputs and targets.
    pub batch: Batch,
    /// The task and the loss.
    pub objective: Objective,
}

/// What a step gives besides gradients, or why it could not be taken.
#[derive(Debug)]
pub struct StepOutput(Result<Reported, ModelError>);

impl StepOutput {
    /// What is reported of the step.
    ///
    /// # Errors
    /// When the network or the loss could not be computed; there are no gradients then.
    pub fn reported(self) -> Result<Reported, ModelError> {
        self.0
    }
}

/// Loss and score of a step; the values are read from the device when they are needed.
#[derive(Debug)]
pub struct Reported {
    items: u64,
    loss: Tensor<1>,
    score: RawScore,
}

impl Reported {
    /// Number of items, mean loss, and the sum of the score over items.
    pub fn read(self) -> (u64, f64, f64) {
        let loss = f64::from(self.loss.into_data().iter::<f32>().next().unwrap_or(f32::NAN));
        (self.items, loss, self.score.read())
    }
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
        match measure(self, input) {
            Ok((loss, reported)) => TrainOutput::new(self, loss.backward(), StepOutput(Ok(reported))),
            Err(error) => TrainOutput { grads: GradientsParams::new(), item: StepOutput(Err(error)) },
        }
    }
}

impl InferenceStep for Network {
    type Input = StepInput;
    type Output = StepOutput;

    fn step(&self, input: StepInput) -> StepOutput {
        StepOutput(measure(self, input).map(|(_, reported)| reported))
    }
}

/// The loss with its gradients, and what is reported of the step.
fn measure(network: &Network, input: StepInput) -> Result<(Tensor<1>, Reported), ModelError> {
    let StepInput { batch, objective } = input;
    let items = batch.len as u64;
    let outputs = network.outputs(batch.input)?;
    let Measured { loss, score } = objective.task.measure(outputs, batch.target, objective.loss)?;
    let reported = loss.clone().without_autodiff();
    Ok((loss, Reported { items, loss: reported, score }))
}
