//! Vectors of any processor.
#![allow(unsafe_code)]

use std::ptr;

use super::unit::Lanes;

/// Four lanes that the compiler maps to what the target always has (SSE2 on x86-64).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Portable;

impl Lanes for Portable {
    type Vector = [f32; 4];
    const LANES: usize = 4;
    const ROWS: usize = 4;
    const PAIR_ROWS: usize = 4;

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }
    #[inline(always)]
    fn splat(self, value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    fn mul_add(self, a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        [a[0] * b[0] + c[0], a[1] * b[1] + c[1], a[2] * b[2] + c[2], a[3] * b[3] + c[3]]
    }
    #[inline(always)]
    fn add(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3]]
    }
    #[inline(always)]
    fn sub(self, a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        [a[0] - b[0], a[1] - b[1], a[2] - b[2], a[3] - b[3]]
    }
    #[inline(always)]
    fn at_least(self, bound: [f32; 4], x: [f32; 4]) -> [f32; 4] {
        let most = |i: usize| if bound[i] > x[i] { bound[i] } else { x[i] };
        [most(0), most(1), most(2), most(3)]
    }
    #[inline(always)]
    fn at_most(self, bound: [f32; 4], x: [f32; 4]) -> [f32; 4] {
        let least = |i: usize| if bound[i] < x[i] { bound[i] } else { x[i] };
        [least(0), least(1), least(2), least(3)]
    }
    #[inline(always)]
    fn relu(self, x: [f32; 4]) -> [f32; 4] {
        x.map(|v| if v < 0.0 { 0.0 } else { v })
    }
    #[inline(always)]
    fn sums(self, x: [[f32; 4]; 4]) -> [f32; 4] {
        x.map(|x| (x[0] + x[2]) + (x[1] + x[3]))
    }
    #[inline(always)]
    fn join(self, [a, b, c, d]: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
        [[a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]], [a[2], b[2], c[2], d[2]], [a[3], b[3], c[3], d[3]]]
    }
    #[inline(always)]
    fn deal(self, x: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
        self.join(x)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> [f32; 4] {
        // SAFETY: the caller's; an array of f32 has the alignment of f32.
        unsafe { from.cast::<[f32; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: [f32; 4]) {
        // SAFETY: as above.
        unsafe { to.cast::<[f32; 4]>().write(x) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> [f32; 4] {
        let mut x = [0.0; 4];
        // SAFETY: the caller's: `count` is at most 4.
        unsafe { ptr::copy_nonoverlapping(from, x.as_mut_ptr(), count) };
        x
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, x: [f32; 4], count: usize) {
        // SAFETY: as above.
        unsafe { ptr::copy_nonoverlapping(x.as_ptr(), to, count) };
    }
}
