//! A model file, opened: its format, its values, and what unpickling it would have called.

use crate::{Global, Value};

/// A file format, found by content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// PyTorch 1.6 and later: a zip archive.
    TorchZip,
    /// PyTorch 0.1.10 to 1.5: pickles and storages one after the other.
    TorchLegacy,
    /// Older PyTorch: a tar archive.
    TorchTar,
    /// A TorchScript archive.
    TorchScript,
    /// A bare pickle.
    Pickle,
    /// safetensors.
    Safetensors,
    /// Burn's burnpack.
    Burnpack,
    /// One numpy array.
    Npy,
    /// A zip archive of numpy arrays.
    Npz,
    /// An ONNX model.
    Onnx,
}

impl Format {
    /// The name that `inspect` prints.
    pub fn name(self) -> &'static str {
        match self {
            Self::TorchZip => "torch-zip",
            Self::TorchLegacy => "torch-legacy",
            Self::TorchTar => "torch-tar",
            Self::TorchScript => "torchscript",
            Self::Pickle => "pickle",
            Self::Safetensors => "safetensors",
            Self::Burnpack => "burnpack",
            Self::Npy => "npy",
            Self::Npz => "npz",
            Self::Onnx => "onnx",
        }
    }
}

/// What a reader of one format found.
#[derive(Debug, Clone)]
pub struct Content {
    /// All values, as a tree: usually a dictionary, a tensor for a file with only one.
    pub root: Value,
    /// Text beside the tensors: safetensors' `__metadata__`, burnpack's metadata.
    pub metadata: Vec<(String, String)>,
    /// Every class and function that Python's unpickler would have looked up, once each, in the order of the file.
    pub globals: Vec<Global>,
}
