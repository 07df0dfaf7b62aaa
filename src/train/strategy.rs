//! The training loop that Burn's learner runs: epochs, order, random numbers and saving are decided here.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Device;
use burn::train::metric::store::EventStoreClient;
use burn::train::{
    InferenceStep, Interrupter, Learner, LearningCheckpointer, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader,
    TrainingComponents, ValidLoader,
};

use super::metrics::{self, Score, Sums};
use super::progress::Progress;
use super::recipe::{EarlyStopping, Mode, Recipe};
use super::saving::{Draft, Staging};
use super::{StepInput, TrainError};
use crate::checkpoint::{Best, EarlyState, EpochSums, Manifest, Run};
use crate::data::Loader;
use crate::models::Network;
use crate::optim::{self, LossConfig};

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

/// Everything that the loop needs, decided.
pub(super) struct Strategy {
    pub(super) recipe: Recipe,
    pub(super) loss: LossConfig,
    pub(super) score: Score,
    pub(super) train: Loader,
    pub(super) valid: Loader,
    pub(super) device: Device,
    pub(super) device_name: String,
    pub(super) run: Run,
    pub(super) staging: Staging,
    /// Set by a signal: finish the step, save, stop.
    pub(super) stop: Arc<AtomicBool>,
    /// Where the run starts, and afterwards where it ended.
    pub(super) standing: Mutex<Standing>,
    /// How it ended.
    pub(super) outcome: Mutex<Option<Result<Outcome, TrainError>>>,
}

