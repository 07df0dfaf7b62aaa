//! `rekindle models`: what is built in.

use serde_json::Map;

use super::output::{json, line, table};
use super::{Answer, Exit};
use crate::models::{self, MODELS, grouped};

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

pub fn run(args: &Args) -> Answer {
    match &args.name {
        Some(name) => one(name, args.json)?,
        None => all(args.json)?,
    }
    Ok(Exit::Done)
}

fn one(name: &str, as_json: bool) -> anyhow::Result<()> {
    let architecture = models::find(name)?.configure(&Map::new())?;
    let summary = architecture.summary(architecture.input_shape());
    if as_json {
        return json(&serde_json::json!({
            "name": name, "parameters": summary.parameters(), "config": architecture.config(), "summary": summary,
        }));
    }
    line(&summary)?;
    let [channels, height, width] = summary.input;
    line(format!("input [N, {channels}, {height}, {width}], {} parameters", grouped(summary.parameters())))?;
    line(format!("configuration: {}", architecture.config()))
}

fn all(as_json: bool) -> anyhow::Result<()> {
    let described = MODELS.iter().map(|entry| {
        let architecture = entry.configure(&Map::new())?;
        Ok((entry, architecture.input_shape(), architecture.summary(architecture.input_shape()).parameters()))
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
