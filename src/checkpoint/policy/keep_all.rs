//! `keep_all`.

use serde::{Deserialize, Serialize};

use super::{Policy, Ranked};

/// Whether none is ever removed because of its age.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeepAll(pub bool);

impl Policy for KeepAll {
    fn keeps(&self, run: &Ranked<'_>) -> Vec<u64> {
        let all = run.newest.iter().filter(|_| self.0);
        all.map(|candidate| candidate.checkpoint.step).collect()
    }
}
