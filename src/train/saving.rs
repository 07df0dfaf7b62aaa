//! Between Burn's three checkpointers and one checkpoint directory.
//!
//! Burn's learner gives its model, optimizer and scheduler as three records, each on a thread of its own. They meet here; the
//! third to arrive publishes the directory, away from the training thread.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use burn::tensor::Bytes;
use burn::train::checkpoint::{Checkpoint as Record, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy};
use burn::train::metric::store::EventStoreClient;

use crate::checkpoint::{self, CheckpointError, FILES, Manifest, Policy, Run};

/// Where the parts of a checkpoint meet. A clone is the same place.
#[derive(Clone)]
pub(super) struct Staging {
    shared: Arc<Shared>,
}

struct Shared {
    run: Run,
    policy: Policy,
    state: Mutex<State>,
    published: Condvar,
}

#[derive(Default)]
struct State {
    /// The checkpoint under way.
    draft: Option<Draft>,
    /// Its parts, in the order of [`FILES`].
    parts: [Option<Bytes>; 3],
    error: Option<CheckpointError>,
}

/// A checkpoint to come.
pub(super) struct Draft {
    pub(super) manifest: Manifest,
    /// Whether `best` will name it.
    pub(super) is_best: bool,
}

impl Staging {
    pub(super) fn new(run: Run, policy: Policy) -> Self {
        Self { shared: Arc::new(Shared { run, policy, state: Mutex::default(), published: Condvar::new() }) }
    }

    /// Announces a checkpoint whose three parts follow; waits until the one before is on disk.
    pub(super) fn announce(&self, draft: Draft) {
        self.wait_idle().draft = Some(draft);
    }

    /// Waits until nothing is under way, and gives the error of a save that failed.
    pub(super) fn finish(&self) -> Result<(), CheckpointError> {
        match self.wait_idle().error.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    fn wait_idle(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.draft.is_some() {
            state = self.shared.published.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one part; the last one publishes.
    fn put(&self, part: usize, bytes: Result<Bytes, String>) -> Result<(), CheckpointerError> {
        let mut state = self.lock();
        match bytes {
            Ok(bytes) => state.parts[part] = Some(bytes),
            Err(reason) => {
                let path = self.shared.run.path().join(FILES[part]);
                return Err(self.fail(state, CheckpointError::Io { path, doing: "turn the record into bytes", reason }));
            }
        }
        let State { parts: [Some(model), Some(optimizer), Some(scheduler)], .. } = &*state else { return Ok(()) };
        // The lock is held while publishing: whoever asks for the state waits for the disk anyway.
        let Some(draft) = &state.draft else { return Ok(()) };
        match self.publish(draft, [model, optimizer, scheduler]) {
            Ok(()) => {
                self.clear(&mut state);
                Ok(())
            }
            Err(error) => Err(self.fail(state, error)),
        }
    }

    fn fail(&self, mut state: MutexGuard<'_, State>, error: CheckpointError) -> CheckpointerError {
        let text = error.to_string();
        state.error.get_or_insert(error);
        self.clear(&mut state);
        CheckpointerError::Unknown(text)
    }

    /// Nothing is under way any more.
    fn clear(&self, state: &mut State) {
        state.draft = None;
        state.parts = Default::default();
        self.shared.published.notify_all();
    }

    fn publish(&self, draft: &Draft, [model, optimizer, scheduler]: [&Bytes; 3]) -> Result<(), CheckpointError> {
        let run = &self.shared.run;
        let files: [(&str, &[u8]); 3] = [(FILES[0], model), (FILES[1], optimizer), (FILES[2], scheduler)];
        let checkpoint = checkpoint::publish(run, draft.manifest.clone(), &files)?;
        run.point("last", &checkpoint)?;
        if draft.is_best {
            run.point("best", &checkpoint)?;
        }
        let all: Vec<_> = run.checkpoints().into_iter().map(|checkpoint| (checkpoint.clone(), checkpoint.manifest().ok())).collect();
        checkpoint::doomed(&all, &self.shared.policy, draft.manifest.best.as_ref()).iter().try_for_each(|old| run.remove(old))
    }

    /// The checkpointer of one part, for Burn's learner.
    pub(super) fn part(&self, part: usize) -> Part {
        Part { staging: self.clone(), part }
    }
}

/// One of the three checkpointers that Burn's learner calls.
pub(super) struct Part {
    staging: Staging,
    part: usize,
}

impl<R: Record> Checkpointer<R> for Part {
    fn save(&self, _step: usize, record: R) -> Result<(), CheckpointerError> {
        self.staging.put(self.part, record.checkpoint_into_bytes().map_err(|error| error.to_string()))
    }

    fn delete(&self, _step: usize) -> Result<(), CheckpointerError> {
        Ok(())
    }

    fn restore(&self, _step: usize) -> Result<R, CheckpointerError> {
        Err(CheckpointerError::Unknown("a run is restored before its learner is made".into()))
    }
}

/// Saves whenever it is asked: the training strategy has decided already.
pub(super) struct WhenAsked;

impl CheckpointingStrategy for WhenAsked {
    fn checkpointing(&mut self, _: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        vec![CheckpointingAction::Save]
    }
}
