//! Loss and score of a network on a data set.

use burn::module::Module;
use burn::train::InferenceStep;
use serde::Serialize;

use super::metrics::{self, Score, Sums};
use super::{StepInput, TrainError};
use crate::data::Loader;
use crate::models::Network;
use crate::optim::LossConfig;

/// What an evaluation found.
#[derive(Debug, Clone, Serialize)]
pub struct Evaluation {
    /// Number of items.
    pub items: u64,
    /// Mean loss.
    pub loss: f64,
    /// Share of right answers, 0 to 1, of a classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
    /// Mean decibels of super-resolution.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub psnr: Option<f64>,
}

/// Runs a network in evaluation mode over a whole split; `tick` hears the number of items done.
///
/// # Errors
/// When an item cannot be read.
pub fn evaluate(
    network: &Network,
    loader: &Loader,
    loss: LossConfig,
    score: Score,
    mut tick: impl FnMut(usize),
) -> Result<Evaluation, TrainError> {
    let network = network.valid();
    let mut sums = Sums::default();
    let mut done = 0;
    for batch in loader.batches(0, 0) {
        let batch = batch?;
        done += batch.len;
        sums.add(InferenceStep::step(&network, StepInput { batch, loss }));
        tick(done);
    }
    let sums = sums.now();
    let value = metrics::score(&sums);
    Ok(Evaluation {
        items: sums.items,
        loss: metrics::loss(&sums),
        accuracy: (score == Score::Accuracy).then_some(value),
        psnr: (score == Score::Psnr).then_some(value),
    })
}
