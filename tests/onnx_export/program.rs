//! `rekindle export … out.onnx` through the program itself, and what it makes of that file.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value as Json;

const WEIGHTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weights/fashion_classifier.pth");

fn rekindle(folder: &Path, arguments: &[&str], python: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.current_dir(folder).args(arguments).env("REKINDLE_PYTHON", python).output().expect("the program starts")
}

/// Exports the narrow classifier; gives exit code, stdout and stderr.
fn export(folder: &Path, extra: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["export", "fashion_classifier", "out.onnx", "--weights", WEIGHTS], extra].concat();
    let output = rekindle(folder, &arguments, "python-that-is-not-there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn inspected(folder: &Path, file: &str) -> Json {
    let output = rekindle(folder, &["inspect", file, "--json", "--hash"], "");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_graph_has_the_hashes_of_the_weights() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (code, out, err) = export(folder, &[]);
    assert_eq!(code, Some(0), "{err}");
    assert!(
        err.contains("rekindle agrees at batch size 1: ") && err.contains("rekindle agrees at batch size 3: "),
        "{err}"
    );
    assert!(
        out.starts_with("out.onnx: fashion_classifier with ") && out.contains("opset 17, input [batch, 1, 12, 12]"),
        "{out}"
    );
    let output = rekindle(folder, &["export", "fashion_classifier", "out.pth", "--weights", WEIGHTS], "");
    assert_eq!(output.status.code(), Some(0));
    let (graph, weights) = (inspected(folder, "out.onnx"), inspected(folder, "out.pth"));
    let hashes = |file: &Json| -> Vec<(Json, Json, Json)> {
        let tensors = file["tensors"].as_array().unwrap().iter();
        tensors.map(|tensor| (tensor["name"].clone(), tensor["shape"].clone(), tensor["sha256"].clone())).collect()
    };
    assert_eq!(hashes(&graph), hashes(&weights));
    assert_eq!(files(folder), ["out.onnx", "out.pth"]);
}

/// A graph that came from a file is written again; engines that can run it must agree with rekindle's.
#[test]
fn an_imported_graph_is_run_by_other_engines() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(export(folder, &[]).0, Some(0));
    let output = rekindle(folder, &["export", "out.onnx", "again.onnx"], "");
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(err.contains("the file, opened again, gives what the network gives: greatest difference 0"), "{err}");
    for batch in [1, 3] {
        let agreed = err.contains(&format!("tract agrees at batch size {batch}: "));
        assert_eq!(agreed, cfg!(feature = "verify"), "{err}");
    }
    let hashes = |file: &str| inspected(folder, file)["tensors"].clone();
    assert_eq!(hashes("again.onnx"), hashes("out.onnx"));
    // Who was asked by name and cannot answer is an error.
    let asked = ["export", "out.onnx", "third.onnx", "--verify-with", "onnxruntime"];
    let output = rekindle(folder, &asked, "python-that-is-not-there");
    assert_eq!(output.status.code(), Some(2));
    assert!(!folder.join("third.onnx").exists());
}

#[test]
fn source_is_generated_or_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert_eq!(export(folder, &[]).0, Some(0));
    let output = rekindle(folder, &["codegen", "out.onnx", "made"], "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(files(&folder.join("made")), ["out.bpk", "out.rs"]);
    let source = std::fs::read_to_string(folder.join("made/out.rs")).unwrap();
    assert!(source.contains("pub struct Model") && source.contains("pub fn forward"), "{source}");

    std::fs::write(folder.join("broken.onnx"), b"no model").unwrap();
    let output = rekindle(folder, &["codegen", "broken.onnx", "none"], "");
    assert_eq!(output.status.code(), Some(2));
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("broken.onnx") && err.trim().lines().count() == 1 && !err.contains("panicked"), "{err}");
    assert!(!folder.join("none").exists());
}

