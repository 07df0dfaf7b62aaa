//! The handful of vector operations that the kernels are written in, for every instruction set.
//!
//! pulp finds the instruction set at run time and compiles a function for it; only its portable fallback is not used, since that
//! calls a library function for each fused product.
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

/// Whether the environment limits the kernels to AVX2: `REKINDLE_KERNELS=avx2`.
#[cfg(target_arch = "x86_64")]
fn limited() -> bool {
    std::env::var_os("REKINDLE_KERNELS").is_some_and(|units| units == "avx2")
}

/// A vector unit of this processor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Isa {
    /// What every processor of the target has.
    Portable(Portable),
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
    /// AVX2 with fused products.
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
    /// Arm's 128-bit vectors.
    #[cfg(target_arch = "aarch64")]
    Neon(pulp::aarch64::Neon),
}

impl Isa {
    /// All that this processor has, widest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide =
            [pulp::x86::V4::try_new().filter(|_| !limited()).map(Self::V4), pulp::x86::V3::try_new().map(Self::V3)];
        #[cfg(target_arch = "aarch64")]
        let wide = [pulp::aarch64::Neon::try_new().map(Self::Neon)];
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        let wide = [None];
        wide.into_iter().flatten().chain([Self::Portable(Portable)])
    }

    /// The widest that this processor has.
    pub(crate) fn best() -> Self {
        static BEST: std::sync::OnceLock<Isa> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available().next().unwrap_or(Self::Portable(Portable)))
    }

    /// Runs `work` with this unit.
    pub(crate) fn dispatch<W: Work>(self, work: W) -> W::Output {
        match self {
            Self::Portable(lanes) => work.run(lanes),
            #[cfg(target_arch = "x86_64")]
            Self::V4(lanes) => work.run(lanes),
            #[cfg(target_arch = "x86_64")]
            Self::V3(lanes) => work.run(lanes),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(lanes) => work.run(lanes),
        }
    }

    /// Values in a vector of this unit.
    pub(crate) fn lanes(self) -> usize {
        struct Width;
        impl Work for Width {
            type Output = usize;
            fn run<L: Lanes>(self, _: L) -> usize {
                L::LANES
            }
        }
        self.dispatch(Width)
    }

    /// Rows in a register tile that is two vectors wide.
    pub(crate) fn pair_rows(self) -> usize {
        struct Rows;
        impl Work for Rows {
            type Output = usize;
            fn run<L: Lanes>(self, _: L) -> usize {
                L::PAIR_ROWS
            }
        }
        self.dispatch(Rows)
    }

    /// Rows in a full register tile of this unit.
    pub(crate) fn rows(self) -> usize {
        struct Rows;
        impl Work for Rows {
            type Output = usize;
            fn run<L: Lanes>(self, _: L) -> usize {
                L::ROWS
            }
        }
        self.dispatch(Rows)
    }
}

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

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Lanes;
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
            unsafe {
                self.avx._mm256_maskload_ps(from, self.avx._mm256_loadu_si256(MASK.as_ptr().add(8 - count).cast()))
            }
        }
        #[inline(always)]
        unsafe fn store_first(self, to: *mut f32, x: __m256, count: usize) {
            // SAFETY: as above.
            unsafe {
                self.avx._mm256_maskstore_ps(to, self.avx._mm256_loadu_si256(MASK.as_ptr().add(8 - count).cast()), x)
            }
        }
    }
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use super::Lanes;
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
}
