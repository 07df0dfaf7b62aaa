//! `StepLR`.

use super::{CurveKind, Field};

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

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![Field::length("step_size", &mut self.step_size), Field::number("gamma", &mut self.gamma).not_negative()]
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        base * self.gamma.powf((count / self.step_size.max(1)) as f64)
    }
}
