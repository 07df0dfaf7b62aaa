//! `max_total_size`.

use serde::{Deserialize, Serialize};

use super::Policy;
use crate::checkpoint::ByteSize;

/// How much all checkpoints of the run may take together; `last` and `best` are kept in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MaxTotalSize(pub Option<ByteSize>);

impl Policy for MaxTotalSize {
    fn limit(&self) -> Option<u64> {
        self.0.map(|size| size.0)
    }

    fn is_off(&self) -> bool {
        self.0.is_none()
    }
}
