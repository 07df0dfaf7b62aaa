//! Kernels of neural networks for CPUs: slices in, slices out, no tensor library.
//!
//! A [`Conv2d`] is the geometry of one convolution. Its methods compute the output and the three gradients of it on `f32` slices
//! in PyTorch's layout (`[batch, channels, height, width]`, weights `[out, in / groups, height, width]`), on all threads of the
//! current rayon pool, with the widest vectors that the processor has. A [`Linear`] does the same for linear layers.
//!
//! [`Unary`], [`Binary`] and [`RowFunction`] work in place; [`permute`] puts axes in another order.

mod activation;
mod arch;
mod batched;
mod blocks;
mod channels_last;
mod direct;
mod dots;
mod dropout;
mod elementwise;
mod finish;
mod forward;
mod functions;
mod gemm;
mod grad_bias;
mod grad_input;
#[cfg(test)]
mod grad_tests;
mod grad_weight;
mod inner;
mod interleaved;
mod lanes;
mod linear;
#[cfg(test)]
mod linear_tests;
mod lstm;
mod max_pool;
mod memory;
#[cfg(test)]
mod naive;
mod normalize;
mod outer;
mod parallel;
mod parts;
mod permute;
mod planes;
mod pointwise;
mod quantized;
mod recurrent;
mod relu;
mod reuse;
mod room;
mod rows;
mod scratch;
mod shape;
mod side_by_side;
mod sparse;
mod sums;
mod taps;
mod team;
mod tile;
mod training;
mod trim;
mod update;
mod window;
mod winograd;

pub use activation::Activation;
pub use blocks::copy_blocks;
pub use channels_last::{ChannelsLastWeights, Pixels, Pool, PoolKind};
pub use dropout::Dropout;
pub use elementwise::{Beside, Binary, Unary};
pub use forward::PackedWeights;
pub use gemm::{Epilogue, PackedMatrix, Residual};
pub use linear::{Linear, LinearGradients, WeightOrder};
pub use lstm::{Lstm, LstmWeights};
pub use max_pool::MaxPool2d;
pub use memory::{Memory, Plain};
pub use normalize::RowFunction;
pub use permute::permute;
pub use pointwise::{ChannelAffine, Pointwise, RELU};
pub use quantized::{
    ByteConvWeights, ByteMatrix, Codes, Quantization, Requantize, Rounded, Target, dequantize, dynamic, max_pool, pair,
    quantize, requantize, table,
};
pub use recurrent::{Recurrent, RecurrentKind};
pub use relu::relu_backward;
pub use reuse::Reuse;
pub use shape::{Conv2d, ShapeError};
pub use team::scope;
pub use training::{
    Attention, BatchNorm, BatchNormGradients, LayerNorm, LayerNormGradients, LstmGradients, LstmLayer, LstmSeen,
    Normalised, Planes, Seen,
};
pub use update::{AdamStep, Gradient, SgdStep};

/// The bytes of some values, where they lie.
pub fn as_bytes(values: &[f32]) -> &[u8] {
    pulp::bytemuck::cast_slice(values)
}
