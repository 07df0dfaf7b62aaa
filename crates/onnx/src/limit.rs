//! What a run may use at most. Shapes and trip counts come from files: without limits a small one could ask for everything.

use std::cell::Cell;

use crate::{Error, Result};

/// What a run may use at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Elements of one array.
    pub elements: usize,
    /// Nodes that run, those of a loop in each turn.
    pub nodes: u64,
}

impl Default for Limits {
    /// Arrays of 2^29 elements, which are 2 GiB of 32-bit floats, and 2^24 nodes, which take some seconds where each does little.
    fn default() -> Self {
        Self { elements: 1 << 29, nodes: 1 << 24 }
    }
}

thread_local! {
    static LIMITS: Cell<Limits> = Cell::new(Limits::default());
}

/// Elements that an array may have.
pub(crate) fn elements() -> usize {
    LIMITS.get().elements
}

/// Counts a node that runs.
///
/// # Errors
/// When it is one too many.
pub(crate) fn node() -> Result<()> {
    let limits = LIMITS.get();
    let nodes = limits.nodes.checked_sub(1).ok_or_else(|| Error::invalid("the model runs more nodes than it may"))?;
    LIMITS.set(Limits { nodes, ..limits });
    Ok(())
}

/// Limits in force on this thread until it is dropped.
pub(crate) struct Limited(Limits);

impl Limited {
    pub fn new(limits: Limits) -> Self {
        Self(LIMITS.replace(limits))
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        LIMITS.set(self.0);
    }
}
