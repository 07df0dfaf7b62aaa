//! Rows of `rekindle runs`: what is known of a run, which of them are shown, in which order and columns.

use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

use anyhow::bail;
use serde::Serialize;
use serde_json::Value;

use super::super::output::{line, printable, table};
use crate::checkpoint::{Run, Which};
use crate::report::flatten;
use crate::train::recipe::Mode;

/// A run.
#[derive(Serialize)]
pub(super) struct Row {
    run: String,
    checkpoints: usize,
    epoch: usize,
    last: u64,
    best: Option<u64>,
    metrics: BTreeMap<String, f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) damaged: Vec<String>,
    /// The recipe's keys, dotted.
    #[serde(skip)]
    recipe: BTreeMap<String, Value>,
}

impl Row {
    pub(super) fn new(run: &Run, verify: bool) -> Self {
        let checkpoints = run.newest_first();
        let last = checkpoints.iter().find_map(|(_, manifest)| manifest.as_ref().ok()).cloned();
        let best = run.find(Which::Best).ok();
        let manifest = best.as_ref().and_then(|checkpoint| checkpoint.manifest().ok());
        let damaged = if verify { run.verify() } else { Vec::new() };
        Self {
            run: run.path().display().to_string(),
            checkpoints: checkpoints.len(),
            epoch: last.as_ref().map_or(0, |manifest| manifest.epoch),
            recipe: last.as_ref().map(|manifest| flatten(&manifest.recipe)).unwrap_or_default(),
            last: last.map_or(0, |manifest| manifest.step),
            best: best.map(|checkpoint| checkpoint.step),
            metrics: manifest.map(|manifest| manifest.metrics).unwrap_or_default(),
            damaged: damaged.iter().map(ToString::to_string).collect(),
        }
    }

    /// A metric of the best checkpoint, or a key of the recipe.
    fn value(&self, key: &str) -> Option<Value> {
        let metric = self.metrics.get(key).map(|value| Value::from(*value));
        metric.or_else(|| self.recipe.get(key).cloned())
    }
}

/// Puts the best of a metric first; runs without it come last.
pub(super) fn sort(rows: &mut [Row], metric: &str) -> anyhow::Result<()> {
    let known: BTreeSet<&String> = rows.iter().flat_map(|row| row.metrics.keys()).collect();
    if !rows.is_empty() && !known.iter().any(|name| *name == metric) {
        let nearest = crate::error::nearest(metric, known.iter().map(|name| name.as_str()));
        let known: Vec<&str> = known.iter().map(|name| name.as_str()).collect();
        bail!("--sort {metric}: no run has this metric{nearest}; there are {}", known.join(", "));
    }
    let key = |row: &Row| {
        let value = row.metrics.get(metric).copied().filter(|value| !value.is_nan());
        value.map_or(f64::INFINITY, |value| if Mode::of(metric) == Mode::Min { value } else { -value })
    };
    rows.sort_by(|a, b| key(a).total_cmp(&key(b)));
    Ok(())
}

/// A condition on a run.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    key: String,
    relation: Relation,
    value: String,
}

#[derive(Debug, Clone, Copy)]
enum Relation {
    Is,
    IsNot,
    Less,
    More,
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let relations = [("!=", Relation::IsNot), ("=", Relation::Is), ("<", Relation::Less), (">", Relation::More)];
        let found = relations
            .into_iter()
            .filter_map(|(sign, relation)| Some((text.find(sign)?, sign, relation)))
            // The first sign; of two at one place the longer.
            .min_by_key(|(at, sign, _)| (*at, std::cmp::Reverse(sign.len())));
        let Some((at, sign, relation)) = found.filter(|(at, ..)| *at > 0) else {
            return Err(format!("expected KEY=VALUE, KEY!=VALUE, KEY<NUMBER or KEY>NUMBER, found '{text}'"));
        };
        let value = text[at + sign.len()..].trim().to_string();
        if matches!(relation, Relation::Less | Relation::More) && value.parse::<f64>().is_err() {
            return Err(format!("expected a number after {sign}, found '{value}'"));
        }
        Ok(Self { key: text[..at].trim().to_string(), relation, value })
    }
}

impl Filter {
    pub(super) fn holds(&self, row: &Row) -> bool {
        let found = row.value(&self.key);
        let number = found.as_ref().and_then(Value::as_f64);
        let wanted = self.value.parse::<f64>().ok();
        let same = match (number, wanted) {
            (Some(a), Some(b)) => a == b,
            _ => found.as_ref().is_some_and(|found| plain(found) == self.value),
        };
        match self.relation {
            Relation::Is => same,
            Relation::IsNot => !same,
            Relation::Less => number.zip(wanted).is_some_and(|(a, b)| a < b),
            Relation::More => number.zip(wanted).is_some_and(|(a, b)| a > b),
        }
    }
}

