//! Checkpoints: one directory each, published by one rename, verified by hash when read.
//!
//! ```text
//! checkpoints/RUN/
//!   recipe.toml              the resolved recipe
//!   metrics.jsonl            a line for each epoch
//!   last, best               one line each: the name of a checkpoint
//!   step-00000938/           a checkpoint
//!     model.bpk optimizer.bpk scheduler.bpk    Burn's records
//!     manifest.json                            what they are, their sizes and hashes, and the state of the run
//! ```

mod disk;
mod exact;
mod manifest;
mod retention;
mod run;
mod write;

pub use manifest::{Best, EarlyState, EpochSums, FORMAT, FileEntry, Manifest};
pub use retention::{Policy, doomed};
pub use run::{Checkpoint, Contents, Run, Which};
pub use write::publish;

use std::path::PathBuf;

/// The files of a checkpoint besides its manifest.
pub const FILES: [&str; 3] = ["model.bpk", "optimizer.bpk", "scheduler.bpk"];

/// Why a run or a checkpoint cannot be used. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The operating system refused.
    #[error("{path}: cannot {doing}: {reason}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// A verb.
        doing: &'static str,
        /// The operating system's words.
        reason: String,
    },
    /// The folder is no run.
    #[error("{path}: this is no run: expected a folder with recipe.toml and checkpoints named step-…; `rekindle runs` lists runs", path = path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// The run has no checkpoint, or not the one that was asked for.
    #[error("{path}: {problem}", path = path.display())]
    Missing {
        /// The run.
        path: PathBuf,
        /// What is missing, and what there is.
        problem: String,
    },
    /// The checkpoint is not what its manifest says.
    #[error("{path}: the checkpoint is damaged: {problem}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What differs.
        problem: String,
    },
    /// A run is there already.
    #[error("{path}: a run is here already: continue it with `rekindle resume {path}`, or give another folder with --run", path = path.display())]
    Exists {
        /// The run.
        path: PathBuf,
    },
}

impl CheckpointError {
    fn io(doing: &'static str, path: &std::path::Path, error: &std::io::Error) -> Self {
        let reason = match error.kind() {
            std::io::ErrorKind::NotFound => "no such file or folder".to_string(),
            std::io::ErrorKind::PermissionDenied => "permission denied".to_string(),
            std::io::ErrorKind::StorageFull => "the disk is full".to_string(),
            std::io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".to_string(),
            _ => error.to_string(),
        };
        Self::Io { path: path.to_path_buf(), doing, reason }
    }
}
