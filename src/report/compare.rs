//! Several runs side by side: a table, curves over one another, and what differs in their recipes.

use std::collections::{BTreeMap, BTreeSet};

use maud::{Markup, html};

use super::chart::{Chart, Mark, Series, bytes, grouped, number, seconds};
use super::data::{Epoch, Evaluation, RunData};
use super::page::{best_epoch, checkpoints, flatten, metric_name, plain, short, status, total_seconds, unit_of};

/// More runs than colours share them; the legend still tells them apart by name.
const COLOURS: usize = 8;

pub(super) fn several(runs: &[RunData]) -> Markup {
    html! {
        header {
            h1 { (runs.len()) " runs" }
            p.sub { @for (place, run) in runs.iter().enumerate() { @if place > 0 { ", " } (run.name) } }
            nav aria-label="On this page" {
                a href="#results" { "Results" } a href="#curves" { "Curves" } a href="#differences" { "Differences" }
                a href="#checkpoints" { "Checkpoints" }
            }
        }
        section #results aria-labelledby="results-title" { h2 #results-title { "Results" } (results(runs)) }
        section #curves aria-labelledby="curves-title" {
            h2 #curves-title { "Curves" }
            div.charts { @for chart in charts(runs) { (chart.render()) } }
        }
        section #differences aria-labelledby="differences-title" {
            h2 #differences-title { "What differs in the recipes" }
            (differences(runs))
        }
        section #checkpoints aria-labelledby="checkpoints-title" {
            h2 #checkpoints-title { "Checkpoints" }
            @for run in runs { h3 { (run.name) } (checkpoints(run)) }
        }
    }
}

fn results(runs: &[RunData]) -> Markup {
    let tested = runs.iter().any(|run| !matches!(run.evaluation, Evaluation::Skipped | Evaluation::Failed(_)));
    let order = ranked(runs);
    html! {
        div.scroll tabindex="0" role="region" aria-label="Results of the runs" {
            table.results {
                thead {
                    tr {
                        th scope="col" { "run" } th scope="col" { "model" } th scope="col" { "best" }
                        th.num scope="col" { "at epoch" }
                        @if tested { th.num scope="col" { "test" } }
                        th.num scope="col" { "last training loss" } th.num scope="col" { "time" }
                        th.num scope="col" { "parameters" } th.num scope="col" { "checkpoint" } th scope="col" { "" }
                    }
                }
                tbody {
                    @for (rank, place) in order.iter().enumerate() {
                        @let run = &runs[*place];
                        @let best = best_epoch(run);
                        tr.first[rank == 0] {
                            th scope="row" { span class=(format!("key c{}", place % COLOURS)) {} (run.name) }
                            td { (run.model) }
                            td {
                                @if let Some(value) = best.and_then(|epoch| epoch.metrics.get(&run.monitor)) {
                                    b { (unit_of(&run.monitor).show(*value)) } " " small { (metric_name(&run.monitor)) }
                                } @else { "–" }
                            }
                            td.num { (best.map_or_else(|| "–".to_string(), |epoch| epoch.epoch.to_string())) }
                            @if tested { td.num { (test(&run.evaluation)) } }
                            td.num { (last_loss(run).map_or_else(|| "–".to_string(), number)) }
                            td.num { (seconds(total_seconds(run))) }
                            td.num { (short(run.layers.parameters() as f64)) }
                            td.num { (run.checkpoints.last().map_or_else(|| "–".to_string(), |last| bytes(last.bytes()))) }
                            td { small { (status(run)) } }
                        }
                    }
                }
            }
        }
    }
}

/// The runs by their best value; those that monitor something else than the first run keep their place behind.
fn ranked(runs: &[RunData]) -> Vec<usize> {
    let value = |run: &RunData| {
        let same = run.monitor == runs[0].monitor;
        let best = best_epoch(run).and_then(|epoch| epoch.metrics.get(&run.monitor).copied());
        best.filter(|_| same).map(|value| if run.minimize { value } else { -value })
    };
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (value(&runs[*a]).unwrap_or(f64::INFINITY), value(&runs[*b]).unwrap_or(f64::INFINITY));
        a.total_cmp(&b)
    });
    order
}

fn test(evaluation: &Evaluation) -> String {
    match evaluation {
        Evaluation::Classes(data) => format!("{:.2} %", data.accuracy() * 100.0),
        Evaluation::Images(data) => format!("{:.2} dB", data.psnr),
        Evaluation::Masks(data) => format!("{:.2} % mean IoU", data.mean_iou() * 100.0),
        _ => "–".to_string(),
    }
}

