//! What training needs beside the gradients of convolutions and linear layers: each operation and its gradient in as few passes over
//! memory as can be.
//!
//! Outputs are made here and not by the caller, so that no pass is spent on zeros. Sums are taken in an order that depends on the
//! sizes alone: the same bits come out with any number of threads.

mod activation;
mod attention;
mod batch_norm;
mod depthwise;
mod layer_norm;
mod lstm;
mod planes;
mod sums;

pub use attention::Attention;
pub use batch_norm::{BatchNorm, BatchNormGradients, Normalised, Seen};
pub use layer_norm::{LayerNorm, LayerNormGradients};
pub use lstm::{LstmGradients, LstmLayer, LstmSeen};
pub use planes::Planes;
