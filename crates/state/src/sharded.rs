//! Models that are split over several files: an index (`*.index.json`) or the numbers in the files' names say which.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use indexmap::IndexMap;
use serde::Deserialize;

use crate::format::{self, Format, Opened, Probe};
use crate::pairs::Pairs;
use crate::walk::name_storages;
use crate::{Content, Error, Map, Result, StateDict, Value};

/// How long an index may be; those of the largest public models are of 2 MB.
const MAX_INDEX: usize = 256 << 20;
/// How many shards a model may have.
const MAX_SHARDS: usize = 100_000;
/// What programs call the one file of a folder that is not split, the likeliest first.
const WHOLE: [&str; 8] = [
    "model.safetensors",
    "pytorch_model.bin",
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
];
/// The extensions of shards and of indices, the preferred first.
const EXTENSIONS: [&str; 4] = ["safetensors", "bin", "pth", "pt"];

/// A folder that holds one model, or the index of its shards.
#[derive(Debug)]
pub struct ShardIndex;

impl Format for ShardIndex {
    fn name(&self) -> &'static str {
        "sharded"
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        if file.is_folder() {
            // A shard that is missing is for `read` to report.
            return !matches!(find(file.path()), Ok(None));
        }
        let bytes = file.bytes();
        bytes.len() <= MAX_INDEX
            && bytes.trim_ascii_start().starts_with(b"{")
            && bytes.windows(WEIGHT_MAP.len()).any(|window| window == WEIGHT_MAP)
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        if !file.is_folder() {
            let folder = file.path().parent().unwrap_or(Path::new(""));
            return read_index(folder, file.bytes());
        }
        let Some(found) = find(file.path())? else {
            return Err(Error::unsupported("the folder holds no model"));
        };
        match found {
            Found::Index(index) => {
                let map = Map::open(&index)?;
                read_index(file.path(), map.bytes()).map_err(|error| error.at(&index))
            }
            Found::Shards(names) => read_shards(file.path(), &names, None),
            Found::Whole(name) => read_shards(file.path(), &[name], None),
        }
    }
}

const WEIGHT_MAP: &[u8] = b"\"weight_map\"";

/// What a folder holds.
enum Found {
    Index(PathBuf),
    Shards(Vec<String>),
    Whole(String),
}

/// Looks through the names of a folder.
fn find(folder: &Path) -> Result<Option<Found>> {
    let entries = std::fs::read_dir(folder).map_err(|error| Error::io("read", folder, error))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).take(MAX_SHARDS).collect();
    names.sort_unstable();
    for extension in EXTENSIONS {
        let end = format!(".{extension}.index.json");
        let mut found = names.iter().filter(|name| name.ends_with(&end));
        if let Some(name) = found.next() {
            if let Some(other) = found.next() {
                return Err(Error::unsupported(format!(
                    "the folder holds two indices of shards, '{name}' and '{other}': open one of them"
                )));
            }
            return Ok(Some(Found::Index(folder.join(name))));
        }
    }
    if let Some(name) = WHOLE.iter().find(|name| names.iter().any(|found| found == **name)) {
        return Ok(Some(Found::Whole((*name).to_string())));
    }
    numbered(&names).map(|shards| shards.map(Found::Shards))
}

/// The shards that names such as `model-00001-of-00005.safetensors` tell, all of them.
fn numbered(names: &[String]) -> Result<Option<Vec<String>>> {
    let mut sets: BTreeMap<(usize, String, u32), BTreeMap<u32, String>> = BTreeMap::new();
    for name in names {
        let Some((stem, extension)) = name.rsplit_once('.') else { continue };
        let Some(rank) = EXTENSIONS.iter().position(|known| *known == extension) else { continue };
        let Some((start, count)) = stem.rsplit_once("-of-") else { continue };
        let Some((start, number)) = start.rsplit_once('-') else { continue };
        let (Ok(count), Ok(number)) = (count.parse(), number.parse()) else { continue };
        sets.entry((rank, start.to_string(), count)).or_default().insert(number, name.clone());
    }
    let Some(((rank, start, count), found)) = sets.into_iter().next() else { return Ok(None) };
    if let Some(lost) = (1..=count).find(|number| !found.contains_key(number)) {
        return Err(Error::damaged(format!(
            "the shard '{start}-{lost:05}-of-{count:05}.{}' is missing: download it too",
            EXTENSIONS[rank]
        )));
    }
    Ok(Some(found.into_values().collect()))
}

#[derive(Deserialize)]
struct Index {
    weight_map: Pairs<String>,
}

fn read_index(folder: &Path, bytes: &[u8]) -> Result<Opened> {
    let index: Index = serde_json::from_slice(bytes)
        .map_err(|error| Error::damaged(format!("the index of shards is not valid: {error}")))?;
    let mut names: Vec<String> = index.weight_map.0.iter().map(|(_, file)| file.clone()).collect();
    names.sort_unstable();
    names.dedup();
    if names.len() > MAX_SHARDS {
        return Err(Error::unsupported(format!("the index names more than {MAX_SHARDS} shards")));
    }
    read_shards(folder, &names, Some(&index.weight_map.0))
}

/// Puts the dictionaries of several files together. `weight_map` says which file should hold which tensor.
fn read_shards(folder: &Path, names: &[String], weight_map: Option<&[(String, String)]>) -> Result<Opened> {
    let is_whole = names.len() == 1 && weight_map.is_none();
    let mut dict = StateDict::new();
    let mut content = Content { root: Value::None, metadata: Vec::new(), globals: Vec::new() };
    let (mut bytes, mut formats, mut origin) = (0, Vec::new(), IndexMap::new());
    for name in names {
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if !plain || name.is_empty() {
            return Err(Error::damaged(format!("the index names the shard '{name}', a path outside its folder")));
        }
        let path = folder.join(name);
        if !path.is_file() {
            return Err(Error::damaged(format!(
                "the shard '{name}' is missing, one of {} that the model is split over: download it too",
                names.len()
            )));
        }
        let map = Map::open(&path)?;
        if format::find(&Probe::file(&map)).is_ok_and(|format| format.name() == ShardIndex.name()) {
            return Err(Error::damaged(format!("the shard '{name}' is itself an index")));
        }
        let mut file = crate::read(&map)?;
        bytes += file.bytes;
        formats.push(file.format);
        content.globals.extend(file.content.globals);
        for (key, value) in file.content.metadata {
            if !content.metadata.iter().any(|(known, _)| *known == key) {
                content.metadata.push((key, value));
            }
        }
        if is_whole {
            content.root = file.content.root;
            break;
        }
        name_storages(&mut file.content.root, name);
        let Value::Dict(entries) = file.content.root else {
            return Err(Error::unsupported("a shard that is no dictionary of tensors").at(&path));
        };
        for (key, value) in entries {
            if let Some(other) = origin.insert(key.clone(), name) {
                return Err(Error::damaged(format!("'{}' is in two shards, '{other}' and '{name}'", key.text())));
            }
            dict.insert(key, value);
        }
    }
    for (tensor, file) in weight_map.into_iter().flatten() {
        if dict.get(tensor).is_none() {
            return Err(Error::damaged(format!("the shard '{file}' does not hold '{tensor}', as the index says")));
        }
    }
    if !is_whole {
        content.root = Value::Dict(dict);
    }
    let mut seen = indexmap::IndexSet::new();
    content.globals.retain(|global| seen.insert(global.clone()));
    let format = formats.first().copied().filter(|first| formats.iter().all(|format| format == first));
    Ok(Opened { format, files: Some((names.len() as u64, bytes)), ..Opened::from(content) })
}
