//! `rekindle bench`: what is timed, and what is told of it.

use std::path::Path;
use std::process::{Command, Output};

use rekindle::models::Registry;
use rekindle::onnx::export::{EXTERNAL_ABOVE, ExportOptions, export_network, write};
use rekindle::train::fresh;

fn bench(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.arg("bench").args(arguments).args(["--device", "flex", "--runs", "2", "--seconds", "60"]);
    command.current_dir(folder).output().unwrap()
}

fn rows(arguments: &[&str], folder: &Path) -> Vec<serde_json::Value> {
    let output = bench(&[arguments, &["--json"]].concat(), folder);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn every_kind_of_case_is_timed() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "forward/fashion_classifier/1",
        "forward/super_resolution/2/16",
        "train-step/fashion_classifier/2/adam",
        "onnx/fashion_classifier/3",
        "list/1MB",
        "load/1MB",
        "save/1MB",
        "save-unsynced/1MB",
        "cold-start/super_resolution",
    ];
    let rows = rows(&names, folder.path());
    let mut found: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    found.sort_unstable();
    let mut expected = names;
    expected.sort_unstable();
    assert_eq!(found, expected, "a whole name means that case and no other");
    for row in &rows {
        let [median, min, max] = ["median_seconds", "min_seconds", "max_seconds"].map(|key| row[key].as_f64().unwrap());
        assert!(0.0 < min && min <= median && median <= max && row["runs"] == 2, "{row}");
        let elsewhere = row["name"] == "cold-start/super_resolution";
        assert_eq!(
            row["peak_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20),
            cfg!(target_os = "linux") && !elsewhere,
            "{row}"
        );
    }
}

#[test]
fn onnx_files_are_timed_on_inputs_of_the_size_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let architecture = Registry::built_in().find("fashion_classifier").unwrap().standard().unwrap();
    let network = fresh(&architecture, 1);
    let exported = export_network(&network, architecture.input_shape(), &ExportOptions::default()).unwrap();
    write(exported.model, folder.path(), "clothes.onnx", EXTERNAL_ABOVE).unwrap();
    let rows = rows(&["--onnx", "clothes.onnx", "--axis", "batch=4"], folder.path());
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["name"], "onnx/clothes");
    let missing = bench(&["--onnx", "no.onnx"], folder.path());
    let said = String::from_utf8_lossy(&missing.stderr).into_owned();
    assert!(missing.status.code() == Some(2) && said.contains("error: onnx/no cannot be timed: no.onnx"), "{said}");
}

#[test]
fn what_cannot_be_timed_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for (name, problem) in [
        ("nonsense", "error: nothing has 'nonsense' in its name"),
        (
            "forward/net/1/12",
            "error: forward/net/1/12 cannot be timed: model 'net' expects 5 channels and sides of 142 to 157",
        ),
    ] {
        let output = bench(&[name], folder.path());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(problem), "{said}");
    }
}
