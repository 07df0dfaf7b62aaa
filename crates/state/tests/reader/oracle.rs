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

/// Files and folders of kinds that people publish, against what was saved in them.
#[test]
fn public_kinds() {
    let folder = own().join("public");
    let manifest = json(&folder.join("manifest.json"));
    let mut failures = Vec::new();
    for entry in manifest["files"].as_array().into_iter().flatten() {
        let file = entry["file"].as_str().unwrap_or_default();
        failures.extend(check_entry(&folder, file, entry).into_iter().map(|failure| format!("{file}: {failure}")));
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// A copy of a folder of fixtures without some of its files.
fn without(folder: &str, lost: &[&str]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(own().join(folder)).unwrap().flatten() {
        if !lost.iter().any(|lost| file.file_name() == *lost) {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
        }
    }
    copy
}

fn error(path: &Path) -> String {
    rekindle_state::open(path).unwrap_err().to_string()
}

#[test]
fn a_split_model_is_one_model() {
    let folder = own().join("public/sharded_safetensors");
    let whole = rekindle_state::open(&folder).unwrap();
    assert_eq!((whole.format.name(), whole.files), ("safetensors", 3));
    assert_eq!(whole.content.metadata, [("format".to_string(), "pt".to_string())]);
    // The index by its own path, and shards without an index.
    for (path, kept) in [
        (folder.join("model.safetensors.index.json"), None),
        (folder.clone(), Some(without("public/sharded_safetensors", &["model.safetensors.index.json"]))),
    ] {
        let path = kept.as_ref().map_or(path, |kept| kept.path().to_path_buf());
        let same = rekindle_state::open(&path).unwrap();
        let names = |root| rekindle_state::tensors(root).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&same.content.root), names(&whole.content.root), "{}", path.display());
    }
    // Storages of different shards have different keys.
    let torch = rekindle_state::open(own().join("public/sharded_bin")).unwrap().listing(false).unwrap();
    let keys: std::collections::HashSet<_> = torch.tensors.iter().map(|tensor| &tensor.storage).collect();
    assert_eq!((torch.format.as_str(), keys.len()), ("torch-zip", torch.tensors.len()));
}

#[test]
fn a_missing_shard_is_named() {
    let lost = "model-00002-of-00003.safetensors";
    for gone in [&[lost][..], &[lost, "model.safetensors.index.json"]] {
        let folder = without("public/sharded_safetensors", gone);
        assert!(rekindle_state::is_model_folder(folder.path()));
        let text = error(folder.path());
        assert!(text.contains(&format!("the shard '{lost}' is missing")), "{text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let index = folder.path().join("model.safetensors.index.json");
    for (map, expected) in [
        (r#"{"weight_map": {"w": "../w.safetensors"}}"#, "a path outside its folder"),
        (r#"{"weight_map": {"w": "model.safetensors.index.json"}}"#, "is itself an index"),
        (r#"{"weight_map": {"w": 1}}"#, "is not valid"),
    ] {
        std::fs::write(&index, map).unwrap();
        let text = error(&index);
        assert!(text.contains(expected), "{text}");
    }
    assert!(!rekindle_state::is_model_folder(tempfile::tempdir().unwrap().path()));
}

#[test]
fn distributed_checkpoints() {
    let folder = own().join("public/distributed");
    let whole = rekindle_state::open(&folder).unwrap();
    assert_eq!((whole.format.name(), whole.files), ("torch-distributed", 3));
    assert_eq!(rekindle_state::open(folder.join(".metadata")).unwrap().files, 3);
    let text = error(&folder.join("__0_0.distcp"));
    assert!(text.contains("one part of a torch.distributed.checkpoint: open the folder"), "{text}");
    let lost = without("public/distributed", &["__1_0.distcp"]);
    let text = error(lost.path());
    assert!(text.contains("the file '__1_0.distcp' of the checkpoint is missing"), "{text}");
    // Cut short, and with bytes of the metadata damaged: an error or a value, never a panic.
    let file = lost.path().join("__1_0.distcp");
    let part = std::fs::read(folder.join("__1_0.distcp")).unwrap();
    std::fs::write(&file, &part[..part.len() - 100]).unwrap();
    let text = error(lost.path());
    assert!(text.contains("is cut short"), "{text}");
    std::fs::write(&file, &part).unwrap();
    let metadata = std::fs::read(folder.join(".metadata")).unwrap();
    for at in (0..metadata.len()).step_by(5) {
        let mut damaged = metadata.clone();
        damaged[at] ^= 1 << (at % 8);
        std::fs::write(lost.path().join(".metadata"), damaged).unwrap();
        if let Ok(file) = rekindle_state::open(lost.path()) {
            let _ = file.listing(true);
        }
    }
}

#[test]
fn parts_of_distributed_tensors_are_said_to_be_parts() {
    let file = rekindle_state::open(own().join("public/dtensor_part.pth")).unwrap();
    let [note] = file.notes.as_slice() else { panic!("{:?}", file.notes) };
    assert!(
        note.starts_with("'0.weight' and 2 other tensors are only the part that one process held ([3, 3] here)"),
        "{note}"
    );
    let names: Vec<_> = rekindle_state::tensors(&file.content.root).into_iter().map(|(name, _)| name).collect();
    // A replicated tensor is whole.
    assert!(names.contains(&"3.bias".to_string()) && !names.contains(&"0.weight".to_string()), "{names:?}");
    assert!(rekindle_state::open(own().join("public/dtensor_whole.pth")).unwrap().notes.is_empty());
}

/// Files inside a file count their storages from 0, each for itself.
#[test]
fn storages_of_inner_files_are_told_apart() {
    for file in ["exported_2_5.pt2", "exported_2_8.pt2", "baselines.zip"] {
        let listing = listing(&own().join("public").join(file)).unwrap();
        let keys: std::collections::HashSet<_> = listing.tensors.iter().map(|tensor| &tensor.storage).collect();
        assert_eq!(keys.len(), listing.tensors.len(), "{file}");
    }
}

/// The larger set's files, where they are.
#[test]
fn shared_public_kinds() {
    let Some(folder) = shared("field/torch") else { return };
    let expected = json(&folder.join("expected.json"));
    for (file, key, prefix) in [
        ("g01_sharded_safetensors", "tensors", ""),
        ("g01_sharded_bin", "tensors", ""),
        ("g02_dcp_dir", "tensors", "model/"),
        ("g11_dtensor.pth", "plain", ""),
    ] {
        let entry = if file == "g01_sharded_bin" { &expected["g01_sharded_safetensors"] } else { &expected[file] };
        let found = listing(&folder.join(file)).unwrap();
        for tensor in entry[key].as_array().unwrap() {
            let name = format!("{prefix}{}", tensor["name"].as_str().unwrap());
            let found = found.tensors.iter().find(|found| found.name == name);
            let found = found.unwrap_or_else(|| panic!("{file}: no {name}"));
            assert_eq!(found.sha256.as_deref(), tensor["sha256"].as_str(), "{file}: {name}");
        }
    }
    assert_eq!(listing(&folder.join("g15_frozen.pt")).unwrap().tensors.len(), 4);
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
