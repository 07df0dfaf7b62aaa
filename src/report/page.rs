//! The page: one HTML file that asks nobody for anything. Everything that comes from files is escaped by `maud`.

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::chart::{Chart, Mark, Series, Unit, bytes, grouped, seconds};
use super::data::{Epoch, Layers, RunData};
use super::{compare, samples};

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// What the page may load: pictures that are in it.
const POLICY: &str = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
                      base-uri 'none'; form-action 'none'";

/// Colours of the training and the validation curve of a single run.
const TRAIN: usize = 0;
const VALID: usize = 1;

/// A whole page about one run, or several side by side.
pub fn page(runs: &[RunData]) -> String {
    document(&title(runs), body(runs), false)
}

/// What the page of a training that goes on has beside the others.
const LIVE_STYLE: &str = include_str!("live.css");
const LIVE_SCRIPT: &str = include_str!("live.js");

/// The page of a run whose training goes on, to be given out by the process that trains: it asks `/events` where the training stands.
pub fn live_page(run: &RunData) -> String {
    document(&run.name, single(run), true)
}

fn title(runs: &[RunData]) -> String {
    runs.iter().map(|run| run.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn body(runs: &[RunData]) -> Markup {
    match runs {
        [run] => single(run),
        _ => compare::several(runs),
    }
}

fn document(title: &str, body: Markup, is_live: bool) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // The one that asks its server has a policy in the answer's head.
                @if !is_live { meta http-equiv="Content-Security-Policy" content=(POLICY); }
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content=(concat!("rekindle ", env!("CARGO_PKG_VERSION")));
                link rel="icon" href="data:,";
                title { (title) " · rekindle" }
                style { (PreEscaped(STYLE)) @if is_live { (PreEscaped(LIVE_STYLE)) } }
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                div.bar {
                    span.brand { "rekindle" }
                    button #theme type="button" aria-label="Change between light and dark" hidden { "◐" }
                }
                @if is_live {
                    div #live role="status" aria-live="off" {
                        progress aria-label="This epoch" {}
                        span { "waiting for the training" }
                        button type="button" title="Finish the step, save, stop: as Ctrl-C" { "Stop" }
                    }
                }
                main #main { (body) }
                footer {
                    "Made by rekindle " (env!("CARGO_PKG_VERSION")) "."
                    @if !is_live { " This file needs no network." }
                }
                script { (PreEscaped(SCRIPT)) }
                @if is_live { script { (PreEscaped(LIVE_SCRIPT)) } }
            }
        }
    };
    page.into_string()
}

fn single(run: &RunData) -> Markup {
    html! {
        header {
            h1 { (run.name) }
            p.sub { (run.model) " · " (status(run)) }
            (figures(run))
            nav aria-label="On this page" {
                a href="#curves" { "Curves" }
                @if samples::has_anything(&run.evaluation) { a href="#predictions" { "Predictions" } }
                a href="#model" { "Model" }
                a href="#recipe" { "Recipe" }
                a href="#checkpoints" { "Checkpoints" }
                a href="#environment" { "Environment" }
            }
        }
        section #curves aria-labelledby="curves-title" {
            h2 #curves-title { "Curves" }
            @if run.epochs.is_empty() {
                p.empty { "No epoch is complete yet." }
            } @else {
                div.charts { @for chart in charts(run) { (chart.render()) } }
            }
        }
        (samples::section(&run.evaluation))
        section #model aria-labelledby="model-title" { h2 #model-title { "Model" } (layers(&run.layers)) }
        section #recipe aria-labelledby="recipe-title" {
            h2 #recipe-title { "Recipe" }
            (toml(&run.recipe_text))
        }
        section #checkpoints aria-labelledby="checkpoints-title" {
            h2 #checkpoints-title { "Checkpoints" }
            (checkpoints(run))
        }
        section #environment aria-labelledby="environment-title" {
            h2 #environment-title { "Environment" }
            dl.pairs { @for (name, value) in &run.environment { div { dt { (name) } dd { (value) } } } }
        }
    }
}

/// Where a run stands.
pub(super) fn status(run: &RunData) -> String {
    let done = run.epochs.last().map_or(0, |epoch| epoch.epoch);
    let epochs = if run.planned > 0 { format!("{done} of {} epochs", run.planned) } else { format!("{done} epochs") };
    match (run.active, done as usize >= run.planned) {
        (true, _) => format!("{epochs}, training now"),
        (false, true) => format!("{epochs}, finished"),
        (false, false) => format!("{epochs}, stopped"),
    }
}

