//! A run directory, to read: finding and choosing checkpoints.

use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::manifest::Manifest;
use super::writer::REPLACED;
use super::{Checkpoint, CheckpointError, Contents, RECIPE, log};

/// A run directory. Reading it disturbs nobody who writes to it.
#[derive(Debug, Clone)]
pub struct Run {
    path: PathBuf,
}

/// Which checkpoint of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// The newest.
    Last,
    /// The one with the best monitored metric.
    Best,
    /// The one of a step.
    Step(u64),
}

impl FromStr for Which {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "last" => Ok(Self::Last),
            "best" => Ok(Self::Best),
            _ => text
                .parse()
                .map(Self::Step)
                .map_err(|_| format!("expected last, best or a step number, found '{text}'")),
        }
    }
}

/// The checkpoint that a run goes on from.
#[derive(Debug)]
pub struct Newest {
    /// What is in it.
    pub contents: Contents,
    /// Newer ones that cannot be used, and why.
    pub passed_over: Vec<CheckpointError>,
}

impl Run {
    /// The run of a folder, unseen.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf() }
    }

    /// Opens a run to read it.
    ///
    /// # Errors
    /// When the folder is no run.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let run = Self::at(path);
        if path.join(RECIPE).is_file() || !run.checkpoints().is_empty() {
            Ok(run)
        } else {
            Err(CheckpointError::NoRun { path: path.to_path_buf() })
        }
    }

    /// The model file that a path stands for: of a run its best checkpoint's, of a checkpoint its own, otherwise the path itself.
    ///
    /// # Errors
    /// When the run has no checkpoint yet.
    pub fn model_file(path: &Path) -> Result<PathBuf, CheckpointError> {
        let checkpoint = match (Checkpoint::at(path), Self::open(path)) {
            (Some(checkpoint), _) => checkpoint,
            (None, Ok(run)) => run.find(Which::Best)?,
            (None, Err(_)) => return Ok(path.to_path_buf()),
        };
        Ok(checkpoint.path.join(super::FILES[0]))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All published checkpoints, by their steps.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let mut found: Vec<Checkpoint> = Vec::new();
        for entry in entries.flatten() {
            let path = entry.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // One that is being replaced counts until the new one is in its place.
            let old = name.strip_prefix(REPLACED).filter(|name| !self.path.join(name).exists());
            if let Some(step) = Checkpoint::step_of(old.unwrap_or(name)).filter(|_| path.is_dir()) {
                found.push(Checkpoint { step, path });
            }
        }
        found.sort_by_key(|checkpoint| checkpoint.step);
        found.dedup_by_key(|checkpoint| checkpoint.step);
        found
    }

    /// All checkpoints with their manifests, the newest first: the one that was saved last, whatever its step. Where a manifest
    /// cannot be read, the pointer `last` tells whether it is the newest.
    pub fn newest_first(&self) -> Vec<(Checkpoint, Result<Manifest, CheckpointError>)> {
        let last = self.pointer("last");
        let mut all: Vec<_> =
            self.checkpoints().into_iter().map(|checkpoint| (checkpoint.manifest(), checkpoint)).collect();
        all.sort_by_key(|(manifest, checkpoint)| {
            let order = match manifest {
                Ok(manifest) => manifest.save,
                Err(_) if last == Some(checkpoint.step) => u64::MAX,
                Err(_) => 0,
            };
            std::cmp::Reverse((order, checkpoint.step))
        });
        all.into_iter().map(|(manifest, checkpoint)| (checkpoint, manifest)).collect()
    }

    /// The step that `last` or `best` names.
    pub fn pointer(&self, pointer: &str) -> Option<u64> {
        Checkpoint::step_of(fs::read_to_string(self.path.join(pointer)).ok()?.trim())
    }

    /// The checkpoint that a pointer or a step names.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, which: Which) -> Result<Checkpoint, CheckpointError> {
        let all = self.newest_first();
        let missing = |problem: String| CheckpointError::Missing { path: self.path.clone(), problem };
        let Some((newest, manifest)) = all.first() else { return Err(missing("the run has no checkpoint yet".into())) };
        let of_step =
            |step: u64| all.iter().map(|(checkpoint, _)| checkpoint).find(|checkpoint| checkpoint.step == step);
        let found = match which {
            Which::Step(step) => {
                let steps: Vec<String> =
                    self.checkpoints().iter().map(|checkpoint| checkpoint.step.to_string()).collect();
                of_step(step).ok_or_else(|| {
                    missing(format!("there is no checkpoint of step {step}, only of {}", steps.join(", ")))
                })?
            }
            Which::Last => newest,
            Which::Best => {
                let best = manifest.as_ref().ok().and_then(|manifest| manifest.best.as_ref()).map(|best| best.step);
                // The program died after it had published its best checkpoint and before it had said so.
                let told = best.filter(|best| *best == newest.step).or_else(|| self.pointer("best"));
                // Before an epoch has been validated nothing is the best, and the newest stands for it.
                told.and_then(of_step).or_else(|| best.and_then(of_step)).unwrap_or(newest)
            }
        };
        Ok(found.clone())
    }

    /// Reads and verifies the checkpoint that a pointer or a step names.
    ///
    /// # Errors
    /// When it is damaged: with what is wrong, and another checkpoint that is whole.
    pub fn load(&self, which: Which) -> Result<(Checkpoint, Contents), CheckpointError> {
        let mut attempts = 0;
        loop {
            let checkpoint = self.find(which)?;
            match checkpoint.read() {
                Ok(contents) => return Ok((checkpoint, contents)),
                // A training that is under way has replaced it by a better one meanwhile.
                Err(_) if attempts < 3 && !checkpoint.path.exists() => attempts += 1,
                Err(problem) => {
                    return Err(CheckpointError::Unusable {
                        problem: Box::new(problem),
                        instead: self.instead_of(&checkpoint),
                    });
                }
            }
        }
    }

    /// Which other checkpoint is whole.
    fn instead_of(&self, damaged: &Checkpoint) -> String {
        let mut others =
            self.newest_first().into_iter().map(|(checkpoint, _)| checkpoint).filter(|other| other != damaged);
        match others.find(|other| other.verify().is_empty()) {
            Some(whole) => format!("the checkpoint of step {} is whole: {}", whole.step, whole.path.display()),
            None => "no other checkpoint of the run is whole".to_string(),
        }
    }

    /// The newest checkpoint that is whole and that a training can go on from.
    ///
    /// # Errors
    /// When there is none, with what is wrong with each.
    pub fn newest_whole(&self) -> Result<Newest, CheckpointError> {
        let all = self.newest_first();
        let mut passed_over = Vec::new();
        if let Some(step) =
            self.pointer("last").filter(|step| all.iter().all(|(checkpoint, _)| checkpoint.step != *step))
        {
            let problem = format!("'last' names {}, which is not there", Checkpoint::folder(step));
            passed_over.push(CheckpointError::Missing { path: self.path.clone(), problem });
        }
        for (checkpoint, _) in all {
            let contents = checkpoint.read().and_then(|contents| contents.optimizer().map(|_| ()).map(|()| contents));
            match contents {
                Ok(contents) => return Ok(Newest { contents, passed_over }),
                Err(error) => passed_over.push(error),
            }
        }
        let problems: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
        let problem = match problems.len() {
            0 => "the run has no checkpoint yet".to_string(),
            _ => format!("there is no checkpoint to go on from: {}", problems.join("; ")),
        };
        Err(CheckpointError::Missing { path: self.path.clone(), problem })
    }

    /// Everything that is wrong with the run's checkpoints and pointers.
    pub fn verify(&self) -> Vec<CheckpointError> {
        let all = self.checkpoints();
        // One that is gone by now was removed by a training that is under way.
        let verify = |checkpoint: &Checkpoint| {
            Some(checkpoint.verify()).filter(|_| checkpoint.path.exists()).unwrap_or_default()
        };
        let mut problems: Vec<CheckpointError> = all.iter().flat_map(verify).collect();
        for pointer in ["last", "best"] {
            let path = self.path.join(pointer);
            let Ok(text) = fs::read_to_string(&path) else { continue };
            let name = text.trim();
            if !all.iter().any(|checkpoint| Checkpoint::step_of(name) == Some(checkpoint.step)) {
                problems.push(CheckpointError::Missing {
                    path,
                    problem: format!("it names '{name}', and there is no such checkpoint"),
                });
            }
        }
        problems
    }

    /// Whether a process writes to the run at this moment.
    pub fn is_being_written(&self) -> bool {
        super::lock::is_held(&self.path)
    }

    /// The lines of `metrics.jsonl`; a line cut short by a crash is left out.
    pub fn metrics(&self) -> Vec<serde_json::Value> {
        log::read(&self.path)
    }
}
