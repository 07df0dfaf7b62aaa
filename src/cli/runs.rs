//! `rekindle runs`: the runs in a folder.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::output::{json, line, table};
use super::{Answer, Exit};
use crate::checkpoint::{Run, Which};

/// List the runs, their last and best step and their metrics.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle runs --verify")]
pub struct Args {
    /// The folder that holds the runs, or one run.
    #[arg(default_value = "checkpoints")]
    dir: PathBuf,
    /// Read every checkpoint and compare it with its hashes; exit 1 if one is damaged.
    #[arg(long)]
    verify: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    run: String,
    checkpoints: usize,
    epoch: usize,
    last: u64,
    best: Option<u64>,
    metrics: std::collections::BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    damaged: Vec<String>,
}

pub fn run(args: &Args) -> Answer {
    let rows: Vec<Row> = find(&args.dir)?.iter().map(|run| describe(run, args.verify)).collect();
    if args.json {
        json(&rows)?;
    } else if rows.is_empty() {
        line(format!("no runs in {}", args.dir.display()))?;
    } else {
        let cells = rows.iter().map(|row| {
            let metrics: Vec<String> = row.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
            let best = row.best.map_or_else(|| "-".to_string(), |step| step.to_string());
            vec![
                row.run.clone(),
                row.checkpoints.to_string(),
                row.epoch.to_string(),
                row.last.to_string(),
                best,
                metrics.join("  "),
            ]
        });
        table(&["run", "checkpoints", "epoch", "last step", "best step", "best metrics"], &cells.collect::<Vec<_>>())?;
    }
    let damaged: Vec<&String> = rows.iter().flat_map(|row| &row.damaged).collect();
    for problem in &damaged {
        eprintln!("{problem}");
    }
    if args.verify && damaged.is_empty() && !args.json {
        line("every checkpoint is what its manifest says")?;
    }
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::No })
}

fn find(dir: &Path) -> anyhow::Result<Vec<Run>> {
    if let Ok(run) = Run::open(dir) {
        return Ok(vec![run]);
    }
    let Ok(entries) = std::fs::read_dir(dir) else {
        anyhow::bail!("{}: no such folder; runs are made by `rekindle train`", dir.display());
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths.iter().filter_map(|path| Run::open(path).ok()).collect())
}

fn describe(run: &Run, verify: bool) -> Row {
    let checkpoints = run.newest_first();
    let last = checkpoints.iter().find_map(|(_, manifest)| manifest.as_ref().ok()).cloned();
    let best = run.find(Which::Best).ok();
    let manifest = best.as_ref().and_then(|checkpoint| checkpoint.manifest().ok());
    let damaged = if verify { run.verify() } else { Vec::new() };
    Row {
        run: run.path().display().to_string(),
        checkpoints: checkpoints.len(),
        epoch: last.as_ref().map_or(0, |manifest| manifest.epoch),
        last: last.map_or(0, |manifest| manifest.step),
        best: best.map(|checkpoint| checkpoint.step),
        metrics: manifest.map(|manifest| manifest.metrics).unwrap_or_default(),
        damaged: damaged.iter().map(ToString::to_string).collect(),
    }
}
