//! `CosineAnnealingLR`.

use std::f64::consts::PI;

use super::{CurveKind, Field};

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

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::length("t_max", &mut self.t_max).torch("T_max"),
            Field::number("eta_min", &mut self.eta_min).not_negative(),
        ]
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        self.eta_min + (base - self.eta_min) * (1.0 + (PI * count as f64 / self.t_max as f64).cos()) / 2.0
    }
}
