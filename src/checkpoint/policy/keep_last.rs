//! `keep_last`.

use serde::{Deserialize, Serialize};

use super::{Policy, Ranked};

/// How many of the newest checkpoints are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeepLast(pub usize);

impl Default for KeepLast {
    fn default() -> Self {
        Self(2)
    }
}

impl Policy for KeepLast {
    fn check(&self) -> Result<(), String> {
        if self.0 == 0 { Err("must be at least 1: the newest checkpoint is always kept".into()) } else { Ok(()) }
    }

    fn keeps(&self, run: &Ranked<'_>) -> Vec<u64> {
        run.newest.iter().take(self.0).map(|candidate| candidate.checkpoint.step).collect()
    }
}
