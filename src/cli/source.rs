//! What `inspect`, `diff` and `convert` open: a model file or a folder that is one model, a run, or a checkpoint.

use std::path::{Path, PathBuf};

use anyhow::bail;
use rekindle_state::{ModelFile, StateDict, Value};

use crate::checkpoint::{Checkpoint, Contents, Run, Which};
use crate::models::Registry;
use crate::train::Snapshot;

/// A path, opened.
pub enum Source {
    /// A model file.
    File(Box<ModelFile>),
    /// A checkpoint of a run.
    Saved(Box<Saved>),
}

/// A checkpoint, read and verified.
pub struct Saved {
    /// The networks that there are.
    registry: Registry,
    /// The run, where a run was named and not one of its checkpoints.
    pub run: Option<Run>,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// What is in it.
    pub contents: Contents,
}

impl Source {
    /// Opens a file, or the checkpoint that a folder is or has.
    pub fn open(registry: &Registry, path: &Path, which: Which) -> anyhow::Result<Self> {
        if path.is_dir() && !rekindle_state::is_model_folder(path) {
            return Ok(Self::Saved(Box::new(Saved::open(registry, path, which)?)));
        }
        Ok(Self::File(Box::new(rekindle_state::open(path)?)))
    }

    /// Whether it is a whole training: a checkpoint, or a file with a model's state beside other things.
    pub fn is_whole(&self) -> bool {
        match self {
            Self::File(file) => file.content.root.as_dict().is_some_and(|root| root.dict("model_state_dict").is_some()),
            Self::Saved(_) => true,
        }
    }

    /// The tree of values: of a checkpoint, the whole of it or the model's state dict alone.
    pub fn tree(&self, whole: bool) -> anyhow::Result<Value> {
        Ok(match self {
            Self::File(file) => file.content.root.clone(),
            Self::Saved(saved) => {
                Value::Dict(if whole { saved.checkpoint_dict()? } else { saved.snapshot()?.model()? })
            }
        })
    }
}

impl Saved {
    /// Reads the checkpoint that a folder is, or that a run has.
    pub fn open(registry: &Registry, path: &Path, which: Which) -> anyhow::Result<Self> {
        // A folder may be named as `.` or with a slash at its end.
        let named = || std::fs::canonicalize(path).ok().and_then(|path| Checkpoint::at(&path));
        let (run, checkpoint, contents) = match Checkpoint::at(path).or_else(named) {
            Some(checkpoint) => {
                let contents = checkpoint.read()?;
                (None, checkpoint, contents)
            }
            None => {
                let run = Run::open(path)?;
                let (checkpoint, contents) = run.load(which)?;
                (Some(run), checkpoint, contents)
            }
        };
        Ok(Self { registry: registry.clone(), run, checkpoint, contents })
    }

    /// The checkpoint's folder, for messages.
    pub fn place(&self) -> String {
        self.checkpoint.path.display().to_string()
    }

    /// The network and parameter groups.
    pub fn snapshot(&self) -> anyhow::Result<Snapshot> {
        Ok(Snapshot::new(&self.registry, &self.contents, &self.place())?)
    }

    /// Everything in PyTorch's terms.
    pub fn checkpoint_dict(&self) -> anyhow::Result<StateDict> {
        Ok(self.snapshot()?.checkpoint(&self.contents, &self.place())?)
    }

    /// Every file of the run or checkpoint with its size, by path from its folder.
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let root = self.run.as_ref().map_or(self.checkpoint.path.as_path(), Run::path);
        let mut files = Vec::new();
        list(root, Path::new(""), 0, &mut files);
        files
    }
}

/// The files below a folder, in order of their names.
fn list(folder: &Path, at: &Path, depth: usize, files: &mut Vec<(PathBuf, u64)>) {
    let Ok(entries) = std::fs::read_dir(folder.join(at)) else { return };
    // Names with a dot are a lock, and saves under way.
    let mut entries: Vec<_> =
        entries.flatten().filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let path = at.join(entry.file_name());
        match entry.metadata() {
            // A run has folders of checkpoints, and these have none.
            Ok(metadata) if metadata.is_dir() && depth < 2 => list(folder, &path, depth + 1, files),
            Ok(metadata) if metadata.is_file() => files.push((path, metadata.len())),
            _ => {}
        }
    }
}

/// Refuses a folder where a file is expected.
pub fn expect_file(path: &Path) -> anyhow::Result<()> {
    if path.is_dir() && !rekindle_state::is_model_folder(path) {
        bail!(
            "{0}: this is a folder, expected a model file; a run or checkpoint is written as a file by `rekindle export {0} OUT`",
            path.display()
        );
    }
    Ok(())
}
