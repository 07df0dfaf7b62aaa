//! One step of the optimizer: its batches, the gradients of all of them together, the update.

use std::ops::Range;
use std::sync::atomic::Ordering;

use burn::optim::GradientsParams;
use burn::train::Learner;

use super::gradients::Window;
use super::metrics::Sums;
use super::ranks::Told;
use super::strategy::{Loop, Strategy};
use super::{Reported, StepInput, TrainError};
use crate::checkpoint::Moment;
use crate::data::Batches;
use crate::models::Network;
use crate::optim;
use crate::random;

impl Strategy {
    /// Takes one step of the optimizer; all ranks take it together.
    ///
    /// # Errors
    /// When any rank cannot; the weights have not moved then.
    pub(super) fn train_step(&self, state: &mut Loop, batches: &mut Batches) -> Result<Told, TrainError> {
        let from = state.at.batch;
        let all = from..(from + self.window).min(self.train.num_batches());
        let computed = self.failed().and_then(|()| self.compute(state, batches, all.clone()));
        if let (Ok(_), Some(observer)) = (&computed, &self.observer) {
            observer(state.at.step + 1);
        }
        let stop = self.stop.load(Ordering::Relaxed);
        let due = self.is_due_by_time(state);
        let (window, reported, told) = match &self.group {
            None => {
                let (window, reported) = computed?;
                (window, reported, Told { stop, due, ..Told::default() })
            }
            Some(group) => {
                let read = |reported: Vec<Reported>| {
                    let mut sums = Sums::default();
                    reported.into_iter().for_each(|reported| sums.add(reported));
                    Told { stop, due, sums: sums.now() }
                };
                let (window, told) = match computed {
                    Ok((window, reported)) => (Some(window), Ok(read(reported))),
                    Err(error) => (None, Err(error)),
                };
                let told = Told::exchange(told, group)?;
                let Some(window) = window else { return Err(self.stopped(state, "a failure was not told")) };
                (window, Vec::new(), told)
            }
        };
        let grads = window.finish(&state.learner.model(), self.group.as_deref())?;
        let grads = self.clip(grads, &state.learner)?;
        state.sane = false;
        state.learner.lr_step();
        state.learner.optimizer_step(grads);
        reported.into_iter().for_each(|reported| state.sums.add(reported));
        state.sums.add_read(told.sums);
        state.at.step += 1;
        state.at.batch = all.end;
        state.sane = true;
        Ok(told)
    }

    /// The gradients of this rank's batches of a window, and what is reported of them.
    fn compute(
        &self,
        state: &Loop,
        batches: &mut Batches,
        all: Range<usize>,
    ) -> Result<(Window, Vec<Reported>), TrainError> {
        let mut window = Window::new(self.train.items_in(all.clone()), all.len());
        let mut reported = Vec::new();
        for number in (all.start + self.share.rank..all.end).step_by(self.share.ranks) {
            let Some(batch) = batches.next() else { return Err(self.stopped(state, "the epoch has too few batches")) };
            let batch = batch?;
            let items = batch.len;
            // The random numbers of a batch are a function of the seed, the step and its place: a resumed run draws the same.
            let seed = random::batch(self.recipe.train.seed, state.at.step, number - all.start);
            crate::device::seed(&self.device, seed);
            let output = state.learner.train_step(StepInput { batch, objective: self.objective.clone() });
            reported.push(output.item.reported()?);
            window.add(&state.learner.model(), output.grads, items);
        }
        Ok((window, reported))
    }

    fn stopped(&self, state: &Loop, reason: &str) -> TrainError {
        TrainError::Stopped { step: state.at.step, reason: reason.to_string() }
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

    /// Whether it is time for a checkpoint in the middle of an epoch.
    pub(super) fn is_due(&self, state: &Loop, told: &Told) -> bool {
        told.due || self.recipe.checkpoint.is_due(Moment::Step(state.at.step))
    }

    fn is_due_by_time(&self, state: &Loop) -> bool {
        self.recipe.checkpoint.is_due(Moment::Since(state.saved.elapsed()))
    }
}
