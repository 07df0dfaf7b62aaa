//! Files that are whole or not there: written and synced under a temporary name, renamed, hashed.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::CheckpointError;

/// Prefix of names that are under way; they are removed when the run is opened again.
pub(super) const TEMPORARY: &str = ".unfinished-";

/// Writes a file and waits until it is on the disk.
pub(super) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| CheckpointError::io("write it", path, &error))
}

/// Makes renames and new files in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    if cfg!(unix) {
        File::open(folder).and_then(|file| file.sync_all()).map_err(|error| CheckpointError::io("sync it", folder, &error))?;
    }
    Ok(())
}

/// Replaces a small file at once: a temporary name, sync, rename.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CheckpointError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!("{TEMPORARY}{name}"));
    write_synced(&temporary, text.as_bytes())?;
    fs::rename(&temporary, path).map_err(|error| CheckpointError::io("replace it", path, &error))?;
    sync_folder(folder)
}

/// The sha256 of some bytes in hexadecimal digits.
pub(super) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
