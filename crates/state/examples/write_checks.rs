//! Writes model files again, for another program to check that they are the same.
//!
//! ```text
//! cargo run --release -p rekindle-state --example write_checks -- FOLDER OUT
//! ```
//!
//! `FOLDER/manifest.json` lists model files with what is known of each. Every PyTorch file that can be read is written to `OUT`
//! three times: in the zip format, in the legacy format, and in the zip format after a way through safetensors and burnpack.
//! `OUT/checks.json` lists them in the form of the manifest.

use std::error::Error;
use std::path::{Path, PathBuf};

use rekindle_state::{
    Burnpack, Format, Map, ModelFile, Safetensors, SaveOptions, TorchLegacy, TorchZip, Value, open, read_burnpack,
    read_safetensors, save,
};
use serde_json::{Value as Json, json};

/// What a check needs to know of a file, in the manifest's words.
const KEPT: [&str; 16] = [
    "kind",
    "model",
    "config",
    "model_key",
    "optimizer_key",
    "optimizer",
    "optimizer_args",
    "input",
    "expected_output",
    "batches",
    "continuation",
    "loss_function",
    "tensors",
    "frozen",
    "scheduler",
    "transform",
];
/// Which of these are files beside the manifest.
const PATHS: [&str; 4] = ["input", "expected_output", "batches", "continuation"];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [folder, out] = arguments.as_slice() else { return Err("usage: write_checks FOLDER OUT".into()) };
    let folder = folder.canonicalize()?;
    let manifest: Json = serde_json::from_slice(&std::fs::read(folder.join("manifest.json"))?)?;
    let files = manifest.get("files").unwrap_or(&manifest).as_array().ok_or("the manifest has no list of files")?;
    let mut checks = Vec::new();
    for entry in files {
        let name = entry["file"].as_str().unwrap_or_default();
        let known = [".pth", ".pt"].iter().any(|extension| name.ends_with(extension));
        if !known || entry.get("expect").is_some_and(|expect| expect != "ok") {
            continue;
        }
        let file = match open(folder.join(name)) {
            Ok(file) => file,
            Err(error) => {
                println!("not read: {error}");
                continue;
            }
        };
        for (way, write) in WAYS {
            let path = out.join(way).join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(out))?;
            let notes = write(&path, &file)?;
            notes.iter().for_each(|note| println!("{way}/{name}: {note}"));
            let mut check = check(entry, &format!("{way}/{name}"), &folder);
            // Some inputs are kept as bytes, with a formula beside them.
            let input = files.iter().find(|file| file["file"] == entry["input"]);
            if let Some(transform) = input.and_then(|input| input.get("transform")) {
                check["input_transform"] = transform.clone();
            }
            if notes.iter().any(|note| note.ends_with("written as a tensor")) {
                check["tensors"] = json!([]); // There are more than the manifest lists.
            }
            checks.push(check);
        }
    }
    std::fs::write(out.join("checks.json"), serde_json::to_vec_pretty(&json!({"files": checks}))?)?;
    println!("{} files written", checks.len());
    Ok(())
}

type Write = fn(&Path, &ModelFile) -> rekindle_state::Result<Vec<String>>;

/// The ways to write a file.
const WAYS: [(&str, Write); 3] = [
    ("zip", |path, file| written(path, &file.content.root, &TorchZip)),
    ("legacy", |path, file| written(path, &file.content.root, &TorchLegacy)),
    ("around", |path, file| {
        let (first, second) = (path.with_extension("safetensors"), path.with_extension("bpk"));
        let mut notes = written(&first, &file.content.root, &Safetensors)?;
        let tensors = read_safetensors(&Map::open(&first)?)?;
        notes.extend(written(&second, &tensors.root, &Burnpack)?);
        let pack = read_burnpack(&Map::open(&second)?)?;
        notes.extend(written(path, &pack.root, &TorchZip)?);
        Ok(notes)
    }),
];

fn written(path: &Path, root: &Value, format: &'static dyn Format) -> rekindle_state::Result<Vec<String>> {
    save(path, root, &SaveOptions { format: Some(format), ..SaveOptions::default() })
}

/// The manifest's entry for the file as it is written now.
fn check(entry: &Json, file: &str, folder: &Path) -> Json {
    let mut check = json!({"file": file});
    for key in KEPT {
        let Some(value) = entry.get(key) else { continue };
        check[key] = match value.as_str() {
            Some(path) if PATHS.contains(&key) => json!(folder.join(path)),
            _ => value.clone(),
        };
    }
    // A whole module is written as its state dict.
    if entry["kind"].as_str().is_some_and(|kind| kind.starts_with("entire_model")) {
        check["kind"] = json!("state_dict");
    }
    check
}
