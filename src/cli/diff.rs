//! `rekindle diff`: two models, tensor by tensor.

use std::path::PathBuf;

use rekindle_state::{Diff, Tolerance, show_shape};

use super::output::{json, line, printable};
use super::source::Source;
use super::{Answer, Exit};
use crate::checkpoint::Which;
use crate::models::Registry;

/// Compare two model files, runs or checkpoints tensor by tensor, whatever their formats; exit 1 if they differ.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rekindle diff weights.pth weights.safetensors\n  rekindle diff RUN exported_half.pth --rtol 1e-3"
)]
pub struct Args {
    /// A model file, or the folder of a run (its best checkpoint) or checkpoint.
    a: PathBuf,
    /// Another.
    b: PathBuf,
    /// Equal is |a - b| <= ATOL + RTOL × |b|. With a tolerance, element types may differ.
    #[arg(long, default_value_t = 0.0, value_parser = tolerance)]
    rtol: f64,
    /// The absolute part.
    #[arg(long, default_value_t = 0.0, value_parser = tolerance)]
    atol: f64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn tolerance(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| format!("expected a number, found '{text}'"))?;
    if value.is_finite() && value >= 0.0 {
        Ok(value)
    } else {
        Err(format!("expected a number of at least 0, found {text}"))
    }
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let (a, b) = (Source::open(registry, &args.a, Which::Best)?, Source::open(registry, &args.b, Which::Best)?);
    // A checkpoint beside a plain state dict is compared by its weights alone.
    let whole = a.is_whole() && b.is_whole();
    let tolerance = Tolerance { rtol: args.rtol, atol: args.atol };
    let found = rekindle_state::diff(&a.tree(whole)?, &b.tree(whole)?, tolerance)?;
    if args.json {
        json(&found)?;
    } else {
        text(&found, args)?;
    }
    Ok(if found.same { Exit::Done } else { Exit::No })
}

fn text(found: &Diff, args: &Args) -> anyhow::Result<()> {
    let (a, b) = (args.a.display(), args.b.display());
    for (only, place) in [(&found.only_a, &a), (&found.only_b, &b)] {
        for name in only {
            line(format!("{}: only in {place}", shown(name)))?;
        }
    }
    for tensor in &found.shapes {
        line(format!("{}: shape {} and {}", shown(&tensor.name), show_shape(&tensor.a), show_shape(&tensor.b)))?;
    }
    for tensor in &found.dtypes {
        line(format!("{}: {} and {}", shown(&tensor.name), tensor.a, tensor.b))?;
    }
    for tensor in &found.values {
        let within = if tensor.within { ", within the tolerance" } else { "" };
        line(format!(
            "{}: {} of {} elements differ{within}; the worst at {}: {} and {} (absolute {:.3e}, largest relative {:.3e})",
            shown(&tensor.name),
            tensor.elements - tensor.equal,
            tensor.elements,
            show_shape(&tensor.worst_index),
            tensor.worst_a,
            tensor.worst_b,
            tensor.max_abs,
            tensor.max_rel,
        ))?;
    }
    for value in &found.plain {
        line(format!("{}: {} and {}", shown(&value.name), printable(&value.a), printable(&value.b)))?;
    }
    let verdict = match (found.same, found.bit_equal == found.compared) {
        (true, true) => "the same",
        (true, false) => "the same within the tolerance",
        (false, _) => "different",
    };
    let Diff { compared, bit_equal, close, .. } = found;
    line(format!("{verdict}: {compared} tensors in both, {bit_equal} with the same bits, {close} within the tolerance"))
}

/// A name; the sole tensor of a file has none.
fn shown(name: &str) -> String {
    if name.is_empty() { "the tensor".to_string() } else { printable(name) }
}
