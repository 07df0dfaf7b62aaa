//! The listing for people.

use std::collections::HashMap;

use rekindle_program::{Described, Summary, Used};
use rekindle_state::{GlobalEntry, ModuleTree, OnnxSummary, OptimizerEntry, TensorEntry, Value, show_shape};
use serde_json::{Map, Value as Json};

use super::Report;
use crate::cli::output::{line, printable, table};
use crate::models::grouped;

/// Characters of a value that are shown.
const VALUE_WIDTH: usize = 160;

/// Prints everything, at most `limit` entries of each list.
pub fn print(report: &Report, path: &str, limit: usize) -> anyhow::Result<()> {
    let listing = &report.listing;
    line(format!("{path}: {}, {}, {} bytes", listing.format, counted(listing.files, "file"), number(listing.bytes)))?;
    for (name, bytes) in limited(&report.contents, limit) {
        line(format!("  {}  {} bytes", printable(&name.display().to_string()), number(*bytes)))?;
    }
    more(report.contents.len(), limit)?;
    tensors(&listing.tensors, limit)?;
    values(&listing.values, limit)?;
    if let Some(optimizer) = &listing.optimizer {
        print_optimizer(optimizer, limit)?;
    }
    for (path, tree) in &report.modules {
        let place = if path.is_empty() { String::new() } else { format!(" under '{}'", printable(path)) };
        line(format!("\nwhole module{place}:"))?;
        print_module(tree, 1)?;
    }
    if let Some(program) = &report.program {
        print_program(program, limit)?;
    }
    if let Some(onnx) = &report.onnx {
        print_onnx(onnx, limit)?;
    }
    if !report.metadata.is_empty() {
        line("\nmetadata:")?;
        for (key, value) in limited(&report.metadata, limit) {
            line(format!("  {} = {}", printable(key), cut(&printable(value))))?;
        }
        more(report.metadata.len(), limit)?;
    }
    for note in &report.notes {
        line(format!("\nnote: {}", printable(note)))?;
    }
    if let [first, others @ ..] = report.fits.networks.as_slice() {
        line(format!("\nthese are the weights of {}", first.describe()))?;
        for other in others {
            line(format!("  they fit {} too", other.describe()))?;
        }
    }
    if let Some(but) = &report.fits.but {
        line(format!("\nno built-in network: {}", printable(but)))?;
    }
    line("")?;
    verdict(&listing.globals, &listing.format)
}

fn limited<T>(items: &[T], limit: usize) -> &[T] {
    &items[..items.len().min(limit)]
}

/// Says how many entries were left out.
fn more(count: usize, limit: usize) -> anyhow::Result<()> {
    if count > limit { line(format!("  … and {} more", count - limit)) } else { Ok(()) }
}

fn counted(count: u64, what: &str) -> String {
    format!("{} {what}{}", number(count), if count == 1 { "" } else { "s" })
}

fn number(number: u64) -> String {
    grouped(usize::try_from(number).unwrap_or(usize::MAX))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_WIDTH) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_string(),
    }
}

fn tensors(tensors: &[TensorEntry], limit: usize) -> anyhow::Result<()> {
    if tensors.is_empty() {
        return line("\nno tensors");
    }
    let bytes = tensors.iter().fold(0_u64, |sum, tensor| sum.saturating_add(tensor.bytes));
    line(format!("\n{}, {} bytes:", counted(tensors.len() as u64, "tensor"), number(bytes)))?;
    let mut first: HashMap<&str, &str> = HashMap::new();
    let mut rows = Vec::new();
    let mut any_shared = false;
    for tensor in limited(tensors, limit) {
        let mut notes: Vec<String> = tensor.layout.iter().cloned().collect();
        if !tensor.storage.is_empty() {
            match first.get(tensor.storage.as_str()) {
                Some(other) => notes.push(format!("shares storage with {}", named(other))),
                None => {
                    first.insert(&tensor.storage, &tensor.name);
                }
            }
        }
        any_shared |= !notes.is_empty();
        let shape = show_shape(&tensor.shape);
        let mut row = vec![named(&tensor.name), tensor.dtype.clone(), shape, number(tensor.bytes), notes.join(", ")];
        row.extend(tensor.sha256.clone());
        rows.push(row);
    }
    let hashed = rows.iter().any(|row| row.len() == 6);
    for row in &mut rows {
        row.resize(if hashed { 6 } else { 5 }, String::new());
        if !any_shared {
            row.remove(4);
        }
    }
    let mut header = vec!["name", "dtype", "shape", "bytes"];
    header.extend(any_shared.then_some("notes"));
    header.extend(hashed.then_some("sha256"));
    table(&header, &rows)?;
    more(tensors.len(), limit)
}

