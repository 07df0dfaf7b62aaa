//! `rekindle devices`: every backend and adapter, tried.

use super::output::{json, line, table};
use super::{Answer, Exit};
use crate::device;

/// List every backend and adapter, try each, and say why one does not work.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle devices --json")]
pub struct Args {
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Answer {
    let reports = device::list();
    if args.json {
        json(&reports)?;
        return Ok(Exit::Done);
    }
    let rows = reports.iter().map(|report| {
        let works = match (report.works, report.auto) {
            (true, true) => "works, and auto takes it",
            (true, false) => "works",
            (false, _) => "does not work",
        };
        vec![report.name.clone(), works.to_string(), report.description.clone()]
    });
    table(&["device", "", "what it is"], &rows.collect::<Vec<_>>())?;
    for report in &reports {
        if let Some(reason) = &report.reason {
            line(format!("{}: {reason}", report.name))?;
        }
    }
    Ok(Exit::Done)
}
