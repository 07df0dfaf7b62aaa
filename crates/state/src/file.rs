//! A model file, opened: its format, its values, and what unpickling it would have called.

use std::path::{Path, PathBuf};

use crate::torch::module;
use crate::{Global, Map, ModuleTree, OnnxSummary, Result, Value, detect};

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

/// A model file, opened.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its format, found by its content.
    pub format: Format,
    /// Number of files: 1, more for a sharded model.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// What is in it.
    pub content: Content,
    /// Whole modules that were pickled, with their paths: in `content` they are replaced by their state dicts.
    pub modules: Vec<(String, ModuleTree)>,
    /// Inputs, outputs and operators of an ONNX model.
    pub onnx: Option<OnnxSummary>,
}

/// Opens a model file of any format and reads its structure. Tensors stay in the file until their bytes are asked for.
///
/// # Errors
/// When the file cannot be opened, is of no known format, or is damaged.
pub fn open(path: impl AsRef<Path>) -> Result<ModelFile> {
    let path = path.as_ref();
    read(&Map::open(path)?)
}

/// Reads a mapped file or bytes in memory, as [`open`] does.
///
/// # Errors
/// See [`open`].
pub fn read(map: &Map) -> Result<ModelFile> {
    let detect::Found { format, mut content, script, onnx } =
        detect::read(map).map_err(|error| error.at(map.path()))?;
    let modules = match script {
        Some(tree) => vec![(String::new(), tree)],
        None => module::lift(&mut content.root),
    };
    Ok(ModelFile {
        path: map.path().to_path_buf(),
        format,
        files: 1,
        bytes: map.bytes().len() as u64,
        content,
        modules,
        onnx,
    })
}
