//! Between Burn's three checkpointers and one checkpoint directory.
//!
//! Burn's learner gives its model, optimizer and scheduler as three records, each on a thread of its own. There each is written,
//! hashed and synced; the last to be done publishes the directory. One save is under way at a time. The model's record is empty: its
//! tensors come as a [`NetworkRecord`], which is no copy.

use std::fmt::Display;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use burn::train::checkpoint::{
    Checkpoint as Record, Checkpointer, CheckpointerError, CheckpointingAction, CheckpointingStrategy,
};
use burn::train::metric::store::EventStoreClient;
use serde_json::{Value, json};

use super::events::{Event, Observers};
use crate::checkpoint::{
    Candidate, CheckpointError, CheckpointSection, FILES, Manifest, RunWriter, Scratch, Which, judge,
};
use crate::error::{panic_text, without_panic_output};
use crate::kernels::lent_at_most;
use crate::models::record::NetworkRecord;

/// The number of the network's part.
const NETWORK: usize = 0;
/// A save that holds more bytes than this when the optimizer is about to change the tensors is waited for: a second copy of VGG16 with
/// Adam's state is 1.7 GB. Training goes on beside smaller ones, whose copies cost less than a pause.
const LARGE: usize = 256 << 20;
/// Bytes that a large save may still have to write when it is waited for no more.
const ROOM: usize = 16 << 20;

/// Where the parts of a checkpoint meet. A clone is the same place.
#[derive(Clone)]
pub(super) struct Staging {
    shared: Arc<Shared>,
}

struct Shared {
    run: Arc<RunWriter>,
    policy: CheckpointSection,
    observers: Observers,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// The save that is under way.
    job: Option<Job>,
    /// The first save that failed.
    error: Option<CheckpointError>,
    /// What saving has cost since the last line of metrics.
    spent: Spent,
    /// Lines of epochs that ended while a save was under way.
    lines: Vec<Value>,
    /// Whether it was said that the limit on size cannot be kept.
    warned: bool,
}

/// A save that is under way.
struct Job {
    /// What to publish; taken when its three parts are written.
    work: Option<(Draft, Arc<Scratch>)>,
    /// The first part; taken when it is written.
    network: Option<NetworkRecord>,
    begun: Instant,
    /// Parts that have arrived and are written.
    done: usize,
    /// Seconds for which training stood still; known when it goes on.
    stall: Option<f64>,
    /// Whether updates wait for it; known at the first one.
    large: Option<bool>,
    error: Option<CheckpointError>,
}

/// A checkpoint to come.
pub(super) struct Draft {
    pub(super) manifest: Manifest,
    /// Whether the optimizer's and the scheduler's state are left out.
    pub(super) weights_only: bool,
    /// Whether older checkpoints may go once it is whole.
    pub(super) prune: bool,
    /// The line of metrics of the epoch that it ends; written just before the checkpoint is published.
    pub(super) line: Option<Value>,
}

/// Seconds that saving took.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// For which training stood still.
    stall: f64,
    /// From handing over to everything being on the disk.
    saving: f64,
    saves: u64,
}

impl State {
    /// The lines that wait, with what saving has cost since the one before.
    fn take_lines(&mut self) -> Vec<Value> {
        let mut lines = std::mem::take(&mut self.lines);
        for line in &mut lines {
            let spent = std::mem::take(&mut self.spent);
            let told = |seconds: f64| if spent.saves > 0 { json!(seconds) } else { Value::Null };
            line["save_stall_seconds"] = told(spent.stall);
            line["save_seconds"] = told(spent.saving);
        }
        lines
    }
}

/// The time during which training stands still for a save. It ends when this is dropped.
pub(super) struct Stall {
    staging: Staging,
    begun: Instant,
}

impl Drop for Stall {
    fn drop(&mut self) {
        if let Some(job) = &mut self.staging.lock().job {
            job.stall = Some(self.begun.elapsed().as_secs_f64());
        }
        self.staging.shared.changed.notify_all();
    }
}

impl Staging {
    pub(super) fn new(run: Arc<RunWriter>, policy: CheckpointSection, observers: Observers) -> Self {
        Self { shared: Arc::new(Shared { run, policy, observers, state: Mutex::default(), changed: Condvar::new() }) }
    }

