//! The handful of vector operations that the kernels are written in, for every instruction set.
//!
//! pulp finds the instruction set at run time and compiles a function for it; only its portable fallback is not used, since that
//! calls a library function for each fused product.

#[cfg(target_arch = "aarch64")]
mod arm;
mod isa;
mod portable;
mod unit;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use isa::Isa;
pub(crate) use portable::Portable;
pub(crate) use unit::{Lanes, MOST_LANES, Work, prefetch};
