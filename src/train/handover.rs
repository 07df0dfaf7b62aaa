//! Handing a learner over to the threads that save it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use burn::train::metric::store::EventStoreClient;
use burn::train::{Learner, LearningCheckpointer};

use super::saving::{Draft, Staging};
use crate::checkpoint::CheckpointError;
use crate::error::{panic_text, without_panic_output};
use crate::models::Network;
use crate::models::record::{NetworkRecord, apart};

/// Gives Burn's checkpointer what it is to save.
pub(super) struct Handover {
    pub(super) staging: Staging,
    pub(super) checkpointer: Mutex<LearningCheckpointer<Network>>,
    pub(super) events: Arc<EventStoreClient>,
}

impl Handover {
    /// Begins a save; gives an error if the one before failed.
    ///
    /// On a CPU the tensors of the learner are lent to the threads that write them, and nothing is copied here. From a GPU they are
    /// read by the thread that trains.
    pub(super) fn save(&self, learner: &Learner<Network>, draft: Draft) -> Result<(), CheckpointError> {
        let step = draft.manifest.step as usize;
        let _stall = self.staging.announce(draft, || NetworkRecord::of(&learner.model()))?;
        let mut checkpointer = self.checkpointer.lock().unwrap_or_else(PoisonError::into_inner);
        let give = AssertUnwindSafe(|| apart(|| checkpointer.checkpoint(learner, step, &self.events)));
        if let Err(panic) = without_panic_output(|| catch_unwind(give)) {
            self.staging.abandon(panic_text(&*panic));
        }
        Ok(())
    }
}
