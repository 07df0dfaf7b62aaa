//! AVX-512 and AVX2.
#![allow(unsafe_code)]

use super::unit::Lanes;
use pulp::x86::{V3, V4};
use std::arch::x86_64::{__m256, __m512, __m512i};

/// Which of two vectors' 32 values go where.
type Order = [i32; 16];
const ZIP: [Order; 2] = [
    [0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23],
    [8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31],
];
const UNZIP: [Order; 2] = [
    [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30],
    [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31],
];

/// Reorders pairs of vectors.
trait Pairs {
    /// Values of both in turn.
    fn zip(self, a: __m512, b: __m512) -> [__m512; 2];
    /// Even values of both, then odd ones.
    fn unzip(self, a: __m512, b: __m512) -> [__m512; 2];
}

impl Pairs for V4 {
    #[inline(always)]
    fn zip(self, a: __m512, b: __m512) -> [__m512; 2] {
        // SAFETY: any bits are a vector of integers.
        let [low, high]: [__m512i; 2] = unsafe { std::mem::transmute(ZIP) };
        [self.avx512f._mm512_permutex2var_ps(a, low, b), self.avx512f._mm512_permutex2var_ps(a, high, b)]
    }
    #[inline(always)]
    fn unzip(self, a: __m512, b: __m512) -> [__m512; 2] {
        // SAFETY: any bits are a vector of integers.
        let [even, odd]: [__m512i; 2] = unsafe { std::mem::transmute(UNZIP) };
        [self.avx512f._mm512_permutex2var_ps(a, even, b), self.avx512f._mm512_permutex2var_ps(a, odd, b)]
    }
}

/// The sum of a vector's halves.
#[inline(always)]
fn folded(v4: V4, x: __m512) -> __m256 {
    let high = v4.avx512f._mm512_shuffle_f32x4::<0b1110>(x, x);
    v4.avx512f._mm512_castps512_ps256(v4.avx512f._mm512_add_ps(x, high))
}