/// The epoch whose monitored metric is best.
pub(super) fn best_epoch(run: &RunData) -> Option<&Epoch> {
    let value = |epoch: &Epoch| epoch.metrics.get(&run.monitor).copied().filter(|value| !value.is_nan());
    let better = |a: f64, b: f64| if run.minimize { a < b } else { a > b };
    run.epochs.iter().filter(|epoch| value(epoch).is_some()).reduce(|best, epoch| {
        let (old, new) = (value(best).unwrap_or(f64::NAN), value(epoch).unwrap_or(f64::NAN));
        if better(new, old) { epoch } else { best }
    })
}

/// How a metric is printed.
pub(super) fn unit_of(metric: &str) -> Unit {
    match metric.rsplit('.').next().unwrap_or(metric) {
        "accuracy" | "top5" | "iou" | "dice" => Unit::Share,
        "psnr" => Unit::Decibels,
        _ => Unit::Plain,
    }
}

/// `valid.accuracy` as people say it.
pub(super) fn metric_name(metric: &str) -> String {
    let spoken = |name: &str| if name == "psnr" { "PSNR".to_string() } else { name.replace('_', " ") };
    match metric.split_once('.') {
        Some(("valid", name)) => format!("validation {}", spoken(name)),
        Some(("train", name)) => format!("training {}", spoken(name)),
        _ => spoken(metric),
    }
}

pub(super) fn total_seconds(run: &RunData) -> f64 {
    run.epochs.iter().filter_map(|epoch| epoch.seconds).sum()
}

fn figures(run: &RunData) -> Markup {
    let best = best_epoch(run);
    let of_best = best.and_then(|epoch| Some((epoch, *epoch.metrics.get(&run.monitor)?)));
    let size = run.checkpoints.iter().find(|checkpoint| checkpoint.best).or(run.checkpoints.last());
    html! {
        dl.figures {
            @if let Some((epoch, value)) = of_best {
                div.lead {
                    dt { "best " (metric_name(&run.monitor)) }
                    dd { (unit_of(&run.monitor).show(value)) }
                    p { "epoch " (epoch.epoch) ", step " (grouped(epoch.step)) }
                }
            }
            (samples::figure(&run.evaluation))
            @if !run.epochs.is_empty() {
                div {
                    dt { "time" }
                    dd { (seconds(total_seconds(run))) }
                    @if let Some(rate) = mean_rate(&run.epochs) { p { (number_short(rate)) " steps/s" } }
                }
            }
            @if !run.layers.rows.is_empty() {
                div {
                    dt { "parameters" }
                    dd { (short(run.layers.parameters() as f64)) }
                    p { (grouped(run.layers.parameters() as u64)) }
                }
            }
            @if let Some(checkpoint) = size {
                div {
                    dt { "checkpoint" }
                    dd { (bytes(checkpoint.bytes())) }
                    p { (run.checkpoints.len()) " kept" }
                }
            }
        }
    }
}

fn mean_rate(epochs: &[Epoch]) -> Option<f64> {
    let pairs = epochs.iter().filter_map(|epoch| Some((epoch.steps? as f64, epoch.seconds?)));
    let (steps, seconds) = pairs.fold((0.0, 0.0), |(a, b), (steps, seconds)| (a + steps, b + seconds));
    (seconds > 0.0).then(|| steps / seconds)
}

fn number_short(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}

/// 138357544 as 138 M.
pub(super) fn short(value: f64) -> String {
    match value {
        1e9.. => format!("{:.2} G", value / 1e9),
        1e6.. => format!("{:.1} M", value / 1e6),
        1e4.. => format!("{:.0} k", value / 1e3),
        _ => format!("{value}"),
    }
}