    /// Announces a checkpoint of a network, whose three parts follow; waits until the one before is on disk. Training stands still
    /// until what this gives is dropped.
    pub(super) fn announce(
        &self,
        draft: Draft,
        network: impl FnOnce() -> NetworkRecord,
    ) -> Result<Stall, CheckpointError> {
        let begun = Instant::now();
        let mut state = self.wait_idle();
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        let scratch = Arc::new(Scratch::new(self.shared.run.clone(), draft.manifest.step)?);
        state.job = Some(Job {
            work: Some((draft, scratch)),
            network: Some(network()),
            begun: Instant::now(),
            done: 0,
            stall: None,
            large: None,
            error: None,
        });
        Ok(Stall { staging: self.clone(), begun })
    }

    /// Writes the line of an epoch that ends without a checkpoint; lines stay in order.
    pub(super) fn record(&self, line: Value) -> Result<(), CheckpointError> {
        let mut state = self.lock();
        state.lines.push(line);
        if state.job.is_some() {
            return Ok(());
        }
        let lines = state.take_lines();
        self.write(&lines)
    }

    /// The error of a save that failed meanwhile.
    pub(super) fn failed(&self) -> Result<(), CheckpointError> {
        self.lock().error.take().map_or(Ok(()), Err)
    }

    /// Waits until nothing is under way, and gives the error of a save that failed.
    pub(super) fn finish(&self) -> Result<(), CheckpointError> {
        self.wait_idle().error.take().map_or(Ok(()), Err)
    }

    /// Gives up the save that is under way: its parts will not all come.
    pub(super) fn abandon(&self, reason: String) {
        self.end(Err(self.broken(reason)));
    }

    fn wait_idle(&self) -> MutexGuard<'_, State> {
        let mut state = self.lock();
        while state.job.is_some() {
            state = self.wait(state);
        }
        state
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until a large save that is under way has written nearly all that it holds: what the next update changes before that is in
    /// memory twice.
    pub(super) fn wait_for_room(&self) {
        let begun = Instant::now();
        let is_large = |job: &mut Job| *job.large.get_or_insert_with(|| !lent_at_most(LARGE, Duration::ZERO));
        if !self.lock().job.as_mut().is_some_and(is_large) || lent_at_most(ROOM, Duration::ZERO) {
            return;
        }
        while !lent_at_most(ROOM, Duration::from_millis(20)) && self.lock().job.is_some() {}
        let mut state = self.lock();
        let stall = state.job.as_mut().and_then(|job| job.stall.as_mut());
        let waited = begun.elapsed().as_secs_f64();
        match stall {
            Some(stall) => *stall += waited,
            None => state.spent.stall += waited,
        }
    }

    /// Writes one part; the last one publishes.
    fn put<R: Record>(&self, part: usize, record: R) {
        let work = self.lock().job.as_mut().and_then(|job| {
            let (draft, scratch) = job.work.as_ref()?;
            Some((draft.weights_only, scratch.clone(), job.network.take_if(|_| part == NETWORK)))
        });
        let Some((weights_only, scratch, network)) = work else { return };
        let written = match network {
            Some(network) => write(&scratch, FILES[part], |path| network.save(path)),
            None if weights_only => Ok(()),
            None => write(&scratch, FILES[part], |path| record.save(path.to_path_buf())),
        };
        // Whoever publishes must be the only one to hold it.
        drop(scratch);
        let mut state = self.lock();
        let Some(job) = &mut state.job else { return };
        job.done += 1;
        if let Err(error) = written {
            job.error.get_or_insert(error);
        }
        if job.done == FILES.len() {
            self.complete(state);
        }
    }

