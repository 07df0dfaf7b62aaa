//! The verbs that read and write files, through the program itself: answers, exit codes and messages.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use burn::module::Module;
use burn::store::ModuleRecord;
use burn::tensor::Device;
use rekindle::models::{Registry, import, weights};
use serde_json::{Value as Json, json};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/state/tests/fixtures")
}

/// Runs the program in a folder.
fn rekindle(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
    command.current_dir(folder).args(arguments).output().expect("the program starts")
}

/// Runs it and checks the exit code; gives stdout.
#[track_caller]
fn answer(folder: &Path, arguments: &[&str], code: i32) -> String {
    let output = rekindle(folder, arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "rekindle {arguments:?}\n{stderr}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs it where it must fail; gives the message.
#[track_caller]
fn failure(folder: &Path, arguments: &[&str]) -> String {
    let output = rekindle(folder, arguments);
    assert_eq!(output.status.code(), Some(2), "rekindle {arguments:?}");
    assert!(output.stdout.is_empty());
    String::from_utf8(output.stderr).unwrap().trim_end().to_string()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn inspected(path: &Path) -> Json {
    serde_json::from_str(&answer(Path::new("."), &["inspect", text(path), "--json", "--hash"], 0)).unwrap()
}

#[test]
fn inspect_gives_what_the_manifest_says() {
    let manifest: Json = serde_json::from_slice(&std::fs::read(fixtures().join("manifest.json")).unwrap()).unwrap();
    let entries = manifest["files"].as_array().unwrap().iter().filter(|entry| {
        let file = entry["file"].as_str().unwrap();
        let plain = ["models/", "resume/"].iter().any(|folder| file.starts_with(folder)) && !file.ends_with(".npy");
        plain && entry["expect"] == "ok" && fixtures().join(file).exists()
    });
    let mut checked = 0;
    for entry in entries {
        let file = entry["file"].as_str().unwrap();
        let found = inspected(&fixtures().join(file));
        assert_eq!(found["bytes"], entry["bytes"], "{file}");
        let Some(tensors) = entry["tensors"].as_array() else { continue };
        assert_eq!(found["tensors"].as_array().unwrap().len(), tensors.len(), "{file}");
        for (found, expected) in found["tensors"].as_array().unwrap().iter().zip(tensors) {
            for key in ["name", "dtype", "shape", "sha256"] {
                assert_eq!(found[key], expected[key], "{file}: {key}");
            }
        }
        checked += 1;
    }
    assert!(checked >= 5, "{checked} files checked");
}

#[test]
fn inspect_json_has_the_promised_keys() {
    let found = inspected(&fixtures().join("resume/extra_two_groups_checkpoint.pt"));
    let keys: Vec<&str> = found.as_object().unwrap().keys().map(String::as_str).collect();
    let promised = ["format", "files", "bytes", "tensors", "values", "optimizer", "classes", "globals", "safe"];
    assert_eq!(keys[..promised.len()], promised);
    assert_eq!(found["format"], "torch-zip");
    assert_eq!(found["optimizer"]["groups"].as_array().unwrap().len(), 2);
    assert_eq!(found["globals"][0], json!({"name": "collections.OrderedDict", "verdict": "harmless"}));
    assert_eq!(found["safe"], true);
}

#[test]
fn strict_is_a_check_of_safety() {
    let hostile = fixtures().join("hostile");
    let dangerous = std::fs::read_dir(&hostile).unwrap().flatten().map(|entry| entry.path());
    let dangerous =
        dangerous.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("exec_")));
    for path in dangerous {
        let output = rekindle(Path::new("."), &["inspect", text(&path), "--strict"]);
        assert!(matches!(output.status.code(), Some(1 | 2)), "{}", path.display());
    }
    let weights = fixtures().join("models/super_resolution_small.pth");
    let shown = answer(Path::new("."), &["inspect", text(&weights), "--strict", "--limit", "2"], 0);
    assert!(shown.contains("… and 6 more") && shown.contains("\nsafe: "), "{shown}");
    assert!(!Path::new("PWNED").exists());
}

#[test]
fn errors_are_one_clear_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    std::fs::write(dir.join("empty.pth"), b"").unwrap();
    assert_eq!(failure(dir, &["inspect", "none.pth"]), "error: none.pth: cannot open it: no such file");
    assert_eq!(
        failure(dir, &["inspect", "empty.pth"]),
        "error: empty.pth: the file is empty: download or save it again"
    );
    assert_eq!(
        failure(dir, &["inspect", "."]),
        "error: .: this is no run: expected a folder with recipe.toml and checkpoints named step-…; `rekindle runs` lists runs"
    );
    assert_eq!(
        failure(dir, &["convert", ".", "out.pth"]),
        "error: .: this is a folder, expected a model file; a run or checkpoint is written as a file by `rekindle export . OUT`"
    );
    assert_eq!(
        failure(dir, &["convert", "none.pth", "out.xyz"]),
        "error: out.xyz: the extension .xyz says no format that is written: name it .pth, .safetensors, .bpk, .npz or .npy"
    );
    assert_eq!(
        failure(dir, &["export", "net", "out.xyz"]),
        "error: out.xyz: the extension .xyz is no format that is exported: name it .onnx, .pth, .safetensors, .bpk or .npz"
    );
    assert_eq!(
        failure(dir, &["export", "net", "net.pth", "--checkpoint"]),
        "error: --checkpoint takes the optimizer's state along, which only a run or checkpoint has; 'net' is no folder of one"
    );
    assert!(
        failure(dir, &["convert", "a.pth", "b.pth", "--dtype", "int8"])
            .contains("expected f16, bf16, f32 or f64, found 'int8'")
    );
    assert!(failure(dir, &["convert", "a.pth", "b.pth", "--rename", "x"]).contains("expected REGEX=TO"));
}

