//! `ExponentialLR`.

use super::{CurveKind, Field};

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

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![Field::number("gamma", &mut self.gamma).not_negative()]
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        base * self.gamma.powf(count as f64)
    }
}
