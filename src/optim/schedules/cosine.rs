//! `CosineAnnealingLR`.

use std::f64::consts::PI;

use super::{CurveKind, OptimError, Slot, length, not_negative};

/// `CosineAnnealingLR`: half a cosine from the base rate down to `eta_min` in `t_max` steps, and up again after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cosine {
    /// Steps down to the minimum.
    pub t_max: u64,
    /// The minimum.
    pub eta_min: f64,
}

impl Default for Cosine {
    fn default() -> Self {
        Self { t_max: 1, eta_min: 0.0 }
    }
}

impl CurveKind for Cosine {
    const NAME: &'static str = "cosine";
    const TORCH: &'static str = "CosineAnnealingLR";
    const LENGTH: Option<&'static str> = Some("t_max");

    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![("t_max", Slot::Length(&mut self.t_max)), ("eta_min", Slot::Number(&mut self.eta_min))]
    }

    fn torch_key(key: &'static str) -> &'static str {
        if key == "t_max" { "T_max" } else { key }
    }

    fn check(&self) -> Result<(), OptimError> {
        not_negative(Self::NAME, "eta_min", self.eta_min)?;
        length(Self::NAME, "t_max", self.t_max)
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        self.eta_min + (base - self.eta_min) * (1.0 + (PI * count as f64 / self.t_max as f64).cos()) / 2.0
    }
}