#[test]
fn the_file_of_a_run_says_how_it_was_trained() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let settings =
        ["--epochs", "1", "--device", "flex", "--set", "data.limit.train=128", "--set", "data.limit.test=64"];
    let train = [&["train", "fashion_mnist_sample", "--run", "run"][..], &settings].concat();
    assert_eq!(rekindle(folder, &train, "").status.code(), Some(0));
    let output = rekindle(folder, &["export", "run", "out.onnx", "--batch", "2", "--input-names", "picture"], "");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let file = inspected(folder, "out.onnx");
    assert_eq!(file["onnx"]["producer"], format!("rekindle {}", env!("CARGO_PKG_VERSION")));
    assert_eq!(file["onnx"]["inputs"][0]["shape"], serde_json::json!(["2", "1", "28", "28"]));
    assert_eq!(file["onnx"]["inputs"][0]["name"], "picture");
    let metadata = &file["metadata"];
    let parsed = |key: &str| -> Json { serde_json::from_str(metadata[key].as_str().unwrap()).unwrap() };
    assert_eq!(
        (&metadata["model"], &metadata["recipe"], &metadata["epoch"], &metadata["step"]),
        (&"fashion_classifier".into(), &"fashion_mnist_sample".into(), &"1".into(), &"2".into())
    );
    assert_eq!(parsed("classes")[9], "Ankle boot");
    assert_eq!(parsed("normalize"), serde_json::json!({ "mean": [0.286], "std": [0.353] }));
    assert!(parsed("metrics")["valid.loss"].as_f64().is_some_and(f64::is_finite));
    assert_eq!(parsed("config")["classes"], 10);

    // It prepares pictures and names classes as the run does, with no more said.
    let answer = |arguments: &[&str]| -> Json {
        let output = rekindle(folder, &[arguments, &["--json", "--device", "flex"]].concat(), "");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let eval = |model: &str| answer(&["eval", model, "--data", "fashion-mnist-sample"]);
    let (run, graph) = (eval("run"), eval("out.onnx"));
    assert_eq!((&graph["items"], &graph["accuracy"]), (&run["items"], &run["accuracy"]));
    assert!((graph["loss"].as_f64().unwrap() - run["loss"].as_f64().unwrap()).abs() < 1e-5, "{graph} {run}");
    image::GrayImage::from_fn(28, 28, |x, y| image::Luma([((x * 9) ^ (y * 5)) as u8]))
        .save(folder.join("a.png"))
        .unwrap();
    let labels = |model: &str| -> Vec<(Json, f64)> {
        let answer = answer(&["predict", model, "a.png", "--top", "10"]);
        let labels = answer[0]["labels"].as_array().unwrap().iter();
        labels.map(|label| (label["label"].clone(), label["probability"].as_f64().unwrap())).collect()
    };
    for (graph, run) in labels("out.onnx").into_iter().zip(labels("run")) {
        assert_eq!(graph.0, run.0);
        assert!((graph.1 - run.1).abs() < 1e-5, "{graph:?} {run:?}");
    }
}

#[test]
fn what_cannot_be_verified_gets_no_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("out.onnx"), b"what was there").unwrap();
    let (code, out, err) = export(folder, &["--verify-with", "onnxruntime"]);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(
        err.contains("error: ONNX Runtime cannot run the written graph: 'python-that-is-not-there' cannot be started"),
        "{err}"
    );
    assert!(err.contains("pip install onnxruntime"), "{err}");
    assert_eq!(std::fs::read(folder.join("out.onnx")).unwrap(), b"what was there");
    assert_eq!(files(folder), ["out.onnx"]);
}

/// A stand-in for Python that answers with its input: the shape is wrong, and that is found.
#[cfg(unix)]
#[test]
fn a_mismatch_is_exit_code_1_and_leaves_no_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let python = folder.join("python");
    let script = "#!/bin/sh\ncat > /dev/null\ncp \"$2/0.npy\" \"$2/0.0.npy\"\n[ ! -e \"$2/1.npy\" ] || cp \"$2/1.npy\" \"$2/1.0.npy\"\necho 1\n";
    std::fs::write(&python, script).unwrap();
    std::fs::set_permissions(&python, std::fs::Permissions::from_mode(0o755)).unwrap();
    let arguments = ["export", "fashion_classifier", "out.onnx", "--weights", WEIGHTS, "--verify-with", "onnxruntime"];
    let output = rekindle(folder, &arguments, python.to_str().unwrap());
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("ONNX Runtime DISAGREES at batch size 1: shape [1, 1, 12, 12] instead of [1, 12]"), "{err}");
    assert!(err.contains("out.onnx: not written"), "{err}");
    assert_eq!(files(folder), ["python"]);
}

#[test]
fn options_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let failure = |arguments: &[&str]| {
        let output = rekindle(folder, arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(export(folder, &["--opset", "12"]).2.contains("error: opset 12 is not written: choose one from 13 to 21"));
    assert!(export(folder, &["--batch", "0"]).2.contains("expected a number of at least 1, or dynamic"));
    assert!(export(folder, &["--no-verify", "--verify-with", "onnxruntime"]).2.contains("cannot be used with"));
    assert!(failure(&["export", "net", "net.onnx"]).contains("'net' has no weights of its own"));
    let weights = ["export", "fashion_classifier", "out.pth", "--weights", WEIGHTS, "--opset", "17"];
    assert_eq!(failure(&weights), "error: out.pth: --opset is for .onnx files\n");
    assert!(files(folder).is_empty());
}
