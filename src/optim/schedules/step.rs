//! `StepLR`.

use super::{CurveKind, OptimError, Slot, length, not_negative};

/// `StepLR`: times `gamma` every `step_size` steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Step {
    /// Steps between two changes.
    pub step_size: u64,
    /// Factor of each change.
    pub gamma: f64,
}

impl Default for Step {
    fn default() -> Self {
        Self { step_size: 1, gamma: 0.1 }
    }
}

impl CurveKind for Step {
    const NAME: &'static str = "step";
    const TORCH: &'static str = "StepLR";
    const NEEDED: &'static [&'static str] = &["step_size"];

    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![("step_size", Slot::Length(&mut self.step_size)), ("gamma", Slot::Number(&mut self.gamma))]
    }

    fn check(&self) -> Result<(), OptimError> {
        length(Self::NAME, "step_size", self.step_size)?;
        not_negative(Self::NAME, "gamma", self.gamma)
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        base * self.gamma.powf((count / self.step_size.max(1)) as f64)
    }
}
