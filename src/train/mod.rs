//! Training through Burn's learner, from a recipe to a run directory.
//!
//! [`Session`] is a training with every decision made, new or resumed; [`Session::run`] hands it to Burn's `SupervisedTraining`
//! with a strategy of ours, which owns epochs, the order of samples, random numbers and saving.

mod begin;
mod changes;
pub mod evaluate;
mod events;
mod export;
mod finetune;
mod gradients;
mod handover;
mod import;
mod metrics;
mod nccl;
mod plan;
mod ranks;
mod ready;
pub mod recipe;
mod reduction;
mod restore;
mod saving;
mod session;
mod silent;
mod standing;
mod step;
mod stepping;
mod strategy;
mod tensorboard;
mod trained;
mod training;
mod with_loss;

pub use begin::Start;
pub use changes::Changes;
use events::Observers;
pub use events::{EpochReport, Event, Observer};
pub use export::Snapshot;
pub use finetune::Finetune;
pub use import::{Imported, import};
pub use metrics::Sums;
pub use plan::{Plan, Position};
pub use recipe::{Loaded, Recipe, RecipeError};
pub use restore::{check_fit, drawn, fresh, recipe_of, restored, trained_parameters};
pub use session::Session;
pub use step::{Reported, StepInput, StepOutput};
pub use strategy::Outcome;
pub use trained::Trained;
pub use training::Training;

use crate::checkpoint::CheckpointError;
use crate::data::DataError;
use crate::device::DeviceError;
use crate::distributed::GroupError;
use crate::models::ModelError;
use crate::optim::OptimError;

/// Why a training cannot start or go on. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The network or its weights.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A weight file.
    #[error(transparent)]
    State(#[from] rekindle_state::Error),
    /// The optimizer or the schedule.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The ranks that train together.
    #[error(transparent)]
    Ranks(#[from] GroupError),
    /// A device does not give its values.
    #[error("{what} cannot be read from the device: {error}")]
    Unreadable {
        /// What was to be read.
        what: &'static str,
        /// The device's words.
        error: String,
    },
    /// The parts of the recipe do not fit each other.
    #[error("{place}: {problem}")]
    Mismatch {
        /// The recipe.
        place: String,
        /// What does not fit.
        problem: String,
    },
    /// Training stopped on an error of Burn or a backend.
    #[error("training stopped at step {step}: {reason}")]
    Stopped {
        /// Steps done.
        step: u64,
        /// What happened.
        reason: String,
    },
    /// A training that had begun broke off.
    #[error("{error}; {rest}")]
    BrokeOff {
        /// Why.
        error: Box<TrainError>,
        /// Where the run stands, and how to go on.
        rest: String,
    },
}

impl TrainError {
    /// Whether every rank has this error, so that all of them can end in order.
    pub fn is_everywhere(&self) -> bool {
        match self {
            Self::Ranks(error) => error.is_everywhere(),
            Self::BrokeOff { error, .. } => error.is_everywhere(),
            _ => false,
        }
    }
}
