//! `LinearLR`.

use super::{CurveKind, OptimError, Slot, config, length, start_factor};

/// `LinearLR`: a factor from `start_factor` to `end_factor` in `total_iters` steps, then `end_factor`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Factor at first.
    pub start_factor: f64,
    /// Factor in the end.
    pub end_factor: f64,
    /// Steps between them.
    pub total_iters: u64,
}

impl Default for Linear {
    fn default() -> Self {
        Self { start_factor: 1.0 / 3.0, end_factor: 1.0, total_iters: 5 }
    }
}

impl CurveKind for Linear {
    const NAME: &'static str = "linear";
    const TORCH: &'static str = "LinearLR";

    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("start_factor", Slot::Number(&mut self.start_factor)),
            ("end_factor", Slot::Number(&mut self.end_factor)),
            ("total_iters", Slot::Length(&mut self.total_iters)),
        ]
    }

    fn check(&self) -> Result<(), OptimError> {
        start_factor("start_factor", self.start_factor)?;
        if !(0.0..=1.0).contains(&self.end_factor) {
            return config(format!(
                "scheduler 'linear' cannot have end_factor = {}: expected a number from 0 to 1",
                self.end_factor
            ));
        }
        length(Self::NAME, "total_iters", self.total_iters)
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        let done = count.min(self.total_iters) as f64 / self.total_iters.max(1) as f64;
        base * (self.start_factor + (self.end_factor - self.start_factor) * done)
    }
}
