//! The vector operations of products of 8-bit integers, for every instruction set.
//!
//! A step of a product takes a few neighbouring values of a row, four bytes in all, and as many of each column: four unsigned bytes times
//! four signed ones where one instruction adds up all four products (VNNI), two 16-bit integers each otherwise, whose sums of two products
//! are exact as well.
#![allow(unsafe_code)]

use crate::lanes::{Isa, Lanes, Portable};

/// A vector unit for sums of 8-bit products: `Floats::LANES` columns at once.
pub(crate) trait Bytes: Copy + Send + Sync + 'static {
    /// A vector of 32-bit sums.
    type Sums: Copy;
    /// The unit for floats that are as many.
    type Floats: Lanes;
    /// Values of a row in one step: four bytes, or two 16-bit integers.
    const GROUP: usize;
    /// Rows of sums that fit the registers, two vectors wide.
    const ROWS: usize;

    /// Compiles `work` for this unit and runs it. All that it calls must be `#[inline(always)]`.
    fn run<R>(self, work: impl FnOnce() -> R) -> R;
    /// The unit for floats.
    fn floats(self) -> Self::Floats;
    /// The same integer in all lanes.
    fn splat(self, value: i32) -> Self::Sums;
    /// A step: the products of four bytes, the same in all lanes, with those of each column, added to the sums.
    fn dot(self, sums: Self::Sums, left: Self::Sums, right: Self::Sums) -> Self::Sums;
    /// `a + b`, wrapping.
    fn add(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// `a * b`, wrapping.
    fn mul(self, a: Self::Sums, b: Self::Sums) -> Self::Sums;
    /// As floats, rounded to the nearest.
    fn to_floats(self, x: Self::Sums) -> <Self::Floats as Lanes>::Vector;
    /// Reads a vector.
    ///
    /// # Safety
    /// `LANES` integers lie at `from`, aligned or not.
    unsafe fn load(self, from: *const i32) -> Self::Sums;
    /// Reads the first `count` lanes; the others are zero.
    ///
    /// # Safety
    /// `count` integers lie at `from`, at most `LANES`.
    unsafe fn load_first(self, from: *const i32, count: usize) -> Self::Sums;
    /// Rounds each lane to the nearest integer, of two the even one, adds `zero`, and writes the low byte of the first `count`.
    ///
    /// # Safety
    /// `count` bytes can be written at `to`, at most `LANES`.
    unsafe fn store_codes(self, to: *mut u8, x: <Self::Floats as Lanes>::Vector, zero: i32, count: usize);
}

/// Work written once for all units.
pub(crate) trait ByteWork {
    /// What it gives.
    type Output;
    /// Does it.
    fn run<B: Bytes>(self, unit: B) -> Self::Output;
}

/// A unit of this processor.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ByteUnit {
    /// What every processor has.
    Portable(Portable),
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Vnni(x86::Vnni),
    /// AVX-512.
    #[cfg(target_arch = "x86_64")]
    V4(pulp::x86::V4),
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    V3(pulp::x86::V3),
}

impl ByteUnit {
    /// All that this processor has, the fastest first.
    pub(crate) fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let wide = Isa::available().flat_map(|isa| match isa {
            Isa::V4(unit) => [x86::Vnni::new(unit).map(Self::Vnni), Some(Self::V4(unit))],
            Isa::V3(unit) => [Some(Self::V3(unit)), None],
            Isa::Portable(_) => [None, None],
        });
        #[cfg(not(target_arch = "x86_64"))]
        let wide = [None];
        wide.into_iter().flatten().chain([Self::Portable(Portable)])
    }

    /// The fastest that this processor has.
    pub(crate) fn best() -> Self {
        static BEST: std::sync::OnceLock<ByteUnit> = std::sync::OnceLock::new();
        *BEST.get_or_init(|| Self::available().next().unwrap_or(Self::Portable(Portable)))
    }

    /// Runs `work` with this unit.
    pub(crate) fn dispatch<W: ByteWork>(self, work: W) -> W::Output {
        match self {
            Self::Portable(unit) => work.run(unit),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(unit) => work.run(unit),
            #[cfg(target_arch = "x86_64")]
            Self::V4(unit) => work.run(unit),
            #[cfg(target_arch = "x86_64")]
            Self::V3(unit) => work.run(unit),
        }
    }

    /// Lanes, values of a row in one step, and rows of a tile.
    pub(crate) fn sizes(self) -> Sizes {
        struct Ask;
        impl ByteWork for Ask {
            type Output = Sizes;
            fn run<B: Bytes>(self, _: B) -> Sizes {
                Sizes { lanes: <B::Floats as Lanes>::LANES, group: B::GROUP, rows: B::ROWS }
            }
        }
        self.dispatch(Ask)
    }

    /// The unit for floats.
    pub(crate) fn isa(self) -> Isa {
        match self {
            Self::Portable(unit) => Isa::Portable(unit),
            #[cfg(target_arch = "x86_64")]
            Self::Vnni(unit) => Isa::V4(unit.floats()),
            #[cfg(target_arch = "x86_64")]
            Self::V4(unit) => Isa::V4(unit),
            #[cfg(target_arch = "x86_64")]
            Self::V3(unit) => Isa::V3(unit),
        }
    }
}