#[test]
fn diff_works_across_formats() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let original = fixtures().join("models/super_resolution_small.pth");
    let original = text(&original);
    for name in ["a.safetensors", "a.bpk", "a.npz", "a.pth"] {
        answer(dir, &["convert", original, name], 0);
        answer(dir, &["diff", original, name], 0);
    }
    answer(dir, &["convert", original, "half.bpk", "--dtype", "f16"], 0);
    let found: Json = serde_json::from_str(&answer(dir, &["diff", original, "half.bpk", "--json"], 1)).unwrap();
    assert_eq!(
        (&found["same"], &found["compared"], found["dtypes"].as_array().unwrap().len()),
        (&json!(false), &json!(8), 8)
    );
    answer(dir, &["diff", original, "half.bpk", "--rtol", "1e-3", "--atol", "1e-6"], 0);
    answer(dir, &["convert", original, "less.pth", "--only", "^first", "--rename", "^conv1=first"], 0);
    let shown = answer(dir, &["diff", original, "less.pth"], 1);
    assert!(shown.contains("first.weight: only in less.pth"), "{shown}");
    // Onto itself: the new file takes the place of the old one at once.
    answer(dir, &["convert", "a.pth", "a.pth", "--legacy"], 0);
    assert_eq!(inspected(&dir.join("a.pth"))["format"], "torch-legacy");
    answer(dir, &["diff", original, "a.pth"], 0);
}

/// Small configurations, with what their weights do not tell left at its default.
fn small_models() -> Vec<(&'static str, Json)> {
    vec![
        ("the_model_class", json!({"channels": [4, 6], "kernel": 3, "grid": 2, "hidden": [20, 14]})),
        ("net", json!({"channels": [4, 7], "kernel": 3, "grid": 3, "hidden": [18, 13], "classes": 5})),
        ("fashion_classifier", json!({"inputs": 144, "hidden": [20, 16, 14, 12]})),
        ("cifar_cnn", json!({"channels": [4, 4, 6], "hidden": 20})),
        ("super_resolution", json!({"channels": [8, 8, 6], "upscale_factor": 2})),
        ("vgg11", json!({"widths": [4, 4, 6, 6, 6], "hidden": [10, 8], "classes": 10})),
        ("vgg13_bn", json!({"widths": [4, 5, 6, 6, 6], "hidden": [10, 8], "classes": 10})),
    ]
}