/// What Burn's learner lends to the loop.
struct Lent<'a> {
    learner: Learner<Network>,
    checkpointer: Option<LearningCheckpointer<Network>>,
    interrupter: &'a Interrupter,
    events: &'a EventStoreClient,
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
        let TrainingComponents { checkpointer, interrupter, event_processor, event_store, .. } = components;
        let mut lent = Lent { learner, checkpointer, interrupter: &interrupter, events: &event_store };
        let mut standing = lock(&self.standing).clone();
        let outcome = self.run(&mut lent, &mut standing);
        // A failed save explains what follows it better than what follows does.
        let outcome = self.staging.finish().map_err(TrainError::from).and(outcome);
        *lock(&self.standing) = standing;
        *lock(&self.outcome) = Some(outcome);
        (lent.learner.model(), event_processor)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Strategy {
    fn run(&self, lent: &mut Lent<'_>, at: &mut Standing) -> Result<Outcome, TrainError> {
        let epochs = self.recipe.train.epochs;
        let mut progress = Progress::new(self.score, epochs);
        while at.epoch < epochs {
            let items = self.train.num_items() as u64;
            let done_before = at.sums.items;
            progress.start(at.epoch + 1, items, done_before);
            if !self.train_epoch(lent, at, &progress)? {
                progress.abandon();
                self.save(lent, at, false);
                return Ok(Outcome::Interrupted);
            }
            let train_sums = at.sums;
            let valid_sums = self.validate(&lent.learner)?;
            let is_best = self.complete_epoch(at, &train_sums, &valid_sums);
            let trained = items - done_before.min(items);
            progress.finish(at.epoch, &train_sums, &valid_sums, trained, is_best);
            let patience_over = self.patience_over(at);
            let last = at.epoch == epochs || patience_over;
            let every = self.recipe.checkpoint.every_epochs;
            let mut stall = None;
            if is_best || last || (every > 0 && at.epoch.is_multiple_of(every)) {
                stall = Some(self.save(lent, at, is_best));
            }
            self.record(lent, at, progress.seconds(), stall)?;
            if let Some(error) = lent.interrupter.error() {
                return Err(TrainError::Stopped { step: at.step, reason: error.to_string() });
            }
            if patience_over {
                return Ok(Outcome::EarlyStopped);
            }
        }
        Ok(Outcome::Finished)
    }

    /// Trains the rest of the epoch under way. `false` when it was asked to stop.
    fn train_epoch(&self, lent: &mut Lent<'_>, at: &mut Standing, progress: &Progress) -> Result<bool, TrainError> {
        let mut sums = Sums::resume(at.sums);
        let batches = self.train.num_batches();
        let every = self.recipe.checkpoint.every_steps.unwrap_or(0) as u64;
        let mut seen = at.sums.items;
        for batch in self.train.batches(at.epoch, at.batch) {
            let batch = batch?;
            seen += batch.len as u64;
            self.train_step(&mut lent.learner, StepInput { batch, loss: self.loss }, at.step, &mut sums)?;
            at.step += 1;
            at.batch += 1;
            progress.update(seen, &sums.shown());
            if let Some(error) = lent.interrupter.error() {
                return Err(TrainError::Stopped { step: at.step, reason: error.to_string() });
            }
            let stop = self.stop.load(Ordering::Relaxed);
            let due = every > 0 && at.step.is_multiple_of(every) && at.batch < batches;
            if stop || due {
                at.sums = sums.now();
                if stop {
                    return Ok(false);
                }
                self.save(lent, at, false);
            }
        }
        at.sums = sums.now();
        Ok(true)
    }

    fn train_step(&self, learner: &mut Learner<Network>, input: StepInput, step: u64, sums: &mut Sums) -> Result<(), TrainError> {
        // The random numbers of a step are a function of the seed and the step: a resumed run draws the same.
        crate::device::seed(&self.device, step_seed(self.recipe.train.seed, step));
        let output = learner.train_step(input);
        learner.lr_step();
        let grads = self.clip(output.grads, learner)?;
        learner.optimizer_step(grads);
        sums.add(output.item);
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

    /// Loss and score over the validation set, in evaluation mode.
    fn validate(&self, learner: &Learner<Network>) -> Result<EpochSums, TrainError> {
        let network = learner.model().valid();
        let mut sums = Sums::default();
        for batch in self.valid.batches(0, 0) {
            sums.add(InferenceStep::step(&network, StepInput { batch: batch?, loss: self.loss }));
        }
        Ok(sums.now())
    }

    /// Moves on to the next epoch; says whether this one was the best so far.
    fn complete_epoch(&self, at: &mut Standing, train: &EpochSums, valid: &EpochSums) -> bool {
        at.epoch += 1;
        at.batch = 0;
        at.sums = EpochSums::default();
        at.metrics = metrics::named(self.score, train, valid);
        if let Some(stopping) = &self.recipe.train.early_stopping {
            at.early = early_state(stopping, at);
        }
        let section = &self.recipe.checkpoint;
        let Some(&value) = at.metrics.get(&section.monitor) else { return false };
        // What is no number is no better than nothing.
        let better = !value.is_nan() && at.best.as_ref().is_none_or(|best| section.mode().better(value, best.value, 0.0));
        if better {
            at.best = Some(Best { metric: section.monitor.clone(), value, step: at.step });
        }
        better
    }

    fn patience_over(&self, at: &Standing) -> bool {
        let state = self.recipe.train.early_stopping.as_ref().zip(at.early.as_ref());
        state.is_some_and(|(stopping, state)| state.bad_epochs >= stopping.patience)
    }

    /// Hands a checkpoint to the saving threads; gives the seconds for which training stood still.
    fn save(&self, lent: &mut Lent<'_>, at: &Standing, is_best: bool) -> f64 {
        let started = Instant::now();
        self.staging.announce(Draft { manifest: self.manifest(at), is_best });
        if let Some(checkpointer) = &mut lent.checkpointer {
            checkpointer.checkpoint(&lent.learner, at.step as usize, lent.events);
        }
        started.elapsed().as_secs_f64()
    }

    fn manifest(&self, at: &Standing) -> Manifest {
        Manifest {
            format: crate::checkpoint::FORMAT,
            program: concat!("rekindle ", env!("CARGO_PKG_VERSION")).to_string(),
            burn: crate::BURN_VERSION.to_string(),
            written: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            device: self.device_name.clone(),
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

    /// A line of `metrics.jsonl` for the epoch that was completed.
    fn record(&self, lent: &Lent<'_>, at: &Standing, seconds: f64, stall: Option<f64>) -> Result<(), TrainError> {
        let mut line = serde_json::json!({ "epoch": at.epoch, "step": at.step });
        for (name, value) in &at.metrics {
            line[name] = serde_json::json!(value);
        }
        line["lr"] = serde_json::json!(lent.learner.lr_current().base());
        line["seconds"] = serde_json::json!(seconds);
        line["save_stall_seconds"] = serde_json::json!(stall);
        Ok(self.run.record(&line)?)
    }
}

/// Early stopping after the epoch just completed.
fn early_state(stopping: &EarlyStopping, at: &Standing) -> Option<EarlyState> {
    let value = *at.metrics.get(&stopping.monitor)?;
    let mode = stopping.mode.unwrap_or_else(|| Mode::of(&stopping.monitor));
    Some(match &at.early {
        Some(state) if !mode.better(value, state.best, stopping.min_delta) => {
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
