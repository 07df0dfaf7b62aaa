//! Where a run stands: what a manifest records besides the recipe.

use super::recipe::{EarlyStopping, Mode, Recipe};
use crate::checkpoint::{Best, EarlyState, EpochSums};
use crate::optim::PlateauState;

/// Where a run stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    pub(super) step: u64,
    /// Epochs completed.
    pub(super) epoch: usize,
    /// Batches done in the epoch after those, by all ranks together.
    pub(super) batch: usize,
    pub(super) sums: EpochSums,
    pub(super) best: Option<Best>,
    pub(super) early: Option<EarlyState>,
    pub(super) plateau: Option<PlateauState>,
    pub(super) metrics: std::collections::BTreeMap<String, f64>,
}

impl Standing {
    /// Moves on to the next epoch, with the metrics of the one that is complete; says whether this one was the best so far.
    pub(super) fn complete_epoch(&mut self, recipe: &Recipe, metrics: std::collections::BTreeMap<String, f64>) -> bool {
        self.epoch += 1;
        self.batch = 0;
        self.sums = EpochSums::default();
        self.metrics = metrics;
        if let Some(stopping) = &recipe.train.early_stopping {
            self.early = self.early_state(stopping);
        }
        self.follow(recipe);
        let section = &recipe.checkpoint;
        // What is no number is never the best.
        let Some(&value) = self.metrics.get(&section.monitor).filter(|value| !value.is_nan()) else { return false };
        let better = self.best.as_ref().is_none_or(|best| section.mode().better(value, best.value, 0.0));
        if better {
            self.best = Some(Best { metric: section.monitor.clone(), value, step: self.step });
        }
        better
    }

    /// Steps a schedule that follows a metric.
    fn follow(&mut self, recipe: &Recipe) {
        let followed = recipe.scheduler.curve.plateau().zip(recipe.scheduler.monitor());
        let value = followed.and_then(|(_, monitor)| self.metrics.get(monitor));
        if let (Some((plateau, monitor)), Some(&value)) = (followed, value) {
            let state = self.plateau.take().unwrap_or_default();
            self.plateau = Some(plateau.after(state, value, Mode::of(monitor) == Mode::Min));
        }
    }

    /// How often such a schedule has lowered the rate.
    pub(super) fn lowered(&self) -> u64 {
        self.plateau.as_ref().map_or(0, |state| state.lowered)
    }

    /// Early stopping after the epoch just completed.
    fn early_state(&self, stopping: &EarlyStopping) -> Option<EarlyState> {
        let value = *self.metrics.get(&stopping.monitor)?;
        let mode = stopping.mode.unwrap_or_else(|| Mode::of(&stopping.monitor));
        Some(match &self.early {
            Some(state) if !state.best.is_nan() && !mode.better(value, state.best, stopping.min_delta) => {
                EarlyState { best: state.best, bad_epochs: state.bad_epochs + 1 }
            }
            _ => EarlyState { best: value, bad_epochs: 0 },
        })
    }

    pub(super) fn patience_over(&self, recipe: &Recipe) -> bool {
        let state = recipe.train.early_stopping.as_ref().zip(self.early.as_ref());
        state.is_some_and(|(stopping, state)| state.bad_epochs >= stopping.patience)
    }
}
