//! Publishing a checkpoint: everything is written and synced under a temporary name, then one rename makes it exist.

use std::fs;
use std::path::Path;

use super::disk::{TEMPORARY, sha256, sync_folder, write_synced};
use super::manifest::{FileEntry, Manifest};
use super::run::Checkpoint;
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
    let text = manifest.to_json().map_err(|error| CheckpointError::Damaged {
        path: folder.to_path_buf(),
        problem: format!("its manifest cannot be written: {error}"),
    })?;
    write_synced(&folder.join("manifest.json"), text.as_bytes())?;
    sync_folder(folder)
}
