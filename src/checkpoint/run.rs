//! A run directory: finding, choosing and reading its checkpoints.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::disk::{TEMPORARY, replace, sha256};
use super::manifest::{FORMAT, Manifest};
use super::{CheckpointError, FILES};

/// A run directory.
#[derive(Debug, Clone)]
pub struct Run {
    path: PathBuf,
}

/// A published checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Optimizer steps done.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
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
            _ => text.parse().map(Self::Step).map_err(|_| format!("expected last, best or a step number, found '{text}'")),
        }
    }
}

/// A checkpoint that was read and verified.
#[derive(Debug, Clone)]
pub struct Contents {
    /// The manifest.
    pub manifest: Manifest,
    /// `model.bpk`.
    pub model: Vec<u8>,
    /// `optimizer.bpk`.
    pub optimizer: Vec<u8>,
    /// `scheduler.bpk`.
    pub scheduler: Vec<u8>,
}

impl Run {
    /// Makes a new run directory with its resolved recipe.
    ///
    /// # Errors
    /// When a run is there already, or the folder cannot be written.
    pub fn create(path: &Path, recipe: &str) -> Result<Self, CheckpointError> {
        if path.join("recipe.toml").exists() {
            return Err(CheckpointError::Exists { path: path.to_path_buf() });
        }
        fs::create_dir_all(path).map_err(|error| CheckpointError::io("create the run's folder", path, &error))?;
        replace(&path.join("recipe.toml"), recipe)?;
        Ok(Self { path: path.to_path_buf() })
    }

    /// Opens a run to read it.
    ///
    /// # Errors
    /// When the folder is no run.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let run = Self { path: path.to_path_buf() };
        if path.join("recipe.toml").is_file() || !run.checkpoints().is_empty() {
            Ok(run)
        } else {
            Err(CheckpointError::NoRun { path: path.to_path_buf() })
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what an interrupted save left behind.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn clean(&self) -> Result<(), CheckpointError> {
        let entries = fs::read_dir(&self.path).map_err(|error| CheckpointError::io("list it", &self.path, &error))?;
        for entry in entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY)) {
            let path = entry.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| CheckpointError::io("remove what an interrupted save left", &path, &error))?;
        }
        Ok(())
    }

    /// All published checkpoints, oldest first.
    pub fn checkpoints(&self) -> Vec<Checkpoint> {
        let Ok(entries) = fs::read_dir(&self.path) else { return Vec::new() };
        let mut found: Vec<Checkpoint> = entries.flatten().filter_map(|entry| Checkpoint::at(&entry.path())).collect();
        found.sort_by_key(|checkpoint| checkpoint.step);
        found
    }

    /// The checkpoint that a pointer or a step names.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(&self, which: Which) -> Result<Checkpoint, CheckpointError> {
        let all = self.checkpoints();
        let missing = |problem: String| CheckpointError::Missing { path: self.path.clone(), problem };
        if all.is_empty() {
            return Err(missing("the run has no checkpoint yet".into()));
        }
        let pointer = match which {
            Which::Step(step) => {
                let steps: Vec<String> = all.iter().map(|checkpoint| checkpoint.step.to_string()).collect();
                let found = all.into_iter().find(|checkpoint| checkpoint.step == step);
                return found.ok_or_else(|| missing(format!("there is no checkpoint of step {step}, only of {}", steps.join(", "))));
            }
            Which::Last => "last",
            Which::Best => "best",
        };
        let named = fs::read_to_string(self.path.join(pointer)).ok().and_then(|name| Checkpoint::at(&self.path.join(name.trim())));
        // Without a pointer (no epoch has been validated yet), the newest stands for it.
        named.or_else(|| all.into_iter().next_back()).ok_or_else(|| missing("the run has no checkpoint yet".into()))
    }

    /// Makes `last` or `best` name a checkpoint.
    ///
    /// # Errors
    /// When the pointer cannot be replaced.
    pub fn point(&self, pointer: &str, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        replace(&self.path.join(pointer), &format!("{}\n", Checkpoint::folder(checkpoint.step)))
    }

    /// Appends a line to `metrics.jsonl`.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn record(&self, line: &serde_json::Value) -> Result<(), CheckpointError> {
        let path = self.path.join("metrics.jsonl");
        let file = fs::OpenOptions::new().create(true).append(true).open(&path);
        file.and_then(|mut file| writeln!(file, "{line}")).map_err(|error| CheckpointError::io("append to it", &path, &error))
    }

    /// The lines of `metrics.jsonl`; a line cut short by a crash is left out.
    pub fn metrics(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.path.join("metrics.jsonl")).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Forgets metrics of steps after `step`, which a resumed run computes again.
    ///
    /// # Errors
    /// When the file cannot be replaced.
    pub fn forget_metrics_after(&self, step: u64) -> Result<(), CheckpointError> {
        let path = self.path.join("metrics.jsonl");
        if !path.exists() {
            return Ok(());
        }
        let text = fs::read_to_string(&path).map_err(|error| CheckpointError::io("read it", &path, &error))?;
        let at = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["step"].as_u64();
        // The lines as they are: printed anew, some numbers would lose their last bit.
        let kept = text.lines().filter(|line| at(line).is_some_and(|at| at <= step));
        replace(&path, &kept.map(|line| format!("{line}\n")).collect::<String>())
    }

    /// Removes a checkpoint. It disappears under another name first, so that none is ever seen half removed.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, checkpoint: &Checkpoint) -> Result<(), CheckpointError> {
        let aside = self.path.join(format!("{TEMPORARY}removed-{}", Checkpoint::folder(checkpoint.step)));
        fs::rename(&checkpoint.path, &aside)
            .and_then(|()| fs::remove_dir_all(&aside))
            .map_err(|error| CheckpointError::io("remove the old checkpoint", &checkpoint.path, &error))
    }
}

