//! Runs conformance cases in the layout of the ONNX project on the host, plainly and on the CPU runtime, and counts by operator.
//!
//! `cargo run --release -p rekindle-onnx --example node_tests -- FOLDER [NAME-PART...]` prints every case that does not pass.

use std::path::Path;

use rekindle_onnx::conformance::{Outcome, Tally, cases};
use rekindle_onnx::{Cpu, HostOnly};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().expect("a folder of cases");
    let parts: Vec<String> = arguments.collect();
    let cases = cases(Path::new(&folder)).expect("a list of cases");
    let mut tally = Tally::new(vec!["host".to_string(), "cpu".to_string()]);
    for case in
        cases.iter().filter(|case| parts.is_empty() || parts.iter().any(|part| case.name.contains(part.as_str())))
    {
        let element = case.element().unwrap_or_else(|error| error.to_string());
        for (device, outcome) in [case.run(HostOnly), case.run(Cpu)].into_iter().enumerate() {
            let name = ["host", "cpu"][device];
            match &outcome {
                Outcome::Passed => {}
                Outcome::Unsupported(why) => println!("unsupported on {name} {}: {why}", case.name),
                Outcome::Wrong(why) => println!("WRONG on {name} {}: {why}", case.name),
            }
            tally.add(device, &case.operator, &element, &outcome);
        }
    }
    tally
        .markdown()
        .lines()
        .filter(|line| line.contains("unsupported") || line.contains("wrong"))
        .for_each(|line| println!("{line}"));
    for (device, name) in ["host", "cpu"].into_iter().enumerate() {
        let total = tally.total(device);
        println!("{name}: {} passed, {} unsupported, {} wrong", total.passed, total.unsupported, total.wrong);
    }
}
