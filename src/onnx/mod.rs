//! ONNX: networks written as graphs, the proof that a written graph computes what the network does, graphs run on any device,
//! and models as Burn source.

pub mod codegen;
pub mod error;
pub mod export;
pub mod metadata;
pub mod open;
mod opset;
pub mod publish;
pub mod run;
pub mod verify;

pub use error::OnnxError;
pub use publish::{Written, export_verified};
