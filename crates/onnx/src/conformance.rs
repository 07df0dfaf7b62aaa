//! The ONNX project's node tests: a folder for each case with `model.onnx` and `test_data_set_N`, and an `index.json` that lists them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::graph::Kind;
use crate::reference::{Tolerance, difference, read_values};
use crate::{Accelerator, Error, Model, Result, Session, Slot, ops};

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, which is that of its folder.
    pub name: String,
    /// The operator that it is about.
    pub operator: String,
    /// How far a float may be off.
    pub tolerance: Tolerance,
    folder: PathBuf,
}

/// What came of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All outputs are right.
    Passed,
    /// Something in it is not implemented.
    Unsupported(String),
    /// An output is wrong, or the model could not be run.
    Wrong(String),
}

/// A line of `index.json`.
#[derive(Deserialize)]
struct Entry {
    name: String,
    operators: Vec<String>,
    rtol: f64,
    atol: f64,
}

/// The cases that the index of a folder lists.
///
/// # Errors
/// When the index cannot be read.
pub fn cases(folder: &Path) -> Result<Vec<Case>> {
    let path = folder.join("index.json");
    let bytes = std::fs::read(&path).map_err(|error| Error::invalid(format!("cannot be read: {error}")).at(&path))?;
    let entries: Vec<Entry> =
        serde_json::from_slice(&bytes).map_err(|error| Error::invalid(error.to_string()).at(&path))?;
    Ok(entries.into_iter().map(|entry| Case::new(entry, folder)).collect())
}

impl Case {
    fn new(entry: Entry, folder: &Path) -> Self {
        // Of random values only type and shape can be compared.
        let random =
            entry.operators.iter().any(|operator| ops::find("", operator).is_some_and(|entry| entry.schema.draws));
        let tolerance = if random { (0.0, f64::INFINITY) } else { (entry.rtol, entry.atol) };
        Self {
            folder: folder.join(&entry.name),
            operator: entry.operators.first().cloned().unwrap_or_default(),
            tolerance: Tolerance { rtol: tolerance.0, atol: tolerance.1 },
            name: entry.name,
        }
    }

    /// The element type that the case is about: that of its model's first input, or of the first output where nothing goes in.
    ///
    /// # Errors
    /// When the model cannot be read.
    pub fn element(&self) -> Result<String> {
        let graph = Model::open(&self.folder.join("model.onnx"))?.graph;
        Ok(match graph.inputs.first().or(graph.outputs.first()).map(|port| &port.kind) {
            Some(Kind::Array(Some(dtype), _)) => dtype.to_string(),
            Some(Kind::Other(what)) => what.to_string(),
            _ => "not said".to_string(),
        })
    }

    /// Runs all test data of the case, on the graph as it is and on the prepared one. A panic counts as wrong.
    pub fn run<A: Accelerator>(&self, accelerator: A) -> Outcome {
        match catch_unwind(AssertUnwindSafe(|| self.try_run(accelerator))) {
            Ok(Ok(None)) => Outcome::Passed,
            Ok(Ok(Some(how))) => Outcome::Wrong(how),
            Ok(Err(error @ (Error::Unsupported(_) | Error::Beyond(_)))) => Outcome::Unsupported(error.to_string()),
            Ok(Err(error)) => Outcome::Wrong(error.to_string()),
            Err(_) => Outcome::Wrong("it panics".to_string()),
        }
    }

    fn try_run<A: Accelerator>(&self, accelerator: A) -> Result<Option<String>> {
        let session = Session::prepared(Model::open(&self.folder.join("model.onnx"))?, accelerator)?;
        let (inputs_of, ports) = (&session.model().graph.inputs, &session.model().graph.outputs);
        for set in (0..).map(|i| self.folder.join(format!("test_data_set_{i}"))).take_while(|set| set.is_dir()) {
            let inputs = read_values(&set, "input", inputs_of)?;
            let expected = read_values(&set, "output", ports)?;
            let slots = inputs.iter().map(|(name, value)| (name.clone(), Slot::host(value.clone()))).collect();
            let plain = session.run_watched(slots, &mut |_, _| Ok(()))?;
            let plain =
                plain.iter().map(|slot| slot.value(session.accelerator()).cloned()).collect::<Result<Vec<_>>>()?;
            for (graph, found) in [("", plain), (" of the prepared graph", session.run(inputs)?)] {
                for (name, expected) in &expected {
                    let position = ports.iter().position(|port| port.name == *name).unwrap_or(0);
                    if let Some(how) = difference(&found[position], expected, self.tolerance, &mut 0.0)? {
                        return Ok(Some(format!("output '{name}'{graph}: {how}")));
                    }
                }
            }
        }
        Ok(None)
    }
}

/// How many cases passed, are unsupported and are wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// Passed.
    pub passed: usize,
    /// Unsupported.
    pub unsupported: usize,
    /// Wrong.
    pub wrong: usize,
}

impl Count {
    /// Counts an outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed => self.passed += 1,
            Outcome::Unsupported(_) => self.unsupported += 1,
            Outcome::Wrong(_) => self.wrong += 1,
        }
    }
}

/// Counts of several devices by operator and element type.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    devices: Vec<String>,
    rows: BTreeMap<(String, String), Vec<Count>>,
}

impl Tally {
    /// For the devices of these names.
    pub fn new(devices: Vec<String>) -> Self {
        Self { devices, rows: BTreeMap::new() }
    }

    /// Counts what came of a case of an operator and element type on a device, by its position.
    pub fn add(&mut self, device: usize, operator: &str, element: &str, outcome: &Outcome) {
        let row = (operator.to_string(), element.to_string());
        self.rows.entry(row).or_insert_with(|| vec![Count::default(); self.devices.len()])[device].add(outcome);
    }

    /// All rows together, on a device.
    pub fn total(&self, device: usize) -> Count {
        self.rows.values().map(|counts| counts[device]).fold(Count::default(), |sum, count| Count {
            passed: sum.passed + count.passed,
            unsupported: sum.unsupported + count.unsupported,
            wrong: sum.wrong + count.wrong,
        })
    }

    /// A table in Markdown: a row for each operator and element type, a column for each device.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "| operator | element type | cases | {} |\n|---|---|---:|{}\n",
            self.devices.join(" | "),
            "---|".repeat(self.devices.len())
        );
        for ((operator, element), counts) in &self.rows {
            row(&mut text, &format!("{operator} | {element}"), counts);
        }
        row(&mut text, "**all** | ", &(0..self.devices.len()).map(|device| self.total(device)).collect::<Vec<_>>());
        text
    }
}

fn row(text: &mut String, name: &str, counts: &[Count]) {
    let cases = counts.first().map_or(0, |count| count.passed + count.unsupported + count.wrong);
    let _ = write!(text, "| {name} | {cases} |");
    for count in counts {
        let _ = write!(text, " {}", count.passed);
        for (number, what) in [(count.unsupported, "unsupported"), (count.wrong, "wrong")] {
            if number > 0 {
                let _ = write!(text, ", {number} {what}");
            }
        }
        text.push_str(" |");
    }
    text.push('\n');
}
