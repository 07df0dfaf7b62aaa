//! `rekindle bench`: the median seconds of several runs of each case.

use std::time::Instant;

use anyhow::Context;
use serde::Serialize;

use super::super::output::{json, say, table};
use super::super::{Answer, Exit};
use super::case::{cases, parse};
use super::{Args, Bench, Case, checkpoint, peak};
use crate::device::DeviceName;
use crate::models::Registry;

/// What was measured.
#[derive(Serialize)]
struct Row {
    name: String,
    device: String,
    median_seconds: f64,
    min_seconds: f64,
    max_seconds: f64,
    runs: usize,
    rate: f64,
    unit: &'static str,
    /// While it ran, of the whole process; none where the system does not tell or another process did the work.
    peak_memory_bytes: Option<u64>,
}

impl Row {
    fn new(
        name: String,
        device: &str,
        mut seconds: Vec<f64>,
        (amount, unit): (f64, &'static str),
        peak: Option<u64>,
    ) -> Self {
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.len() / 2;
        let median_seconds =
            if seconds.len() % 2 == 1 { seconds[middle] } else { seconds[middle - 1].midpoint(seconds[middle]) };
        Self {
            name,
            device: device.to_string(),
            median_seconds,
            min_seconds: seconds[0],
            max_seconds: seconds[seconds.len() - 1],
            runs: seconds.len(),
            rate: amount / median_seconds.max(1e-9),
            unit,
            peak_memory_bytes: peak,
        }
    }

    fn cells(&self) -> Vec<String> {
        let memory = self
            .peak_memory_bytes
            .map_or_else(String::new, |bytes| format!("{:.0}", bytes as f64 / f64::from(1 << 20)));
        vec![
            self.name.clone(),
            self.device.clone(),
            milliseconds(self.median_seconds),
            format!("{}..{}", milliseconds(self.min_seconds), milliseconds(self.max_seconds)),
            self.runs.to_string(),
            format!("{:.0} {}", self.rate, self.unit),
            memory,
        ]
    }
}

/// Three digits are what such measurements are worth.
fn milliseconds(seconds: f64) -> String {
    let ms = seconds * 1e3;
    match ms {
        100.0.. => format!("{ms:.0}"),
        10.0.. => format!("{ms:.1}"),
        1.0.. => format!("{ms:.2}"),
        _ => format!("{ms:.3}"),
    }
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let cases = selected(registry, args)?;
    let device_name = args.device.unwrap_or(DeviceName::AUTO);
    let bench = Bench::new(registry, device_name, args.data.as_deref())?;
    let mut rows = Vec::new();
    for case in cases {
        let on = if case.is_of_files() { "files" } else { bench.device.name.as_str() };
        say!("timing {} on {on}", case.name);
        let failed = || format!("{} cannot be timed", case.name);
        if case.is_checkpoint() {
            let cost = checkpoint::measure(registry, &bench.folder, bench.device_name).with_context(failed)?;
            rows.push(Row::new(case.name.clone(), on, cost.saving, (cost.bytes * 1e-6, "MB/s"), peak::bytes()));
            rows.push(Row::new(case.name.replacen("save", "stall", 1), on, cost.stall, (1.0, "stalls/s"), None));
            continue;
        }
        let mut work = case.prepare(&bench).with_context(failed)?;
        peak::reset();
        let seconds = repeat(args, &mut work).with_context(failed)?;
        let peak = if case.runs_elsewhere() { None } else { peak::bytes() };
        rows.push(Row::new(case.name.clone(), on, seconds, case.amount(), peak));
    }
    if args.json {
        json(&rows)?;
    } else {
        let rows: Vec<_> = rows.iter().map(Row::cells).collect();
        table(&["", "on", "median ms", "min..max", "runs", "rate", "peak MiB"], &rows)?;
    }
    Ok(Exit::Done)
}

/// The cases that are asked for: by a part of a name, by a whole name with any numbers, and ONNX files.
fn selected(registry: &Registry, args: &Args) -> anyhow::Result<Vec<Case>> {
    let known = cases(registry);
    let mut selected: Vec<Case> = args.onnx.iter().map(|path| Case::of_graph(path, &args.axis)).collect();
    if args.names.is_empty() && !selected.is_empty() {
        return Ok(selected);
    }
    let whole: Vec<Case> = args
        .names
        .iter()
        .filter(|name| known.iter().all(|case| case.name != **name))
        .filter_map(|name| parse(registry, name))
        .collect();
    let names: Vec<&str> = known.iter().chain(&whole).map(|case| case.name.as_str()).collect();
    args.check_names(&names)?;
    // A whole name means that case alone, though another name may begin with it.
    let is_whole = |name: &str| names.contains(&name);
    let is_named = |case: &Case| args.names.contains(&case.name);
    let parts: Vec<&String> = args.names.iter().filter(|name| !is_whole(name)).collect();
    let wanted = |case: &Case| {
        args.names.is_empty() || is_named(case) || parts.iter().any(|part| case.name.contains(part.as_str()))
    };
    for case in known.iter().filter(|case| wanted(case)).cloned() {
        if case.long && !is_named(&case) {
            say!("{} takes long and is left out; name it in full to time it", case.name);
        } else {
            selected.push(case);
        }
    }
    selected.extend(whole);
    Ok(selected)
}

/// Runs something once to warm up, then until there are enough runs.
fn repeat(args: &Args, work: &mut super::Work) -> anyhow::Result<Vec<f64>> {
    work()?;
    let begun = Instant::now();
    let mut seconds = Vec::new();
    while seconds.is_empty() || (seconds.len() < args.runs as usize && begun.elapsed().as_secs_f64() < args.seconds) {
        let started = Instant::now();
        work()?;
        seconds.push(started.elapsed().as_secs_f64());
    }
    Ok(seconds)
}
