//! The training loop that Burn's learner runs: epochs, order, random numbers and saving are decided here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use burn::module::Module;
use burn::tensor::Device;
use burn::train::{
    InferenceStep, Learner, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader,
    TrainingComponents, ValidLoader,
};

use super::events::{EpochReport, Event, Observers};
use super::handover::Handover;
use super::metrics::{self, Sums};
use super::plan;
use super::ranks::{self, Told};
use super::recipe::Recipe;
use super::reduction::Reduction;
use super::restore::trained_parameters;
use super::saving::{Draft, Staging};
use super::standing::Standing;
use super::{StepInput, TrainError};
use crate::checkpoint::{EpochSums, Manifest, Moment, Run, Which};
use crate::data::{Loader, Share};
use crate::distributed::Group;
use crate::error::{failure, without_panic_output};
use crate::models::Network;
use crate::tasks::{Metric, Objective};

/// How a training ended without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// All epochs are done.
    Finished,
    /// The metric did not improve any more.
    EarlyStopped,
    /// A signal asked to stop; everything is saved.
    Interrupted,
}

/// Called with the number of each step, from 1.
pub(super) type StepObserver = Box<dyn Fn(u64) + Send + Sync>;

/// Everything that the loop needs, decided.
pub(super) struct Strategy {
    pub(super) recipe: Recipe,
    pub(super) objective: Objective,
    pub(super) train: Loader,
    pub(super) valid: Loader,
    pub(super) device: Device,
    pub(super) device_name: String,
    pub(super) run: Run,
    /// Where checkpoints are made; rank 0 alone makes any.
    pub(super) staging: Option<Staging>,
    /// The ranks that train together, where there are several.
    pub(super) group: Option<Arc<Group>>,
    /// The devices of all ranks, where NCCL adds up their gradients.
    pub(super) devices: Option<Vec<Device>>,
    /// This rank's part of the batches.
    pub(super) share: Share,
    /// Batches of one step of the optimizer, those of all ranks.
    pub(super) window: usize,
    /// Set by a signal: finish the step, save, stop.
    pub(super) stop: Arc<AtomicBool>,
    /// Called with each step's gradients.
    pub(super) observer: Option<StepObserver>,
    /// Everybody who listens.
    pub(super) observers: Observers,
    /// Where the run starts, and afterwards where it ended.
    pub(super) standing: Mutex<Standing>,
    /// How it ended.
    pub(super) outcome: Mutex<Option<Result<Outcome, TrainError>>>,
}

/// What changes while the loop runs.
pub(super) struct Loop {
    pub(super) learner: Learner<Network>,
    /// Sums gradients over ranks, where there are several.
    pub(super) reduction: Option<Reduction>,
    handover: Option<Handover>,
    pub(super) at: Standing,
    /// Sums of the epoch under way, over all ranks.
    pub(super) sums: Sums,
    /// When the run was saved last, or began.
    pub(super) saved: Instant,
    /// Time with the other ranks that `metrics.jsonl` has already.
    waited: Duration,
    /// Whether weights, optimizer and numbers belong to one step. Not in the middle of an update.
    pub(super) sane: bool,
}

/// Why a checkpoint is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// The recipe says so.
    Policy,
    /// Training stops before its end: whatever the recipe says, everything is kept that going on needs.
    Stopping,
}