fn last_loss(run: &RunData) -> Option<f64> {
    run.epochs.last()?.metrics.get("train.loss").copied()
}

fn charts(runs: &[RunData]) -> Vec<Chart> {
    let metrics: BTreeSet<&str> =
        runs.iter().flat_map(|run| &run.epochs).flat_map(|epoch| epoch.metrics.keys()).map(String::as_str).collect();
    let mut metrics: Vec<&str> = metrics.into_iter().collect();
    // What chooses the best first, then validation before training.
    metrics.sort_by_key(|metric| (*metric != runs[0].monitor, !metric.starts_with("valid"), *metric));
    let mut charts: Vec<Chart> = metrics
        .iter()
        .map(|metric| {
            let title = metric_name(metric);
            let mut letters = title.chars();
            let title = letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect());
            let of = |epoch: &Epoch| epoch.metrics.get(*metric).copied();
            let mut chart = overlay(runs, metric, &title, unit_of(metric), &of);
            chart.marks = marks(runs, metric);
            chart
        })
        .collect();
    let mut lr = overlay(runs, "lr", "Learning rate", super::chart::Unit::Plain, &|epoch| epoch.lr);
    lr.from_zero = true;
    let rate = |epoch: &Epoch| Some(epoch.steps? as f64 / epoch.seconds.filter(|seconds| *seconds > 0.0)?);
    let mut speed = overlay(runs, "throughput", "Throughput", super::chart::Unit::Plain, &rate);
    speed.note = "steps a second".into();
    speed.from_zero = true;
    charts.extend([lr, speed]);
    charts.retain(|chart| !chart.is_empty());
    charts
}

fn overlay(
    runs: &[RunData],
    id: &str,
    title: &str,
    unit: super::chart::Unit,
    get: &dyn Fn(&Epoch) -> Option<f64>,
) -> Chart {
    let series = runs.iter().enumerate().map(|(place, run)| Series {
        name: run.name.clone(),
        colour: place % COLOURS,
        dashed: place >= COLOURS,
        points: run.epochs.iter().map(|epoch| (epoch.epoch as f64, get(epoch).unwrap_or(f64::NAN))).collect(),
    });
    Chart {
        id: format!("chart-{}", id.replace('.', "-")),
        title: title.into(),
        note: String::new(),
        unit,
        series: series.collect(),
        marks: Vec::new(),
        from_zero: false,
        steps: Vec::new(),
    }
}

/// The best epoch of each run that monitors this metric.
fn marks(runs: &[RunData], metric: &str) -> Vec<Mark> {
    let best = runs.iter().enumerate().filter(|(_, run)| run.monitor == metric).filter_map(|(place, run)| {
        let epoch = best_epoch(run)?;
        let y = *epoch.metrics.get(metric)?;
        Some(Mark { x: epoch.epoch as f64, y, label: String::new(), colour: place % COLOURS })
    });
    best.collect()
}

fn differences(runs: &[RunData]) -> Markup {
    let flat: Vec<BTreeMap<String, serde_json::Value>> = runs.iter().map(|run| flatten(&run.recipe)).collect();
    let keys: BTreeSet<&String> = flat.iter().flat_map(BTreeMap::keys).collect();
    let keys: Vec<&String> =
        keys.into_iter().filter(|key| flat.iter().any(|recipe| recipe.get(*key) != flat[0].get(*key))).collect();

    if keys.is_empty() {
        return html! { p.empty { "Nothing: every key has the same value." } };
    }
    html! {
        p.note { (grouped(keys.len() as u64)) " keys differ" ", all others are the same." }
        div.scroll tabindex="0" role="region" aria-label="Differences" {
            table.differences {
                thead {
                    tr {
                        th scope="col" { "key" }
                        @for (place, run) in runs.iter().enumerate() {
                            th scope="col" { span class=(format!("key c{}", place % COLOURS)) {} (run.name) }
                        }
                    }
                }
                tbody {
                    @for key in keys {
                        tr {
                            th scope="row" { code { (key) } }
                            @for recipe in &flat {
                                td { (recipe.get(key).map_or_else(|| "–".to_string(), plain)) }
                            }
                        }
                    }
                }
            }
        }
    }
}
