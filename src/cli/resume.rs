//! `rekindle resume`: a run goes on where it stopped.

use std::path::PathBuf;

use super::{Answer, ranks, signals, train};
use crate::checkpoint::Which;
use crate::device::DeviceName;
use crate::models::Registry;
use crate::train::{Session, Start};

/// Go on with a run where it stopped.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle resume checkpoints/fashion_mnist_sample --epochs 10")]
pub struct Args {
    /// The run directory.
    run: PathBuf,
    /// The checkpoint to go on from: last, best or a step.
    #[arg(long, default_value = "last", value_name = "last|best|STEP")]
    from: Which,
    /// Train until this many epochs are done in all.
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,
    /// Change a key of the run's recipe; may be given several times. What no longer makes it the same run to the bit is told.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    #[command(flatten)]
    live: train::LiveArgs,
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let epochs = args.epochs.map(|epochs| format!("train.epochs={epochs}"));
    let set = args.set.iter().cloned().chain(epochs).collect();
    let start = Start::Resume { dir: args.run.clone(), which: args.from, set };
    let (device, stop) = (ranks::device(args.device), signals::stop_flag()?);
    ranks::together(|group| {
        let session = Session::of_rank(registry, start, device, stop.clone(), group)?;
        train::finish(registry, session, &args.live, stop)
    })
}
