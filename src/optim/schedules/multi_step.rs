//! `MultiStepLR`.

use rekindle_state::{Key, StateDict, Value};

use super::{CurveKind, Field};

/// `MultiStepLR`: times `gamma` at each of the `milestones`.
#[derive(Debug, Clone, PartialEq)]
pub struct MultiStep {
    /// Steps after which the rate changes.
    pub milestones: Vec<u64>,
    /// Factor of each change.
    pub gamma: f64,
}

impl Default for MultiStep {
    fn default() -> Self {
        Self { milestones: vec![1], gamma: 0.1 }
    }
}

/// PyTorch counts how often each milestone was given.
const COUNTS: &str = "milestones";

impl CurveKind for MultiStep {
    const NAME: &'static str = "multi_step";
    const TORCH: &'static str = "MultiStepLR";
    const NEEDED: &'static [&'static str] = &[COUNTS];

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![Field::lengths(COUNTS, &mut self.milestones), Field::number("gamma", &mut self.gamma).not_negative()]
    }

    fn lr(&self, base: f64, count: u64) -> f64 {
        let passed = self.milestones.iter().filter(|milestone| **milestone <= count).count();
        base * self.gamma.powf(passed as f64)
    }

    fn state(&self, _: u64) -> Vec<(&'static str, Value)> {
        let mut counts = StateDict::new();
        for milestone in &self.milestones {
            counts.insert(i64::try_from(*milestone).unwrap_or(i64::MAX), 1);
        }
        vec![(COUNTS, Value::Dict(counts)), ("gamma", Value::Float(self.gamma))]
    }

    fn read(state: &StateDict) -> Option<Self> {
        let Value::Dict(counts) = state.get(COUNTS)? else { return None };
        let milestone = |key: &Key| match key {
            Key::Int(steps) => u64::try_from(*steps).ok(),
            _ => None,
        };
        let mut milestones = counts.iter().map(|(key, _)| milestone(key)).collect::<Option<Vec<u64>>>()?;
        milestones.sort_unstable();
        let mut this = Self { milestones, gamma: state.get("gamma")?.as_float()? };
        let right = this.fields().iter().all(|field| field.check("").is_ok());
        // A milestone that was given twice counts twice.
        (right && counts.iter().all(|(_, count)| count.as_int() == Some(1))).then_some(this)
    }
}
