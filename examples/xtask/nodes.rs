//! The ONNX project's node tests on the devices of this machine.
//!
//! `cargo xtask nodes CASES [DEVICE...] [--only PART] [--write]` runs every case of a folder plainly, on the CPU
//! runtime, and by Burn's tensors on each device (flex when none is named), prints those that do not pass, and counts by operator and
//! element type. It fails when a case of `tests/fixtures/onnx/passing.txt` no longer passes; with `--write` it writes that list and
//! `docs/onnx-operators.md` instead.
//! The cases are written by Python's `onnx` package: `python tests/fixtures/onnx/write_cases.py CASES`.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;

use rekindle::device::DeviceName;
use rekindle::onnx::run::BurnDevice;
use rekindle_onnx::conformance::{Case, Outcome, Tally, cases};
use rekindle_onnx::{Cpu, HostOnly};

const PASSING: &str = "tests/fixtures/onnx/passing.txt";
const TABLE: &str = "docs/onnx-operators.md";

const HEAD: &str = "# ONNX operators

What passes of the ONNX project's own node tests, by operator, element type of the first input, and runtime: plainly (the referee of the
others), on the CPU runtime, which `rekindle` takes for flex and ndarray, and by Burn's tensors on devices, which GPUs and training take;
what these cannot do runs plainly. Written by `cargo xtask nodes CASES --write`.

";

/// Runs the cases; whether all that passed before pass.
pub fn run(arguments: Vec<String>) -> Result<bool, Box<dyn Error>> {
    let (mut folder, mut names, mut only, mut write) = (None, Vec::new(), None, false);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--write" => write = true,
            "--only" => only = arguments.next(),
            _ if folder.is_none() => folder = Some(argument),
            _ => names.push(argument),
        }
    }
    if names.is_empty() {
        names.push("flex".to_string());
    }
    let folder = folder.ok_or("a folder of cases is missing")?;
    let devices = names.iter().map(|name| Ok(name.parse::<DeviceName>()?.open()?));
    let devices = devices.collect::<Result<Vec<_>, Box<dyn Error>>>()?;
    let mut tally = Tally::new(["plain", "cpu"].map(String::from).into_iter().chain(names).collect());
    let mut passing = BTreeSet::new();
    let chosen = |case: &&Case| only.as_ref().is_none_or(|part| case.name.contains(part.as_str()));
    let cases = cases(Path::new(&folder))?;
    rekindle::error::without_panic_output(|| {
        for case in cases.iter().filter(chosen) {
            let element = case.element().unwrap_or_else(|error| error.to_string());
            let mut outcomes = vec![("plain", case.run(HostOnly)), ("cpu", case.run(Cpu))];
            for device in &devices {
                outcomes.push((device.name.as_str(), case.run(BurnDevice::taking_all(&device.device))));
            }
            let mut passed = true;
            for (position, (device, outcome)) in outcomes.into_iter().enumerate() {
                tally.add(position, &case.operator, &element, &outcome);
                passed &= is_pass(case, &outcome, device);
            }
            if passed {
                passing.insert(case.name.as_str());
            }
        }
    });
    print!("{}", tally.markdown());
    if write {
        std::fs::write(PASSING, passing.iter().map(|name| format!("{name}\n")).collect::<String>())
            .expect("the list is written");
        std::fs::write(TABLE, format!("{HEAD}{}", tally.markdown())).expect("the table is written");
        return Ok(true);
    }
    let before = std::fs::read_to_string(PASSING).expect("the list of cases that passed");
    let lost: Vec<&str> =
        before.lines().filter(|name| !passing.contains(name) && cases.iter().any(|case| case.name == *name)).collect();
    let lost: Vec<&str> =
        lost.into_iter().filter(|name| only.as_ref().is_none_or(|part| name.contains(part.as_str()))).collect();
    if lost.is_empty() {
        return Ok(true);
    }
    println!("{} cases passed before and do not any more: {}", lost.len(), lost.join(", "));
    Ok(false)
}

/// Whether an outcome is a pass; prints it unless it is.
fn is_pass(case: &Case, outcome: &Outcome, device: &str) -> bool {
    match outcome {
        Outcome::Passed => true,
        Outcome::Unsupported(why) => {
            println!("unsupported on {device}: {}: {why}", case.name);
            false
        }
        Outcome::Wrong(why) => {
            println!("WRONG on {device}: {}: {why}", case.name);
            false
        }
    }
}
