//! Removing a whole run, and only what is a run's.

use std::fs;
use std::path::{Path, PathBuf};

use super::disk::{TEMPORARY, remove};
use super::lock::{self, Lock};
use super::writer::REPLACED;
use super::{Checkpoint, CheckpointError, RECIPE, Run, log};

/// Files of a run beside its checkpoints and its lock.
const OWN: [&str; 5] = [RECIPE, log::NAME, "last", "best", "report.html"];

/// Removes a run that nobody writes to: its checkpoints, pointers, recipe, metrics and page, then its folder. Files that are none of
/// these stay, and the folder with them; they are given back.
///
/// # Errors
/// When the folder is no run, a process writes to it, or something cannot be removed.
pub fn delete(path: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    Run::open(path)?;
    let lock = Lock::take(path)?;
    let entries = fs::read_dir(path).map_err(|error| CheckpointError::io("list it", path, &error))?;
    let (mut own, mut others) = (Vec::new(), Vec::new());
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_checkpoint = Checkpoint::step_of(name.strip_prefix(REPLACED).unwrap_or(&name)).is_some();
        let is_events = name.starts_with("events.out.tfevents.");
        if is_checkpoint || is_events || OWN.contains(&name.as_str()) || name.starts_with(TEMPORARY) {
            own.push(entry.path());
        } else if name != lock::NAME {
            others.push(entry.path());
        }
    }
    // The recipe last: until then the folder is a run, and can be deleted again after an error.
    own.sort_by_key(|path| path.ends_with(RECIPE));
    own.iter().try_for_each(|path| remove(path))?;
    drop(lock);
    remove(&path.join(lock::NAME))?;
    if others.is_empty() {
        fs::remove_dir(path).map_err(|error| CheckpointError::io("remove it", path, &error))?;
    }
    others.sort();
    Ok(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::RunWriter;

    #[test]
    fn a_run_in_use_and_other_people_s_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        let writer = RunWriter::create(&path, "name = \"run\"\n").unwrap();
        fs::write(path.join("notes.txt"), "mine").unwrap();
        let refused = delete(&path).unwrap_err().to_string();
        assert!(refused.contains("pid"), "{refused}");
        assert!(path.join(RECIPE).exists());
        drop(writer);
        assert_eq!(delete(&path).unwrap(), [path.join("notes.txt")]);
        assert!(!path.join(RECIPE).exists() && path.join("notes.txt").exists());
        assert!(delete(&path).is_err(), "it is no run any more");
    }

    #[test]
    fn the_folder_goes_when_it_is_empty() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        drop(RunWriter::create(&path, "name = \"run\"\n").unwrap());
        assert!(delete(&path).unwrap().is_empty());
        assert!(!path.exists());
    }
}
