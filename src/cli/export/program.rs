//! `rekindle export` of a PyTorch program: as an ONNX graph, or the same program with the weights that were trained.

use std::path::Path;

use anyhow::bail;
use burn::module::Module;
use burn::tensor::Device;
use rekindle_onnx::reference::{Tolerance, difference};
use rekindle_onnx::{HostOnly, Model as Graph, Session};
use rekindle_program::{Mode, Program};
use rekindle_state::{Staged, rewrite_program};

use super::onnx::{OnnxArgs, apart};
use crate::cli::bench::graphs::inputs;
use crate::cli::model::Model;
use crate::cli::output::{line, say};
use crate::cli::{Answer, Exit};
use crate::models::{GraphConfig, Imported, ModelConfig, weights};
use crate::onnx::export::{EXTERNAL_ABOVE, write};

/// How far the graph in the file may be from the program, relative to values above 1.
const CLOSE: Tolerance = Tolerance { rtol: 1e-5, atol: 1e-6 };

/// Whether a model is a TorchScript program.
pub fn is_script(model: &Model) -> bool {
    let config = model.architecture.get::<GraphConfig>();
    config.is_some_and(|config| config.is_program() && config.path().extension().is_none_or(|end| end != "pt2"))
}

/// Writes the program that a model was made of with the weights and buffers that it has now, and proves it by opening the file.
pub fn run(model: Model, output: &Path) -> Answer {
    let network = model.network.valid();
    let parts = model.architecture.get::<GraphConfig>().filter(|config| config.is_program());
    let (Some(config), Some(imported)) = (parts, network.get::<Imported>()) else {
        bail!("{}: {} is no PyTorch program, which alone is written as one", output.display(), model.description);
    };
    if let Some(classes) = config.settings().classes {
        bail!(
            "{}: the program of {} has a new last layer of {classes} classes, and an archive keeps the shapes that it has: write .onnx, .pth or .safetensors",
            output.display(),
            model.description
        );
    }
    let dict = weights::to_state_dict(&network)?;
    let staged = Staged::beside(output)?;
    let path = staged.folder().join(staged.name());
    rewrite_program(config.path(), &path, &dict)?;
    let again = GraphConfig::with(&path, config.settings().clone())?.init(&Device::flex()).valid();
    let x = config.sample(config.batch().unwrap_or(2));
    let worst = apart(imported.forward(x.clone())?, again.forward(x)?);
    say!("the program, opened again, gives what the network gives: greatest difference {worst:.3e}");
    if worst.is_nan() || worst > 1e-5 {
        say!("{}: not written", output.display());
        return Ok(Exit::No);
    }
    let name = staged.name();
    staged.publish(&[name])?;
    line(format!("{}: the program with {} tensors of {}", output.display(), dict.len(), model.description))?;
    Ok(Exit::Done)
}

/// Writes the graph that a program becomes, and proves it by running the file beside the program.
pub fn graph(program: &Path, args: &OnnxArgs, output: &Path) -> Answer {
    args.none_that_changes_the_graph()?;
    let lowered = Program::open(program)?.lower(Mode::Eval, false)?;
    let graph = lowered.model()?;
    let (nodes, count) = (graph.graph.nodes.len(), lowered.proto.graph.as_ref().map_or(0, |own| own.initializer.len()));
    let staged = Staged::beside(output)?;
    let files = write(lowered.proto, staged.folder(), &staged.name(), EXTERNAL_ABOVE)?;
    let path = staged.folder().join(staged.name());
    if args.is_verified() {
        let given = inputs(&graph)?;
        let expected = Session::new(graph, HostOnly)?.run(given.clone())?;
        let found = Session::prepared(Graph::open(&path)?, HostOnly)?.run(given)?;
        let mut worst = 0.0_f64;
        for (found, expected) in found.iter().zip(&expected) {
            if let Some(how) = difference(found, expected, CLOSE, &mut worst)? {
                say!(
                    "the file, opened again, gives something else than the program: {how}\n{}: not written",
                    output.display()
                );
                return Ok(Exit::No);
            }
        }
        say!("the file, opened again, gives what the program gives: greatest difference {worst:.3e}");
    }
    staged.publish(&files)?;
    line(format!("{}: {} as {nodes} nodes and {count} weights", output.display(), program.display()))?;
    Ok(Exit::Done)
}
