//! Working memory that a thread keeps from one call to the next.

use std::cell::RefCell;

use crate::memory::Plain;

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

/// Calls `work` with `len` values of another type, as [`with_scratch`] does.
pub(crate) fn with_scratch_of<T: Plain, R>(len: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    with_scratch((len * size_of::<T>()).div_ceil(size_of::<f32>()), |values| {
        #[allow(unsafe_code)]
        // SAFETY: as many bytes, aligned to a cache line, and any bits are a value of a plain type.
        let values = unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast::<T>(), len) };
        work(values)
    })
}
