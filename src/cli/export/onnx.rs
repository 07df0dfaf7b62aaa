//! `rekindle export MODEL OUT.onnx`: the network as a graph, run by other engines before it gets its name.

use std::path::Path;
use std::str::FromStr;

use anyhow::bail;
use burn::module::Module;
use burn::tensor::Device;
use rekindle_state::Staged;

use super::super::output::say;
use crate::cli::model::Model;
use crate::cli::output::line;
use crate::cli::{Answer, Exit};
use crate::data::prepare::class_names;
use crate::data::transform::Extent;
use crate::data::{DataConfig, Split};
use crate::models::{Architecture, GraphConfig, Imported, ModelConfig, Output};
use crate::onnx::export::{DEFAULT_OPSET, EXTERNAL_ABOVE, ExportOptions, export_network, rewrite, write};
use crate::onnx::metadata::Told;
use crate::onnx::publish::{Publication, publish};
use crate::onnx::verify::{self, Engine, Finding, Graphed, OnnxRuntime, Verdict};

/// What concerns ONNX files alone.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "ONNX")]
pub struct OnnxArgs {
    /// The operator set, 13 to 21 [default: 17].
    #[arg(long, value_name = "N")]
    opset: Option<i64>,
    /// A fixed batch size, or `dynamic` to leave it open [default: dynamic].
    #[arg(long, value_name = "N|dynamic")]
    batch: Option<Batch>,
    /// The name of the input [default: input].
    #[arg(long, value_name = "A,B", value_delimiter = ',')]
    input_names: Vec<String>,
    /// Run the file with ONNX Runtime too, in the Python of REKINDLE_PYTHON or `python3`.
    #[arg(long, value_name = "ENGINE", conflicts_with = "no_verify")]
    verify_with: Option<OtherEngine>,
    /// Write the file without running it.
    #[arg(long)]
    no_verify: bool,
}

/// `--batch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batch {
    Open,
    Fixed(usize),
}

impl FromStr for Batch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(size) if size > 0 => Ok(Self::Fixed(size)),
            _ if text == "dynamic" => Ok(Self::Open),
            _ => Err("expected a number of at least 1, or dynamic".to_string()),
        }
    }
}

/// `--verify-with`.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OtherEngine {
    /// ONNX Runtime, in Python.
    Onnxruntime,
}

impl OnnxArgs {
    /// The first of these options that is given: other formats know none of them.
    pub fn given(&self) -> Option<&'static str> {
        let options = [
            (self.opset.is_some(), "--opset"),
            (self.batch.is_some(), "--batch"),
            (!self.input_names.is_empty(), "--input-names"),
            (self.verify_with.is_some(), "--verify-with"),
            (self.no_verify, "--no-verify"),
        ];
        options.into_iter().find(|(given, _)| *given).map(|(_, name)| name)
    }

    /// Whether the file is run before it gets its name.
    pub fn is_verified(&self) -> bool {
        !self.no_verify
    }

    /// Refuses what a graph from a file keeps as it is.
    pub fn none_that_changes_the_graph(&self) -> anyhow::Result<()> {
        let options = [
            (self.opset.is_some(), "--opset"),
            (self.batch.is_some(), "--batch"),
            (!self.input_names.is_empty(), "--input-names"),
        ];
        match options.into_iter().find(|(given, _)| *given) {
            Some((_, name)) => {
                bail!("{name}: a graph from a file keeps its operator set, axes and names; only its weights change")
            }
            None => Ok(()),
        }
    }
}

/// Exports a network, verifies what was written, and gives it its name.
pub fn run(model: Model, name: &str, args: &OnnxArgs, output: &Path) -> Answer {
    let network = model.network.valid();
    let options = ExportOptions {
        opset: args.opset.unwrap_or(DEFAULT_OPSET),
        batch: match args.batch {
            Some(Batch::Fixed(size)) => Some(size),
            _ => None,
        },
        input_names: args.input_names.clone(),
        metadata: metadata(&model, name),
    };
    let size = input_size(&model.architecture, model.recipe.as_ref().map(|recipe| &recipe.data));
    if let (Some(graph), Some(imported)) = (model.architecture.get::<GraphConfig>(), network.get::<Imported>()) {
        return rewritten(&model, graph, imported, args, options.metadata, output);
    }
    let exported = export_network(&network, size, &options)?;
    let about = about(&exported, &model.description, options.opset);
    let mut engines = if args.no_verify { Vec::new() } else { verify::built_in() };
    if args.verify_with.is_some() {
        engines.push(&OnnxRuntime);
    }
    if args.no_verify {
        say!("not run by any engine, as asked");
    }
    let written = match publish(&network, &exported, &engines, output)? {
        Publication::Written(written) => written,
        Publication::Refused { findings, first } => {
            report(&findings);
            say!("{first}\n{}: not written", output.display());
            return Ok(Exit::No);
        }
    };
    report(&written.findings);
    line(format!("{}: {about}", output.display()))?;
    if let [weights, _] = written.files.as_slice() {
        line(format!("its weights are in {}, which belongs beside it", weights.display()))?;
    }
    Ok(Exit::Done)
}

