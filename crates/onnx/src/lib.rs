//! ONNX models at run time: a graph interpreter over the file's own messages.
//!
//! [`Model::open`] reads and checks a file: names resolve, nothing is cyclic, weights hold what they claim. [`Session`] runs it.
//! Every operator has a host implementation in [`ops`]; an [`Accelerator`] may take those it is good at, and values move
//! between the two only when a node needs them on the other side. Memory of a value is freed after its last use.
//! [`Session::prepared`] merges nodes first, for inference; [`Session::new`] runs the graph as it is in the file.
//!
//! ```no_run
//! use rekindle_onnx::{HostOnly, Model, Session};
//!
//! let model = Model::open("mnist.onnx".as_ref())?;
//! let session = Session::new(model, HostOnly)?;
//! # let image = rekindle_onnx::Array::new(vec![1, 1, 28, 28], vec![0.0_f32; 784])?;
//! let outputs = session.run(vec![("Input3".to_string(), image.into())])?;
//! # Ok::<(), rekindle_onnx::Error>(())
//! ```

pub mod array;
mod axis;
pub mod builder;
pub mod conformance;
mod cpu;
mod dtype;
mod error;
pub mod graph;
pub mod infer;
mod limit;
pub mod operator;
pub mod ops;
mod prepare;
pub mod reference;
mod run;
mod value;

pub use array::{Array, Data, Element};
pub use axis::Axis;
pub use dtype::DType;
pub use error::{Error, Missing, Reason, Result};
pub use graph::{Attribute, Attributes, FUSED, Graph, Model, Node, Port, ValueId};
pub use limit::{Limits, work};
pub use run::{Accelerator, Constants, Cpu, HostOnly, Session, Slot, Source, Watch};
pub use value::Value;