impl Checkpoint {
    /// The name of a checkpoint's folder.
    pub fn folder(step: u64) -> String {
        format!("step-{step:08}")
    }

    /// The checkpoint in a folder, if its name and content say that it is one.
    pub fn at(path: &Path) -> Option<Self> {
        let step = path.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()?;
        path.join("manifest.json").is_file().then(|| Self { step, path: path.to_path_buf() })
    }

    /// The manifest alone, without verifying the other files.
    ///
    /// # Errors
    /// When it is missing, broken, or of a newer format.
    pub fn manifest(&self) -> Result<Manifest, CheckpointError> {
        let path = self.path.join("manifest.json");
        let text = fs::read_to_string(&path).map_err(|error| CheckpointError::io("read it", &path, &error))?;
        let damaged = |problem| CheckpointError::Damaged { path: path.clone(), problem };
        let manifest = Manifest::from_json(&text).map_err(|error| damaged(format!("the manifest is broken ({error})")))?;
        if manifest.format != FORMAT {
            return Err(damaged(format!("its format is {}, this program reads {FORMAT}; use the rekindle that wrote it", manifest.format)));
        }
        if manifest.step != self.step {
            return Err(damaged(format!("the manifest is of step {}, the folder of step {}", manifest.step, self.step)));
        }
        Ok(manifest)
    }

    /// Reads and verifies everything.
    ///
    /// # Errors
    /// When a file is missing or is not what the manifest says.
    pub fn read(&self) -> Result<Contents, CheckpointError> {
        let manifest = self.manifest()?;
        let mut files = FILES.map(|name| {
            let path = self.path.join(name);
            let damaged = |problem| CheckpointError::Damaged { path: path.clone(), problem };
            let entry = manifest.files.get(name).ok_or_else(|| damaged("the manifest does not list it".into()))?;
            let bytes = fs::read(&path).map_err(|error| CheckpointError::io("read it", &path, &error))?;
            if bytes.len() as u64 != entry.bytes {
                return Err(damaged(format!("it has {} bytes, the manifest says {}", bytes.len(), entry.bytes)));
            }
            let found = sha256(&bytes);
            if found != entry.sha256 {
                return Err(damaged(format!("its sha256 is {found}, the manifest says {}", entry.sha256)));
            }
            Ok(bytes)
        });
        let mut take = |i: usize| std::mem::replace(&mut files[i], Ok(Vec::new()));
        Ok(Contents { model: take(0)?, optimizer: take(1)?, scheduler: take(2)?, manifest })
    }
}
