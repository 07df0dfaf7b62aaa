//! `PolynomialLR`.

use super::{CurveKind, Field};

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

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::length("total_iters", &mut self.total_iters),
            Field::number("power", &mut self.power).not_negative(),
        ]
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        let left = 1.0 - count.min(self.total_iters) as f64 / self.total_iters.max(1) as f64;
        base * left.powf(self.power)
    }
}
