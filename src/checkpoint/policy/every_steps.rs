//! `every_steps`.

use serde::{Deserialize, Serialize};

use super::{Moment, Policy};

/// A checkpoint every so many steps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EverySteps(pub Option<u64>);

impl Policy for EverySteps {
    fn check(&self) -> Result<(), String> {
        if self.0 == Some(0) { Err("must be at least 1, found 0".into()) } else { Ok(()) }
    }

    fn is_due(&self, moment: Moment) -> bool {
        matches!((moment, self.0), (Moment::Step(step), Some(every)) if step.is_multiple_of(every))
    }

    fn is_off(&self) -> bool {
        self.0.is_none()
    }
}
