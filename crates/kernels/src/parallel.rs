//! Work divided among the threads of the current rayon pool.

use std::ops::Range;
use std::slice;

use rayon::prelude::*;

use crate::team;

/// Work below this many floating-point operations is not worth waking another thread.
const ALONE: usize = 1 << 20;

/// Threads that may work at once.
pub(crate) fn threads() -> usize {
    match team::threads() {
        0 => rayon::current_num_threads(),
        threads => threads,
    }
}

/// The same where threads wait for work actively.
const ALONE_IN_SCOPE: usize = 1 << 17;

/// Whether one thread should do so many floating-point operations.
pub(crate) fn alone(operations: usize) -> bool {
    let least = if team::threads() > 1 { ALONE_IN_SCOPE } else { ALONE };
    operations < least || threads() == 1
}

/// Calls `task` with `0..count`, which take `operations` floating-point operations in all.
pub(crate) fn each(count: usize, operations: usize, task: impl Fn(usize) + Sync + Send) {
    if count < 2 || alone(operations) {
        (0..count).for_each(task);
    } else if team::threads() > 1 {
        team::each(count, &task);
    } else {
        let least = (ALONE / 4 * count / operations).max(1);
        (0..count).into_par_iter().with_min_len(least).for_each(task);
    }
}

/// A slice of which each task writes other parts.
pub(crate) struct Shared<T = f32>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

#[allow(unsafe_code)]
// SAFETY: only an address; whoever writes through it answers for writing what nobody else uses.
unsafe impl<T: Send> Send for Shared<T> {}
#[allow(unsafe_code)]
// SAFETY: as above.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// Shares `slice` as long as no task outlives the borrow.
    pub(crate) fn new(slice: &mut [T]) -> Self {
        Self(slice.as_mut_ptr())
    }

    /// Shares what is at an address, as long as it may be used.
    pub(crate) fn to(address: *mut T) -> Self {
        Self(address)
    }

    /// The address of one value.
    pub(crate) fn at(self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }

    /// From one value on.
    pub(crate) fn from(self, index: usize) -> Self {
        Self(self.at(index))
    }
}

/// Calls `task` with the number and the values of each `len` values of a slice, the last of them perhaps fewer; it takes `operations`
/// floating-point operations in all.
pub(crate) fn each_chunk<T: Send>(
    values: &mut [T],
    len: usize,
    operations: usize,
    task: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    let (all, shared) = (values.len(), Shared::new(values));
    each(all.div_ceil(len), operations, |number| {
        let start = number * len;
        #[allow(unsafe_code)]
        // SAFETY: chunks are apart and inside of the slice, which is borrowed as long as tasks run.
        task(number, unsafe { slice::from_raw_parts_mut(shared.at(start), len.min(all - start)) });
    });
}

/// The same for several slices of one length: calls `task` with the range of a chunk, and its values in each slice.
///
/// # Panics
/// When the lengths differ.
pub(crate) fn each_chunk_of<const N: usize>(
    slices: [&mut [f32]; N],
    len: usize,
    operations: usize,
    task: impl Fn(Range<usize>, [&mut [f32]; N]) + Sync + Send,
) {
    let all = slices.first().map_or(0, |slice| slice.len());
    assert!(slices.iter().all(|slice| slice.len() == all), "slices of one length");
    let shared = slices.map(Shared::new);
    each(all.div_ceil(len), operations, |number| {
        let range = number * len..all.min((number + 1) * len);
        #[allow(unsafe_code)]
        // SAFETY: as above, in each of the slices.
        let chunks = shared.map(|slice| unsafe { slice::from_raw_parts_mut(slice.at(range.start), range.len()) });
        task(range, chunks);
    });
}
