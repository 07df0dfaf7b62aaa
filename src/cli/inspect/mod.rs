//! `rekindle inspect`: what is in a model file, a run or a checkpoint.

mod saved;
mod text;

use std::path::{Path, PathBuf};

use rekindle_program::{Described, Program, Summary};
use rekindle_state::{Listing, ModuleTree, OnnxSummary};
use serde_json::{Map, Value as Json, json};

use super::fits::Fits;
use super::source::Source;
use super::{Answer, Exit, output};
use crate::checkpoint::Which;
use crate::models::Registry;

/// Show what is in a model file, run or checkpoint, and what Python would have run to load it. Nothing in it is executed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle inspect checkpoint.pth\n  rekindle inspect downloaded.pt --strict --json")]
pub struct Args {
    /// A model file of any format, or the folder of a run (its last checkpoint) or checkpoint.
    path: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Read every tensor and give the sha256 of its values.
    #[arg(long)]
    hash: bool,
    /// Show at most this many tensors, values and entries of other lists; JSON has all.
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Exit 1 if loading it in Python would look up anything that is not known to be harmless.
    #[arg(long)]
    strict: bool,
}

/// Everything that is shown.
struct Report {
    listing: Listing,
    /// Whole modules that were pickled, with their paths.
    modules: Vec<(String, ModuleTree)>,
    onnx: Option<OnnxSummary>,
    /// What a program of PyTorch takes, gives and is made of.
    program: Option<Summary>,
    /// Text beside the tensors.
    metadata: Vec<(String, String)>,
    /// Files of a run or checkpoint with their sizes.
    contents: Vec<(PathBuf, u64)>,
    /// What a user should know before the tensors are used.
    notes: Vec<String>,
    /// Networks of the registry that the weights fit.
    fits: Fits,
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let report = match Source::open(registry, &args.path, Which::Last)? {
        Source::File(file) => Report {
            fits: Fits::of(registry, &file),
            listing: file.listing(args.hash)?,
            modules: file.modules,
            onnx: file.onnx,
            program: program(&file.path)?,
            metadata: file.content.metadata,
            contents: Vec::new(),
            notes: file.notes,
        },
        Source::Saved(found) => saved::report(&found, args.hash)?,
    };
    if args.json {
        output::json(&report.json()?)?;
    } else {
        text::print(&report, &args.path.display().to_string(), args.limit.unwrap_or(usize::MAX))?;
    }
    Ok(if args.strict && !report.listing.safe { Exit::No } else { Exit::Done })
}

impl Report {
    /// The listing, and after its keys those that only some formats have.
    fn json(&self) -> anyhow::Result<Json> {
        let mut json = serde_json::to_value(&self.listing)?;
        if !self.metadata.is_empty() {
            let metadata = self.metadata.iter().map(|(key, value)| (key.clone(), Json::String(value.clone())));
            json["metadata"] = metadata.collect::<Map<_, _>>().into();
        }
        if let Some(onnx) = &self.onnx {
            json["onnx"] = serde_json::to_value(onnx)?;
        }
        if let Some(program) = &self.program {
            json["program"] = program_json(program);
        }
        if !self.modules.is_empty() {
            json["modules"] =
                self.modules.iter().map(|(path, tree)| json!({"path": path, "tree": module(tree)})).collect();
        }
        if !self.fits.networks.is_empty() {
            let networks = self.fits.networks.iter();
            json["fits"] = networks.map(|found| json!({"model": found.entry.name, "config": found.keys})).collect();
        }
        if !self.contents.is_empty() {
            json["contents"] =
                self.contents.iter().map(|(path, bytes)| json!({"name": path, "bytes": bytes})).collect();
        }
        if !self.notes.is_empty() {
            json["notes"] = json!(self.notes);
        }
        Ok(json)
    }
}

fn program(path: &Path) -> anyhow::Result<Option<Summary>> {
    Ok(if path.is_file() && Program::is_program(path) { Some(Program::open(path)?.summary()) } else { None })
}

fn program_json(program: &Summary) -> Json {
    let ports = |ports: &[Described]| -> Json {
        ports.iter().map(|port| json!({"name": port.name, "dtype": port.dtype, "shape": port.shape})).collect()
    };
    let modules = program.modules.iter();
    let modules = modules.map(|used| json!({"path": used.path, "class": used.class, "source": used.source}));
    json!({
        "source": program.source,
        "inputs": ports(&program.inputs),
        "outputs": ports(&program.outputs),
        "operators": program.operators,
        "parameters": program.parameters,
        "buffers": program.buffers,
        "modules": modules.collect::<Vec<_>>(),
        "missing": program.missing,
    })
}

fn module(tree: &ModuleTree) -> Json {
    let settings: Map<_, _> =
        tree.hyper_parameters.iter().map(|(key, value)| (key.clone(), text::value(value).into())).collect();
    json!({
        "name": tree.name,
        "class": tree.class.to_string(),
        "settings": settings,
        "children": tree.children.iter().map(module).collect::<Vec<_>>(),
    })
}
