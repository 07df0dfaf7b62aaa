//! `rekindle models`: what is built in.

use burn::tensor::Device;

use super::output::{json, line, table};
use super::{Answer, Exit};
use crate::models::{Architecture, Registry, grouped, weights};
use crate::onnx::export::summary;

/// List the built-in models, or print one as a module tree with shapes and parameter counts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle models vgg16")]
pub struct Args {
    /// A model.
    name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    match &args.name {
        Some(name) => one(registry, name, args.json)?,
        None => all(registry, args.json)?,
    }
    Ok(Exit::Done)
}

/// Number of parameters that are trained. Weights are drawn when they are first used: this draws none.
fn parameters(architecture: &Architecture) -> usize {
    let entries = weights::entries(&architecture.build(&Device::flex()));
    entries.iter().filter(|entry| entry.trained).map(|entry| entry.shape.iter().product::<usize>()).sum()
}

fn one(registry: &Registry, name: &str, as_json: bool) -> anyhow::Result<()> {
    let architecture = registry.find(name)?.standard()?;
    let [channels, height, width] = architecture.input_shape();
    let network = architecture.build(&Device::flex());
    let parameters = parameters(&architecture);
    let tensor = |entry: &weights::Entry| serde_json::json!({ "name": entry.name, "dtype": entry.dtype(), "shape": entry.shape });
    let tensors: Vec<_> = weights::entries(&network).iter().map(tensor).collect();
    let summary = summary(network, [channels, height, width]);
    if as_json {
        return json(&serde_json::json!({
            "name": name, "parameters": parameters, "tensors": tensors, "config": architecture.config(), "summary": summary,
        }));
    }
    line(&summary)?;
    line(format!("input [N, {channels}, {height}, {width}], {} parameters", grouped(parameters)))?;
    line(format!("configuration: {}", architecture.config()))
}

fn all(registry: &Registry, as_json: bool) -> anyhow::Result<()> {
    let described = registry.entries().iter().map(|entry| {
        let architecture = entry.standard()?;
        Ok((entry, architecture.input_shape(), parameters(&architecture)))
    });
    let described: Vec<_> = described.collect::<anyhow::Result<_>>()?;
    if as_json {
        let list = described.iter().map(|(entry, input, parameters)| {
            serde_json::json!({ "name": entry.name, "parameters": parameters, "input": input, "about": entry.about })
        });
        return json(&list.collect::<Vec<_>>());
    }
    let rows = described.iter().map(|(entry, [channels, height, width], parameters)| {
        vec![
            entry.name.to_string(),
            grouped(*parameters),
            format!("{channels}×{height}×{width}"),
            entry.about.to_string(),
        ]
    });
    table(&["model", "parameters", "input", ""], &rows.collect::<Vec<_>>())
}
