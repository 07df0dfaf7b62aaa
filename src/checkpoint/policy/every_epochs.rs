//! `every_epochs`.

use serde::{Deserialize, Serialize};

use super::{Moment, Policy};

/// A checkpoint every so many epochs; 0 for none but the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EveryEpochs(pub usize);

impl Default for EveryEpochs {
    fn default() -> Self {
        Self(1)
    }
}

impl Policy for EveryEpochs {
    fn is_due(&self, moment: Moment) -> bool {
        matches!(moment, Moment::Epoch(epoch) if self.0 > 0 && epoch.is_multiple_of(self.0))
    }
}
