//! `LinearLR`.

use super::{CurveKind, Field};

/// `LinearLR`: a factor from `start_factor` to `end_factor` in `total_iters` steps, then `end_factor`.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    /// Factor at first.
    pub start_factor: f64,
    /// Factor in the end.
    pub end_factor: f64,
    /// Steps between them.
    pub total_iters: u64,
}

impl Default for Linear {
    fn default() -> Self {
        Self { start_factor: 1.0 / 3.0, end_factor: 1.0, total_iters: 5 }
    }
}

impl CurveKind for Linear {
    const NAME: &'static str = "linear";
    const TORCH: &'static str = "LinearLR";

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::number("start_factor", &mut self.start_factor).factor(),
            Field::number("end_factor", &mut self.end_factor).share(),
            Field::length("total_iters", &mut self.total_iters),
        ]
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        let done = count.min(self.total_iters) as f64 / self.total_iters.max(1) as f64;
        base * (self.start_factor + (self.end_factor - self.start_factor) * done)
    }
}
