//! Publishing a checkpoint: everything is written and synced under a temporary name, then one rename makes it exist.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{hash_file, remove, sync_folder, temporary, write_synced};
use super::manifest::Manifest;
use super::writer::{REPLACED, RunWriter};
use super::{Checkpoint, CheckpointError, FileEntry, MANIFEST, seal};

/// A checkpoint under construction. Its files may be written by several threads at once. Dropped before it is published, it leaves
/// nothing behind, and what was there before is untouched.
#[derive(Debug)]
pub struct Scratch {
    writer: Arc<RunWriter>,
    folder: PathBuf,
    files: Mutex<BTreeMap<String, FileEntry>>,
}

impl Scratch {
    /// Begins a checkpoint of a step.
    ///
    /// # Errors
    /// When its folder cannot be made.
    pub fn new(writer: Arc<RunWriter>, step: u64) -> Result<Self, CheckpointError> {
        let folder = temporary(writer.path(), &Checkpoint::folder(step));
        remove(&folder)?;
        fs::create_dir(&folder).map_err(|error| CheckpointError::io("create it", &folder, &error))?;
        Ok(Self { writer, folder, files: Mutex::default() })
    }

    /// Writes a file and waits until it is on the disk; it is hashed meanwhile.
    ///
    /// # Errors
    /// When it cannot be written or synced.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), CheckpointError> {
        let entry = write_synced(&self.folder.join(name), bytes)?;
        self.add(name, entry);
        Ok(())
    }

    /// Takes a file that somebody else writes and syncs, and hashes it.
    ///
    /// # Errors
    /// Those of `write`; and when what it wrote cannot be read.
    pub fn take(
        &self,
        name: &str,
        write: impl FnOnce(&Path) -> Result<(), CheckpointError>,
    ) -> Result<(), CheckpointError> {
        let path = self.folder.join(name);
        write(&path)?;
        let entry = hash_file(&path).map_err(|error| CheckpointError::io("read what was written", &path, &error))?;
        self.add(name, entry);
        Ok(())
    }

    fn add(&self, name: &str, entry: FileEntry) {
        self.files.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), entry);
    }

    /// Writes the manifest, and makes the checkpoint exist by one rename.
    ///
    /// # Errors
    /// When the manifest cannot be written, or the folder not renamed.
    pub fn publish(self, mut manifest: Manifest) -> Result<Checkpoint, CheckpointError> {
        let run = self.writer.path();
        manifest.save = self.writer.next_save();
        manifest.files = std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner));
        let text = manifest.to_json().map_err(|error| CheckpointError::Damaged {
            path: self.folder.clone(),
            problem: format!("its manifest cannot be written: {error}"),
        })?;
        write_synced(&self.folder.join(MANIFEST), seal::seal(&text).as_bytes())?;
        sync_folder(&self.folder)?;
        let name = Checkpoint::folder(manifest.step);
        let published = run.join(&name);
        let failed = |error| CheckpointError::io("publish it", &published, &error);
        if published.exists() {
            // The same step again, after going on from an earlier one. Two renames: whoever opens the run between them moves the
            // old one back.
            let old = run.join(format!("{REPLACED}{name}"));
            remove(&old)?;
            fs::rename(&published, &old).map_err(failed)?;
            if let Err(error) = fs::rename(&self.folder, &published) {
                // Best effort: the next opening does the same.
                let _ = fs::rename(&old, &published);
                return Err(failed(error));
            }
            sync_folder(run)?;
            remove(&old)?;
        } else {
            fs::rename(&self.folder, &published).map_err(failed)?;
            sync_folder(run)?;
        }
        Ok(Checkpoint { step: manifest.step, path: published })
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Best effort: the next opening of the run removes what is left. After publishing there is nothing.
        let _ = remove(&self.folder);
    }
}
