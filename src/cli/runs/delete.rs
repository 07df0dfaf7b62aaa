//! `rekindle runs --delete`: removes runs that nobody needs.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::super::output::line;
use super::super::{Answer, Exit};
use super::find;
use crate::checkpoint::{self, Run};
use crate::report::{bytes, flatten};

/// Removes runs, after all of them were looked at: when one cannot go, none goes.
pub(super) fn run(paths: &[PathBuf], dir: &Path, yes: bool, json: bool) -> Answer {
    if json {
        bail!("--json is for reading, and --delete removes");
    }
    // The runs beside each of them, and those in the folder that was named.
    let mut folders: Vec<PathBuf> = paths.iter().filter_map(|path| parent(path)).collect();
    folders.push(dir.to_path_buf());
    let others: Vec<Run> = folders.iter().filter_map(|folder| find(folder).ok()).flatten().collect();
    for path in paths {
        let run = Run::open(path)?;
        if run.is_being_written() {
            bail!("{}: a process trains it at this moment; stop that first. Nothing was removed", path.display());
        }
        if let Some((user, key)) = user_of(path, paths, &others) {
            bail!(
                "{}: {} starts from it ({key} in its recipe); remove that run first, or both together. Nothing was removed",
                path.display(),
                user.display()
            );
        }
    }
    if !yes && !confirmed(paths)? {
        line("nothing was removed")?;
        return Ok(Exit::No);
    }
    for path in paths {
        let left = checkpoint::delete(path)?;
        match left.len() {
            0 => line(format!("{}: removed", path.display()))?,
            _ => {
                let names: Vec<String> =
                    left.iter().filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
                line(format!(
                    "{}: removed; files that are none of a run's stay: {}",
                    path.display(),
                    names.join(", ")
                ))?;
            }
        }
    }
    Ok(Exit::Done)
}

fn parent(path: &Path) -> Option<PathBuf> {
    std::fs::canonicalize(path).ok()?.parent().map(Path::to_path_buf)
}

/// A run that is kept and whose recipe names a file in this one, with the key.
fn user_of(path: &Path, doomed: &[PathBuf], others: &[Run]) -> Option<(PathBuf, String)> {
    let whole = std::fs::canonicalize(path).ok()?;
    let is_doomed = |run: &Run| {
        let run = std::fs::canonicalize(run.path()).ok();
        doomed.iter().any(|path| std::fs::canonicalize(path).ok() == run)
    };
    others.iter().filter(|run| !is_doomed(run)).find_map(|run| {
        let manifest = run.newest_first().into_iter().find_map(|(_, manifest)| manifest.ok())?;
        let named = flatten(&manifest.recipe).into_iter().find(|(_, value)| {
            let file = value.as_str().filter(|text| text.contains(['/', '\\'])).map(Path::new);
            file.and_then(|file| std::fs::canonicalize(file).ok()).is_some_and(|file| file.starts_with(&whole))
        });
        named.map(|(key, _)| (run.path().to_path_buf(), key))
    })
}

/// Asks on a terminal; elsewhere nobody can answer.
fn confirmed(paths: &[PathBuf]) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        bail!("nobody is there to confirm: give --yes to remove without asking");
    }
    for path in paths {
        let size: u64 = Run::open(path)?.checkpoints().iter().map(checkpoint::Checkpoint::size).sum();
        eprintln!("{}: {}", path.display(), bytes(size));
    }
    eprint!("remove {}? [y/N] ", if paths.len() == 1 { "it".to_string() } else { format!("these {}", paths.len()) });
    std::io::stderr().flush().ok();
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).context("cannot read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