/// Columns and cells.
pub(super) struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(rows: &[Row], differences: bool) -> Self {
        let metrics: BTreeSet<&String> = rows.iter().flat_map(|row| row.metrics.keys()).collect();
        // What one chooses by first.
        let mut metrics: Vec<&String> = metrics.into_iter().collect();
        metrics.sort_by_key(|name| !name.starts_with("valid"));
        let keys: BTreeSet<&String> = rows.iter().flat_map(|row| row.recipe.keys()).collect();
        let differs = |key: &&String| rows.iter().any(|row| row.recipe.get(*key) != rows[0].recipe.get(*key));
        // A run's name is in the first column already.
        let keys: Vec<&String> = keys.into_iter().filter(|key| differences && *key != "name").filter(differs).collect();
        let fixed = ["run", "checkpoints", "epoch", "last step", "best step"];
        let names = metrics.iter().chain(&keys).map(|name| name.as_str());
        let header = fixed.into_iter().chain(names).map(str::to_string).collect();
        let cells = |row: &Row| {
            let best = row.best.map_or_else(|| "-".to_string(), |step| step.to_string());
            let mut cells =
                vec![row.run.clone(), row.checkpoints.to_string(), row.epoch.to_string(), row.last.to_string(), best];
            let metric = |name: &&String| row.metrics.get(*name).map_or_else(|| "-".to_string(), |v| format!("{v:.4}"));
            cells.extend(metrics.iter().map(metric));
            cells.extend(keys.iter().map(|key| row.recipe.get(*key).map_or_else(|| "-".to_string(), plain)));
            cells
        };
        Self { header, rows: rows.iter().map(cells).collect() }
    }

    pub(super) fn print(&self) -> anyhow::Result<()> {
        let header: Vec<&str> = self.header.iter().map(String::as_str).collect();
        let rows: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|cell| printable(cell)).collect()).collect();
        table(&header, &rows)
    }

    pub(super) fn csv(&self) -> anyhow::Result<()> {
        line(csv_line(&self.header))?;
        self.rows.iter().try_for_each(|row| line(csv_line(row)))
    }
}

/// The metrics of a run as CSV: a line for each epoch, a column for each key that any epoch has.
pub(super) fn metrics(run: &Run) -> anyhow::Result<()> {
    let lines = run.metrics();
    let mut columns: Vec<String> = Vec::new();
    for key in lines.iter().filter_map(Value::as_object).flat_map(|line| line.keys()) {
        if !columns.contains(key) {
            columns.push(key.clone());
        }
    }
    line(csv_line(&columns))?;
    for row in &lines {
        // Numbers as they are stored, to the last digit.
        let cells: Vec<String> = columns.iter().map(|key| row.get(key).map_or_else(String::new, plain)).collect();
        line(csv_line(&cells))?;
    }
    Ok(())
}

/// A line by RFC 4180: what has a comma, a quote or a line break stands in quotes.
fn csv_line(cells: &[String]) -> String {
    let quoted = cells.iter().map(|cell| {
        if cell.contains([',', '"', '\n', '\r']) { format!("\"{}\"", cell.replace('"', "\"\"")) } else { cell.clone() }
    });
    quoted.collect::<Vec<_>>().join(",")
}

/// A value as text; null is nothing.
fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(run: &str, accuracy: f64, lr: f64) -> Row {
        let recipe = serde_json::json!({ "name": run, "optimizer": { "name": "adam", "lr": lr } });
        let metrics =
            BTreeMap::from([("valid.accuracy".to_string(), accuracy), ("valid.loss".to_string(), 1.0 - accuracy)]);
        let (checkpoints, epoch, last, best, damaged) = (1, 2, 3, Some(3), Vec::new());
        Row { run: run.into(), checkpoints, epoch, last, best, metrics, damaged, recipe: flatten(&recipe) }
    }

    #[test]
    fn the_best_comes_first_by_whatever_is_better() {
        let mut rows = vec![row("a", 0.5, 1e-3), row("b", 0.9, 1e-2), row("c", f64::NAN, 1.0)];
        for metric in ["valid.accuracy", "valid.loss"] {
            sort(&mut rows, metric).unwrap();
            assert_eq!(rows.iter().map(|row| row.run.as_str()).collect::<Vec<_>>(), ["b", "a", "c"], "{metric}");
        }
        let error = sort(&mut rows, "valid.acuracy").unwrap_err().to_string();
        assert!(error.contains("did you mean 'valid.accuracy'?"), "{error}");
    }

    #[test]
    fn a_filter_compares_numbers_as_numbers() {
        let row = row("a", 0.5, 1e-3);
        let holds = |text: &str| text.parse::<Filter>().unwrap().holds(&row);
        for text in
            ["optimizer.lr=0.001", "optimizer.lr=1e-3", "optimizer.lr<0.01", "valid.accuracy>0.4", "name!=b", "x!=1"]
        {
            assert!(holds(text), "{text}");
        }
        for text in ["optimizer.lr>0.01", "optimizer.name=sgd", "missing=1", "optimizer.name<1"] {
            assert!(!holds(text), "{text}");
        }
        for text in ["", "=3", "epochs", "a<b"] {
            assert!(text.parse::<Filter>().is_err(), "{text}");
        }
    }

    #[test]
    fn only_keys_that_differ_become_columns() {
        let table = Table::new(&[row("a", 0.5, 1e-3), row("b", 0.6, 1e-2)], true);
        assert_eq!(table.header[5..], ["valid.accuracy", "valid.loss", "optimizer.lr"]);
        assert_eq!(csv_line(&["a,b".into(), "say \"x\"".into(), "1".into()]), "\"a,b\",\"say \"\"x\"\"\",1");
    }
}
