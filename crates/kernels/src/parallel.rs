//! Work divided among the threads of the current rayon pool.

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

    /// The address of one value.
    pub(crate) fn at(self, index: usize) -> *mut T {
        self.0.wrapping_add(index)
    }

    /// From one value on.
    pub(crate) fn from(self, index: usize) -> Self {
        Self(self.at(index))
    }
}
