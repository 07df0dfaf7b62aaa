//! rekindle carries a model through its whole life on Burn: define, train, save, checkpoint, resume, load, convert, export.
//!
//! A model is generic over its backend through Burn's `Device` at run time. State passes between files and models as a
//! [`rekindle_state::StateDict`]. Programs that use this library and wgpu should set the environment variable `BURN_DEVICE` to
//! `flex` before anything else: Burn builds the state of optimizers on its default device first, and a machine without a GPU
//! would panic there.

pub mod check;
pub mod checkpoint;
pub mod cli;
pub mod data;
pub mod device;
pub mod error;
pub mod kernels;
pub mod layers;
pub mod models;
pub mod onnx;
pub mod optim;
pub mod train;

pub use rekindle_state as state;

/// The version of Burn whose records checkpoints hold.
pub const BURN_VERSION: &str = "0.22.1";