/// All charts of one run.
fn charts(run: &RunData) -> Vec<Chart> {
    let steps: Vec<(f64, u64)> = run.epochs.iter().map(|epoch| (epoch.epoch as f64, epoch.step)).collect();
    let mut names: Vec<&str> = Vec::new();
    for name in run.epochs.iter().flat_map(|epoch| epoch.metrics.keys()) {
        let name = name.split_once('.').map_or(name.as_str(), |(_, name)| name);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // The loss first, then the scores.
    names.sort_by_key(|name| *name != "loss");
    let mut charts: Vec<Chart> = names.iter().map(|name| metric_chart(run, name, &steps)).collect();
    let of = |get: fn(&Epoch) -> Option<f64>| {
        let points = run.epochs.iter().map(|epoch| (epoch.epoch as f64, get(epoch).unwrap_or(f64::NAN)));
        points.collect::<Vec<_>>()
    };
    let chart = |id: &str, title: &str, note: &str, unit, series| Chart {
        id: id.into(),
        title: title.into(),
        note: note.into(),
        unit,
        series,
        marks: Vec::new(),
        from_zero: true,
        steps: steps.clone(),
    };
    let line = |name: &str, colour, points| Series { name: name.into(), colour, dashed: false, points };
    charts.push(chart(
        "lr",
        "Learning rate",
        "at the end of each epoch",
        Unit::Plain,
        vec![line("learning rate", 2, of(|epoch| epoch.lr))],
    ));
    let rate = of(|epoch| Some(epoch.steps? as f64 / epoch.seconds.filter(|seconds| *seconds > 0.0)?));
    charts.push(chart(
        "throughput",
        "Throughput",
        "steps a second, validation included",
        Unit::Plain,
        vec![line("steps/s", 3, rate)],
    ));
    let saving = vec![
        line("training waits", 4, of(|epoch| epoch.stall)),
        line("until on the disk", 5, of(|epoch| epoch.saving)),
    ];
    charts.push(chart("saving", "Cost of saving", "seconds of each epoch", Unit::Seconds, saving));
    charts.retain(|chart| !chart.is_empty());
    charts
}

/// Training and validation of one metric.
fn metric_chart(run: &RunData, name: &str, steps: &[(f64, u64)]) -> Chart {
    let series = [("train", "training", TRAIN), ("valid", "validation", VALID)].map(|(split, label, colour)| {
        let key = format!("{split}.{name}");
        let points =
            run.epochs.iter().map(|epoch| (epoch.epoch as f64, epoch.metrics.get(&key).copied().unwrap_or(f64::NAN)));
        Series { name: label.into(), colour, dashed: false, points: points.collect() }
    });
    let valid = format!("valid.{name}");
    let unit = unit_of(name);
    let mark = best_epoch(run).and_then(|epoch| {
        let y = *epoch.metrics.get(&valid)?;
        let label = if run.monitor == valid { format!("best {}", unit.show(y)) } else { "best epoch".to_string() };
        Some(Mark { x: epoch.epoch as f64, y, label, colour: VALID })
    });
    let title = metric_name(&valid).replacen("validation ", "", 1);
    let mut letters = title.chars();
    let title = letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect());
    Chart {
        id: format!("chart-{name}"),
        title,
        note: String::new(),
        unit,
        series: series.into_iter().filter(|series| series.points.iter().any(|(_, y)| y.is_finite())).collect(),
        marks: mark.into_iter().collect(),
        from_zero: false,
        steps: steps.to_vec(),
    }
}

