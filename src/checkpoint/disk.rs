//! Files that are whole or not there: written and synced under a temporary name, renamed, hashed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rekindle_state::fs as durable;

use super::{CheckpointError, FileEntry};

/// Prefix of names that are under way; they are removed when the run is opened again.
pub(super) const TEMPORARY: &str = ".unfinished-";

/// Writes a file and waits until it is on the disk; gives its size and hash.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<FileEntry, CheckpointError> {
    let sha256 = durable::write_synced(path, bytes).map_err(|error| CheckpointError::io("write it", path, &error))?;
    Ok(FileEntry { bytes: bytes.len() as u64, sha256 })
}

/// Makes renames and new files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    durable::sync_folder(folder).map_err(|error| CheckpointError::io("sync it", folder, &error))
}

/// Replaces a small file at once: a temporary name, sync, rename.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CheckpointError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let temporary = temporary(folder, &path.file_name().unwrap_or_default().to_string_lossy());
    durable::replace(path, &temporary, text.as_bytes()).map_err(|error| CheckpointError::io("replace it", path, &error))
}

/// The name under which something is while it is not whole.
pub(super) fn temporary(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{TEMPORARY}{name}"))
}

/// Removes a file or a folder with everything in it, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), CheckpointError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(CheckpointError::io("remove it", path, &error)),
        _ => Ok(()),
    }
}

/// Size and sha256 of a file, which is read in parts.
pub(super) fn hash_file(path: &Path) -> io::Result<FileEntry> {
    let (bytes, sha256) = durable::sha256_file(path)?;
    Ok(FileEntry { bytes, sha256 })
}
