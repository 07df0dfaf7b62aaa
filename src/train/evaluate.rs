//! Loss and score of a network on a data set.

use burn::module::Module;
use burn::train::InferenceStep;
use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use super::metrics::{self, Sums};
use super::{StepInput, TrainError};
use crate::data::Loader;
use crate::models::Network;
use crate::tasks::{Metric, Objective};

/// What an evaluation found.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// Number of items.
    pub items: u64,
    /// Mean loss.
    pub loss: f64,
    /// Mean score.
    pub score: f64,
    /// What the score is.
    pub metric: &'static Metric,
}

/// The score goes by its name: `accuracy`, `psnr`.
impl Serialize for Evaluation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("items", &self.items)?;
        map.serialize_entry("loss", &self.loss)?;
        map.serialize_entry(self.metric.name, &self.score)?;
        map.end()
    }
}

/// Runs a network in evaluation mode over a whole split; `tick` hears the number of items done.
///
/// # Errors
/// When an item cannot be read, or the network does not take it.
pub fn evaluate(
    network: &Network,
    loader: &Loader,
    objective: &Objective,
    mut tick: impl FnMut(usize),
) -> Result<Evaluation, TrainError> {
    let network = network.valid();
    let mut sums = Sums::default();
    let mut done = 0;
    for batch in loader.batches(0, 0) {
        let batch = batch?;
        done += batch.len;
        let input = StepInput { batch, objective: objective.clone() };
        sums.add(InferenceStep::step(&network, input).reported()?);
        tick(done);
    }
    let sums = sums.now();
    Ok(Evaluation {
        items: sums.items,
        loss: metrics::loss(&sums),
        score: metrics::score(&sums),
        metric: &objective.task.kind().metric,
    })
}
