//! Model files as ordered state dicts.
//!
//! Reads what PyTorch ever saved (zip, legacy, tar, TorchScript, bare pickles), safetensors, burnpack, npy and npz, and writes
//! them again. Nothing in a file is ever executed: classes and functions that a pickle names are values with a module and a
//! name. Any byte string gives a value or an [`Error`]; sizes that a file declares are checked against what it holds before
//! anything is allocated.
//!
//! Opening a file reads its structure alone: tensors stay in the mapped file until their bytes are asked for.
//!
//! ```
//! use rekindle_state::{SaveOptions, StateDict, Tensor, Value, open, save, tensors};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! // A checkpoint, in the order in which it was put together.
//! let mut weights = StateDict::ordered();
//! weights.insert("fc.weight", Tensor::from_f32(&[1, 2], &[0.5, -0.5])?);
//! weights.insert("fc.bias", Tensor::from_f32(&[1], &[0.25])?);
//! let mut checkpoint = StateDict::new();
//! checkpoint.insert("epoch", 3_i64);
//! checkpoint.insert("model_state_dict", weights);
//!
//! // `torch.load(path, weights_only=True)` reads this.
//! let path = folder.path().join("checkpoint.pth");
//! save(&path, &Value::Dict(checkpoint), &SaveOptions::default())?;
//!
//! let file = open(&path)?;
//! for (name, tensor) in tensors(&file.content.root) {
//!     println!("{name} {} {:?} {:?}", tensor.dtype(), tensor.shape(), tensor.to_f32()?);
//! }
//! let names: Vec<_> = tensors(&file.content.root).into_iter().map(|(name, _)| name).collect();
//! assert_eq!(names, ["model_state_dict/fc.weight", "model_state_dict/fc.bias"]);
//!
//! // What Python would have looked up to unpickle it, and whether all of that is harmless.
//! assert!(file.listing(false)?.safe);
//!
//! // The same values in another format.
//! let notes = save(&folder.path().join("checkpoint.safetensors"), &file.content.root, &SaveOptions::default())?;
//! assert!(notes.is_empty());
//! # Ok(())
//! # }
//! ```

mod atomic;
mod burnpack;
mod cast;
mod convert;
mod diff;
mod dtype;
mod error;
mod file;
mod format;
mod former;
pub mod fs;
mod hashes;
mod listing;
mod map;
mod matching;
mod module;
mod nearest;
mod npy;
pub mod onnx;
mod optimizer;
mod pairs;
mod parametrization;
mod plain;
mod rename;
mod resident;
mod safetensors;
mod sharded;
mod staged;
mod state_dict;
mod storage;
mod tensor;
mod tolerance;
mod torch;
mod tree;
mod value;
mod walk;
mod writeback;

pub use atomic::{AtomicFile, write_atomic};
pub use burnpack::{Burnpack, ParamIds, read_burnpack, read_burnpack_with_ids, write_burnpack};
pub use convert::{SaveOptions, save};
pub use diff::{DTypeDiff, Diff, PlainDiff, ShapeDiff, TensorDiff, diff};
pub use dtype::DType;
pub use error::{Error, ErrorKind, Result, reason};
pub use file::{Content, ModelFile, is_model_folder, open, read};
pub use format::{FORMATS, Format, Opened, Probe, Writer, format_for};
pub use listing::{GlobalEntry, Listing, TensorEntry, tensors};
pub use map::{Map, MapSlice};
pub use matching::{MatchOptions, Matched, Matching, Wanted, find_key, is_spoken, match_weights};
pub use module::module_state_dict;
pub use nearest::{nearest, nearest_alike};
pub use npy::{Npy, Npz, npy_bytes, read_npy, read_npz, write_npy, write_npz};
pub use onnx::{Onnx, OnnxSummary, OnnxValue, is_onnx, read_onnx};
pub use optimizer::OptimizerEntry;
pub use rename::Renames;
pub use resident::Resident;
pub use safetensors::{Safetensors, read_safetensors, safetensors_bytes, write_safetensors};
pub use sharded::ShardIndex;
pub use staged::Staged;
pub use state_dict::{DictKind, Key, StateDict};
pub use storage::{Source, Storage};
pub use tensor::{Data, Quantization, Tensor, View, show_shape};
pub use tolerance::{Tolerance, gap};
pub use torch::audit::{Verdict, verdict};
pub use torch::module::ModuleTree;
pub use torch::{
    Distributed, ModelZip, Pickle, ProgramArchive, ProgramKind, TorchLegacy, TorchOptions, TorchScript, TorchTar,
    TorchZip, rewrite_program, write_torch,
};
pub use value::{Array, Global, Object, Value};
pub use walk::walk;