/// A tensor's name; the sole tensor of a file has none.
fn named(name: &str) -> String {
    if name.is_empty() { "(the only one)".to_string() } else { printable(name) }
}

fn values(values: &Map<String, Json>, limit: usize) -> anyhow::Result<()> {
    if values.is_empty() {
        return Ok(());
    }
    line("\nvalues:")?;
    for (name, value) in values.iter().take(limit) {
        line(format!("  {} = {}", named(name), cut(&printable(&value.to_string()))))?;
    }
    more(values.len(), limit)
}

fn print_optimizer(optimizer: &OptimizerEntry, limit: usize) -> anyhow::Result<()> {
    line("\noptimizer:")?;
    for (place, group) in optimizer.groups.iter().enumerate() {
        let settings = group.iter().filter(|(key, _)| *key != "params");
        let settings: Vec<String> =
            settings.map(|(key, value)| format!("{key} = {}", cut(&value.to_string()))).collect();
        line(format!("  group {place}: {}", printable(&settings.join(", "))))?;
        let params = group.get("params").and_then(Json::as_array).map(Vec::as_slice).unwrap_or_default();
        let names: Vec<String> = limited(params, limit)
            .iter()
            .map(|name| name.as_str().map_or_else(|| name.to_string(), printable))
            .collect();
        line(format!("    {}: {}", counted(params.len() as u64, "parameter"), names.join(", ")))?;
        more(params.len(), limit)?;
    }
    // `conv.weight/exp_avg`, gathered by parameter.
    let mut state: Vec<(&str, Vec<&str>)> = Vec::new();
    for entry in &optimizer.state {
        let (owner, kept) = entry.rsplit_once('/').unwrap_or((entry, ""));
        match state.last_mut() {
            Some((last, all)) if *last == owner => all.push(kept),
            _ => state.push((owner, vec![kept])),
        }
    }
    line(format!("  state of {}:", counted(state.len() as u64, "parameter")))?;
    for (owner, kept) in limited(&state, limit) {
        line(format!("    {}: {}", printable(owner), printable(&kept.join(", "))))?;
    }
    more(state.len(), limit)
}

/// A module as PyTorch prints it: name, class, settings, and the modules in it.
fn print_module(tree: &ModuleTree, depth: usize) -> anyhow::Result<()> {
    let settings: Vec<String> =
        tree.hyper_parameters.iter().map(|(key, value)| format!("{key}={}", self::value(value))).collect();
    let name = if tree.name.is_empty() { String::new() } else { format!("({}): ", tree.name) };
    // Deeper levels are no longer moved to the right: a file can nest very deeply.
    let indent = "  ".repeat(depth.min(20));
    line(format!("{indent}{}", printable(&format!("{name}{}({})", tree.class, cut(&settings.join(", "))))))?;
    tree.children.iter().try_for_each(|child| print_module(child, depth + 1))
}

/// A setting of a module in a few characters.
pub fn value(value: &Value) -> String {
    match value {
        Value::None => "None".to_string(),
        Value::Bool(true) => "True".to_string(),
        Value::Bool(false) => "False".to_string(),
        Value::Int(int) => int.to_string(),
        Value::BigInt(int) => int.to_string(),
        Value::Float(float) => format!("{float:?}"),
        Value::Str(text) => format!("'{text}'"),
        Value::Tuple(items) => format!("({})", joined(items)),
        Value::List(items) => format!("[{}]", joined(items)),
        Value::DType(name) => format!("torch.{name}"),
        Value::Device(name) => name.clone(),
        Value::Global(global) => global.to_string(),
        Value::Tensor(tensor) => format!("{} {}", tensor.dtype(), show_shape(tensor.shape())),
        other => other.type_name().to_string(),
    }
}

/// The first items of a list; containers in it are named only.
fn joined(items: &[Value]) -> String {
    let shown = items.iter().take(8).map(|item| match item {
        Value::Tuple(_) | Value::List(_) => item.type_name().to_string(),
        item => value(item),
    });
    let rest = if items.len() > 8 { ", …" } else { "" };
    format!("{}{rest}", shown.collect::<Vec<_>>().join(", "))
}

