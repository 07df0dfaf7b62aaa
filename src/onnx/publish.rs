//! Writing a network as a file that engines have run before it gets its name.

use std::path::{Path, PathBuf};

use rekindle_state::Staged;

use super::OnnxError;
use super::export::{EXTERNAL_ABOVE, ExportOptions, Exported, export_network, write};
use super::verify::{self, Engine, Finding, Graphed, USUAL};
use crate::models::Network;

/// A file that was written.
#[derive(Debug)]
pub struct Written {
    /// The model, and the file beside it that holds its weights if it has more than 2 GB.
    pub files: Vec<PathBuf>,
    /// What each engine found at each batch size.
    pub findings: Vec<Finding>,
}

/// What became of a graph.
#[derive(Debug)]
pub enum Publication {
    /// It has its name.
    Written(Written),
    /// An engine computes something else than the network, so there is no file.
    Refused {
        /// What each engine found.
        findings: Vec<Finding>,
        /// The engine, and the first node that differs in it.
        first: String,
    },
}

/// Exports a network for images of a size (channels, height, width), runs the file with every built-in engine at two batch sizes,
/// and gives it its name.
///
/// # Errors
/// When an operation has no ONNX, the file cannot be written, or an engine computes something else; there is no file then.
pub fn export_verified(
    network: &Network,
    size: [usize; 3],
    options: &ExportOptions,
    path: &Path,
) -> Result<Written, OnnxError> {
    let exported = export_network(network, size, options)?;
    match publish(network, &exported, &verify::built_in(), path)? {
        Publication::Written(written) => Ok(written),
        Publication::Refused { first, .. } => Err(OnnxError::Differs { path: path.to_path_buf(), first }),
    }
}

/// Writes an exported network beside `path`, checks that it is valid ONNX, runs it with engines, and gives it its name if all of
/// them compute what the network computes.
///
/// # Errors
/// When the file cannot be written, is no valid ONNX, or an engine cannot run it.
pub fn publish(
    network: &Network,
    exported: &Exported,
    engines: &[&dyn Engine],
    path: &Path,
) -> Result<Publication, OnnxError> {
    let staged = Staged::beside(path)?;
    let files = write(exported.model.clone(), staged.folder(), &staged.name(), EXTERNAL_ABOVE)?;
    let written = staged.folder().join(staged.name());
    verify::check_structure(&written)?;
    let graphed = Graphed::new(&written, exported);
    let findings = verify::compare(network, &graphed, engines, USUAL)?;
    if let Some(wrong) = findings.iter().find(|finding| !finding.difference.is_small()) {
        let first = first_difference(network, &graphed, engines, wrong);
        return Ok(Publication::Refused { findings, first });
    }
    staged.publish(&files)?;
    let files = files.iter().map(|name| path.with_file_name(name)).collect();
    Ok(Publication::Written(Written { files, findings }))
}

/// The node from which on an engine computes something else, in words.
fn first_difference(network: &Network, graphed: &Graphed<'_>, engines: &[&dyn Engine], wrong: &Finding) -> String {
    let Some(engine) = engines.iter().find(|engine| engine.name() == wrong.engine) else { return String::new() };
    match verify::first_difference(network, graphed, *engine, wrong.batch, USUAL) {
        Ok(Some(node)) => format!("first difference of {}: {node}", wrong.engine),
        Ok(None) => format!("no single node of {} differs when every value is looked at", wrong.engine),
        Err(error) => format!("the node that differs first could not be found: {error}"),
    }
}