impl Lanes for V4 {
    type Vector = __m512;
    const LANES: usize = 16;
    const ROWS: usize = 8;
    const PAIR_ROWS: usize = 12;

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        self.vectorize(work)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m512 {
        self.avx512f._mm512_set1_ps(value)
    }
    #[inline(always)]
    fn mul_add(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        self.avx512f._mm512_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        self.avx512f._mm512_add_ps(a, b)
    }
    #[inline(always)]
    fn sub(self, a: __m512, b: __m512) -> __m512 {
        self.avx512f._mm512_sub_ps(a, b)
    }
    #[inline(always)]
    fn at_least(self, bound: __m512, x: __m512) -> __m512 {
        self.avx512f._mm512_max_ps(bound, x)
    }
    #[inline(always)]
    fn at_most(self, bound: __m512, x: __m512) -> __m512 {
        self.avx512f._mm512_min_ps(bound, x)
    }
    #[inline(always)]
    fn relu(self, x: __m512) -> __m512 {
        // Of two operands of which one is not a number, the instruction gives the second.
        self.avx512f._mm512_max_ps(self.avx512f._mm512_setzero_ps(), x)
    }
    #[inline(always)]
    fn sums(self, x: [__m512; 4]) -> [f32; 4] {
        // The halves of each, then as on AVX2.
        (*self).sums([folded(self, x[0]), folded(self, x[1]), folded(self, x[2]), folded(self, x[3])])
    }
    #[inline(always)]
    fn join(self, [a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
        let [ab, ab_high] = self.zip(a, c);
        let [cd, cd_high] = self.zip(b, d);
        let [first, second] = self.zip(ab, cd);
        let [third, fourth] = self.zip(ab_high, cd_high);
        [first, second, third, fourth]
    }
    #[inline(always)]
    fn deal(self, [a, b, c, d]: [__m512; 4]) -> [__m512; 4] {
        let [even, odd] = self.unzip(a, b);
        let [even_high, odd_high] = self.unzip(c, d);
        let [first, third] = self.unzip(even, even_high);
        let [second, fourth] = self.unzip(odd, odd_high);
        [first, second, third, fourth]
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m512 {
        // SAFETY: the caller's.
        unsafe { self.avx512f._mm512_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m512) {
        // SAFETY: the caller's.
        unsafe { self.avx512f._mm512_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m512 {
        // SAFETY: the caller's; lanes that are masked out are not accessed.
        unsafe { self.avx512f._mm512_maskz_loadu_ps(((1u32 << count) - 1) as u16, from) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, x: __m512, count: usize) {
        // SAFETY: as above.
        unsafe { self.avx512f._mm512_mask_storeu_ps(to, ((1u32 << count) - 1) as u16, x) }
    }
}

/// Eight lanes of ones, then of zeros: read from `8 - count` on, it is the mask of the first `count` lanes.
static MASK: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

impl Lanes for V3 {
    type Vector = __m256;
    const LANES: usize = 8;
    const ROWS: usize = 4;
    const PAIR_ROWS: usize = 6;

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        self.vectorize(work)
    }
    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        self.avx._mm256_set1_ps(value)
    }
    #[inline(always)]
    fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        self.fma._mm256_fmadd_ps(a, b, c)
    }
    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        self.avx._mm256_add_ps(a, b)
    }
    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        self.avx._mm256_sub_ps(a, b)
    }
    #[inline(always)]
    fn at_least(self, bound: __m256, x: __m256) -> __m256 {
        self.avx._mm256_max_ps(bound, x)
    }
    #[inline(always)]
    fn at_most(self, bound: __m256, x: __m256) -> __m256 {
        self.avx._mm256_min_ps(bound, x)
    }
    #[inline(always)]
    fn relu(self, x: __m256) -> __m256 {
        // Of two operands of which one is not a number, the instruction gives the second.
        self.avx._mm256_max_ps(self.avx._mm256_setzero_ps(), x)
    }
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m256; 4]) -> [f32; 4] {
        // Sums of neighbours, twice: lane i of each half is then of vector i.
        let pairs = self.avx._mm256_hadd_ps(self.avx._mm256_hadd_ps(a, b), self.avx._mm256_hadd_ps(c, d));
        let high = self.avx._mm256_extractf128_ps::<1>(pairs);
        pulp::cast(self.sse._mm_add_ps(self.avx._mm256_castps256_ps128(pairs), high))
    }
    #[inline(always)]
    fn join(self, x: [__m256; 4]) -> [__m256; 4] {
        // SAFETY: any bits are a vector of values, and both have as many.
        let x: [[f32; 8]; 4] = unsafe { std::mem::transmute(x) };
        let mut joined = [0.0; 4 * 8];
        for (i, x) in x.into_iter().enumerate() {
            x.into_iter().enumerate().for_each(|(lane, value)| joined[4 * lane + i] = value);
        }
        // SAFETY: as above.
        unsafe { std::mem::transmute(joined) }
    }
    #[inline(always)]
    fn deal(self, x: [__m256; 4]) -> [__m256; 4] {
        // SAFETY: any bits are a vector of values, and both have as many.
        let x: [f32; 4 * 8] = unsafe { std::mem::transmute(x) };
        let mut dealt = [[0.0; 8]; 4];
        for (i, dealt) in dealt.iter_mut().enumerate() {
            dealt.iter_mut().enumerate().for_each(|(lane, value)| *value = x[4 * lane + i]);
        }
        // SAFETY: as above.
        unsafe { std::mem::transmute(dealt) }
    }
    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> __m256 {
        // SAFETY: the caller's.
        unsafe { self.avx._mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32, x: __m256) {
        // SAFETY: the caller's.
        unsafe { self.avx._mm256_storeu_ps(to, x) }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const f32, count: usize) -> __m256 {
        // SAFETY: `count` is at most 8, so the mask is inside its table; lanes that are masked out are not accessed.
        unsafe { self.avx._mm256_maskload_ps(from, self.avx._mm256_loadu_si256(MASK.as_ptr().add(8 - count).cast())) }
    }
    #[inline(always)]
    unsafe fn store_first(self, to: *mut f32, x: __m256, count: usize) {
        // SAFETY: as above.
        unsafe { self.avx._mm256_maskstore_ps(to, self.avx._mm256_loadu_si256(MASK.as_ptr().add(8 - count).cast()), x) }
    }
}
