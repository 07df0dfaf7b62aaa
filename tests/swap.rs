//! Backends are exchangeable: one list of cases on every device that opens here, compared with PyTorch and with each other.

use std::fmt::Write;
use std::time::Instant;

use rekindle::check::{Outcome, cases, run};
use rekindle::device::{DeviceName, OpenDevice};

/// A test for each device: a new device is one line.
macro_rules! devices {
    ($($test:ident = $name:literal),* $(,)?) => {
        $(#[test]
        fn $test() {
            every_case($name);
        })*
    };
}

devices! {
    flex = "flex",
    ndarray = "ndarray",
    wgpu = "wgpu",
}

/// A device; none where there is no adapter, which is an error where `REKINDLE_REQUIRE_GPU` is 1.
fn open(name: &str) -> Option<OpenDevice> {
    match name.parse::<DeviceName>().unwrap().open() {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var("REKINDLE_REQUIRE_GPU").is_ok_and(|value| value == "1");
            assert!(!required && name != "flex" && name != "ndarray", "REKINDLE_REQUIRE_GPU=1, and {error}");
            eprintln!("SKIPPED {name}: no adapter ({error})");
            None
        }
    }
}

fn every_case(name: &str) {
    let Some(device) = open(name) else { return };
    let mut table = format!("{} ({})\n", device.name, device.description);
    let mut failed = Vec::new();
    let started = Instant::now();
    for case in cases().unwrap() {
        let begun = Instant::now();
        let outcome = run(&device, &case);
        let shown = match &outcome {
            Outcome::Passed { max_error, allowed } => format!("passed   {max_error:.1e} of {allowed:.0e}"),
            Outcome::Failed { reason } => format!("FAILED   {reason}"),
            Outcome::NotRun { reason } => format!("not run  {reason}"),
        };
        writeln!(table, "{:<36} {shown:<24} {:.1} s", case.name, begun.elapsed().as_secs_f64()).unwrap();
        if outcome.failed() {
            failed.push(case.name);
        }
    }
    println!("{table}{:.1} s in all", started.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{name} computes wrongly: {failed:?}\n{table}");
}
