//! Backends are exchangeable: one list of cases on every device that opens here, compared with PyTorch and with each other.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use rekindle::check::{Outcome, cases, run};
use rekindle::checkpoint::{Contents, Run, Which};
use rekindle::device::{DeviceName, OpenDevice};
use rekindle::models::Registry;
use rekindle::models::weights;
use rekindle::train::{Session, Start, recipe, recipe_of, restored};
use rekindle_state::StateDict;

/// Random numbers of a backend come from one generator a process: whoever draws from it holds this meanwhile.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A test for each device: a new device is one line.
macro_rules! devices {
    ($($test:ident, $zoo:ident = $name:literal);* $(;)?) => {
        $(#[test]
        fn $test() {
            every_case($name, |case| !case.starts_with("zoo/"));
        }

        #[test]
        fn $zoo() {
            every_case($name, |case| case.starts_with("zoo/"));
        })*
    };
}

devices! {
    flex, zoo_on_flex = "flex";
    ndarray, zoo_on_ndarray = "ndarray";
    wgpu, zoo_on_wgpu = "wgpu";
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

fn every_case(name: &str, chosen: fn(&str) -> bool) {
    let Some(device) = open(name) else { return };
    println!("{} ({})", device.name, device.description);
    let mut failed = Vec::new();
    let started = Instant::now();
    for case in cases().unwrap().into_iter().filter(|case| chosen(&case.name)) {
        let alone = alone();
        let begun = Instant::now();
        let outcome = run(&device, &case);
        drop(alone);
        let shown = match &outcome {
            Outcome::Passed { max_error, allowed } => format!("passed   {max_error:.1e} of {allowed:.0e}"),
            Outcome::Failed { reason } => format!("FAILED   {reason}"),
            Outcome::NotRun { reason } => format!("not run  {reason}"),
        };
        println!("{name:<8} {:<36} {shown:<24} {:.1} s", case.name, begun.elapsed().as_secs_f64());
        if outcome.failed() {
            failed.push(format!("{}: {shown}", case.name));
        }
    }
    println!("{name}: {:.1} s in all", started.elapsed().as_secs_f64());
    assert!(failed.is_empty(), "{name} computes wrongly:\n{}", failed.join("\n"));
}

#[test]
fn bench_check_answers_in_json_and_by_its_exit_code() {
    let program = || Command::new(env!("CARGO_BIN_EXE_rekindle"));
    let output = program()
        .args(["bench", "--check", "--device", "flex", "--json", "fashion_classifier", "deterministic"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let results = answer["cases"].as_array().unwrap();
    assert!(
        results.len() > 5 && results.iter().all(|case| case["result"] == "passed" && case["device"] == "flex"),
        "{answer}"
    );
    let unknown = program().args(["bench", "--check", "nonsense"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&unknown.stderr).starts_with("error: nothing has 'nonsense' in its name"),
        "{unknown:?}"
    );
}

/// Trains the sample recipe on a few images and gives the checkpoint that is left.
fn train(start: Start, device: &str) -> Contents {
    let dir = match &start {
        Start::New { dir, .. } | Start::Resume { dir, .. } => dir.clone(),
    };
    let session = Session::new(&Registry::built_in(), start, device.parse().unwrap(), Arc::default()).unwrap();
    session.run().unwrap();
    Run::open(&dir).unwrap().find(Which::Last).unwrap().read().unwrap()
}

fn new_run(dir: &Path, epochs: usize) -> Start {
    let settings =
        ["data.limit.train=256".to_string(), "data.limit.test=64".to_string(), format!("train.epochs={epochs}")];
    let loaded = recipe::load(&Registry::built_in(), Path::new("fashion_mnist_sample"), &settings).unwrap();
    Start::New { loaded: Box::new(loaded), dir: dir.to_path_buf(), numbered: false }
}

/// The weights of a checkpoint, by PyTorch's names.
fn weights_of(contents: &Contents) -> StateDict {
    let architecture = recipe::architecture(&Registry::built_in(), &recipe_of(contents, "").unwrap()).unwrap();
    weights::to_state_dict(&restored(&architecture, contents, "").unwrap()).unwrap()
}

#[test]
fn same_seed_gives_the_same_weights_on_the_cpus() {
    let _alone = alone();
    for device in ["flex", "ndarray"] {
        let [first, second] = [(), ()].map(|()| {
            let dir = tempfile::tempdir().unwrap();
            weights_of(&train(new_run(&dir.path().join("run"), 2), device))
        });
        assert!(first.tensors().count() > 0);
        for (name, tensor) in first.tensors() {
            assert!(
                tensor.bytes().unwrap() == second.tensor(name).unwrap().bytes().unwrap(),
                "{name} differs on {device}"
            );
        }
    }
}

#[test]
fn a_run_goes_on_on_another_device() {
    let mut ways = vec![("flex", "ndarray"), ("ndarray", "flex")];
    if open("wgpu").is_some() {
        ways.extend([("wgpu", "flex"), ("flex", "wgpu")]);
    }
    let _alone = alone();
    for (from, to) in ways {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("run");
        let first = train(new_run(&dir, 1), from).manifest;
        let second = train(Start::Resume { dir, which: Which::Last, set: vec!["train.epochs=2".into()] }, to).manifest;
        assert_eq!((first.epoch, second.epoch, second.device.split(':').next().unwrap()), (1, 2, to));
        let [before, after] = [&first, &second].map(|manifest| manifest.metrics["train.loss"]);
        assert!(after < before, "from {from} to {to}: the loss went from {before} to {after}");
    }
}
