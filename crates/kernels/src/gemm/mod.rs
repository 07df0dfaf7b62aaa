//! Products of matrices with a packed right operand, and what follows them while a tile is in registers.
//!
//! `out[i, j] = f(sum_k a[i, k] * b[k, j] + bias[j] + residual[i, j])`. Rows of the left operand are read where they are; the right one
//! is packed into panels of two vectors, which a tile of a few rows reads in order.

mod accumulate;
mod block;
mod epilogue;
mod grid;
mod packed;
mod product;

pub(crate) use accumulate::accumulate;
pub(crate) use block::Block;
pub use epilogue::{Epilogue, Residual};
pub(crate) use grid::Grid;
pub use packed::PackedMatrix;
