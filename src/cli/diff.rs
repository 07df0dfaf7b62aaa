//! `rekindle diff`: two models, tensor by tensor.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rekindle_state::{Diff, Tolerance, show_shape};
use serde::Serialize;
use serde_json::Value;

use super::output::{json, line, printable};
use super::source::Source;
use super::{Answer, Exit};
use crate::checkpoint::Which;
use crate::models::Registry;
use crate::report::flatten;

/// Compare two model files, runs or checkpoints tensor by tensor, whatever their formats; exit 1 if they differ.
///
/// Of two runs, what differs in their recipes and metrics is said first. The exit code speaks of tensors and the values beside them.
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
    let settings = settings(&a, &b);
    if args.json {
        let mut value = serde_json::to_value(&found)?;
        if let Some(settings) = &settings {
            value["recipe"] = serde_json::to_value(&settings.recipe)?;
            value["metrics"] = serde_json::to_value(&settings.metrics)?;
        }
        json(&value)?;
    } else {
        if let Some(settings) = &settings {
            settings.print()?;
        }
        text(&found, args)?;
    }
    Ok(if found.same { Exit::Done } else { Exit::No })
}

/// How two checkpoints were trained and what came of it, where that differs.
struct Settings {
    recipe: Vec<Pair>,
    metrics: Vec<Pair>,
}

/// A key with its two values; null where one has none.
#[derive(Serialize)]
struct Pair {
    key: String,
    a: Value,
    b: Value,
}

impl Settings {
    fn print(&self) -> anyhow::Result<()> {
        let shown = |value: &Value| match value {
            Value::Null => "nothing".to_string(),
            Value::String(text) => printable(text),
            other => other.to_string(),
        };
        for (what, pairs) in [("recipe", &self.recipe), ("metrics", &self.metrics)] {
            for Pair { key, a, b } in pairs {
                line(format!("{what}: {key}: {} and {}", shown(a), shown(b)))?;
            }
        }
        Ok(())
    }
}

/// The recipes and metrics of two checkpoints; nothing where one is a file.
fn settings(a: &Source, b: &Source) -> Option<Settings> {
    let (Source::Saved(a), Source::Saved(b)) = (a, b) else { return None };
    let (a, b) = (&a.contents.manifest, &b.contents.manifest);
    let metrics = |metrics: &BTreeMap<String, f64>| {
        metrics.iter().map(|(key, value)| (key.clone(), Value::from(*value))).collect::<BTreeMap<_, _>>()
    };
    Some(Settings {
        recipe: different(&flatten(&a.recipe), &flatten(&b.recipe)),
        metrics: different(&metrics(&a.metrics), &metrics(&b.metrics)),
    })
}

/// The keys of two maps whose values differ.
fn different(a: &BTreeMap<String, Value>, b: &BTreeMap<String, Value>) -> Vec<Pair> {
    let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
    let of = |map: &BTreeMap<String, Value>, key: &String| map.get(key).cloned().unwrap_or(Value::Null);
    let pairs = keys.into_iter().map(|key| Pair { key: key.clone(), a: of(a, key), b: of(b, key) });
    pairs.filter(|pair| pair.a != pair.b).collect()
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
