//! Convolution kernels for CPUs: slices in, slices out, no tensor library.
//!
//! A [`Conv2d`] is the geometry of one convolution. Its methods compute the output and the three gradients of it on `f32` slices
//! in PyTorch's layout (`[batch, channels, height, width]`, weights `[out, in / groups, height, width]`), on all threads of the
//! current rayon pool, with the widest vectors that the processor has.

mod activation;
mod direct;
mod dots;
mod forward;
mod grad_bias;
mod grad_input;
#[cfg(test)]
mod grad_tests;
mod grad_weight;
mod interleaved;
mod lanes;
#[cfg(test)]
mod naive;
mod parallel;
mod planes;
mod rows;
mod scratch;
mod shape;
mod sparse;
mod sums;
mod tile;
mod window;
mod winograd;

pub use activation::Activation;
pub use forward::PackedWeights;
pub use shape::{Conv2d, ShapeError};
