//! `metrics.jsonl`: a line for each epoch.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;

use serde_json::Value;

use super::CheckpointError;
use super::disk::replace;

/// The file's name.
pub(super) const NAME: &str = "metrics.jsonl";

/// Appends lines to the metrics of a run.
///
/// A run that goes on from an earlier step computes later lines again. They stay until the first new line is there, which takes
/// their place in one rename: whenever the program dies, the lines up to the newest checkpoint are in the file.
#[derive(Debug)]
pub(super) struct MetricsLog {
    path: PathBuf,
    /// Whether a line of this process is in the file.
    begun: Mutex<bool>,
}

impl MetricsLog {
    pub(super) fn new(run: &Path) -> Self {
        Self { path: run.join(NAME), begun: Mutex::new(false) }
    }

    /// Adds the line of an epoch.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(super) fn append(&self, line: &Value) -> Result<(), CheckpointError> {
        let mut begun = self.begun.lock().unwrap_or_else(PoisonError::into_inner);
        if !*begun {
            let step = line["step"].as_u64().unwrap_or(0);
            let text = fs::read_to_string(&self.path).unwrap_or_default();
            // The lines as they are: printed anew, some numbers would lose their last bit. One cut short by a crash goes.
            let kept = text.lines().filter(|line| step_of(line).is_some_and(|at| at < step));
            let text: String = kept.chain([line.to_string().as_str()]).map(|line| format!("{line}\n")).collect();
            replace(&self.path, &text)?;
            *begun = true;
            return Ok(());
        }
        let append = || {
            let mut file = File::options().create(true).append(true).open(&self.path)?;
            file.write_all(format!("{line}\n").as_bytes())?;
            file.sync_data()
        };
        append().map_err(|error| CheckpointError::io("append to it", &self.path, &error))
    }
}

fn step_of(line: &str) -> Option<u64> {
    serde_json::from_str::<Value>(line).ok()?["step"].as_u64()
}

/// The lines of a run's metrics; one cut short by a crash is left out.
pub(super) fn read(run: &Path) -> Vec<Value> {
    let text = fs::read_to_string(run.join(NAME)).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