/// The module tree as a table.
fn layers(layers: &Layers) -> Markup {
    if let Some(missing) = &layers.missing {
        return html! { p.empty { (missing) } };
    }
    let total = layers.parameters().max(1) as f64;
    html! {
        p.sub {
            b { (layers.class) } ", input " code { (shape(&layers.input)) } ", "
            (grouped(layers.parameters() as u64)) " parameters"
        }
        div.scroll tabindex="0" role="region" aria-label="Layers" {
            table.layers {
                thead {
                    tr {
                        th scope="col" { "name" } th scope="col" { "layer" } th scope="col" { "output" }
                        th.num scope="col" { "parameters" } th scope="col" { span.hide { "share of all parameters" } }
                    }
                }
                tbody {
                    @for row in &layers.rows {
                        tr {
                            th scope="row" { (breakable(&row.path)) }
                            td { code { (row.layer) } }
                            td { @if !row.output.is_empty() { code { (shape(&row.output)) } } }
                            td.num { @if row.parameters > 0 { (grouped(row.parameters as u64)) } @else { "–" } }
                            td.share {
                                @if row.parameters > 0 {
                                    i style=(format!("width:{:.1}%", row.parameters as f64 / total * 100.0)) {}
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A dotted name that may break after its dots.
fn breakable(path: &str) -> Markup {
    html! { @for (place, part) in path.split('.').enumerate() { @if place > 0 { "." wbr; } (part) } }
}

fn shape(sizes: &[usize]) -> String {
    let sizes: Vec<String> = sizes.iter().map(usize::to_string).collect();
    format!("[N, {}]", sizes.join(", "))
}

pub(super) fn checkpoints(run: &RunData) -> Markup {
    if run.checkpoints.is_empty() {
        return html! { p.empty { "There is no checkpoint yet." } };
    }
    html! {
        @for checkpoint in &run.checkpoints {
            details.checkpoint open[checkpoint.best || run.checkpoints.len() == 1] {
                summary {
                    span { "step " (grouped(checkpoint.step)) ", epoch " (checkpoint.epoch) }
                    @if checkpoint.best { span.tag.good { "best" } }
                    @if checkpoint.last { span.tag { "last" } }
                    @if checkpoint.damage.is_some() { span.tag.bad { "damaged" } }
                    @if let Some(value) = checkpoint.value {
                        span.quiet { (metric_name(&run.monitor)) " " (unit_of(&run.monitor).show(value)) }
                    }
                    span.quiet.end { (bytes(checkpoint.bytes())) }
                }
                @if let Some(damage) = &checkpoint.damage { p.bad { (damage) } }
                @if checkpoint.written > 0 { p.quiet { "written " (date(checkpoint.written)) } }
                div.scroll tabindex="0" role="region" aria-label=(format!("Files of step {}", checkpoint.step)) {
                    table {
                        thead {
                            tr { th scope="col" { "file" } th.num scope="col" { "bytes" } th scope="col" { "sha256" } }
                        }
                        tbody {
                            @for (name, size, hash) in &checkpoint.files {
                                tr { th scope="row" { (name) } td.num { (grouped(*size)) } td { code.hash { (hash) } } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Seconds since 1970 as a date in UTC.
pub(super) fn date(seconds: u64) -> String {
    let (year, month, day) = calendar(seconds);
    let rest = seconds % 86_400;
    format!("{year}-{month:02}-{day:02} {:02}:{:02} UTC", rest / 3600, rest % 3600 / 60)
}

/// Seconds since 1970 as programs read them: `2026-11-28T03:45:12Z`.
pub fn timestamp(seconds: u64) -> String {
    let (year, month, day) = calendar(seconds);
    let rest = seconds % 86_400;
    format!("{year}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest % 3600 / 60, rest % 60)
}

fn calendar(seconds: u64) -> (u64, u64, u64) {
    let days = seconds / 86_400;
    // Howard Hinnant's days to civil date: eras of 400 years that begin in March.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

/// TOML with its keys, sections and comments told apart.
fn toml(text: &str) -> Markup {
    html! {
        pre.toml tabindex="0" role="region" aria-label="The resolved recipe" {
            code { @for line in text.lines() { (toml_line(line)) "\n" } }
        }
    }
}

fn toml_line(line: &str) -> Markup {
    let start = line.trim_start();
    if start.starts_with('#') {
        return html! { span.t-note { (line) } };
    }
    if start.starts_with('[') && start.ends_with(']') {
        return html! { span.t-section { (line) } };
    }
    match line.split_once('=') {
        Some((key, value)) => html! { span.t-key { (key) } "=" span.t-value { (value) } },
        None => html! { (line) },
    }
}

/// A value of a recipe in one line.
pub(super) fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A recipe as its dotted keys.
pub fn flatten(value: &serde_json::Value) -> BTreeMap<String, serde_json::Value> {
    fn walk(prefix: &str, value: &serde_json::Value, into: &mut BTreeMap<String, serde_json::Value>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    walk(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, into);
                }
            }
            other => {
                into.insert(prefix.to_string(), other.clone());
            }
        }
    }
    let mut flat = BTreeMap::new();
    walk("", value, &mut flat);
    flat
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01 00:00 UTC");
        assert_eq!(date(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(date(1_795_837_500), "2026-11-28 03:45 UTC");
        assert_eq!(timestamp(1_795_837_512), "2026-11-28T03:45:12Z");
    }

    #[test]
    fn text_from_files_is_escaped() {
        let run = RunData {
            name: "<script>alert(1)</script>".into(),
            recipe_text: "a = \"</code>\"".into(),
            ..RunData::default()
        };
        let page = page(&[run]);
        assert!(!page.contains("<script>alert"), "a name became markup");
        assert!(page.contains("&lt;script&gt;alert(1)"));
        assert!(page.contains("&lt;/code&gt;"));
    }

    #[test]
    fn a_recipe_is_its_dotted_keys() {
        let flat = flatten(&serde_json::json!({ "name": "a", "train": { "epochs": 3, "freeze": ["x"] } }));
        assert_eq!(flat.keys().map(String::as_str).collect::<Vec<_>>(), ["name", "train.epochs", "train.freeze"]);
    }
}