fn print_onnx(onnx: &OnnxSummary, limit: usize) -> anyhow::Result<()> {
    let opsets: Vec<String> = onnx.opsets.iter().map(|(domain, version)| format!("{domain} {version}")).collect();
    let about = format!(
        "'{}' by {}, format version {}, opset {}",
        onnx.graph,
        onnx.producer,
        onnx.ir_version,
        opsets.join(", ")
    );
    line(format!("\ngraph {}", printable(&about)))?;
    for (what, values) in [("inputs", &onnx.inputs), ("outputs", &onnx.outputs)] {
        line(format!("  {what}:"))?;
        for value in limited(values, limit) {
            let shape = value
                .shape
                .as_ref()
                .map_or_else(|| "of any shape".to_string(), |shape| format!("[{}]", shape.join(", ")));
            line(format!("    {}", printable(&format!("{} {} {shape}", value.name, value.dtype))))?;
        }
        more(values.len(), limit)?;
    }
    let count = onnx.operators.iter().map(|(_, count)| count).sum();
    line(format!("  {}:", counted(count, "operator")))?;
    for (name, count) in limited(&onnx.operators, limit) {
        line(format!("    {} × {count}", printable(name)))?;
    }
    more(onnx.operators.len(), limit)
}

fn print_program(program: &Summary, limit: usize) -> anyhow::Result<()> {
    line(format!("\nprogram of {}", printable(&program.source)))?;
    for (what, values) in [("inputs", &program.inputs), ("outputs", &program.outputs)] {
        if !values.is_empty() {
            line(format!("  {what}:"))?;
        }
        for Described { name, dtype, shape } in limited(values, limit) {
            line(format!("    {}", printable(&format!("{name} {dtype} [{}]", shape.join(", ")))))?;
        }
        more(values.len(), limit)?;
    }
    let (parameters, buffers) = (program.parameters.len() as u64, program.buffers.len() as u64);
    if parameters + buffers > 0 {
        line(format!("  {}, {}", counted(parameters, "parameter"), counted(buffers, "buffer")))?;
    }
    let count = program.operators.iter().map(|(_, count)| *count as u64).sum();
    line(format!("  {}:", counted(count, "operator")))?;
    for (name, count) in limited(&program.operators, limit) {
        line(format!("    {} × {count}", printable(name)))?;
    }
    more(program.operators.len(), limit)?;
    line(format!("  {}:", counted(program.modules.len() as u64, "module")))?;
    for Used { path, class, source } in limited(&program.modules, limit) {
        let path = if path.is_empty() { "(root)" } else { path };
        line(format!("    {}", printable(format!("{path} {class} {source}").trim_end())))?;
    }
    more(program.modules.len(), limit)?;
    if !program.missing.is_empty() {
        line("  not supported:")?;
    }
    for missing in &program.missing {
        line(format!("    {}", printable(missing)))?;
    }
    Ok(())
}

/// What would have happened in Python.
fn verdict(globals: &[GlobalEntry], format: &str) -> anyhow::Result<()> {
    let of = |verdict: &str| globals.iter().filter(|global| global.verdict == verdict).collect::<Vec<_>>();
    let (dangerous, unknown) = (of("runs code"), of("unknown"));
    if globals.is_empty() {
        let why = if format.starts_with("torch") || format == "pickle" {
            "it names no class or function"
        } else {
            "this format holds no code"
        };
        return line(format!("safe: {why}"));
    }
    if dangerous.is_empty() && unknown.is_empty() {
        let count = counted(globals.len() as u64, "name");
        return line(format!(
            "safe: of Python it uses only {count} known to make data: {}",
            listed(&globals.iter().collect::<Vec<_>>())
        ));
    }
    if !dangerous.is_empty() {
        line(format!("NOT SAFE in Python: unpickling would call {}, which can run any code", listed(&dangerous)))?;
    }
    if !unknown.is_empty() {
        line(format!("not known to be safe in Python: unpickling would import {}", listed(&unknown)))?;
    }
    line("nothing of this was executed here")
}

fn listed(globals: &[&GlobalEntry]) -> String {
    globals.iter().map(|global| printable(&global.name)).collect::<Vec<_>>().join(", ")
}
