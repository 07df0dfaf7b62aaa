//! `PolynomialLR`.

use super::{CurveKind, OptimError, Slot, length, not_negative};

/// `PolynomialLR`: from the base rate to 0 in `total_iters` steps, along a power of what is left.
#[derive(Debug, Clone, PartialEq)]
pub struct Polynomial {
    /// Steps until 0.
    pub total_iters: u64,
    /// The power; 1 is a line.
    pub power: f64,
}

impl Default for Polynomial {
    fn default() -> Self {
        Self { total_iters: 5, power: 1.0 }
    }
}

impl CurveKind for Polynomial {
    const NAME: &'static str = "polynomial";
    const TORCH: &'static str = "PolynomialLR";
    const LENGTH: Option<&'static str> = Some("total_iters");

    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![("total_iters", Slot::Length(&mut self.total_iters)), ("power", Slot::Number(&mut self.power))]
    }

    fn check(&self) -> Result<(), OptimError> {
        length(Self::NAME, "total_iters", self.total_iters)?;
        not_negative(Self::NAME, "power", self.power)
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        let left = 1.0 - count.min(self.total_iters) as f64 / self.total_iters.max(1) as f64;
        base * left.powf(self.power)
    }
}
