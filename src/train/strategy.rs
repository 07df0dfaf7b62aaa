//! The training loop that Burn's learner runs: epochs, order, random numbers and saving are decided here.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn::train::{
    InferenceStep, Learner, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader,
    TrainingComponents, ValidLoader,
};

use super::events::{EpochReport, Event, Observers};
use super::handover::Handover;
use super::metrics::{self, Sums};
use super::recipe::{EarlyStopping, Mode, Recipe};
use super::saving::{Draft, Staging};
use super::{StepInput, TrainError};
use crate::checkpoint::{Best, CheckpointError, EarlyState, EpochSums, Manifest, Run, Which};
use crate::data::Loader;
use crate::device::Backend;
use crate::error::{panic_text, without_panic_output};
use crate::models::Network;
use crate::optim;
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

/// Where a run stands: what a manifest records besides the recipe.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    pub(super) step: u64,
    /// Epochs completed.
    pub(super) epoch: usize,
    /// Batches done in the epoch after those.
    pub(super) batch: usize,
    pub(super) sums: EpochSums,
    pub(super) best: Option<Best>,
    pub(super) early: Option<EarlyState>,
    pub(super) metrics: std::collections::BTreeMap<String, f64>,
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
    pub(super) backend: Backend,
    pub(super) run: Run,
    pub(super) staging: Staging,
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
struct Loop {
    learner: Learner<Network>,
    handover: Handover,
    at: Standing,
    /// Sums of the epoch under way.
    sums: Sums,
    /// When the run was saved last, or began.
    saved: Instant,
    /// Whether weights, optimizer and numbers belong to one step. Not in the middle of an update.
    sane: bool,
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
        let Some(checkpointer) = checkpointer else {
            // The outcome stays empty, which the session takes for a learner that did not start.
            return (learner.model(), event_processor);
        };
        let handover = Handover {
            staging: self.staging.clone(),
            checkpointer: Arc::new(Mutex::new(checkpointer)),
            events: event_store,
            device: self.device.clone(),
            aside: self.backend.is_cpu(),
        };
        let at = lock(&self.standing).clone();
        let sums = Sums::resume(at.sums);
        let mut state = Loop { learner, handover, at, sums, saved: Instant::now(), sane: true };
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
        let outcome = run.unwrap_or_else(|panic| {
            Err(TrainError::Stopped {
                step: state.at.step,
                reason: format!("an internal error: {}", panic_text(&*panic)),
            })
        });
        // A failed save explains what follows it better than what follows does.
        let saved = self.staging.finish().map_err(TrainError::from);
        saved.and(outcome).map_err(|error| self.broke_off(state, error))
    }

    /// What to tell of a training that broke off.
    fn broke_off(&self, state: &mut Loop, error: TrainError) -> TrainError {
        let saving_failed = matches!(error, TrainError::Checkpoint(_));
        if self.recipe.checkpoint.on_exception && state.sane && !saving_failed && state.at.step > 0 {
            let save = || {
                state.at.sums = state.sums.now();
                self.save(state, Reason::Stopping, None)?;
                self.staging.finish()
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
            let is_best = self.complete_epoch(&mut state.at, &train_sums, &valid_sums);
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
            let patience_over = self.patience_over(at);
            let last = at.epoch == epochs || patience_over;
            let every = self.recipe.checkpoint.every_epochs;
            let line = self.line(state, seconds);
            if is_best || last || (every > 0 && at.epoch.is_multiple_of(every)) {
                self.save(state, Reason::Policy, Some(line))?;
            } else {
                self.staging.record(line)?;
            }
            if patience_over {
                return Ok(Outcome::EarlyStopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Trains the rest of the epoch under way. `false` when it was asked to stop.
    fn train_epoch(&self, state: &mut Loop) -> Result<bool, TrainError> {
        let batches = self.train.num_batches();
        let mut seen = state.at.sums.items;
        for batch in self.train.batches(state.at.epoch, state.at.batch) {
            let batch = batch?;
            seen += batch.len as u64;
            self.train_step(state, StepInput { batch, objective: self.objective.clone() })?;
            let shown = state.sums.shown();
            let mean = |value: f64| (shown.items > 0).then_some(value);
            let (loss, score) = (mean(metrics::loss(&shown)), mean(metrics::score(&shown)));
            self.observers.tell(&Event::Step { step: state.at.step, items: seen, loss, score });
            self.staging.failed()?;
            if self.stop.load(Ordering::Relaxed) {
                state.at.sums = state.sums.now();
                return Ok(false);
            }
            if state.at.batch < batches && self.is_due(state) {
                state.at.sums = state.sums.now();
                self.save(state, Reason::Policy, None)?;
            }
        }
        state.at.sums = state.sums.now();
        Ok(true)
    }

    /// Whether it is time for a checkpoint in the middle of an epoch.
    fn is_due(&self, state: &Loop) -> bool {
        let section = &self.recipe.checkpoint;
        let steps = section.every_steps.is_some_and(|every| state.at.step.is_multiple_of(every as u64));
        steps || section.every_minutes.is_some_and(|minutes| state.saved.elapsed().as_secs_f64() >= minutes * 60.0)
    }

    fn train_step(&self, state: &mut Loop, input: StepInput) -> Result<(), TrainError> {
        // The random numbers of a step are a function of the seed and the step: a resumed run draws the same.
        crate::device::seed(&self.device, step_seed(self.recipe.train.seed, state.at.step));
        let output = state.learner.train_step(input);
        let reported = output.item.reported()?;
        let grads = self.clip(output.grads, &state.learner)?;
        if let Some(observer) = &self.observer {
            observer(state.at.step + 1);
        }
        state.sane = false;
        state.learner.lr_step();
        state.learner.optimizer_step(grads);
        state.sums.add(reported);
        state.at.step += 1;
        state.at.batch += 1;
        state.sane = true;
        Ok(())
    }

    fn clip(&self, grads: GradientsParams, learner: &Learner<Network>) -> Result<GradientsParams, TrainError> {
        let train = &self.recipe.train;
        if let Some(max_norm) = train.clip_grad_norm {
            return Ok(optim::clip_grad_norm(grads, &learner.model(), max_norm)?.0);
        }
        Ok(match train.clip_grad_value {
            Some(limit) => optim::clip_grad_value(grads, &learner.model(), limit),
            None => grads,
        })
    }

    /// Loss and score over the validation set, in evaluation mode; nothing when it was asked to stop.
    fn validate(&self, learner: &Learner<Network>) -> Result<Option<EpochSums>, TrainError> {
        let network = learner.model().valid();
        let mut sums = Sums::default();
        for batch in self.valid.batches(0, 0) {
            if self.stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            let input = StepInput { batch: batch?, objective: self.objective.clone() };
            sums.add(InferenceStep::step(&network, input).reported()?);
        }
        Ok(Some(sums.now()))
    }

    /// Moves on to the next epoch; says whether this one was the best so far.
    fn complete_epoch(&self, at: &mut Standing, train: &EpochSums, valid: &EpochSums) -> bool {
        at.epoch += 1;
        at.batch = 0;
        at.sums = EpochSums::default();
        at.metrics = metrics::named(self.metric(), train, valid);
        if let Some(stopping) = &self.recipe.train.early_stopping {
            at.early = early_state(stopping, at);
        }
        let section = &self.recipe.checkpoint;
        // What is no number is never the best.
        let Some(&value) = at.metrics.get(&section.monitor).filter(|value| !value.is_nan()) else { return false };
        let better = at.best.as_ref().is_none_or(|best| section.mode().better(value, best.value, 0.0));
        if better {
            at.best = Some(Best { metric: section.monitor.clone(), value, step: at.step });
        }
        better
    }

    fn patience_over(&self, at: &Standing) -> bool {
        let state = self.recipe.train.early_stopping.as_ref().zip(at.early.as_ref());
        state.is_some_and(|(stopping, state)| state.bad_epochs >= stopping.patience)
    }

    /// Hands a checkpoint to the saving threads.
    fn save(&self, state: &mut Loop, reason: Reason, line: Option<serde_json::Value>) -> Result<(), CheckpointError> {
        let draft = Draft {
            manifest: self.manifest(&state.at),
            weights_only: self.recipe.checkpoint.weights_only && reason == Reason::Policy,
            prune: reason == Reason::Policy,
            line,
        };
        state.handover.save(&state.learner, draft)?;
        state.saved = Instant::now();
        Ok(())
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
            seed: self.recipe.train.seed,
            metrics: at.metrics.clone(),
            sums: at.sums,
            best: at.best.clone(),
            early_stopping: at.early.clone(),
            recipe: serde_json::json!(self.recipe),
            files: Default::default(),
        }
    }

    /// The line of `metrics.jsonl` for the epoch that was completed.
    fn line(&self, state: &Loop, seconds: f64) -> serde_json::Value {
        let at = &state.at;
        let mut line = serde_json::json!({ "epoch": at.epoch, "step": at.step });
        for (name, value) in &at.metrics {
            line[name] = serde_json::json!(value);
        }
        line["lr"] = serde_json::json!(state.learner.lr_current().base());
        line["seconds"] = serde_json::json!(seconds);
        line
    }
}

/// Early stopping after the epoch just completed.
fn early_state(stopping: &EarlyStopping, at: &Standing) -> Option<EarlyState> {
    let value = *at.metrics.get(&stopping.monitor)?;
    let mode = stopping.mode.unwrap_or_else(|| Mode::of(&stopping.monitor));
    Some(match &at.early {
        Some(state) if !state.best.is_nan() && !mode.better(value, state.best, stopping.min_delta) => {
            EarlyState { best: state.best, bad_epochs: state.bad_epochs + 1 }
        }
        _ => EarlyState { best: value, bad_epochs: 0 },
    })
}

/// A seed for each step: the splitmix64 mix of the run's seed and the step.
pub(super) fn step_seed(seed: u64, step: u64) -> u64 {
    let mut z = seed.wrapping_add(step.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