#[test]
fn export_takes_the_sizes_from_the_weights() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (name, config) in small_models() {
        let architecture = Registry::built_in().find(name).unwrap().configure(config.as_object().unwrap()).unwrap();
        let network = rekindle::train::fresh(&architecture, 7);
        let dict = weights::to_state_dict(&network).unwrap();
        let start = dir.join("start.pth");
        rekindle_state_save(&start, dict);
        for (from, to) in [
            ("start.pth", "out.pth"),
            ("out.pth", "out.safetensors"),
            ("out.safetensors", "out.bpk"),
            ("out.bpk", "last.pth"),
        ] {
            let output = rekindle(dir, &["export", name, to, "--weights", from]);
            let told = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{name} {from}: {told}");
            assert!(told.contains("sizes taken from the weights"), "{name} {from}: {told}");
        }
        answer(dir, &["diff", "start.pth", "last.pth"], 0);
        // Burn reads the record itself.
        let record = ModuleRecord::load(dir.join("out.bpk")).unwrap();
        let loaded = architecture.build(&Device::flex()).try_load_record(record).unwrap();
        rekindle_state_save(&dir.join("burn.pth"), weights::to_state_dict(&loaded).unwrap());
        answer(dir, &["diff", "start.pth", "burn.pth"], 0);
        // And so does the library's import.
        let (_, report) = import::import(loaded, &dir.join("out.bpk"), &import::ImportOptions::default()).unwrap();
        assert!(report.matching.is_complete());
    }
}

fn rekindle_state_save(path: &Path, dict: rekindle::state::StateDict) {
    rekindle::state::save(path, &rekindle::state::Value::Dict(dict), &rekindle::state::SaveOptions::default()).unwrap();
}

#[test]
fn metadata_is_that_of_pytorch() {
    let config = json!({"widths": [4, 5, 6, 6, 6], "hidden": [10, 8], "classes": 10});
    let architecture = Registry::built_in().find("vgg11_bn").unwrap().configure(config.as_object().unwrap()).unwrap();
    let metadata = weights::metadata(&architecture.build(&Device::flex()));
    let versions = metadata.as_dict().unwrap();
    let version = |path: &str| {
        versions.dict(path).and_then(|entry| entry.get("version")).and_then(rekindle::state::Value::as_int)
    };
    assert_eq!(
        (version(""), version("features"), version("features.0"), version("features.1")),
        (Some(1), Some(1), Some(1), Some(2))
    );
}

#[test]
fn a_run_is_inspected_compared_and_exported() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let settings = [
        "--set",
        "data.limit.train=128",
        "--set",
        "model.hidden=[20,16,14,12]",
        "--set",
        "optimizer.groups=[{match=\"bias\",lr=0.01}]",
    ];
    let mut arguments = vec!["train", "fashion_mnist_sample", "--run", "run", "--epochs", "1", "--device", "flex"];
    arguments.extend(settings);
    answer(dir, &arguments, 0);
    let run = inspected(&dir.join("run"));
    assert_eq!((run["format"].as_str(), run["safe"].as_bool()), (Some("run"), Some(true)));
    assert_eq!((&run["tensors"][0]["name"], &run["tensors"][0]["shape"]), (&json!("fc.weight"), &json!([20, 784])));
    assert_eq!((&run["values"]["epoch"], &run["values"]["step"]), (&json!(1), &json!(2)));
    assert_eq!(run["optimizer"]["groups"][0]["params"][0], "fc.bias");
    assert_eq!(run["optimizer"]["groups"][1]["params"][0], "fc.weight");
    assert!(run["optimizer"]["state"].as_array().unwrap().contains(&json!("fc4.weight/exp_avg_sq")));
    assert_eq!(inspected(&dir.join("run/step-00000002"))["format"], "checkpoint");

    for (output, more) in [("weights.pth", None), ("weights.safetensors", None), ("whole.pth", Some("--checkpoint"))] {
        let mut arguments = vec!["export", "run", output];
        arguments.extend(more);
        answer(dir, &arguments, 0);
        answer(dir, &["diff", "run", output], 0);
    }
    let whole = inspected(&dir.join("whole.pth"));
    assert_eq!(whole["optimizer"]["groups"][0]["lr"], 0.01);
    assert_eq!(whole["values"]["epoch"], 1);
    let wrong = failure(dir, &["export", "run", "x.pth", "--from", "7"]);
    assert_eq!(wrong, "error: run: there is no checkpoint of step 7, only of 2");
}
