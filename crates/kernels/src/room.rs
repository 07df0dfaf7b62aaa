//! Memory that tasks fill, each a part of its own: no pass is spent on zeros first.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::parallel::Shared;

/// Values that are written for the first time, or changed in place.
pub(crate) struct Room {
    values: Vec<f32>,
    start: *mut f32,
    len: usize,
}

// SAFETY: parts are handed out by an unsafe method only, whose caller answers for them being apart.
unsafe impl Sync for Room {}

impl Room {
    /// Room for so many values.
    pub fn new(len: usize) -> Self {
        let mut values = Vec::with_capacity(len);
        let start = values.as_mut_ptr();
        Self { values, start, len }
    }

    /// The room of values that are there already.
    pub fn of(mut values: Vec<f32>) -> Self {
        let (start, len) = (values.as_mut_ptr(), values.len());
        Self { values, start, len }
    }

    /// Some of the values, which may not have been written yet.
    ///
    /// # Safety
    /// While the slice is used nobody else asks for any of these values.
    #[allow(clippy::mut_from_ref, reason = "the caller answers for it")]
    #[inline(always)]
    pub unsafe fn part(&self, range: Range<usize>) -> &mut [MaybeUninit<f32>] {
        assert!(range.start <= range.end && range.end <= self.len, "a part of the room");
        // SAFETY: the vector has the capacity, and any bits may be in what was not written.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start).cast(), range.len()) }
    }

    /// Some of the values, which become zero.
    ///
    /// # Safety
    /// As above.
    #[allow(clippy::mut_from_ref, reason = "the caller answers for it")]
    #[inline(always)]
    pub unsafe fn zeros(&self, range: Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "a part of the room");
        // SAFETY: the vector has the capacity, and zeros are written before the values are seen.
        unsafe {
            let start = self.start.add(range.start);
            start.write_bytes(0, range.len());
            std::slice::from_raw_parts_mut(start, range.len())
        }
    }

    /// The values for tasks that write through addresses; whoever does answers for it.
    pub fn shared(&self) -> Shared {
        Shared::to(self.start)
    }

    /// Some of the values of [`Self::of`].
    ///
    /// # Safety
    /// As above, and these values were written.
    #[allow(clippy::mut_from_ref, reason = "the caller answers for it")]
    #[inline(always)]
    pub unsafe fn written(&self, range: Range<usize>) -> &mut [f32] {
        assert!(range.start <= range.end && range.end <= self.len, "a part of the room");
        // SAFETY: the vector has the capacity, and the values are there.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// All values.
    ///
    /// # Safety
    /// All were written.
    pub unsafe fn filled(mut self) -> Vec<f32> {
        // SAFETY: the capacity is as large, and the caller's.
        unsafe { self.values.set_len(self.len) };
        self.values
    }
}
