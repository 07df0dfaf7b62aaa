//! Working memory that a thread keeps from one call to the next.

use std::cell::RefCell;

thread_local! {
    /// Buffers that no call uses at the moment.
    static FREE: RefCell<Vec<Vec<f32>>> = const { RefCell::new(Vec::new()) };
}

/// Buffers longer than this many values are given back to the system.
const KEPT: usize = 4 << 20;

/// Values in a cache line.
const LINE: usize = 16;

/// Calls `work` with `len` values of working memory, whatever they hold, from the beginning of a cache line on.
pub(crate) fn with_scratch<R>(len: usize, work: impl FnOnce(&mut [f32]) -> R) -> R {
    let mut buffer = FREE.with_borrow_mut(Vec::pop).unwrap_or_default();
    if buffer.len() < len + LINE {
        // Not `resize`: what the buffer held need not move.
        buffer = vec![0.0; len + LINE];
    }
    let start = buffer.as_ptr().align_offset(LINE * size_of::<f32>()).min(LINE);
    let result = work(&mut buffer[start..][..len]);
    if buffer.len() <= KEPT {
        FREE.with_borrow_mut(|free| free.push(buffer));
    }
    result
}
