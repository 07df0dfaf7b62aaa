//! `every_minutes`.

use serde::{Deserialize, Serialize};

use super::{Moment, Policy};

/// A checkpoint when so many minutes have passed since the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EveryMinutes(pub Option<f64>);

impl Policy for EveryMinutes {
    fn check(&self) -> Result<(), String> {
        match self.0.filter(|minutes| !(*minutes > 0.0 && minutes.is_finite())) {
            Some(minutes) => Err(format!("must be positive, found {minutes}")),
            None => Ok(()),
        }
    }

    fn is_due(&self, moment: Moment) -> bool {
        matches!((moment, self.0), (Moment::Since(time), Some(minutes)) if time.as_secs_f64() >= minutes * 60.0)
    }

    fn is_off(&self) -> bool {
        self.0.is_none()
    }
}
