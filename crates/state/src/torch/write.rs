//! Writing a tree of values as a file for `torch.load(weights_only=True)`.

use std::path::Path;

use super::legacy_write::write_legacy;
use super::pickle_write::Pickler;
use super::zip_write::ZipWriter;
use crate::{AtomicFile, Result, Value};

/// How a PyTorch file is written.
#[derive(Debug, Clone, Default)]
pub struct TorchOptions {
    /// The format of PyTorch before 1.6 instead of the zip format.
    pub legacy: bool,
    /// Leave it to the system when the bytes reach the disk, as `torch.save` does: a power cut may then lose the file.
    pub unsynced: bool,
}

/// Writes a value as a PyTorch file, which appears whole or not at all; the same content gives the same bytes.
///
/// Storages are written once, however many tensors view them, and views stay views. Storages that are produced when asked are
/// produced one at a time. Returns a note for everything that a PyTorch file cannot say and `weights_only=True` would refuse:
/// numpy arrays become tensors, instances of classes become `None`.
///
/// # Errors
/// When the file cannot be written or a tensor cannot be read.
pub fn write_torch(path: &Path, root: &Value, options: &TorchOptions) -> Result<Vec<String>> {
    let (pickle, plan, notes) = Pickler::pickle(root, options.legacy).map_err(|error| error.at(path))?;
    let file = AtomicFile::create(path)?;
    let file = if options.unsynced { file.unsynced() } else { file };
    if options.legacy {
        write_legacy(file, &pickle, &plan).map_err(|error| error.at(path))?.commit()?;
        return Ok(notes);
    }
    let root = archive_name(path);
    let mut zip = ZipWriter::new(file);
    zip.add(&format!("{root}/data.pkl"), &pickle)?;
    zip.add(&format!("{root}/byteorder"), b"little")?;
    for (key, storage) in plan.storages.iter().enumerate() {
        storage.with_bytes(|bytes| zip.add(&format!("{root}/data/{key}"), bytes)).map_err(|error| error.at(path))?;
    }
    zip.add(&format!("{root}/version"), b"3\n")?;
    zip.finish()?.commit()?;
    Ok(notes)
}

/// The folder in the archive: the file's name without its extension, as `torch.save` has it, where that is a plain name.
fn archive_name(path: &Path) -> String {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '=' | '@' | ' ');
    let odd = stem.is_empty() || stem.len() > 128 || stem.starts_with('.') || !stem.chars().all(plain);
    if odd { "archive".to_string() } else { stem.to_string() }
}
