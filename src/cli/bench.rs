//! `rekindle bench`: how fast this machine computes, and with `--check` whether it computes right.

mod check;
mod checkpoint;
mod timings;

use crate::device::DeviceName;

use super::Answer;

/// Time loading, saving, training and inference on this machine, or check that its devices compute right.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  rekindle bench --check\n  rekindle bench forward/cifar_cnn epoch --device flex")]
pub struct Args {
    /// Only what has one of these in its name (forward, train-step, save, load, list, epoch, a model, a whole name).
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Compare outputs, gradients, optimizer steps and small trainings with PyTorch's; exit code 1 when something differs.
    #[arg(long)]
    check: bool,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex; by default auto, and with --check every one that opens.
    #[arg(long)]
    device: Option<DeviceName>,
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
                anyhow::bail!("nothing has '{part}' in its name; there are {}, most of them followed by /MODEL", kinds.join(", "))
            }
            None => Ok(()),
        }
    }
}

pub fn run(args: &Args) -> Answer {
    if args.check { check::run(args) } else { timings::run(args) }
}
