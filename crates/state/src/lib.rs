//! Model files as ordered state dicts.
//!
//! Reads what PyTorch ever saved (zip, legacy, tar, TorchScript, bare pickles), safetensors, burnpack, npy and npz, and writes
//! them again. Nothing in a file is ever executed: classes and functions that a pickle names are values with a module and a
//! name. Any byte string gives a value or an [`Error`]; sizes that a file declares are checked against what it holds before
//! anything is allocated.

mod atomic;
mod burnpack;
mod cast;
mod convert;
mod detect;
mod diff;
mod dtype;
mod error;
mod file;
mod hashes;
mod listing;
mod map;
mod matching;
mod module;
mod npy;
pub mod onnx;
mod optimizer;
mod pairs;
mod plain;
mod rename;
mod safetensors;
mod staged;
mod state_dict;
mod storage;
mod tensor;
mod torch;
mod tree;
mod value;
mod walk;

pub use atomic::{AtomicFile, write_atomic};
pub use burnpack::{ParamIds, read_burnpack, read_burnpack_with_ids, write_burnpack};
pub use convert::{OutputFormat, SaveOptions, save};
pub use diff::{DTypeDiff, Diff, DiffOptions, PlainDiff, ShapeDiff, TensorDiff, diff};
pub use dtype::DType;
pub use error::{Error, ErrorKind, Result};
pub use file::{Content, Format, ModelFile, open, read};
pub use listing::{GlobalEntry, Listing, OptimizerEntry, TensorEntry, tensors};
pub use map::{Map, MapSlice};
pub use matching::{MatchOptions, Matched, Matching, Wanted, find_key, match_weights};
pub use module::module_state_dict;
pub use npy::{read_npy, read_npz, write_npy, write_npz};
pub use onnx::{OnnxSummary, OnnxValue, is_onnx, read_onnx};
pub use rename::Renames;
pub use safetensors::{read_safetensors, write_safetensors};
pub use staged::Staged;
pub use state_dict::{DictKind, Key, StateDict};
pub use storage::{Source, Storage};
pub use tensor::{Data, Quantization, Tensor, View, show_shape};
pub use torch::audit::{Verdict, verdict};
pub use torch::module::ModuleTree;
pub use torch::{TorchOptions, write_torch};
pub use value::{Array, Global, Object, Value};
pub use walk::walk;
