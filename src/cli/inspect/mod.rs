//! `rekindle inspect`: what is in a model file, a run or a checkpoint.

mod saved;
mod text;

use std::path::PathBuf;

use rekindle_state::{Listing, ModuleTree, OnnxSummary};
use serde_json::{Map, Value as Json, json};

use super::source::Source;
use super::{Answer, Exit, output};
use crate::checkpoint::Which;
use crate::models::{Recognised, Registry, recognise};

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
    /// Text beside the tensors.
    metadata: Vec<(String, String)>,
    /// Files of a run or checkpoint with their sizes.
    contents: Vec<(PathBuf, u64)>,
    /// What a user should know before the tensors are used.
    notes: Vec<String>,
    /// Networks of the registry that the weights fit.
    fits: Vec<Recognised>,
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let report = match Source::open(registry, &args.path, Which::Last)? {
        Source::File(file) => Report {
            fits: recognise(registry, &file),
            listing: file.listing(args.hash)?,
            modules: file.modules,
            onnx: file.onnx,
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
        if !self.modules.is_empty() {
            json["modules"] =
                self.modules.iter().map(|(path, tree)| json!({"path": path, "tree": module(tree)})).collect();
        }
        if !self.fits.is_empty() {
            json["fits"] =
                self.fits.iter().map(|found| json!({"model": found.entry.name, "config": found.keys})).collect();
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
