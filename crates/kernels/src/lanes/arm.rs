//! Arm's 128-bit vectors.
#![allow(unsafe_code)]

use super::unit::Lanes;
use pulp::aarch64::Neon;
use std::arch::aarch64::float32x4_t;
use std::ptr;

impl Lanes for Neon {
    type Vector = float32x4_t;
    const LANES: usize = 4;
    const ROWS: usize = 8;
    const PAIR_ROWS: usize = 8;

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        self.vectorize(work)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> float32x4_t {
        self.neon.vdupq_n_f32(value)
    }
    #[inline(always)]
    fn mul_add(self, a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        self.neon.vfmaq_f32(c, a, b)
    }
    #[inline(always)]
    fn add(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.neon.vaddq_f32(a, b)
    }
    #[inline(always)]
    fn sub(self, a: float32x4_t, b: float32x4_t) -> float32x4_t {
        self.neon.vsubq_f32(a, b)
    }
    #[inline(always)]
    fn at_least(self, bound: float32x4_t, x: float32x4_t) -> float32x4_t {
        self.neon.vmaxq_f32(bound, x)
    }
    #[inline(always)]
    fn at_most(self, bound: float32x4_t, x: float32x4_t) -> float32x4_t {
        self.neon.vminq_f32(bound, x)
    }
    #[inline(always)]
    fn relu(self, x: float32x4_t) -> float32x4_t {
        // This instruction gives not a number if either operand is none.
        self.neon.vmaxq_f32(x, self.splat(0.0))
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [float32x4_t; 4]) -> [f32; 4] {
        // Sums of neighbours, twice: lane i is then of vector i.
        pulp::cast(self.neon.vpaddq_f32(self.neon.vpaddq_f32(a, b), self.neon.vpaddq_f32(c, d)))
    }
    #[inline(always)]
    fn join(self, x: [float32x4_t; 4]) -> [float32x4_t; 4] {
        // SAFETY: any bits are a vector of values, and both have as many.
        let x: [[f32; 4]; 4] = unsafe { std::mem::transmute(x) };
        let mut joined = [0.0; 4 * 4];
        for (i, x) in x.into_iter().enumerate() {
            x.into_iter().enumerate().for_each(|(lane, value)| joined[4 * lane + i] = value);
        }
        // SAFETY: as above.
        unsafe { std::mem::transmute(joined) }
    }
    #[inline(always)]
    fn deal(self, x: [float32x4_t; 4]) -> [float32x4_t; 4] {
        // SAFETY: any bits are a vector of values, and both have as many.
        let x: [f32; 4 * 4] = unsafe { std::mem::transmute(x) };
        let mut dealt = [[0.0; 4]; 4];
        for (i, dealt) in dealt.iter_mut().enumerate() {
            dealt.iter_mut().enumerate().for_each(|(lane, value)| *value = x[4 * lane + i]);
        }
        // SAFETY: as above.
        unsafe { std::mem::transmute(dealt) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> float32x4_t {
        // SAFETY: the caller's.
        unsafe { self.neon.vld1q_f32(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: float32x4_t) {
        // SAFETY: the caller's.
        unsafe { self.neon.vst1q_f32(to, x) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> float32x4_t {
        let mut x = [0.0; 4];
        // SAFETY: the caller's: `count` is at most 4.
        unsafe { ptr::copy_nonoverlapping(from, x.as_mut_ptr(), count) };
        // SAFETY: four values.
        unsafe { self.load(x.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, x: float32x4_t, count: usize) {
        let mut all = [0.0; 4];
        // SAFETY: four values.
        unsafe { self.store(all.as_mut_ptr(), x) };
        // SAFETY: the caller's: `count` is at most 4.
        unsafe { ptr::copy_nonoverlapping(all.as_ptr(), to, count) };
    }
}