impl SupervisedLearningStrategy<Network> for Strategy {
    fn fit(
        &self,
        components: TrainingComponents<Network>,
        learner: Learner<Network>,
        _: TrainLoader<Network>,
        _: ValidLoader<Network>,
        _: usize,
    ) -> (Network, SupervisedTrainingEventProcessor<Network>) {
        let TrainingComponents { checkpointer, event_processor, event_store, .. } = components;
        let handover = self.staging.clone().zip(checkpointer).map(|(staging, checkpointer)| Handover {
            staging,
            checkpointer: Mutex::new(checkpointer),
            events: event_store,
        });
        let at = lock(&self.standing).clone();
        let sums = Sums::resume(at.sums);
        let reduction = self.group.clone().map(|group| Reduction::new(group, self.devices.clone()));
        let (saved, waited) = (Instant::now(), Duration::ZERO);
        let mut state = Loop { learner, reduction, handover, at, sums, saved, waited, sane: true };
        let outcome = self.run_guarded(&mut state);
        *lock(&self.standing) = state.at;
        *lock(&self.outcome) = Some(outcome);
        (state.learner.model(), event_processor)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Strategy {
    /// Trains, and when that breaks off for whatever reason, saves what is sane and says where the run stands.
    fn run_guarded(&self, state: &mut Loop) -> Result<Outcome, TrainError> {
        let run = without_panic_output(|| catch_unwind(AssertUnwindSafe(|| self.run(state))));
        let outcome =
            run.unwrap_or_else(|panic| Err(TrainError::Stopped { step: state.at.step, reason: failure(&*panic) }));
        // A failed save explains what follows it better than what follows does.
        self.saved().and(outcome).map_err(|error| self.broke_off(state, error))
    }

    /// What to tell of a training that broke off.
    fn broke_off(&self, state: &mut Loop, error: TrainError) -> TrainError {
        let saving_failed = matches!(error, TrainError::Checkpoint(_));
        if self.recipe.checkpoint.on_exception && state.sane && !saving_failed && state.at.step > 0 {
            let save = || {
                state.at.sums = state.sums.now();
                self.save(state, Reason::Stopping, None)?;
                self.saved()
            };
            // A device that failed may fail again, and the first error is the one to tell.
            let _ = without_panic_output(|| catch_unwind(AssertUnwindSafe(save)));
        }
        let run = self.run.path().display();
        let rest = match self.run.find(Which::Last) {
            Ok(last) => {
                format!("the newest checkpoint is of step {}: `rekindle resume {run}` goes on from there", last.step)
            }
            Err(_) => "no checkpoint had been made yet".to_string(),
        };
        TrainError::BrokeOff { error: Box::new(error), rest }
    }

    /// Waits for saves that are under way.
    fn saved(&self) -> Result<(), TrainError> {
        Ok(self.staging.as_ref().map_or(Ok(()), Staging::finish)?)
    }

    /// The error of a save that failed meanwhile.
    pub(super) fn failed(&self) -> Result<(), TrainError> {
        Ok(self.staging.as_ref().map_or(Ok(()), Staging::failed)?)
    }

    /// Waits until the weights may change: see [`Staging::wait_for_room`].
    pub(super) fn wait_for_room(&self) {
        self.staging.iter().for_each(Staging::wait_for_room);
    }

    fn metric(&self) -> &'static Metric {
        &self.objective.task.kind().metric
    }

    fn run(&self, state: &mut Loop) -> Result<Outcome, TrainError> {
        let epochs = self.recipe.train.epochs;
        while state.at.epoch < epochs {
            let items = self.train.num_items() as u64;
            let done_before = state.at.sums.items;
            let started = Instant::now();
            self.observers.tell(&Event::EpochStarted { epoch: state.at.epoch + 1, epochs, items, done: done_before });
            let valid_sums = if self.train_epoch(state)? { self.validate(&state.learner)? } else { None };
            let Some(valid_sums) = valid_sums else {
                self.observers.tell(&Event::Stopped);
                self.save(state, Reason::Stopping, None)?;
                return Ok(Outcome::Interrupted);
            };
            let train_sums = state.at.sums;
            let metrics = metrics::named(self.metric(), &train_sums, &valid_sums);
            let lowered = state.at.lowered();
            let is_best = state.at.complete_epoch(&self.recipe, metrics);
            if state.at.lowered() > lowered {
                self.lower(state)?;
            }
            state.sums = Sums::default();
            let at = &state.at;
            let seconds = started.elapsed().as_secs_f64();
            self.observers.tell(&Event::EpochEnded(EpochReport {
                epoch: at.epoch,
                epochs,
                step: at.step,
                metric: self.metric(),
                metrics: at.metrics.clone(),
                lr: state.learner.lr_current().base(),
                seconds,
                items: items - done_before.min(items),
                best: is_best,
            }));
            let patience_over = at.patience_over(&self.recipe);
            let last = at.epoch == epochs || patience_over;
            let is_kept = is_best || last || self.recipe.checkpoint.is_due(Moment::Epoch(at.epoch));
            let line = self.line(state, seconds);
            if is_kept {
                self.save(state, Reason::Policy, Some(line))?;
            } else if let Some(staging) = &self.staging {
                staging.record(line)?;
            }
            if patience_over {
                return Ok(Outcome::EarlyStopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Gives the learner's schedule, which follows a metric, the rate that it has come to.
    fn lower(&self, state: &mut Loop) -> Result<(), TrainError> {
        let parameters = trained_parameters(&state.learner.model());
        let steps = self.train.num_batches().div_ceil(self.window);
        let calls = (state.at.epoch * steps) as u64;
        let scheduler = plan::scheduler(&self.recipe, &parameters, [calls, state.at.lowered()], steps)?;
        state.learner.load_scheduler(scheduler.to_record());
        Ok(())
    }

    /// Trains the rest of the epoch under way. `false` when it was asked to stop.
    fn train_epoch(&self, state: &mut Loop) -> Result<bool, TrainError> {
        let total = self.train.num_batches();
        let before = self.train.items_in(0..state.at.batch) as u64;
        let done = state.at.sums.items;
        let mut batches = self.train.shared_batches(state.at.epoch, state.at.batch, self.share);
        while state.at.batch < total {
            let told = self.train_step(state, &mut batches)?;
            let items = done + self.train.items_in(0..state.at.batch) as u64 - before;
            let shown = state.sums.shown();
            let mean = |value: f64| (shown.items > 0).then_some(value);
            let (loss, score) = (mean(metrics::loss(&shown)), mean(metrics::score(&shown)));
            self.observers.tell(&Event::Step { step: state.at.step, items, loss, score });
            if told.stop {
                state.at.sums = state.sums.now();
                return Ok(false);
            }
            if state.at.batch < total && self.is_due(state, &told) {
                state.at.sums = state.sums.now();
                self.save(state, Reason::Policy, None)?;
            }
        }
        state.at.sums = state.sums.now();
        Ok(true)
    }

    /// Loss and score over the validation set, in evaluation mode; nothing when it was asked to stop.
    fn validate(&self, learner: &Learner<Network>) -> Result<Option<EpochSums>, TrainError> {
        let network = learner.model().valid();
        let told = match &self.group {
            None => self.validate_share(&network)?,
            Some(group) => {
                let network = ranks::same_statistics(group, network)?;
                Told::exchange(self.validate_share(&network), group)?
            }
        };
        Ok((!told.stop).then_some(told.sums))
    }

    fn validate_share(&self, network: &Network) -> Result<Told, TrainError> {
        let mut sums = Sums::default();
        for batch in self.valid.shared_batches(0, 0, self.share) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(Told { stop: true, ..Told::default() });
            }
            let input = StepInput { batch: batch?, objective: self.objective.clone() };
            sums.add(InferenceStep::step(network, input).reported()?);
        }
        Ok(Told { sums: sums.now(), ..Told::default() })
    }

    /// Hands a checkpoint to the saving threads; rank 0 does.
    fn save(&self, state: &mut Loop, reason: Reason, line: Option<serde_json::Value>) -> Result<(), TrainError> {
        state.saved = Instant::now();
        let Some(handover) = &state.handover else { return Ok(()) };
        let draft = Draft {
            manifest: self.manifest(&state.at),
            weights_only: self.recipe.checkpoint.weights_only && reason == Reason::Policy,
            prune: reason == Reason::Policy,
            line,
        };
        Ok(handover.save(&state.learner, draft)?)
    }

    fn manifest(&self, at: &Standing) -> Manifest {
        Manifest {
            format: crate::checkpoint::FORMAT,
            program: concat!("rekindle ", env!("CARGO_PKG_VERSION")).to_string(),
            burn: crate::BURN_VERSION.to_string(),
            written: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            device: self.device_name.clone(),
            save: 0,
            step: at.step,
            epoch: at.epoch,
            batch: at.batch,
            batches: self.train.num_batches(),
            ranks: self.share.ranks,
            seed: self.recipe.train.seed,
            metrics: at.metrics.clone(),
            sums: at.sums,
            best: at.best.clone(),
            early_stopping: at.early.clone(),
            plateau: at.plateau.clone(),
            recipe: serde_json::json!(self.recipe),
            files: Default::default(),
        }
    }

    /// The line of `metrics.jsonl` for the epoch that was completed.
    fn line(&self, state: &mut Loop, seconds: f64) -> serde_json::Value {
        let at = &state.at;
        let mut line = serde_json::json!({ "epoch": at.epoch, "step": at.step });
        for (name, value) in &at.metrics {
            line[name] = serde_json::json!(value);
        }
        line["lr"] = serde_json::json!(state.learner.lr_current().base());
        line["seconds"] = serde_json::json!(seconds);
        if let Some(group) = &self.group {
            let waited = group.waited();
            line["wait_seconds"] = serde_json::json!((waited - state.waited).as_secs_f64());
            state.waited = waited;
        }
        line
    }
}
