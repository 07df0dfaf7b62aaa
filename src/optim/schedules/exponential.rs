//! `ExponentialLR`.

use super::{CurveKind, OptimError, Slot, not_negative};

/// `ExponentialLR`: times `gamma` every step.
#[derive(Debug, Clone, PartialEq)]
pub struct Exponential {
    /// Factor of each step.
    pub gamma: f64,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { gamma: 1.0 }
    }
}

impl CurveKind for Exponential {
    const NAME: &'static str = "exponential";
    const TORCH: &'static str = "ExponentialLR";
    const NEEDED: &'static [&'static str] = &["gamma"];

    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![("gamma", Slot::Number(&mut self.gamma))]
    }

    fn check(&self) -> Result<(), OptimError> {
        not_negative(Self::NAME, "gamma", self.gamma)
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        base * self.gamma.powf(count as f64)
    }
}
