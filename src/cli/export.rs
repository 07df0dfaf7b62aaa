//! `rekindle export`: a network's weights, or a run's checkpoint, as a file for another program.

use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::module::Module;
use rekindle_state::{OutputFormat, SaveOptions, StateDict, Value, save};

use super::model::{self, WeightArgs};
use super::output::line;
use super::source::Saved;
use super::{Answer, Exit};
use crate::checkpoint::Which;
use crate::models::{Network, weights};

/// Write a model's weights under PyTorch's names as .pth, .safetensors or .npz, or as Burn's own record (.bpk).
///
/// PyTorch loads a .pth with `model.load_state_dict(torch.load(FILE), strict=True)`, and the model and optimizer of a
/// `--checkpoint` likewise. Burn loads a .bpk with `ModuleRecord::load` and `Module::try_load_record`: it has Burn's names and
/// layout. For PyTorch's names in a .bpk, export a .pth and convert it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rekindle export vgg16 --weights torchmodel_weights.pth vgg16.safetensors\n  rekindle export checkpoints/fashion_mnist_sample checkpoint.pth --checkpoint"
)]
pub struct Args {
    /// A built-in name, a recipe, or the folder of a run or checkpoint.
    model: String,
    /// The file to write: .pth, .pt, .safetensors, .npz or .bpk.
    output: PathBuf,
    #[command(flatten)]
    weights: WeightArgs,
    /// Which checkpoint of a run: last, best or a step [default: best, with --checkpoint last].
    #[arg(long, value_name = "last|best|STEP")]
    from: Option<Which>,
    /// The whole checkpoint: epoch, model_state_dict, optimizer_state_dict, loss and metrics.
    #[arg(long, conflicts_with = "weights")]
    checkpoint: bool,
}

pub fn run(args: &Args) -> Answer {
    let output = &args.output;
    let format = format(output)?;
    let is_run = Path::new(&args.model).is_dir();
    if args.from.is_some() && !is_run {
        bail!("--from chooses a checkpoint of a run, and '{}' is no run's folder", args.model);
    }
    if args.checkpoint {
        return checkpoint(args, format);
    }
    let found = model::resolve(&args.model, &args.weights, args.from.unwrap_or(Which::Best))?;
    if format == OutputFormat::Burnpack {
        return record(found.network, &found.description, output);
    }
    let mut dict = weights::to_state_dict(&found.network)?;
    if format == OutputFormat::Torch {
        dict.set_metadata(Some(weights::metadata(&found.network)));
    }
    let count = dict.len();
    write(output, dict, format)?;
    line(format!("{}: {count} tensors of {} written", output.display(), found.description))?;
    Ok(Exit::Done)
}

/// The format that the file's name asks for, of those that hold named weights.
fn format(output: &Path) -> anyhow::Result<OutputFormat> {
    let extension = output.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("onnx") => bail!("{}: ONNX is not written yet: name it .pth, .safetensors, .bpk or .npz", output.display()),
        Some("npy") => bail!("{}: an .npy file holds one array: name it .npz", output.display()),
        _ => Ok(OutputFormat::from_path(output)?),
    }
}

/// A run's checkpoint as PyTorch users save one.
fn checkpoint(args: &Args, format: OutputFormat) -> Answer {
    let path = Path::new(&args.model);
    if !path.is_dir() {
        bail!("--checkpoint takes the optimizer's state along, which only a run or checkpoint has; '{}' is no folder of one", args.model);
    }
    if format == OutputFormat::Npz {
        bail!(
            "{}: an .npz file holds arrays alone, and a checkpoint has other values: name it .pth or .safetensors",
            args.output.display()
        );
    }
    let saved = Saved::open(path, args.from.unwrap_or(Which::Last))?;
    let dict = saved.checkpoint_dict()?;
    let count = dict.dict("model_state_dict").map_or(0, StateDict::len);
    write(&args.output, dict, format)?;
    let what = format!("{count} tensors and the optimizer's state of {}", saved.place());
    line(format!("{}: {what} written", args.output.display()))?;
    Ok(Exit::Done)
}

fn write(output: &Path, dict: StateDict, format: OutputFormat) -> anyhow::Result<()> {
    let options = SaveOptions { format: Some(format), ..SaveOptions::default() };
    for note in save(output, &Value::Dict(dict), &options)? {
        eprintln!("{note}");
    }
    Ok(())
}

/// Burn's own record of the network.
fn record(network: Network, description: &str, output: &Path) -> Answer {
    let count = weights::entries(&network).len();
    let bytes = network.into_record().into_bytes()?;
    rekindle_state::write_atomic(output, &bytes)?;
    line(format!("{}: {count} tensors of {description} written as Burn's record", output.display()))?;
    Ok(Exit::Done)
}
