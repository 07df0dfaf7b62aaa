//! A training with every decision made, ready to run.

use std::path::Path;
use std::sync::Arc;

use burn::train::logger::InMemoryMetricLogger;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};

use super::TrainError;
use super::events::{Event, Observer, Observers};
use super::saving::WhenAsked;
use super::silent::Silent;
use super::strategy::{Outcome, Strategy};
use super::with_loss::WithLoss;
use crate::checkpoint::Run;
use crate::device::{self, OpenDevice};
use crate::models::Network;
use crate::models::import::Report;
use crate::tasks::Metric;

/// A training that is ready to run.
pub struct Session {
    pub(super) strategy: Strategy,
    pub(super) learner: Learner<Network>,
    /// What came of loading initial weights.
    pub report: Option<Report>,
    /// What was found on the way and should be told: newer checkpoints that cannot be used.
    pub notes: Vec<String>,
    /// The device.
    pub device: OpenDevice,
}

impl Session {
    /// Listens to the training. May be called several times.
    #[must_use]
    pub fn observe(self, observer: impl Observer + 'static) -> Self {
        self.strategy.observers.add(observer);
        self
    }

    /// Tells these observers of the training, too.
    pub(super) fn observed_by(self, observers: Observers) -> Self {
        self.observe(move |event: &Event| observers.tell(event))
    }

    /// The run directory.
    pub fn path(&self) -> &Path {
        self.strategy.run.path()
    }

    /// Whether this process writes and prints: of several ranks, rank 0 does.
    pub fn is_first(&self) -> bool {
        self.strategy.share.rank == 0
    }

    /// Processes that train together.
    pub fn ranks(&self) -> usize {
        self.strategy.share.ranks
    }

    /// What the training is measured by.
    pub fn metric(&self) -> &'static Metric {
        &self.strategy.objective.task.kind().metric
    }

    /// Calls something with the number of each step (from 1), on the thread that trains: its gradients are known, and the weights
    /// have not moved yet. A panic in it ends the training as a panic of the step itself does.
    #[must_use]
    pub fn on_step(mut self, observer: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.strategy.observer = Some(Box::new(observer));
        self
    }

    /// Trains until the end, an error or a signal.
    ///
    /// # Errors
    /// With the step and the reason.
    pub fn run(self) -> Result<(Outcome, Run), TrainError> {
        let Self { strategy, learner, .. } = self;
        let run = strategy.run.clone();
        let strategy = Arc::new(strategy);
        // Seeds are one for the whole process: no other training may draw from the same stream meanwhile.
        let _seeds = strategy.group.as_ref().is_none_or(|group| group.is_first()).then(device::seed_lock);
        let training = SupervisedTraining::<Network>::new(
            run.path(),
            Arc::new(WithLoss::new(&strategy.train, &strategy.objective)),
            Arc::new(WithLoss::new(&strategy.valid, &strategy.objective)),
        )
        .with_application_logger(None)
        .with_metric_logger(InMemoryMetricLogger::default())
        .renderer(Box::new(Silent))
        .with_checkpointing_strategy(WhenAsked)
        .num_epochs(strategy.recipe.train.epochs)
        .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
        let training = match &strategy.staging {
            Some(staging) => training.with_custom_checkpointers(staging.part(0), staging.part(1), staging.part(2)),
            None => training,
        };
        let result = training.launch(learner);
        let outcome = strategy.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let step = strategy.standing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).step;
        match (outcome, result.error) {
            (Some(outcome), _) => Ok((outcome?, run)),
            (None, error) => {
                let reason = error.map_or_else(|| "the learner did not start".to_string(), |error| error.to_string());
                Err(TrainError::Stopped { step, reason })
            }
        }
    }
}
