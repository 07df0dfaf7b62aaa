//! A model file, opened: its format, its values, and what unpickling it would have called.

use std::path::{Path, PathBuf};

use crate::format::{self, Format, Opened, Probe};
use crate::torch::{dtensor, module};
use crate::{Global, Map, ModuleTree, OnnxSummary, Result, Value};

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
    pub format: &'static dyn Format,
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
    /// What a user should know of the file before its tensors are used, as sentences: parts of distributed tensors.
    pub notes: Vec<String>,
}

/// Opens a model of any format and reads its structure. Tensors stay in the file until their bytes are asked for.
///
/// A folder is a model where it holds an index of shards, one model file, or a `torch.distributed.checkpoint`.
///
/// # Errors
/// When the file cannot be opened, is of no known format, or is damaged.
pub fn open(path: impl AsRef<Path>) -> Result<ModelFile> {
    let path = path.as_ref();
    if path.is_dir() {
        return read_probe(&Probe::folder(path), 0);
    }
    read(&Map::open(path)?)
}

/// Whether a folder is a model that [`open`] takes.
pub fn is_model_folder(path: &Path) -> bool {
    path.is_dir() && format::find(&Probe::folder(path)).is_ok()
}

/// Reads a mapped file or bytes in memory, as [`open`] does.
///
/// # Errors
/// See [`open`].
pub fn read(map: &Map) -> Result<ModelFile> {
    read_probe(&Probe::file(map), map.bytes().len() as u64)
}

fn read_probe(probe: &Probe<'_>, bytes: u64) -> Result<ModelFile> {
    let read = || {
        let format = format::find(probe)?;
        Ok((format, format.read(probe)?))
    };
    let (format, opened) = read().map_err(|error: crate::Error| error.at(probe.path()))?;
    let Opened { mut content, script, onnx, files, format: inner } = opened;
    let format = inner.unwrap_or(format);
    let modules = match script {
        Some(tree) => vec![(String::new(), tree)],
        None => module::lift(&mut content.root),
    };
    let (files, bytes) = files.unwrap_or((1, bytes));
    let notes = dtensor::notes(&content.root);
    Ok(ModelFile { path: probe.path().to_path_buf(), format, files, bytes, content, modules, onnx, notes })
}
