//! One step of the optimizer: its batches, the gradients of all of them together, the update.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use burn::optim::GradientsParams;
use burn::train::{Learner, TrainOutput};

use super::gradients::Window;
use super::metrics::Sums;
use super::nccl;
use super::ranks::Told;
use super::reduction::{Own, Reduction};
use super::strategy::{Loop, Strategy};
use super::{Reported, StepInput, StepOutput, TrainError};
use crate::checkpoint::{EpochSums, Moment};
use crate::data::{Batch, Batches};
use crate::distributed::{self, Group};
use crate::kernels;
use crate::models::Network;
use crate::optim;
use crate::random;

/// Gradients, what is reported of them on this process alone, and what is to be known of the step.
type Step = (GradientsParams, Vec<Reported>, Told);

impl Strategy {
    /// Takes one step of the optimizer; all ranks take it together.
    ///
    /// # Errors
    /// When any rank cannot; the weights have not moved then.
    pub(super) fn train_step(&self, state: &mut Loop, batches: &mut Batches) -> Result<Told, TrainError> {
        let from = state.at.batch;
        let all = from..(from + self.window).min(self.train.num_batches());
        let (grads, reported, told) = match &self.group {
            None => self.step_alone(state, batches, all.clone())?,
            Some(group) => self.step_together(state, batches, all.clone(), group)?,
        };
        let grads = self.clip(grads, &state.learner)?;
        self.wait_for_room();
        state.sane = false;
        state.learner.lr_step();
        kernels::step(&self.device, || state.learner.optimizer_step(grads));
        reported.into_iter().for_each(|reported| state.sums.add(reported));
        state.sums.add_read(told.sums);
        state.at.step += 1;
        state.at.batch = all.end;
        state.sane = true;
        Ok(told)
    }

    /// The gradients of a window of batches, what is reported of them, and what else is to be known of the step.
    fn step_alone(&self, state: &Loop, batches: &mut Batches, all: Range<usize>) -> Result<Step, TrainError> {
        self.failed()?;
        let mut window = Window::new(self.train.items_in(all.clone()), all.len());
        let mut reported = Vec::new();
        for number in all.clone() {
            let batch = self.next(state, batches)?;
            let items = batch.len;
            let output = self.batch_step(state, batch, number - all.start);
            reported.push(output.item.reported()?);
            window.add(&state.learner.model(), output.grads, items);
        }
        self.observe(state);
        let (stop, due) = (self.stop.load(Ordering::Relaxed), self.is_due_by_time(state));
        Ok((window.take(), reported, Told { stop, due, ..Told::default() }))
    }

    /// The same for the batches of all ranks. Whatever happens on one of them, each sends the same.
    fn step_together(
        &self,
        state: &mut Loop,
        batches: &mut Batches,
        all: Range<usize>,
        group: &Arc<Group>,
    ) -> Result<Step, TrainError> {
        let Some(mut reduction) = state.reduction.take() else { return Err(self.stopped(state, "it has no ranks")) };
        let network = state.learner.model();
        let mut window = Window::new(self.train.items_in(all.clone()), all.len());
        let computed = self.compute(state, batches, all, &mut window, &reduction);
        let (own, told) = match computed {
            Ok((own, sums)) => {
                let (stop, due) = (self.stop.load(Ordering::Relaxed), self.is_due_by_time(state));
                (own, Ok(Told { stop, due, stale: false, sums }))
            }
            Err(error) => (None, Err(error)),
        };
        if let Some(devices) = reduction.devices() {
            let told = Told::exchange(told, group)?;
            let grads = nccl::summed(&network, window.take(), group, devices)?;
            state.reduction = Some(reduction);
            return Ok((grads, Vec::new(), told));
        }
        let sent = reduction.send(&network, own);
        let told = told.map(|told| Told { stale: sent.is_stale(), ..told });
        let told = Told::exchange(told, group)?;
        let sent = if told.stale { reduction.send_again(&network, sent) } else { sent };
        let grads = reduction.receive(&network, sent)?;
        state.reduction = Some(reduction);
        Ok((grads, Vec::new(), told))
    }

    /// The gradients of this rank's batches of a window, and the sums of what is reported of them. In each turn, each rank has one.
    fn compute(
        &self,
        state: &Loop,
        batches: &mut Batches,
        all: Range<usize>,
        window: &mut Window,
        reduction: &Reduction,
    ) -> Result<(Option<Own>, EpochSums), TrainError> {
        let synchronised = self.group.as_ref().filter(|_| self.recipe.train.sync_batch_norm);
        let network = state.learner.model();
        let (mut own, mut sums) = (None, Sums::default());
        let turns = all.clone().step_by(self.share.ranks);
        let mine = turns
            .map(|first| (first, first + self.share.rank))
            .filter(|(_, number)| synchronised.is_some() || *number < all.end);
        let mine: Vec<(usize, usize)> = mine.collect();
        for (turn, &(first, number)) in mine.iter().enumerate() {
            let counts = number < all.end;
            let batch = self.failed().and_then(|()| match counts {
                true => self.next(state, batches),
                // To keep step with the others: what is computed is worth nothing.
                false => self.next(state, &mut self.train.batch(state.at.epoch, first)),
            });
            let batch = match synchronised {
                Some(group) => group.agree(batch)?,
                None => batch?,
            };
            let share = if counts { window.share(batch.len) } else { 0.0 };
            let items = batch.len;
            let step = || self.batch_step(state, batch, number - all.start);
            let step = || match synchronised {
                Some(group) => distributed::within(group, share, step),
                None => Ok(step()),
            };
            let item = if turn + 1 == mine.len() && reduction.devices().is_none() {
                let (last, item) = reduction.last_batch(&network, &window.take(), share, step)?;
                own = Some(last);
                item
            } else {
                let output = step()?;
                if counts {
                    window.add(&network, output.grads, items);
                }
                output.item
            };
            let reported = item.reported()?;
            if counts {
                sums.add(reported);
            }
        }
        self.observe(state);
        Ok((own, sums.now()))
    }

    /// The next batch of this rank.
    fn next(&self, state: &Loop, batches: &mut Batches) -> Result<Batch, TrainError> {
        let batch = batches.next().ok_or_else(|| self.stopped(state, "the epoch has too few batches"))?;
        Ok(batch?)
    }

    /// Forward and backward pass of a batch; `place` is its place in the window.
    fn batch_step(&self, state: &Loop, batch: Batch, place: usize) -> TrainOutput<StepOutput> {
        // The random numbers of a batch are a function of the seed, the step and its place: a resumed run draws the same.
        let seed = random::batch(self.recipe.train.seed, state.at.step, place);
        crate::device::seed(&self.device, seed);
        let input = StepInput { batch, objective: self.objective.clone() };
        kernels::step(&self.device, || state.learner.train_step(input))
    }

    fn observe(&self, state: &Loop) {
        if let Some(observer) = &self.observer {
            observer(state.at.step + 1);
        }
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
