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
//!
//! [`Run`] reads, [`RunWriter`] holds the lock and writes, [`Scratch`] is a checkpoint under construction. `docs/checkpoints.md`
//! describes the format and what is promised.

mod delete;
mod disk;
mod error;
mod lock;
mod log;
mod manifest;
mod policy;
mod publish;
mod run;
mod saved;
mod seal;
mod size;
mod writer;

pub use delete::delete;
pub use error::CheckpointError;
pub use manifest::{Best, EarlyState, EpochSums, FORMAT, FileEntry, Manifest};
pub use policy::{
    Candidate, CheckpointSection, EveryEpochs, EveryMinutes, EverySteps, KeepAll, KeepLast, MaxTotalSize, Mode, Moment,
    Policy, Ranked, TopK, Verdict, judge,
};
pub use publish::Scratch;
pub use run::{Newest, Run, Which};
pub use saved::{Checkpoint, Contents};
pub use size::ByteSize;
pub use writer::RunWriter;

/// The files of a checkpoint besides its manifest.
pub const FILES: [&str; 3] = ["model.bpk", "optimizer.bpk", "scheduler.bpk"];
/// The manifest of a checkpoint.
const MANIFEST: &str = "manifest.json";
/// The resolved recipe of a run.
pub const RECIPE: &str = "recipe.toml";
