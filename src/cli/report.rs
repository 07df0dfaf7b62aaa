//! `rekindle report`: one page about a run, or about several side by side.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::output::{cannot, line, say};
use super::{Answer, Exit};
use crate::device::DeviceName;
use crate::models::Registry;
use crate::report::{self, Evaluation};

/// Write one self-contained HTML page about a run: curves, settings, checkpoints, predictions; or several runs side by side.
///
/// The page holds everything it shows and asks no server for anything. The network runs over the test set for it, unless
/// --no-predictions says otherwise.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  rekindle report checkpoints/fashion_mnist_sample --open
  rekindle report checkpoints/adam checkpoints/sgd --output compare.html")]
pub struct Args {
    /// Folders of runs.
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// The page [default: report.html in the run's folder, for several runs in this one].
    #[arg(long, value_name = "FILE.html")]
    output: Option<PathBuf>,
    /// Show it in the browser.
    #[arg(long)]
    open: bool,
    /// Leave out what needs the network and its data: confusion matrix, mistakes, images.
    #[arg(long)]
    no_predictions: bool,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let device = if args.no_predictions { None } else { Some(args.device.open()?) };
    let mut runs = Vec::new();
    for path in &args.runs {
        let run = report::gather(registry, path, device.as_ref())?;
        if let Evaluation::Failed(reason) = &run.evaluation {
            say!("{}: the page has no predictions: {reason}", path.display());
        }
        runs.push(run);
    }
    let output = match (&args.output, args.runs.as_slice()) {
        (Some(output), _) => output.clone(),
        (None, [run]) => run.join("report.html"),
        (None, _) => PathBuf::from("report.html"),
    };
    if output.is_dir() {
        bail!("{}: this is a folder, expected the name of a page to write", output.display());
    }
    let page = report::page(&runs);
    std::fs::write(&output, &page).map_err(cannot("write the page", &output))?;
    line(format!("{}: written, {}", output.display(), report::bytes(page.len() as u64)))?;
    if args.open {
        open(&output)?;
    }
    Ok(Exit::Done)
}

/// Shows a page in the program that the system has for it.
fn open(page: &Path) -> anyhow::Result<()> {
    let page = std::path::absolute(page)?;
    let (program, first): (&str, &[&str]) = match std::env::consts::OS {
        "macos" => ("open", &[]),
        "windows" => ("cmd", &["/C", "start", ""]),
        _ => ("xdg-open", &[]),
    };
    let started = std::process::Command::new(program).args(first).arg(&page).spawn();
    started.map(|_| ()).with_context(|| format!("cannot start {program} to show the page; open {}", page.display()))
}
