//! PyTorch's files.

mod legacy_write;
mod pickle_write;
mod storage_plan;
mod write;
mod zip_write;

pub use write::{TorchOptions, write_torch};
