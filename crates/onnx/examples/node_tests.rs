//! Runs conformance cases in the layout of the ONNX project on the host, and counts by operator.
//!
//! `cargo run --release -p rekindle-onnx --example node_tests -- FOLDER [NAME-PART...]` prints every case that does not pass.

use std::collections::BTreeMap;
use std::path::Path;

use rekindle_onnx::reference::{Tolerance, difference, read_values};
use rekindle_onnx::{Error, HostOnly, Model, Session};

/// What came of a case.
enum Outcome {
    Passed,
    Unsupported(String),
    Wrong(String),
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder of cases");
    let parts: Vec<String> = arguments.collect();
    let index = std::fs::read(Path::new(&folder).join("index.json")).expect("index.json");
    let index: Vec<serde_json::Value> = serde_json::from_slice(&index).expect("a list of cases");
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut total = [0; 3];
    for case in &index {
        let name = case["name"].as_str().unwrap_or_default();
        if !parts.is_empty() && !parts.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let tolerance = Tolerance { rtol: case["rtol"].as_f64().unwrap_or(1e-3), atol: case["atol"].as_f64().unwrap_or(1e-7) };
        let random = case["operators"].as_array().is_some_and(|list| list.iter().filter_map(|name| name.as_str()).any(is_random));
        let tolerance = if random { Tolerance { rtol: 0.0, atol: f64::INFINITY } } else { tolerance };
        let (which, message) = match run(&Path::new(&folder).join(name), tolerance) {
            Outcome::Passed => (0, None),
            Outcome::Unsupported(why) => (1, Some(format!("unsupported {name}: {why}"))),
            Outcome::Wrong(why) => (2, Some(format!("WRONG {name}: {why}"))),
        };
        total[which] += 1;
        let operator = case["operators"][0].as_str().unwrap_or("?").to_string();
        counts.entry(operator).or_default()[which] += 1;
        if let Some(message) = message {
            println!("{message}");
        }
    }
    for (operator, [passed, unsupported, wrong]) in counts.iter().filter(|(_, [_, unsupported, wrong])| unsupported + wrong > 0) {
        println!("{operator}: {passed} passed, {unsupported} unsupported, {wrong} wrong");
    }
    println!("{} passed, {} unsupported, {} wrong", total[0], total[1], total[2]);
}

/// Of random values only type and shape can be compared.
fn is_random(operator: &str) -> bool {
    matches!(operator, "Bernoulli" | "RandomUniformLike" | "RandomNormalLike" | "RandomUniform" | "RandomNormal" | "Multinomial")
}

fn run(folder: &Path, tolerance: Tolerance) -> Outcome {
    match try_run(folder, tolerance) {
        Ok(None) => Outcome::Passed,
        Ok(Some(why)) => Outcome::Wrong(why),
        Err(error @ (Error::Unsupported(_) | Error::Beyond(_))) => Outcome::Unsupported(error.to_string()),
        Err(error) => Outcome::Wrong(error.to_string()),
    }
}

fn try_run(folder: &Path, tolerance: Tolerance) -> Result<Option<String>, Error> {
    let session = Session::new(Model::open(&folder.join("model.onnx"))?, HostOnly)?;
    let graph = &session.model().graph;
    for set in (0..).map(|i| folder.join(format!("test_data_set_{i}"))).take_while(|set| set.is_dir()) {
        let found = session.run(read_values(&set, "input", &graph.inputs)?)?;
        let expected = read_values(&set, "output", &graph.outputs)?;
        for (name, expected) in &expected {
            let position = graph.outputs.iter().position(|port| port.name == *name).unwrap_or(0);
            if let Some(how) = difference(&found[position], expected, tolerance, &mut 0.0)? {
                return Ok(Some(format!("output '{name}': {how}")));
            }
        }
    }
    Ok(None)
}
