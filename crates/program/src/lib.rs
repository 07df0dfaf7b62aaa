//! PyTorch programs as graphs, without Python or libtorch.
//!
//! [`Program::open`] reads an archive of `torch.export.save` (`.pt2`, PyTorch 2.3 to 2.15) or of TorchScript (`.pt`).
//! [`Program::lower`] makes the message
//! of an ONNX file of it, which [`rekindle_onnx::Session`] runs and which any ONNX runtime reads. Weights stay in the
//! mapped
//! archive under PyTorch's names. Nothing is executed while a program is read; what is not supported is refused with
//! the
//! operator, the module and the source line, all missing operators at once.

mod error;
mod lower;
mod program;
mod pt2;
mod schema;
mod script;
mod sizes;
mod summary;

pub use error::{Error, Missing, Place, Result};
pub use lower::Mode;
pub use program::{Buffer, Example, Given, Input, Lowered, Output, Parameter, Program};
pub use summary::{Described, Summary, Used};
