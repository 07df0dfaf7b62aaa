//! Handing a learner over to the threads that save it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use burn::tensor::Device;
use burn::train::metric::store::EventStoreClient;
use burn::train::{Learner, LearningCheckpointer};

use super::saving::{Draft, Staging};
use crate::checkpoint::CheckpointError;
use crate::error::{panic_text, without_panic_output};
use crate::models::Network;

/// Gives Burn's checkpointer what it is to save.
pub(super) struct Handover {
    pub(super) staging: Staging,
    pub(super) checkpointer: Arc<Mutex<LearningCheckpointer<Network>>>,
    pub(super) events: Arc<EventStoreClient>,
    /// Where the learner trains.
    pub(super) device: Device,
    /// Whether another thread reads the tensors while training goes on. On a CPU, a clone of the learner shares its tensors, and
    /// the next step makes new ones: training does not wait for a single copy. A GPU reads on the thread that trains.
    pub(super) aside: bool,
}

impl Handover {
    /// Begins a save; gives an error if the one before failed.
    pub(super) fn save(&self, learner: &Learner<Network>, draft: Draft) -> Result<(), CheckpointError> {
        let step = draft.manifest.step as usize;
        let _stall = self.staging.announce(draft)?;
        let (staging, checkpointer, events) = (self.staging.clone(), self.checkpointer.clone(), self.events.clone());
        let give = move |learner: &Learner<Network>| {
            let mut checkpointer = checkpointer.lock().unwrap_or_else(PoisonError::into_inner);
            let give = AssertUnwindSafe(|| checkpointer.checkpoint(learner, step, &events));
            if let Err(panic) = without_panic_output(|| catch_unwind(give)) {
                staging.abandon(panic_text(&*panic));
            }
        };
        let mut learner = learner.clone();
        // Running statistics of batch norms are the clone's own from here on: those of the next step stay out of this save.
        learner.fork(&self.device);
        if !self.aside {
            give(&learner);
            return Ok(());
        }
        let thread = thread::Builder::new().name("save".into()).spawn(move || give(&learner));
        if let Err(error) = thread {
            self.staging.abandon(format!("no thread can be started ({error})"));
        }
        Ok(())
    }
}
