//! `top_k`.

use serde::{Deserialize, Serialize};

use super::{Policy, Ranked};

/// How many of the best checkpoints are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopK(pub usize);

impl Default for TopK {
    fn default() -> Self {
        Self(1)
    }
}

impl Policy for TopK {
    fn keeps(&self, run: &Ranked<'_>) -> Vec<u64> {
        run.best.iter().take(self.0).map(|candidate| candidate.checkpoint.step).collect()
    }
}
