//! The base rate throughout.

use rekindle_state::{StateDict, Value};

use super::{CurveKind, OptimError, Slot};

/// The base rate throughout: `ConstantLR(factor=1, total_iters=0)`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Constant;

impl CurveKind for Constant {
    const NAME: &'static str = "constant";
    const TORCH: &'static str = "ConstantLR";

    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        Vec::new()
    }

    fn check(&self) -> Result<(), OptimError> {
        Ok(())
    }

    fn lr(&self, base: f64, _: u64) -> f64 {
        base
    }

    fn state(&self, _: u64) -> Vec<(&'static str, Value)> {
        vec![("factor", Value::Float(1.0)), ("total_iters", Value::Int(0))]
    }

    fn read(state: &StateDict) -> Option<Self> {
        (state.get("factor")?.as_float() == Some(1.0)).then_some(Self)
    }
}
