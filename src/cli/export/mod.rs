//! `rekindle export`: a network's weights, a run's checkpoint, or the network as a graph, as a file for another program.

mod onnx;
mod program;

use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::module::Module;
use rekindle_program::Program;
use rekindle_state::{Burnpack, Format, Npz, SaveOptions, StateDict, TorchZip, Value, format_for, save};

use super::output::say;
use crate::checkpoint::Which;
use crate::cli::model::{self, WeightArgs};
use crate::cli::output::line;
use crate::cli::source::Saved;
use crate::cli::{Answer, Exit};
use crate::models::weights::Layout;
use crate::models::{GraphConfig, Network, Registry, weights};

/// Write a model as an .onnx graph, or its weights as .pth, .safetensors or .npz under PyTorch's names, or as Burn's record (.bpk).
///
/// An .onnx file is run by other engines on random inputs before it gets its name, and must compute what the network computes
/// within a relative 1e-3 and an absolute 1e-5 (of the largest value, where that is more than 1); otherwise there is no file, and the
/// exit code is 1.
///
/// PyTorch loads a .pth with `model.load_state_dict(torch.load(FILE), strict=True)`, and the model and optimizer of a
/// `--checkpoint` likewise. Burn loads a .bpk with `ModuleRecord::load` and `Module::try_load_record`: it has Burn's names and
/// layout. For PyTorch's names in a .bpk, export a .pth and convert it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rekindle export vgg16 --weights torchmodel_weights.pth vgg16.safetensors\n  rekindle export checkpoints/fashion_mnist_sample checkpoint.pth --checkpoint\n  rekindle export checkpoints/fashion_mnist_sample clothes.onnx"
)]
pub struct Args {
    /// A built-in name, a recipe, an ONNX file, a PyTorch program, or the folder of a run or checkpoint.
    model: String,
    /// The file to write: .onnx, .pth, .pt, .safetensors, .npz or .bpk; of a PyTorch program, .pt2 or .pt is the program again.
    output: PathBuf,
    #[command(flatten)]
    weights: WeightArgs,
    /// Which checkpoint of a run: last, best or a step [default: best, with --checkpoint last].
    #[arg(long, value_name = "last|best|STEP")]
    from: Option<Which>,
    /// The whole checkpoint: epoch, model_state_dict, optimizer_state_dict, scheduler_state_dict, loss, metrics and best.
    #[arg(long, conflicts_with = "weights")]
    checkpoint: bool,
    #[command(flatten)]
    onnx: onnx::OnnxArgs,
}

/// What kind of file is written.
enum Kind {
    Onnx,
    /// A program with other weights.
    Program,
    Weights(&'static dyn Format),
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let output = &args.output;
    let kind = kind(output)?;
    let is_run = Path::new(&args.model).is_dir();
    if args.from.is_some() && !is_run {
        bail!("--from chooses a checkpoint of a run, and '{}' is no run's folder", args.model);
    }
    if let (Kind::Weights(_) | Kind::Program, Some(option)) = (&kind, args.onnx.given()) {
        bail!("{}: {option} is for .onnx files", output.display());
    }
    let format = match kind {
        Kind::Onnx if args.checkpoint => {
            bail!(
                "{}: an .onnx file has no place for an optimizer's state: name it .pth or .safetensors",
                output.display()
            )
        }
        Kind::Program if args.checkpoint => {
            bail!("{}: a program has no place for an optimizer's state: name it .pth", output.display())
        }
        Kind::Program => {
            let found = model::resolve(registry, &args.model, &args.weights, args.from, Layout::RowMajor)?;
            return program::run(found, output);
        }
        Kind::Onnx if args.weights.weights.is_none() && Program::is_program(Path::new(&args.model)) => {
            return program::graph(Path::new(&args.model), &args.onnx, output);
        }
        Kind::Onnx => {
            let found = model::resolve(registry, &args.model, &args.weights, args.from, Layout::RowMajor)?;
            return onnx::run(found, &args.model, &args.onnx, output);
        }
        Kind::Weights(format) => format,
    };
    if args.checkpoint {
        return checkpoint(registry, args, format);
    }
    let found = model::resolve(registry, &args.model, &args.weights, args.from, Layout::AsStored)?;
    if program::is_script(&found) && output.extension().is_some_and(|extension| extension == "pt") {
        return program::run(found, output);
    }
    if format.name() == Burnpack.name() {
        return record(found.network, &found.description, output);
    }
    let mut dict = weights::to_state_dict(&found.network)?;
    if format.name() == TorchZip.name() {
        dict.set_metadata(Some(weights::metadata(&found.network)));
    }
    found.architecture.get::<GraphConfig>().map_or(Ok(()), |config| config.complete(&mut dict))?;
    let count = dict.len();
    weights::notes(&found.network).iter().for_each(|note| say!("{note}"));
    write(output, dict, format)?;
    line(format!("{}: {count} tensors of {} written", output.display(), found.description))?;
    Ok(Exit::Done)
}

/// What the file's name asks for: a graph, or one of the formats that hold named weights.
fn kind(output: &Path) -> anyhow::Result<Kind> {
    let extension = output.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    match extension.as_deref() {
        Some("onnx") => Ok(Kind::Onnx),
        Some("pt2") => Ok(Kind::Program),
        Some("npy") => bail!("{}: an .npy file holds one array: name it .npz", output.display()),
        _ => format_for(output).map(Kind::Weights).map_err(|_| {
            let found = extension.map_or_else(|| "no extension".to_string(), |found| format!("the extension .{found}"));
            anyhow::anyhow!(
                "{}: {found} is no format that is exported: name it .onnx, .pth, .safetensors, .bpk or .npz",
                output.display()
            )
        }),
    }
}

/// A run's checkpoint as PyTorch users save one.
fn checkpoint(registry: &Registry, args: &Args, format: &'static dyn Format) -> Answer {
    let path = Path::new(&args.model);
    if !path.is_dir() {
        bail!(
            "--checkpoint takes the optimizer's state along, which only a run or checkpoint has; '{}' is no folder of one",
            args.model
        );
    }
    if format.name() == Npz.name() {
        bail!(
            "{}: an .npz file holds arrays alone, and a checkpoint has other values: name it .pth or .safetensors",
            args.output.display()
        );
    }
    let saved = Saved::open(registry, path, args.from.unwrap_or(Which::Last))?;
    let dict = saved.checkpoint_dict()?;
    let count = dict.dict("model_state_dict").map_or(0, StateDict::len);
    write(&args.output, dict, format)?;
    let what = format!("{count} tensors and the optimizer's state of {}", saved.place());
    line(format!("{}: {what} written", args.output.display()))?;
    Ok(Exit::Done)
}

fn write(output: &Path, dict: StateDict, format: &'static dyn Format) -> anyhow::Result<()> {
    let options = SaveOptions { format: Some(format), ..SaveOptions::default() };
    for note in save(output, &Value::Dict(dict), &options)? {
        say!("{note}");
    }
    Ok(())
}

/// Burn's own record of the network.
fn record(network: Network, description: &str, output: &Path) -> Answer {
    let count = weights::leaves(&network).len();
    let bytes = network.into_record().into_bytes()?;
    rekindle_state::write_atomic(output, &bytes)?;
    line(format!("{}: {count} tensors of {description} written as Burn's record", output.display()))?;
    Ok(Exit::Done)
}
