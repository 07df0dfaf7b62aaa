//! Publishing a checkpoint: everything is written and synced under a temporary name, then one rename makes it exist.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::manifest::{FileEntry, Manifest};
use super::run::{Checkpoint, TEMPORARY};
use super::{CheckpointError, Run};

/// Writes a checkpoint of `run`. On an error nothing is left behind, and what was there before is untouched.
///
/// # Errors
/// When a file cannot be written or synced.
pub fn publish(run: &Run, mut manifest: Manifest, files: &[(&str, &[u8])]) -> Result<Checkpoint, CheckpointError> {
    let name = Checkpoint::folder(manifest.step);
    let temporary = run.path().join(format!("{TEMPORARY}{name}"));
    let published = run.path().join(&name);
    let result = write_all(&temporary, &mut manifest, files).and_then(|()| {
        if published.exists() {
            // The same step again, after a resume from an earlier one: the new one takes its place.
            let old = run.path().join(format!("{TEMPORARY}old-{name}"));
            fs::rename(&published, &old).map_err(|error| CheckpointError::io("move it aside", &published, &error))?;
            fs::rename(&temporary, &published).map_err(|error| CheckpointError::io("publish it", &published, &error))?;
            return fs::remove_dir_all(&old).map_err(|error| CheckpointError::io("remove it", &old, &error));
        }
        fs::rename(&temporary, &published).map_err(|error| CheckpointError::io("publish it", &published, &error))
    });
    if let Err(error) = result {
        // Best effort: the next opening of the run removes what is left.
        let _ = fs::remove_dir_all(&temporary);
        return Err(error);
    }
    sync_folder(run.path())?;
    Ok(Checkpoint { step: manifest.step, path: published })
}

fn write_all(folder: &Path, manifest: &mut Manifest, files: &[(&str, &[u8])]) -> Result<(), CheckpointError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| CheckpointError::io("remove it", folder, &error))?;
    }
    fs::create_dir_all(folder).map_err(|error| CheckpointError::io("create it", folder, &error))?;
    for (name, bytes) in files {
        write_synced(&folder.join(name), bytes)?;
        manifest.files.insert((*name).to_string(), FileEntry { bytes: bytes.len() as u64, sha256: sha256(bytes) });
    }
    let text = serde_json::to_string_pretty(manifest).map_err(|error| CheckpointError::Damaged {
        path: folder.to_path_buf(),
        problem: format!("its manifest cannot be written: {error}"),
    })?;
    write_synced(&folder.join("manifest.json"), text.as_bytes())?;
    sync_folder(folder)
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| CheckpointError::io("write it", path, &error))
}

/// Makes renames and new files in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
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
