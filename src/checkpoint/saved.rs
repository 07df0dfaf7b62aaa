//! One checkpoint: reading and verifying it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;

use rekindle_state::fs::sha256;

use super::disk::hash_file;
use super::manifest::{FORMAT, Manifest};
use super::{CheckpointError, FILES, FileEntry, MANIFEST, seal};

/// A published checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

/// A checkpoint that was read and verified.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The manifest.
    pub manifest: Manifest,
    /// `model.bpk`.
    pub model: Vec<u8>,
    /// `optimizer.bpk`, where the checkpoint holds more than weights.
    pub optimizer: Option<Vec<u8>>,
    /// `scheduler.bpk`, likewise.
    pub scheduler: Option<Vec<u8>>,
    /// The checkpoint's folder.
    pub path: PathBuf,
}

impl Contents {
    /// `optimizer.bpk`.
    ///
    /// # Errors
    /// When the checkpoint holds weights only.
    pub fn optimizer(&self) -> Result<&[u8], CheckpointError> {
        self.optimizer.as_deref().ok_or_else(|| CheckpointError::WeightsOnly { path: self.path.clone() })
    }
}

impl Checkpoint {
    /// The name of a checkpoint's folder.
    pub fn folder(step: u64) -> String {
        format!("step-{step:08}")
    }

    /// The step in the name of a checkpoint's folder.
    pub(super) fn step_of(name: &str) -> Option<u64> {
        name.strip_prefix("step-")?.parse().ok()
    }

    /// The checkpoint in a folder, if its name says that it is one.
    pub fn at(path: &Path) -> Option<Self> {
        let step = Self::step_of(path.file_name()?.to_str()?)?;
        path.is_dir().then(|| Self { step, path: path.to_path_buf() })
    }

    /// The manifest alone, without verifying the other files.
    ///
    /// # Errors
    /// When it is missing, damaged, or of a newer format.
    pub fn manifest(&self) -> Result<Manifest, CheckpointError> {
        let path = self.path.join(MANIFEST);
        let damaged = |problem| CheckpointError::Damaged { path: path.clone(), problem };
        let bytes = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        seal::check(&bytes).map_err(damaged)?;
        let text = String::from_utf8_lossy(&bytes);
        let manifest =
            Manifest::from_json(&text).map_err(|error| damaged(format!("the manifest is broken ({error})")))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!(
                "its format is {}, this program reads {FORMAT}; use the rekindle that wrote it",
                manifest.format
            )));
        }
        if manifest.step != self.step {
            return Err(damaged(format!(
                "the manifest is of step {}, the folder of step {}",
                manifest.step, self.step
            )));
        }
        Ok(manifest)
    }

    /// Reads everything, verified.
    ///
    /// # Errors
    /// When a file is missing or is not what the manifest says.
    pub fn read(&self) -> Result<Contents, CheckpointError> {
        let manifest = self.manifest()?;
        let read = |name: &str| -> Result<Option<Vec<u8>>, CheckpointError> {
            let Some(entry) = self.entry(&manifest, name)? else { return Ok(None) };
            let path = self.path.join(name);
            let bytes = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
            compare(&path, entry, bytes.len() as u64, || sha256(&bytes))?;
            Ok(Some(bytes))
        };
        // Hashing takes longer than reading, and each file can be hashed by itself.
        let [model, optimizer, scheduler] = thread::scope(|scope| {
            let others = [FILES[1], FILES[2]].map(|name| scope.spawn(move || read(name)));
            let model = read(FILES[0]);
            let [optimizer, scheduler] =
                others.map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
            [model, optimizer, scheduler]
        });
        Ok(Contents {
            model: model?.unwrap_or_default(),
            optimizer: optimizer?,
            scheduler: scheduler?,
            manifest,
            path: self.path.clone(),
        })
    }

    /// Compares every file with the manifest, without holding any in memory; gives everything that is wrong.
    pub fn verify(&self) -> Vec<CheckpointError> {
        let manifest = match self.manifest() {
            Ok(manifest) => manifest,
            Err(error) => return vec![error],
        };
        let check = |name: &str| -> Result<(), CheckpointError> {
            let Some(entry) = self.entry(&manifest, name)? else { return Ok(()) };
            let path = self.path.join(name);
            let length = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?.len();
            // A wrong length is told as one: it says more than a hash.
            compare(&path, entry, length, || entry.sha256.clone())?;
            let found = hash_file(&path).map_err(|error| unreadable(&path, &error))?;
            compare(&path, entry, found.bytes, || found.sha256)
        };
        FILES.iter().filter_map(|name| check(name).err()).collect()
    }

    /// What the manifest says of a file; none for those that a checkpoint of weights does without.
    fn entry<'a>(&self, manifest: &'a Manifest, name: &str) -> Result<Option<&'a FileEntry>, CheckpointError> {
        match manifest.files.get(name) {
            None if name != FILES[0] && manifest.weights_only() => Ok(None),
            None => Err(CheckpointError::Damaged {
                path: self.path.join(name),
                problem: "the manifest does not list it".into(),
            }),
            entry => Ok(entry),
        }
    }

    /// Bytes that it takes on the disk.
    pub fn size(&self) -> u64 {
        let Ok(entries) = fs::read_dir(&self.path) else { return 0 };
        entries.flatten().filter_map(|entry| Some(entry.metadata().ok()?.len())).sum()
    }
}

/// Compares size and hash with the manifest's.
fn compare(path: &Path, entry: &FileEntry, bytes: u64, hash: impl FnOnce() -> String) -> Result<(), CheckpointError> {
    let damaged = |problem| Err(CheckpointError::Damaged { path: path.to_path_buf(), problem });
    if bytes != entry.bytes {
        return damaged(format!("it has {bytes} bytes, the manifest says {}", entry.bytes));
    }
    let found = hash();
    if found != entry.sha256 {
        return damaged(format!("its sha256 is {found}, the manifest says {}", entry.sha256));
    }
    Ok(())
}

/// A file of a checkpoint that cannot be read: one that is not there is damage of the checkpoint.
fn unreadable(path: &Path, error: &io::Error) -> CheckpointError {
    if error.kind() == io::ErrorKind::NotFound {
        return CheckpointError::Damaged { path: path.to_path_buf(), problem: "the file is missing".into() };
    }
    CheckpointError::io("read it", path, error)
}
