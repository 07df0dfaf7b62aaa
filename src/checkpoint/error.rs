//! What can be wrong with a run or a checkpoint.

use std::io;
use std::path::{Path, PathBuf};

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
    /// The checkpoint cannot be used, and what could be used instead.
    #[error("{problem}; {instead}")]
    Unusable {
        /// What is wrong with it.
        problem: Box<CheckpointError>,
        /// Another checkpoint, or that there is none.
        instead: String,
    },
    /// The checkpoint has no optimizer state to go on with.
    #[error(
        "{path}: this checkpoint holds weights only (checkpoint.weights_only), and going on needs the optimizer's state too: \
         start a new run from the weights with `rekindle train RECIPE --init {path}/model.bpk`",
        path = path.display()
    )]
    WeightsOnly {
        /// The checkpoint.
        path: PathBuf,
    },
    /// A run is there already.
    #[error("{path}: a run is here already: continue it with `rekindle resume {path}`, or give another folder with --run", path = path.display())]
    Exists {
        /// The run.
        path: PathBuf,
    },
    /// Another process writes to the run.
    #[error("{path}: another process{holder} is training in this run: wait until it is done, or stop it first", path = path.display())]
    Busy {
        /// The run.
        path: PathBuf,
        /// Its pid in brackets, as far as it is known.
        holder: String,
    },
}

impl CheckpointError {
    pub(crate) fn io(doing: &'static str, path: &Path, error: &io::Error) -> Self {
        let reason = rekindle_state::reason(error);
        Self::Io { path: path.to_path_buf(), doing, reason }
    }
}