/// What packed values and tiles depend on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub lanes: usize,
    pub group: usize,
    pub rows: usize,
}

impl Bytes for Portable {
    type Sums = [i32; 4];
    type Floats = Self;
    const GROUP: usize = 2;
    const ROWS: usize = 4;

    #[inline(always)]
    fn run<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }
    #[inline(always)]
    fn floats(self) -> Self {
        self
    }
    #[inline(always)]
    fn splat(self, value: i32) -> [i32; 4] {
        [value; 4]
    }
    #[inline(always)]
    fn dot(self, sums: [i32; 4], left: [i32; 4], right: [i32; 4]) -> [i32; 4] {
        let halves = |x: i32| [i32::from(x as i16), x >> 16];
        std::array::from_fn(|lane| {
            let ([a, b], [c, d]) = (halves(left[lane]), halves(right[lane]));
            sums[lane].wrapping_add(a * c + b * d)
        })
    }
    #[inline(always)]
    fn add(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|lane| a[lane].wrapping_add(b[lane]))
    }
    #[inline(always)]
    fn mul(self, a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        std::array::from_fn(|lane| a[lane].wrapping_mul(b[lane]))
    }
    #[inline(always)]
    fn to_floats(self, x: [i32; 4]) -> [f32; 4] {
        x.map(|x| x as f32)
    }
    #[inline(always)]
    unsafe fn load(self, from: *const i32) -> [i32; 4] {
        // SAFETY: the caller's.
        unsafe { from.cast::<[i32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_first(self, from: *const i32, count: usize) -> [i32; 4] {
        let mut x = [0; 4];
        // SAFETY: the caller's: `count` is at most 4.
        unsafe { std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), count) };
        x
    }
    #[inline(always)]
    unsafe fn store_codes(self, to: *mut u8, x: [f32; 4], zero: i32, count: usize) {
        let codes = x.map(|x| super::code(x, zero));
        // SAFETY: the caller's: `count` is at most 4.
        unsafe { std::ptr::copy_nonoverlapping(codes.as_ptr(), to, count) };
    }
}

#[cfg(target_arch = "x86_64")]
pub(crate) mod x86 {
    use super::Bytes;
    use pulp::x86::{V3, V4};
    use std::arch::x86_64::*;

    /// AVX-512 with the instruction that adds up four products of bytes.
    #[derive(Clone, Copy, Debug)]
    pub(crate) struct Vnni(V4);

    impl Vnni {
        pub(super) fn new(v4: V4) -> Option<Self> {
            std::arch::is_x86_feature_detected!("avx512vnni").then_some(Self(v4))
        }
    }

