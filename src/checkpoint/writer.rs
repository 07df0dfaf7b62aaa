//! A run directory, to write: one process at a time, which first clears away what an earlier one left unfinished.

use std::fs;
use std::io::ErrorKind;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::disk::{TEMPORARY, remove, replace, sync_folder, temporary};
use super::lock::Lock;
use super::log::MetricsLog;
use super::{Checkpoint, CheckpointError, RECIPE, Run};

/// Prefix of a checkpoint that another of the same step is about to replace. It is moved back when that did not come.
pub(super) const REPLACED: &str = ".replaced-";

/// A run that this process alone may write to, for as long as this lives.
#[derive(Debug)]
pub struct RunWriter {
    run: Run,
    metrics: MetricsLog,
    /// How often the run was saved.
    saves: AtomicU64,
    _lock: Lock,
}

impl Deref for RunWriter {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

impl RunWriter {
    /// Makes a new run directory with its resolved recipe.
    ///
    /// # Errors
    /// When a run is there already, or the folder cannot be written.
    pub fn create(path: &Path, recipe: &str) -> Result<Self, CheckpointError> {
        fs::create_dir_all(path).map_err(|error| CheckpointError::io("create the run's folder", path, &error))?;
        let lock = Lock::take(path)?;
        if Run::open(path).is_ok() {
            return Err(CheckpointError::Exists { path: path.to_path_buf() });
        }
        let writer = Self::with(path, lock)?;
        replace(&path.join(RECIPE), recipe)?;
        Ok(writer)
    }

    /// The same in a folder that is not there yet: `path`, or `path-2` and so on.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn create_numbered(path: &Path, recipe: &str) -> Result<Self, CheckpointError> {
        let parent = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(parent).map_err(|error| CheckpointError::io("create it", parent, &error))?;
        let mut free = path.to_path_buf();
        for number in 2_u32.. {
            match fs::create_dir(&free) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    free = PathBuf::from(format!("{}-{number}", path.display()))
                }
                // `create` finds the folder there, or says why it cannot be made.
                _ => break,
            }
        }
        Self::create(&free, recipe)
    }

    /// Opens a run to go on with it: takes its lock, and clears away what a process that died left unfinished.
    ///
    /// # Errors
    /// When the folder is no run, another process writes to it, or it cannot be written to.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Run::open(path)?;
        Self::with(path, Lock::take(path)?)
    }

    fn with(path: &Path, lock: Lock) -> Result<Self, CheckpointError> {
        let run = Run::at(path);
        recover(path)?;
        let saves = run.newest_first().iter().filter_map(|(_, manifest)| Some(manifest.as_ref().ok()?.save)).max();
        Ok(Self { metrics: MetricsLog::new(path), saves: AtomicU64::new(saves.unwrap_or(0)), run, _lock: lock })
    }

    /// The run, to read.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// The number of the next save.
    pub(super) fn next_save(&self) -> u64 {
        self.saves.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes `last` or `best` name a checkpoint.
    ///
    /// # Errors
    /// When the pointer cannot be replaced.
    pub fn point(&self, pointer: &str, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        replace(&self.path().join(pointer), &format!("{}\n", Checkpoint::folder(checkpoint.step)))
    }

    /// Adds a line to `metrics.jsonl`; earlier lines of the same or later steps go.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, line: &serde_json::Value) -> Result<(), CheckpointError> {
        self.metrics.append(line)
    }

    /// Removes a checkpoint. It disappears under another name first, so that none is ever seen half removed.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let aside = temporary(self.path(), &format!("removed-{}", Checkpoint::folder(checkpoint.step)));
        fs::rename(&checkpoint.path, &aside)
            .map_err(|error| CheckpointError::io("remove the old checkpoint", &checkpoint.path, &error))
            .and_then(|()| remove(&aside))
    }
}

/// Brings a run into order after a process that died: the lock says that none is at work.
fn recover(path: &Path) -> Result<(), CheckpointError> {
    let entries = fs::read_dir(path).map_err(|error| CheckpointError::io("list it", path, &error))?;
    let mut changed = false;
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.starts_with(TEMPORARY) {
            remove(&entry.path())?;
            changed = true;
        } else if let Some(published) = name.strip_prefix(REPLACED).map(|name| path.join(name)) {
            if published.exists() {
                remove(&entry.path())?;
            } else {
                fs::rename(entry.path(), &published)
                    .map_err(|error| CheckpointError::io("move it back", &published, &error))?;
            }
            changed = true;
        }
    }
    if changed { sync_folder(path) } else { Ok(()) }
}
