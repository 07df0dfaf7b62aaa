//! Loops that the compiler turns into vectors, compiled for every vector unit.
//!
//! pulp's own dispatch knows AVX-512 and the portable fallback only, unless its other features are on, and these are shared with every
//! other crate that uses it.

use pulp::{Scalar, Simd, WithSimd};

use crate::lanes::Isa;

/// The vector unit that loops are compiled for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arch(Isa);

impl Arch {
    /// The widest that this processor has.
    pub(crate) fn new() -> Self {
        Self(Isa::best())
    }

    /// Runs `work`, compiled for this unit. All that it calls must be `#[inline(always)]`.
    #[inline(always)]
    pub(crate) fn dispatch<W: WithSimd>(self, work: W) -> W::Output {
        match self.0 {
            Isa::Portable(_) => work.with_simd(Scalar),
            #[cfg(target_arch = "x86_64")]
            Isa::V4(unit) => Simd::vectorize(unit, work),
            #[cfg(target_arch = "x86_64")]
            Isa::V3(unit) => Simd::vectorize(unit, work),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(unit) => Simd::vectorize(unit, work),
        }
    }
}