    /// Publishes the checkpoint whose parts are all written.
    fn complete<'a>(&'a self, mut state: MutexGuard<'a, State>) {
        while state.job.as_ref().is_some_and(|job| job.stall.is_none()) {
            state = self.wait(state);
        }
        let Some(job) = &mut state.job else { return };
        let (work, error, saving, stall) =
            (job.work.take(), job.error.take(), job.begun.elapsed(), job.stall.unwrap_or_default());
        let Some((mut draft, scratch)) = work else { return };
        let result = match error {
            Some(error) => {
                drop(state);
                Err(error)
            }
            None => {
                state.spent.saving += saving.as_secs_f64();
                state.spent.stall += stall;
                state.spent.saves += 1;
                state.lines.extend(draft.line.take());
                let (lines, warned) = (state.take_lines(), state.warned);
                // The job stays in its place, so that no other begins; training goes on.
                drop(state);
                let publish = || self.publish(draft, scratch, &lines, warned);
                let published = without_panic_output(|| catch_unwind(AssertUnwindSafe(publish)));
                published.unwrap_or_else(|panic| Err(self.broken(panic_text(&*panic))))
            }
        };
        self.end(result);
    }

    /// Nothing is under way any more.
    fn end(&self, result: Result<(), CheckpointError>) {
        let mut state = self.lock();
        state.job = None;
        let lines = state.take_lines();
        if let Err(error) = result.and_then(|()| self.write(&lines)) {
            state.error.get_or_insert(error);
        }
        self.shared.changed.notify_all();
    }

    fn publish(
        &self,
        draft: Draft,
        scratch: Arc<Scratch>,
        lines: &[Value],
        warned: bool,
    ) -> Result<(), CheckpointError> {
        // Before the checkpoint exists: a run that goes on from it does not compute these lines again.
        self.write(lines)?;
        let Draft { manifest, prune, .. } = draft;
        let (step, best) = (manifest.step, manifest.best.as_ref().map(|best| best.step));
        let scratch =
            Arc::into_inner(scratch).ok_or_else(|| self.broken("a part of it is still being written".into()))?;
        let checkpoint = scratch.publish(manifest)?;
        let run = &self.shared.run;
        run.point("last", &checkpoint)?;
        // It is also another where a program died before it said so, or a run went back: the pointer follows the manifest.
        if let Some(best) =
            best.filter(|best| run.pointer("best") != Some(*best)).and_then(|best| run.find(Which::Step(best)).ok())
        {
            run.point("best", &best)?;
        }
        if prune { self.prune(step, run.pointer("best"), warned) } else { Ok(()) }
    }

    fn broken(&self, reason: String) -> CheckpointError {
        CheckpointError::Io { path: self.shared.run.path().to_path_buf(), doing: "save a checkpoint", reason }
    }

    /// Removes what the policy lets go, now that the new checkpoint is whole.
    fn prune(&self, last: u64, best: Option<u64>, warned: bool) -> Result<(), CheckpointError> {
        let Shared { run, policy, .. } = &*self.shared;
        let all = run.newest_first().into_iter();
        let all: Vec<Candidate> = all
            .map(|(checkpoint, manifest)| Candidate::new(checkpoint, manifest.as_ref().ok(), &policy.monitor))
            .collect();
        let verdict = judge(&all, policy, last, best);
        verdict.doomed.iter().try_for_each(|old| run.remove(old))?;
        if verdict.above_limit > 0 && !warned {
            self.lock().warned = true;
            let above = verdict.above_limit;
            let path = run.path().display();
            self.shared.observers.tell(&Event::Note(format!(
                "{path}: checkpoints take {above} bytes more than checkpoint.max_total_size: last and best are kept in any case"
            )));
        }
        Ok(())
    }

    fn write(&self, lines: &[Value]) -> Result<(), CheckpointError> {
        lines.iter().try_for_each(|line| self.shared.run.record(line))
    }

    /// The checkpointer of one part, for Burn's learner.
    pub(super) fn part(&self, part: usize) -> Part {
        Part { staging: self.clone(), part }
    }
}

/// Writes a record, tensor by tensor: its bytes are never all in memory a second time. A panic is an error as any other: the threads
/// that save must go on.
fn write<E: Display>(
    scratch: &Scratch,
    name: &str,
    save: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<(), CheckpointError> {
    let fail = |reason: String| CheckpointError::Io { path: name.into(), doing: "write the record", reason };
    let save = |path: &Path| {
        save(path).map_err(|error| {
            let text = error.to_string();
            system_error(&text).map_or_else(|| fail(text), |error| CheckpointError::io("write it", path, &error))
        })
    };
    let write = || scratch.take(name, save);
    without_panic_output(|| catch_unwind(AssertUnwindSafe(write)))
        .unwrap_or_else(|panic| Err(fail(panic_text(&*panic))))
}

/// The system's error in an error of Burn, which has kept its text alone; the text ends in the error's number.
fn system_error(text: &str) -> Option<io::Error> {
    let (_, end) = text.rsplit_once("(os error ")?;
    let digits = end.split(')').next()?;
    digits.parse().ok().map(io::Error::from_raw_os_error)
}

/// One of the three checkpointers that Burn's learner calls.
pub(super) struct Part {
    staging: Staging,
    part: usize,
}

impl<R: Record> Checkpointer<R> for Part {
    /// Burn never hears of an error: it would panic at the next save. The training loop asks the staging area.
    fn save(&self, _step: usize, record: R) -> Result<(), CheckpointerError> {
        self.staging.put(self.part, record);
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_s_error_is_found_in_burn_s_words() {
        let full = format!("Record I/O error: write failed: {}", io::Error::from_raw_os_error(28));
        assert_eq!(system_error(&full).unwrap().raw_os_error(), Some(28));
        assert!(system_error("Record I/O error: Duplicate tensor name 'a'").is_none());
        assert!(system_error("a name (os error x)").is_none());
    }
}
