//! The base rate throughout.

use rekindle_state::StateDict;

use super::{CurveKind, Field};

/// The base rate throughout: `ConstantLR(factor=1, total_iters=0)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Constant;

impl CurveKind for Constant {
    const NAME: &'static str = "constant";
    const TORCH: &'static str = "ConstantLR";

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![Field::constant("factor", 1.0), Field::constant("total_iters", 0)]
    }

    fn lr(&self, base: f64, _: u64) -> f64 {
        base
    }

    fn read(state: &StateDict) -> Option<Self> {
        (state.get("factor")?.as_float() == Some(1.0)).then_some(Self)
    }
}
