//! Every file of the fixture set against what PyTorch itself read from it.

use std::path::Path;

use super::support::{differences, json, listing, own, shared, value_differences};
use serde_json::Value as Json;

/// Formats of this crate's PyTorch reader; the others have tests of their own.
fn is_torch(file: &str) -> bool {
    [".pth", ".pt", ".pt2", ".pkl"].iter().any(|end| file.ends_with(end))
}

fn check_manifest(folder: &Path, manifest: &str) {
    let manifest = json(&folder.join(manifest));
    let (mut checked, mut failures) = (0, Vec::new());
    for entry in manifest["files"].as_array().into_iter().flatten() {
        let file = entry["file"].as_str().unwrap_or_default();
        if !is_torch(file) || !folder.join(file).exists() {
            continue;
        }
        checked += 1;
        failures.extend(check_entry(folder, file, entry).into_iter().map(|failure| format!("{file}: {failure}")));
    }
    eprintln!("{checked} files of {} checked", folder.display());
    assert!(checked > 0, "no file of {} was checked", folder.display());
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn check_entry(folder: &Path, file: &str, entry: &Json) -> Vec<String> {
    let no_entries = Vec::new();
    let list = |key: &str| entry[key].as_array().unwrap_or(&no_entries);
    let found = listing(&folder.join(file));
    let hostile = file.starts_with("hostile/");
    match (entry["expect"].as_str().unwrap_or_default(), found) {
        ("ok", Ok(found)) => {
            let mut failures = differences(&found, list("tensors"));
            failures.extend(value_differences(&found, list("values")));
            failures
        }
        // Outside hostile/ our policy is to read everything.
        ("policy", Ok(found)) if !hostile => differences(&found, list("tensors")),
        ("policy", _) if hostile => Vec::new(),
        ("error", Err(_)) => Vec::new(),
        // A call that is not made is a value; what it would have called is named and judged.
        ("error", Ok(found)) if file.contains("/exec_") => {
            let runs = found.globals.iter().any(|global| global.verdict == "runs code");
            if found.safe || !runs { vec![format!("not found dangerous: {:?}", found.globals)] } else { Vec::new() }
        }
        (expect, Ok(_)) => vec![format!("was read, expected {expect}")],
        (expect, Err(error)) => vec![format!("{error}, expected {expect}")],
    }
}

#[test]
fn own_fixtures() {
    check_manifest(&own(), "manifest.json");
    check_manifest(&own(), "old/manifest.json");
    check_manifest(&own(), "variants/manifest.json");
    assert!(!Path::new("PWNED").exists());
}

#[test]
fn shared_fixtures() {
    if let Some(folder) = shared("oracle/fixtures") {
        check_manifest(&folder, "manifest.json");
        assert!(!Path::new("PWNED").exists());
    }
}

/// The expectations of real models name attributes as Python does; this crate names them as the state dict does.
fn state_dict_name(name: &str) -> String {
    name.replace("_modules.", "").replace("_parameters.", "").replace("_buffers.", "")
}

#[test]
fn public_models() {
    let Some(folder) = shared("models") else { return };
    let (mut checked, mut failures) = (0, Vec::new());
    for file in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let name = file.file_name().to_string_lossy().into_owned();
        if ![".pt", ".pth", ".tar", ".th"].iter().any(|end| name.ends_with(end)) {
            continue;
        }
        checked += 1;
        let expected = json(&folder.join("expected").join(format!("{name}.json")));
        let found = match listing(&file.path()) {
            Ok(found) => found,
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        let tensors = expected["tensors"].as_array().cloned().unwrap_or_default();
        // Gradients of the oldest format are no part of a state dict.
        let tensors: Vec<_> =
            tensors.iter().filter(|tensor| !tensor["name"].as_str().unwrap_or_default().ends_with(".1.0")).collect();
        let oldest = name == "char-rnn-classification.pt";
        if found.tensors.len() != tensors.len() {
            failures.push(format!("{name}: {} tensors, expected {}", found.tensors.len(), tensors.len()));
        }
        for (found, expected) in found.tensors.iter().zip(tensors) {
            let mut wanted = state_dict_name(expected["name"].as_str().unwrap_or_default());
            if oldest {
                wanted.truncate(wanted.len() - 2);
            }
            let dtype = match expected["dtype"].as_str().unwrap_or_default() {
                "Float" => "float32",
                "Half" => "float16",
                "Long" => "int64",
                "Byte" => "uint8",
                "Bool" => "bool",
                other => other,
            };
            let same = found.name.replace('/', ".") == wanted
                && found.dtype == dtype
                && Json::from(found.shape.clone()) == expected["shape"]
                && found.sha256.as_deref() == expected["sha256"].as_str();
            if !same {
                failures.push(format!(
                    "{name}: {found:?}, expected {wanted} {dtype} {} {}",
                    expected["shape"], expected["sha256"]
                ));
            }
        }
    }
    eprintln!("{checked} public models checked");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn other_formats() {
    let Some(folder) = shared("models") else { return };
    let safetensors = listing(&folder.join("two-linear.safetensors")).unwrap();
    assert_eq!(safetensors.format, "safetensors");
    let expected = json(&folder.join("expected/two-linear.safetensors.json"));
    for (found, expected) in safetensors.tensors.iter().zip(expected["tensors"].as_array().unwrap()) {
        assert_eq!(Some(found.name.as_str()), expected["name"].as_str());
        assert_eq!(found.sha256.as_deref(), expected["sha256"].as_str());
    }
    for name in ["mnist-8.onnx", "super_resolution.onnx", "tiny-distilbert.onnx", "lstm-coffee.onnx"] {
        let onnx = listing(&folder.join(name)).unwrap();
        assert_eq!(onnx.format, "onnx");
        assert!(!onnx.tensors.is_empty());
    }
}
