//! `rekindle runs`: the runs in a folder, as a table that helps to choose.

mod delete;
mod table;

use std::path::{Path, PathBuf};

use super::output::{json, line, say};
use super::{Answer, Exit};
use crate::checkpoint::Run;
use table::{Row, Table};

/// List the runs: their last and best step and their metrics, sorted, filtered, or by what differs in their recipes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rekindle runs --sort valid.accuracy
  rekindle runs --filter optimizer.name=sgd --filter 'optimizer.lr<0.1' --differences
  rekindle runs checkpoints/fashion_mnist_sample --csv > metrics.csv
  rekindle runs --verify
  rekindle runs --delete checkpoints/first_try --yes")]
pub struct Args {
    /// The folder that holds the runs, or one run.
    #[arg(default_value = "checkpoints")]
    dir: PathBuf,
    /// By which metric of the best checkpoint: valid.loss, valid.accuracy, …; the best comes first.
    #[arg(long, value_name = "METRIC")]
    sort: Option<String>,
    /// Only runs of which this holds: a key of the recipe or a metric, =, != (text), < or >, and a value. May be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<table::Filter>,
    /// A column for each key of the recipes whose values differ.
    #[arg(long)]
    differences: bool,
    /// Read every checkpoint and compare it with its hashes; exit 1 if one is damaged.
    #[arg(long)]
    verify: bool,
    /// Remove a run. One that is trained at this moment, or whose weights another run starts from, is not removed. May be repeated.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["sort", "filter", "differences", "verify", "csv"])]
    delete: Vec<PathBuf>,
    /// Remove without asking.
    #[arg(long, requires = "delete")]
    yes: bool,
    /// Print the table as CSV; of one run, its metrics by epoch.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Answer {
    if !args.delete.is_empty() {
        return delete::run(&args.delete, &args.dir, args.yes, args.json);
    }
    if args.csv
        && let Ok(run) = Run::open(&args.dir)
    {
        table::metrics(&run)?;
        return Ok(Exit::Done);
    }
    let rows: Vec<Row> = find(&args.dir)?.iter().map(|run| Row::new(run, args.verify)).collect();
    let all = rows.len();
    let mut rows: Vec<Row> =
        rows.into_iter().filter(|row| args.filter.iter().all(|filter| filter.holds(row))).collect();
    if let Some(metric) = &args.sort {
        table::sort(&mut rows, metric)?;
    }
    let shown = Table::new(&rows, args.differences);
    if args.json {
        json(&rows)?;
    } else if args.csv {
        shown.csv()?;
    } else if rows.is_empty() {
        line(match all {
            0 => format!("no runs in {}", args.dir.display()),
            _ => format!("none of the {all} runs in {} passes the filter", args.dir.display()),
        })?;
    } else {
        shown.print()?;
    }
    let damaged: Vec<&String> = rows.iter().flat_map(|row| &row.damaged).collect();
    for problem in &damaged {
        say!("{problem}");
    }
    if args.verify && damaged.is_empty() && !args.json && !args.csv {
        line("every checkpoint is what its manifest says")?;
    }
    Ok(if damaged.is_empty() { Exit::Done } else { Exit::No })
}

/// The run that a folder is, or the runs that it holds.
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
