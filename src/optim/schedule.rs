//! Learning rates as functions of how often a schedule was stepped.

use super::Curve;
use super::schedules::Linear;

/// A learning-rate schedule with every default filled in.
///
/// The rate depends on nothing but the base rate and the number of steps, so that resuming needs this number only.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// The curve, from the end of the warm-up on.
    pub curve: Curve,
    /// A linear rise before it, joined as `SequentialLR([LinearLR, …])` does.
    pub warmup: Option<Warmup>,
    /// How often a curve that follows a metric has lowered the rate: what it depends on instead of the number of steps.
    pub lowered: u64,
}

/// A linear rise to the base rate: `LinearLR(start_factor, total_iters=steps)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Warmup {
    /// Steps until the curve begins.
    pub steps: u64,
    /// Factor at first.
    pub start_factor: f64,
}

impl Warmup {
    /// The rise as a curve of its own.
    pub(super) fn curve(&self) -> Curve {
        Linear { start_factor: self.start_factor, end_factor: 1.0, total_iters: self.steps }.into()
    }
}

impl Schedule {
    /// The base rate throughout.
    pub fn constant() -> Self {
        Self { curve: Curve::default(), warmup: None, lowered: 0 }
    }

    /// The rate after `count` calls of PyTorch's `scheduler.step()`, for a parameter group with base rate `base`.
    pub fn lr(&self, base: f64, count: u64) -> f64 {
        match &self.warmup {
            Some(warmup) if count < warmup.steps => warmup.curve().lr(base, count),
            Some(warmup) => self.curve.lr(base, count - warmup.steps),
            None if self.curve.is_measured() => self.curve.lr(base, self.lowered),
            None => self.curve.lr(base, count),
        }
    }
}
