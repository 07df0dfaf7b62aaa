//! Which direction of a metric is better.

use serde::{Deserialize, Serialize};

/// Which direction of a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Less is better.
    Min,
    /// More is better.
    Max,
}

impl Mode {
    /// The direction that fits a metric's name: losses fall, the others rise.
    pub fn of(metric: &str) -> Self {
        if metric.ends_with("loss") { Self::Min } else { Self::Max }
    }

    /// Whether `new` is better than `old` by more than `min_delta`.
    pub fn better(self, new: f64, old: f64, min_delta: f64) -> bool {
        match self {
            Self::Min => new < old - min_delta,
            Self::Max => new > old + min_delta,
        }
    }
}
