//! What the layers of a network do with the other ranks while it computes.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::{Group, GroupError};

thread_local! {
    static CURRENT: RefCell<Option<Rc<Scope>>> = const { RefCell::new(None) };
}

/// The ranks that the layers of this thread compute with.
pub struct Scope {
    group: Arc<Group>,
    share: f64,
    failed: RefCell<Option<GroupError>>,
}

impl Scope {
    /// What this rank's batch is worth in the gradients of all; 0 for one that is computed to keep step with the others alone.
    pub fn share(&self) -> f64 {
        self.share
    }

    /// The numbers of every rank, in rank order. Where a rank is gone this rank's alone: [`within`] tells.
    pub fn gather(&self, numbers: &[f64]) -> Vec<Vec<f64>> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
        let read = |bytes: Vec<u8>| {
            bytes.chunks_exact(8).filter_map(|bytes| bytes.try_into().ok()).map(f64::from_le_bytes).collect()
        };
        if self.failed.borrow().is_none() {
            match self.group.gather(&bytes) {
                Ok(all) => return all.into_iter().map(read).collect(),
                Err(error) => *self.failed.borrow_mut() = Some(error),
            }
        }
        vec![numbers.to_vec()]
    }
}

/// The ranks that a layer on this thread computes with, if it does.
pub fn current() -> Option<Rc<Scope>> {
    CURRENT.with_borrow(Clone::clone)
}

/// Computes something whose layers compute with the other ranks; each rank does it as often as the others.
///
/// # Errors
/// When another rank is gone.
pub fn within<T>(group: &Arc<Group>, share: f64, work: impl FnOnce() -> T) -> Result<T, GroupError> {
    /// Also when the work panics.
    struct Leave(Option<Rc<Scope>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let scope = Rc::new(Scope { group: Arc::clone(group), share, failed: RefCell::default() });
    let leave = Leave(CURRENT.replace(Some(Rc::clone(&scope))));
    let result = work();
    drop(leave);
    scope.failed.take().map_or(Ok(result), Err)
}
