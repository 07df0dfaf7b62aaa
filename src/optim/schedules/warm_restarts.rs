//! `CosineAnnealingWarmRestarts`.

use std::f64::consts::PI;

use rekindle_state::Value;

use super::{CurveKind, Field};

/// `CosineAnnealingWarmRestarts`: half a cosine down to `eta_min` in `t_0` steps, then from the base rate again, each time in
/// `t_mult` times as many steps.
#[derive(Debug, Clone, PartialEq)]
pub struct WarmRestarts {
    /// Steps of the first cosine.
    pub t_0: u64,
    /// Factor of the lengths.
    pub t_mult: u64,
    /// The minimum.
    pub eta_min: f64,
}

impl Default for WarmRestarts {
    fn default() -> Self {
        Self { t_0: 1, t_mult: 1, eta_min: 0.0 }
    }
}

impl WarmRestarts {
    /// Steps into the present cosine, and its length.
    fn place(&self, count: u64) -> (u64, u64) {
        let length = self.t_0.max(1);
        if self.t_mult <= 1 {
            return (count % length, length);
        }
        let (mut left, mut length) = (count, length);
        while left >= length {
            left -= length;
            length = length.saturating_mul(self.t_mult);
        }
        (left, length)
    }
}

impl CurveKind for WarmRestarts {
    const NAME: &'static str = "warm_restarts";
    const TORCH: &'static str = "CosineAnnealingWarmRestarts";
    const NEEDED: &'static [&'static str] = &["t_0"];

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::length("t_0", &mut self.t_0).torch("T_0"),
            Field::length("t_mult", &mut self.t_mult).torch("T_mult"),
            Field::number("eta_min", &mut self.eta_min).not_negative(),
        ]
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        let (done, length) = self.place(count);
        self.eta_min + (base - self.eta_min) * (1.0 + (PI * done as f64 / length as f64).cos()) / 2.0
    }

    fn state(&self, count: u64) -> Vec<(&'static str, Value)> {
        let (done, length) = self.place(count);
        let integer = |value: u64| i64::try_from(value).map_or(Value::BigInt(value.into()), Value::Int);
        vec![
            ("T_0", integer(self.t_0)),
            ("T_i", integer(length)),
            ("T_mult", integer(self.t_mult)),
            ("eta_min", Value::Float(self.eta_min)),
            ("T_cur", integer(done)),
        ]
    }

    /// This class alone does not count its calls.
    fn step_count(_: u64) -> u64 {
        0
    }
}
