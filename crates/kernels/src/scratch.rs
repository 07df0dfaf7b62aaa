//! Working memory that a thread keeps from one call to the next.

use std::cell::RefCell;

thread_local! {
    /// Buffers that no call uses at the moment.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers longer than this many values are given back to the system.
const KEPT: usize = 4 << 20;

/// Calls `work` with `len` values of working memory, whatever they hold.
pub(crate) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len {
        // Not `resize`: what the buffer held need not move.
        buffer = vec![0.0; len];
    }
    let result = work(&mut buffer[..len]);
    if buffer.len() <= KEPT {
        FREE.with_borrow_mut(|free| free.push(buffer));
    }
    result
}
