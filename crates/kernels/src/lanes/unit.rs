//! What a vector unit can do, and work that is written once for all of them.
#![allow(unsafe_code)]

use std::ptr;

/// The most lanes that any unit has.
pub(crate) const MOST_LANES: usize = 16;

/// A vector unit: `LANES` values at once.
pub(crate) trait Lanes: Copy + Send + Sync + 'static {
    /// A vector register.
    type Vector: Copy;
    /// Values in a vector.
    const LANES: usize;
    /// Rows of accumulators that fit the registers beside [`crate::tile::VECTORS`] vectors of operands.
    const ROWS: usize;
    /// Rows of accumulators that fit the registers beside two vectors of operands.
    const PAIR_ROWS: usize;

    /// Compiles `work` for this unit and runs it. All that it calls must be `#[inline(always)]`.
    fn run<R>(self, work: impl FnOnce() -> R) -> R;
    /// The same value in all lanes.
    fn splat(self, value: f32) -> Self::Vector;
    /// `a * b + c`.
    fn mul_add(self, a: Self::Vector, b: Self::Vector, c: Self::Vector) -> Self::Vector;
    /// `a + b`.
    fn add(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// `a - b`.
    fn sub(self, a: Self::Vector, b: Self::Vector) -> Self::Vector;
    /// The larger of `bound` and `x`; an `x` that is not a number stays what it is.
    fn at_least(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector;
    /// The smaller of `bound` and `x`; an `x` that is not a number stays what it is.
    fn at_most(self, bound: Self::Vector, x: Self::Vector) -> Self::Vector;
    /// `max(0, x)`; not a number stays what it is.
    fn relu(self, x: Self::Vector) -> Self::Vector;
    /// The sums of all lanes of four vectors.
    fn sums(self, x: [Self::Vector; 4]) -> [f32; 4];
    /// The inverse of [`Self::deal`].
    fn join(self, x: [Self::Vector; 4]) -> [Self::Vector; 4];
    /// Of four vectors in a row, every fourth value together: first those at 0, 4, 8, and so on, then those at 1, 5, 9.
    fn deal(self, x: [Self::Vector; 4]) -> [Self::Vector; 4];
    /// Reads a vector.
    ///
    /// # Safety
    /// `LANES` values lie at `from`.
    unsafe fn load(self, from: *const f32) -> Self::Vector;
    /// Writes a vector.
    ///
    /// # Safety
    /// `LANES` values can be written at `to`.
    unsafe fn store(self, to: *mut f32, x: Self::Vector);
    /// Reads the first `count` lanes; the others are zero.
    ///
    /// # Safety
    /// `count` values lie at `from`, at most `LANES`.
    unsafe fn load_first(self, from: *const f32, count: usize) -> Self::Vector;
    /// Writes the first `count` lanes.
    ///
    /// # Safety
    /// `count` values can be written at `to`, at most `LANES`.
    unsafe fn store_first(self, to: *mut f32, x: Self::Vector, count: usize);
}

/// Asks for the line of cache that holds a value.
#[inline(always)]
pub(crate) fn prefetch(value: &f32) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint about an address that is valid; every x86-64 has it.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(ptr::from_ref(value).cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = value;
}

/// Work written once for all vector units.
pub(crate) trait Work {
    /// What it gives.
    type Output;
    /// Does it.
    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}