    /// # Safety
    /// The processor has these instructions.
    #[target_feature(
        enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx512vnni,avx2,fma,bmi1,bmi2,lzcnt,popcnt,f16c"
    )]
    #[inline]
    unsafe fn with_vnni<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    /// The first lanes of a vector.
    #[inline(always)]
    fn first(count: usize) -> u16 {
        ((1_u32 << count) - 1) as u16
    }

    /// What both forms of AVX-512 do alike.
    macro_rules! avx512 {
        ($unit:ident) => {
            #[inline(always)]
            fn splat(self, value: i32) -> __m512i {
                self.floats().avx512f._mm512_set1_epi32(value)
            }
            #[inline(always)]
            fn add(self, a: __m512i, b: __m512i) -> __m512i {
                self.floats().avx512f._mm512_add_epi32(a, b)
            }
            #[inline(always)]
            fn mul(self, a: __m512i, b: __m512i) -> __m512i {
                self.floats().avx512f._mm512_mullo_epi32(a, b)
            }
            #[inline(always)]
            fn to_floats(self, x: __m512i) -> __m512 {
                self.floats().avx512f._mm512_cvtepi32_ps(x)
            }
            #[inline(always)]
            unsafe fn load(self, from: *const i32) -> __m512i {
                // SAFETY: the caller's.
                unsafe { self.floats().avx512f._mm512_loadu_epi32(from) }
            }
            #[inline(always)]
            unsafe fn load_first(self, from: *const i32, count: usize) -> __m512i {
                // SAFETY: the caller's; lanes that are masked out are not accessed.
                unsafe { self.floats().avx512f._mm512_maskz_loadu_epi32(first(count), from) }
            }
            #[inline(always)]
            unsafe fn store_codes(self, to: *mut u8, x: __m512, zero: i32, count: usize) {
                let codes = self.add(self.floats().avx512f._mm512_cvtps_epi32(x), self.splat(zero));
                // SAFETY: the caller's; lanes that are masked out are not accessed.
                unsafe { self.floats().avx512f._mm512_mask_cvtepi32_storeu_epi8(to.cast(), first(count), codes) }
            }
        };
    }

    impl Bytes for Vnni {
        type Sums = __m512i;
        type Floats = V4;
        const GROUP: usize = 4;
        const ROWS: usize = 12;

        #[inline(always)]
        fn run<R>(self, work: impl FnOnce() -> R) -> R {
            // SAFETY: the instructions are there: those of `V4`, and VNNI by `new`.
            unsafe { with_vnni(work) }
        }
        #[inline(always)]
        fn floats(self) -> V4 {
            self.0
        }
        #[inline(always)]
        fn dot(self, sums: __m512i, left: __m512i, right: __m512i) -> __m512i {
            // SAFETY: VNNI is there.
            unsafe { _mm512_dpbusd_epi32(sums, left, right) }
        }
        avx512!(Vnni);
    }

    impl Bytes for V4 {
        type Sums = __m512i;
        type Floats = Self;
        const GROUP: usize = 2;
        const ROWS: usize = 12;

        #[inline(always)]
        fn run<R>(self, work: impl FnOnce() -> R) -> R {
            self.vectorize(work)
        }
        #[inline(always)]
        fn floats(self) -> Self {
            self
        }
        #[inline(always)]
        fn dot(self, sums: __m512i, left: __m512i, right: __m512i) -> __m512i {
            self.avx512f._mm512_add_epi32(sums, self.avx512bw._mm512_madd_epi16(left, right))
        }
        avx512!(V4);
    }

    impl Bytes for V3 {
        type Sums = __m256i;
        type Floats = Self;
        const GROUP: usize = 2;
        const ROWS: usize = 6;

        #[inline(always)]
        fn run<R>(self, work: impl FnOnce() -> R) -> R {
            self.vectorize(work)
        }
        #[inline(always)]
        fn floats(self) -> Self {
            self
        }
        #[inline(always)]
        fn splat(self, value: i32) -> __m256i {
            self.avx._mm256_set1_epi32(value)
        }
        #[inline(always)]
        fn dot(self, sums: __m256i, left: __m256i, right: __m256i) -> __m256i {
            self.avx2._mm256_add_epi32(sums, self.avx2._mm256_madd_epi16(left, right))
        }
        #[inline(always)]
        fn add(self, a: __m256i, b: __m256i) -> __m256i {
            self.avx2._mm256_add_epi32(a, b)
        }
        #[inline(always)]
        fn mul(self, a: __m256i, b: __m256i) -> __m256i {
            self.avx2._mm256_mullo_epi32(a, b)
        }
        #[inline(always)]
        fn to_floats(self, x: __m256i) -> __m256 {
            self.avx._mm256_cvtepi32_ps(x)
        }
        #[inline(always)]
        unsafe fn load(self, from: *const i32) -> __m256i {
            // SAFETY: the caller's.
            unsafe { self.avx._mm256_loadu_si256(from.cast()) }
        }
        #[inline(always)]
        unsafe fn load_first(self, from: *const i32, count: usize) -> __m256i {
            let mut x = [0; 8];
            // SAFETY: the caller's: `count` is at most 8.
            unsafe {
                std::ptr::copy_nonoverlapping(from, x.as_mut_ptr(), count);
                self.load(x.as_ptr())
            }
        }
        #[inline(always)]
        unsafe fn store_codes(self, to: *mut u8, x: __m256, zero: i32, count: usize) {
            let codes = self.add(self.avx._mm256_cvtps_epi32(x), self.splat(zero));
            // The low bytes of each half side by side, then both halves.
            let low = self.avx._mm256_set1_epi64x(0x0c08_0400);
            let each = self.avx2._mm256_shuffle_epi8(codes, low);
            let halves: [u32; 8] = pulp::cast(each);
            let bytes = (u64::from(halves[0]) | u64::from(halves[4]) << 32).to_le_bytes();
            // SAFETY: the caller's: `count` is at most 8.
            unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), to, count) };
        }
    }
}