/// Writes the graph that a network was made of with the weights that it has now, and proves it by opening the file.
fn rewritten(
    model: &Model,
    config: &GraphConfig,
    imported: &Imported,
    args: &OnnxArgs,
    metadata: Vec<(String, String)>,
    output: &Path,
) -> Answer {
    args.none_that_changes_the_graph()?;
    let exported = rewrite(imported, config, metadata)?;
    let opset = exported.model.opset_import.iter().find(|set| set.domain.is_empty()).map_or(0, |set| set.version);
    let about = about(&exported, &model.description, opset);
    let staged = Staged::beside(output)?;
    let files = write(exported.model.clone(), staged.folder(), &staged.name(), EXTERNAL_ABOVE)?;
    let path = staged.folder().join(staged.name());
    if args.no_verify {
        say!("not run by any engine, as asked");
    } else {
        let again = GraphConfig::open(&path)?.init(&Device::flex()).valid();
        let x = config.sample(exported.batch.unwrap_or(2));
        let worst = apart(imported.forward(x.clone())?, again.forward(x)?);
        say!("the file, opened again, gives what the network gives: greatest difference {worst:.3e}");
        if worst.is_nan() || worst > 1e-5 {
            say!("{}: not written", output.display());
            return Ok(Exit::No);
        }
        if config.takes_images() && !vouched_for(&Graphed::new(&path, &exported), args)? {
            say!("{}: not written", output.display());
            return Ok(Exit::No);
        }
    }
    staged.publish(&files)?;
    line(format!("{}: {about}", output.display()))?;
    Ok(Exit::Done)
}

/// Whether every other engine that can run a graph from a file computes what rekindle's interpreter does; prints what they found.
fn vouched_for(graphed: &Graphed<'_>, args: &OnnxArgs) -> anyhow::Result<bool> {
    let mut engines = verify::others();
    if args.verify_with.is_some() {
        engines.push(&OnnxRuntime);
    }
    let mut agreed = true;
    for Verdict { engine, found } in verify::compare_engines(graphed, &engines, verify::USUAL)? {
        match found {
            Ok(findings) => agreed &= report(&findings),
            // What was asked for by name must be done.
            Err(reason) if engine == OnnxRuntime.name() => bail!("{engine} cannot run the file: {reason}"),
            Err(reason) => say!("{engine} cannot run this graph, and says nothing about it: {reason}"),
        }
    }
    Ok(agreed)
}

/// Prints what engines found; whether all of it is small.
fn report(findings: &[Finding]) -> bool {
    for finding in findings {
        let state = if finding.difference.is_small() { "agrees" } else { "DISAGREES" };
        say!("{} {state} at batch size {}: {}", finding.engine, finding.batch, finding.difference);
    }
    findings.iter().all(|finding| finding.difference.is_small())
}

/// The greatest difference of two answers, relative to values above 1.
pub fn apart(a: Output, b: Output) -> f32 {
    let differences = a.values().into_iter().zip(b.values()).map(|(a, b)| (a - b).abs() / a.abs().max(1.0));
    differences.fold(0.0, |worst, one| if one.is_nan() || one > worst { one } else { worst })
}

fn about(exported: &crate::onnx::export::Exported, description: &str, opset: i64) -> String {
    let (nodes, weights) =
        exported.model.graph.as_ref().map_or((0, 0), |graph| (graph.node.len(), graph.initializer.len()));
    let axes: Vec<String> = exported.item.iter().map(usize::to_string).collect();
    let batch = exported.batch.map_or_else(|| "batch".to_string(), |batch| batch.to_string());
    format!(
        "{description} as {nodes} nodes and {weights} weights of opset {opset}, {} [{batch}, {}]",
        exported.input,
        axes.join(", ")
    )
}

/// Height and width of the pictures that the recipe gives the network; else its usual input.
fn input_size(architecture: &Architecture, data: Option<&DataConfig>) -> [usize; 3] {
    let usual = architecture.input_shape();
    let Some(data) = data else { return usual };
    let transforms = data.transforms(Split::Test);
    let own = data.name.set().size();
    // Scaling by the shorter edge alone leaves pictures of any proportions.
    let scaled = match (transforms.center_crop, transforms.resize) {
        (Some(cut), _) => Some(cut.square()),
        (None, Some(Extent::Exact { height, width })) => Some((height, width)),
        (None, Some(Extent::Edge(_))) => None,
        (None, None) => own,
    };
    let size = scaled.map(|(height, width)| [usual[0], height, width]);
    size.filter(|size| architecture.check_input(*size).is_ok()).unwrap_or(usual)
}

/// What the file says of itself: which network it is, how it was trained, what goes in and comes out.
fn metadata(model: &Model, name: &str) -> Vec<(String, String)> {
    let entry = |key: &str, value: String| (key.to_string(), value);
    let network = model.recipe.as_ref().map_or_else(|| name.to_string(), |recipe| recipe.model.title());
    let mut entries =
        vec![entry("model", network.to_string()), entry("config", model.architecture.config().to_string())];
    if let Some(recipe) = &model.recipe {
        entries.push(entry("recipe", recipe.name.clone()));
        let mut classes = class_names(&recipe.data);
        if model.architecture.classes() != Some(classes.len()) {
            classes.clear();
        }
        entries.extend(Told { normalize: recipe.data.normalize.clone(), classes }.entries());
    }
    if let Some(manifest) = &model.manifest {
        entries.push(entry("epoch", manifest.epoch.to_string()));
        entries.push(entry("step", manifest.step.to_string()));
        entries.push(entry("metrics", serde_json::json!(manifest.metrics).to_string()));
    }
    entries
}
