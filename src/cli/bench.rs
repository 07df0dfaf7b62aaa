//! `rekindle bench`: how fast this machine computes, and with `--check` whether it computes right.

mod case;
mod check;
mod checkpoint;
mod files;
pub(super) mod graphs;
mod lstm;
mod networks;
mod peak;
mod pipeline;
mod timings;

use std::path::PathBuf;

pub use case::{Bench, Case, Work, named};

use super::Answer;
use crate::device::DeviceName;
use crate::models::Registry;

/// Time loading, saving, training and inference on this machine, or check that its devices compute right.
///
/// Cases are forward/MODEL/BATCH[/SIDE], train-step/MODEL/BATCH/OPTIMIZER[/SIDE], onnx/MODEL/BATCH[/SIDE] (the exported network in the graph
/// interpreter), list, load, save and save-unsynced of a .pth file (/vgg16, or a size as /64MB), save-checkpoint/vgg16,
/// cold-start/super_resolution and epoch/RECIPE. Without a name, those are timed that take seconds; any may be named in full.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  rekindle bench --check\n  rekindle bench forward/cifar_cnn epoch --device flex\n  rekindle bench forward/super_resolution/8/64 load/200MB\n  rekindle bench --onnx mnist-8.onnx"
)]
pub struct Args {
    /// Only what has one of these in its name (forward, train-step, save, load, list, epoch, a model, a whole name).
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Compare outputs, gradients, optimizer steps and small trainings with PyTorch's; exit code 1 when something differs.
    #[arg(long, conflicts_with_all = ["onnx", "data", "runs", "seconds"])]
    check: bool,
    /// Time an ONNX file on made-up inputs; open axes have the size 1 unless --axis says another. May be repeated.
    #[arg(long, value_name = "FILE")]
    onnx: Vec<PathBuf>,
    /// The size of an open axis of an ONNX file's inputs.
    #[arg(long, value_name = "NAME=N", requires = "onnx")]
    axis: Vec<graphs::Axis>,
    /// The folder of Fashion-MNIST, for epoch/fashion_mnist [default: where `rekindle datasets fetch` puts it].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// At most this many runs of each, after one to warm up.
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Begin no other run of a case after these seconds.
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex; by default auto, and with --check every one that opens.
    #[arg(long)]
    device: Option<DeviceName>,
    /// Threads that compute [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Whether a name is asked for.
    fn wants(&self, name: &str) -> bool {
        self.names.is_empty() || self.names.iter().any(|part| name.contains(part.as_str()))
    }

    /// Stops at names that ask for nothing.
    fn check_names(&self, known: &[&str]) -> anyhow::Result<()> {
        match self.names.iter().find(|part| !known.iter().any(|name| name.contains(part.as_str()))) {
            Some(part) => {
                let mut kinds: Vec<&str> = known.iter().filter_map(|name| name.split('/').next()).collect();
                kinds.sort_unstable();
                kinds.dedup();
                anyhow::bail!(
                    "nothing has '{part}' in its name; there are {}, most of them followed by /MODEL",
                    kinds.join(", ")
                )
            }
            None => Ok(()),
        }
    }
}

pub(super) fn run(registry: &Registry, args: &Args) -> Answer {
    if args.check { check::run(args) } else { timings::run(registry, args) }
}
