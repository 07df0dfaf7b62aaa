//! What was worked out from the parameters of a layer, kept for the next forward pass.
//!
//! It holds the very tensors that it was made of. While it does, no backend writes into their memory (a tensor that somebody else
//! holds too is copied before it changes) and no other tensor can lie there: the same memory means the same values. After an update
//! of the parameters what was kept no longer fits, and is replaced.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use super::packed::Packed;

type Entries = HashMap<u64, Arc<Packed>>;

fn entries() -> MutexGuard<'static, Entries> {
    static ENTRIES: LazyLock<Mutex<Entries>> = LazyLock::new(Mutex::default);
    ENTRIES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is kept under a number that tells layers apart; `fresh` takes its place if a parameter has changed.
pub(super) fn kept(layer: u64, fresh: Packed) -> Arc<Packed> {
    let mut entries = entries();
    if let Some(packed) = entries.get(&layer).filter(|packed| packed.same(&fresh)) {
        return packed.clone();
    }
    entries.retain(|_, packed| !packed.forgotten());
    let fresh = Arc::new(fresh);
    entries.insert(layer, fresh.clone());
    fresh
}
