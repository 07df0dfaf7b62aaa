//! The vector units of this processor.

use super::portable::Portable;
use super::unit::{Lanes, Work};

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
