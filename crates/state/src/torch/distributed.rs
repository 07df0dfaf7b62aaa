//! Folders of `torch.distributed.checkpoint`: `.metadata` says which part of which tensor is where in the `*.distcp` files.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Component, Path};

use super::rebuild::attributes;
use super::{Globals, bare, content, inner_file};
use crate::format::{Format, Opened, Probe};
use crate::{DType, Error, Key, Map, Object, Result, Source, StateDict, Storage, Tensor, Value};

/// A folder that `torch.distributed.checkpoint.save` wrote.
#[derive(Debug)]
pub struct Distributed;

const METADATA: &str = ".metadata";
/// How deep names may nest.
const MAX_DEPTH: usize = 128;
/// The longest list that names may make.
const MAX_LIST: usize = 1 << 20;

impl Format for Distributed {
    fn name(&self) -> &'static str {
        "torch-distributed"
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        let path = file.path();
        match file.is_folder() {
            true => path.join(METADATA).is_file(),
            false => path.extension().is_some_and(|end| end == "distcp") || is_metadata(path),
        }
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        let path = file.path();
        if file.is_folder() {
            return read(path);
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        if is_metadata(path) {
            return read(folder);
        }
        let shown = if folder.as_os_str().is_empty() { ".".into() } else { folder.display().to_string() };
        Err(Error::unsupported(format!(
            "it is one part of a torch.distributed.checkpoint: open the folder, '{shown}', with its {METADATA}"
        )))
    }
}

fn is_metadata(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == METADATA)
}

/// `MetadataIndex(fqn, offset, index)`, the key of a part, as a tuple of its three attributes.
pub(super) fn index_key(object: &Object, place: usize) -> Key {
    let part = |name: &str| match attribute(&object.state, name) {
        Some(Value::Str(text)) => Key::Str(text.clone()),
        Some(Value::Int(int)) => Key::Int(*int),
        Some(Value::Tuple(items)) => Key::Tuple(items.iter().filter_map(|item| item.as_int().map(Key::Int)).collect()),
        _ => Key::None,
    };
    match part("fqn") {
        fqn @ Key::Str(_) => Key::Tuple(vec![fqn, part("offset"), part("index")]),
        _ => Key::Other(format!("<MetadataIndex {place}>")),
    }
}

fn attribute<'v>(state: &'v Value, name: &str) -> Option<&'v Value> {
    attributes(state).into_iter().find(|(key, _)| **key == Key::from(name)).map(|(_, value)| value)
}

fn field<'v>(value: &'v Value, name: &str) -> Result<&'v Value> {
    let found = match value {
        Value::Object(object) => attribute(&object.state, name),
        _ => None,
    };
    found.ok_or_else(|| {
        Error::damaged(format!("{METADATA}: expected an object with '{name}', found a {}", value.type_name()))
    })
}

fn dict<'v>(value: &'v Value, name: &str) -> Result<&'v StateDict> {
    let found = field(value, name)?;
    found
        .as_dict()
        .ok_or_else(|| Error::damaged(format!("{METADATA}: '{name}' is a {}, not a dictionary", found.type_name())))
}

fn numbers(value: &Value) -> Result<Vec<u64>> {
    let items = value.as_slice().unwrap_or_default();
    let found: Option<Vec<u64>> = items.iter().map(|item| u64::try_from(item.as_int()?).ok()).collect();
    found
        .filter(|_| value.as_slice().is_some())
        .ok_or_else(|| Error::damaged(format!("{METADATA}: a size is no tuple of numbers")))
}

/// The files of a checkpoint, each mapped once.
struct Files<'a> {
    folder: &'a Path,
    maps: HashMap<String, Map>,
    globals: Globals,
}

impl Files<'_> {
    /// What was saved at a place: a tensor or another value, in a torch file of its own.
    fn value(&mut self, info: &Value) -> Result<Value> {
        let name = field(info, "relative_path")?.as_str().unwrap_or_default();
        let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !plain {
            return Err(Error::damaged(format!("{METADATA} names the file '{name}', a path outside its folder")));
        }
        let transformed = field(info, "transform_descriptors").ok().and_then(Value::as_slice).unwrap_or_default();
        if !transformed.is_empty() {
            return Err(Error::unsupported(
                "it is stored compressed (transform_descriptors): save it without extensions",
            ));
        }
        if !self.maps.contains_key(name) {
            let path = self.folder.join(name);
            if !path.is_file() {
                return Err(Error::damaged(format!("the file '{name}' of the checkpoint is missing: copy it too")));
            }
            self.maps.insert(name.to_string(), Map::open(&path)?);
        }
        let map = &self.maps[name];
        let number = |key: &str| field(info, key).map(|value| value.as_int().and_then(|int| u64::try_from(int).ok()));
        let (start, length) = (number("offset")?, number("length")?);
        let range = start.zip(length).and_then(|(start, length)| Some(start..start.checked_add(length)?));
        let Some((part, range)) = range.and_then(|range| Some((map.part(range.clone())?, range))) else {
            return Err(Error::damaged(format!(
                "'{name}' holds {} bytes, less than {METADATA} says: it is cut short; copy it again",
                map.bytes().len()
            )));
        };
        inner_file(&part, &format!("{name}/{}", range.start), &mut self.globals)
    }
}

fn read(folder: &Path) -> Result<Opened> {
    let path = folder.join(METADATA);
    let map = Map::open(&path)?;
    let mut globals = Globals::default();
    let metadata = bare::value(&map, &mut globals).map_err(|error| error.at(&path))?;
    let mut files = Files { folder, maps: HashMap::new(), globals };
    let entries = dict(&metadata, "state_dict_metadata")?;
    // Where each part is: name and offset, or the name alone.
    let mut places: HashMap<(&str, Option<Vec<i64>>), &Value> = HashMap::new();
    for (key, info) in dict(&metadata, "storage_data")?.iter() {
        let Key::Tuple(parts) = key else { continue };
        let [Key::Str(name), offset, _] = parts.as_slice() else { continue };
        let offset = match offset {
            Key::Tuple(items) => {
                Some(items.iter().map(|item| if let Key::Int(int) = item { *int } else { -1 }).collect())
            }
            _ => None,
        };
        places.insert((name, offset), info);
    }
    let paths = dict(&metadata, "planner_data").ok();
    let mut root = Node::default();
    for (key, entry) in entries.iter() {
        let name = key.text();
        let value = saved(entry, &name, &places, &mut files).map_err(|error| error.within(format!("'{name}'")))?;
        let path = paths.and_then(|paths| paths.get_key(key)).and_then(Value::as_slice);
        root.insert(path.unwrap_or(&[Value::Str(name.to_string())]), value, 0)?;
    }
    let count = files.maps.len() as u64;
    let bytes = files.maps.values().map(|map| map.bytes().len() as u64).sum::<u64>() + map.bytes().len() as u64;
    Ok(Opened { files: Some((count + 1, bytes)), ..Opened::from(content(root.value(), files.globals)) })
}

/// One entry of the state dict: a tensor from its parts, or a value that was pickled.
fn saved(
    entry: &Value,
    name: &str,
    places: &HashMap<(&str, Option<Vec<i64>>), &Value>,
    files: &mut Files<'_>,
) -> Result<Value> {
    let Value::Object(object) = entry else {
        return Err(Error::damaged(format!("{METADATA} says of it a {}", entry.type_name())));
    };
    let lost = || Error::damaged(format!("{METADATA} does not say where it is"));
    if object.class.name != "TensorStorageMetadata" {
        return files.value(places.get(&(name, None)).ok_or_else(lost)?);
    }
    let size = numbers(field(entry, "size")?)?;
    let mut parts = Vec::new();
    for chunk in field(entry, "chunks")?.as_slice().unwrap_or_default() {
        let (offsets, sizes) = (numbers(field(chunk, "offsets")?)?, numbers(field(chunk, "sizes")?)?);
        let key = offsets.iter().map(|&offset| offset as i64).collect();
        let info = places.get(&(name, Some(key))).or_else(|| places.get(&(name, None))).ok_or_else(lost)?;
        let Value::Tensor(tensor) = files.value(info)? else {
            return Err(Error::damaged("a part of it is no tensor"));
        };
        if tensor.shape() != sizes {
            return Err(Error::damaged(format!(
                "a part of it has the shape {}, {METADATA} says {}",
                crate::show_shape(tensor.shape()),
                crate::show_shape(&sizes)
            )));
        }
        parts.push(Part { offsets, tensor });
    }
    Ok(Value::Tensor(assemble(&size, parts)?))
}

/// A part of a tensor and where it begins in the whole.
struct Part {
    offsets: Vec<u64>,
    tensor: Tensor,
}

impl Part {
    fn meets(&self, other: &Self) -> bool {
        let ranges = |part: &Self| {
            part.offsets.iter().zip(part.tensor.shape()).map(|(&start, &size)| start..start + size).collect::<Vec<_>>()
        };
        ranges(self).iter().zip(ranges(other)).all(|(a, b)| a.start < b.end && b.start < a.end)
    }
}

/// The whole tensor, whose bytes are put together when they are asked for.
fn assemble(size: &[u64], mut parts: Vec<Part>) -> Result<Tensor> {
    let whole = |part: &Part| part.tensor.shape() == size && part.offsets.iter().all(|&offset| offset == 0);
    if let [part] = parts.as_slice()
        && whole(part)
    {
        return Ok(parts.remove(0).tensor);
    }
    let Some(dtype) = parts.first().map(|part| part.tensor.dtype()) else {
        return Err(Error::damaged(format!("{METADATA} says no part of it")));
    };
    let held: u64 = parts.iter().map(|part| part.tensor.numel()).fold(0, u64::saturating_add);
    let wanted = size.iter().fold(1_u64, |n, &axis| n.saturating_mul(axis));
    let inside = parts.iter().all(|part| {
        part.tensor.dtype() == dtype
            && part.offsets.len() == size.len()
            && part.tensor.shape().len() == size.len()
            && part
                .offsets
                .iter()
                .zip(part.tensor.shape())
                .zip(size)
                .all(|((&start, &length), &axis)| start.checked_add(length).is_some_and(|end| end <= axis))
    });
    // Sorted by where they begin, so that parts along the first axis need only be held against their neighbours.
    parts.retain(|part| part.tensor.numel() > 0);
    parts.sort_by(|a, b| a.offsets.cmp(&b.offsets));
    let overlap = parts.iter().enumerate().any(|(at, part)| {
        let rest = &parts[at + 1..];
        let end = part.offsets.first().zip(part.tensor.shape().first()).map_or(0, |(start, length)| start + length);
        rest.iter()
            .take_while(|other| other.offsets.first().is_none_or(|&start| start < end))
            .any(|other| part.meets(other))
    });
    if !inside || overlap || held != wanted {
        return Err(Error::damaged(format!(
            "its {} parts do not make up a tensor of shape {}: a file of the checkpoint may be missing",
            parts.len(),
            crate::show_shape(size)
        )));
    }
    let length = wanted.checked_mul(dtype.size() as u64);
    let Some(length) = length.filter(|length| usize::try_from(*length).is_ok()) else {
        return Err(Error::unsupported("it is too large for this machine"));
    };
    let source = Assembled { size: size.to_vec(), dtype, parts, length };
    Tensor::contiguous(dtype, size, Storage::new(source, ""), 0)
}

/// The bytes of a tensor that lies in parts, in row-major order.
struct Assembled {
    size: Vec<u64>,
    dtype: DType,
    parts: Vec<Part>,
    length: u64,
}

impl Source for Assembled {
    fn len(&self) -> u64 {
        self.length
    }

    fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let mut whole = Vec::new();
        whole
            .try_reserve_exact(self.length as usize)
            .map_err(|_| Error::unsupported(format!("not enough memory for a tensor of {} bytes", self.length)))?;
        whole.resize(self.length as usize, 0);
        for part in &self.parts {
            self.copy_in(part, &mut whole)?;
        }
        Ok(Cow::Owned(whole))
    }
}

impl Assembled {
    /// Copies a part row by row.
    fn copy_in(&self, part: &Part, whole: &mut [u8]) -> Result<()> {
        let bytes = part.tensor.bytes()?;
        let element = self.dtype.size();
        let shape = part.tensor.shape();
        let row = shape.last().map_or(element, |&length| length as usize * element);
        let mut index = vec![0_u64; shape.len().saturating_sub(1)];
        for source in bytes.chunks_exact(row.max(1)) {
            let mut at = 0_u64;
            for (axis, &length) in self.size.iter().enumerate() {
                at = at * length + part.offsets[axis] + index.get(axis).copied().unwrap_or(0);
            }
            let at = at as usize * element;
            whole[at..at + row].copy_from_slice(source);
            for (place, &length) in index.iter_mut().zip(shape).rev() {
                *place += 1;
                if *place < length {
                    break;
                }
                *place = 0;
            }
        }
        Ok(())
    }
}

/// A tree under construction: names come in any order, numbers are places in a list.
#[derive(Default)]
struct Node {
    value: Option<Value>,
    names: indexmap::IndexMap<String, Node>,
    places: std::collections::BTreeMap<usize, Node>,
}

impl Node {
    fn insert(&mut self, path: &[Value], value: Value, depth: usize) -> Result<()> {
        if depth > MAX_DEPTH {
            return Err(Error::unsupported("names of the checkpoint nest too deeply"));
        }
        let next = match path {
            [] => {
                self.value = Some(value);
                return Ok(());
            }
            [Value::Str(name), ..] => self.names.entry(name.clone()).or_default(),
            [Value::Int(place), ..] if usize::try_from(*place).is_ok_and(|place| place < MAX_LIST) => {
                self.places.entry(*place as usize).or_default()
            }
            [other, ..] => {
                return Err(Error::damaged(format!("{METADATA}: a path holds a {}", other.type_name())));
            }
        };
        next.insert(&path[1..], value, depth + 1)
    }

    fn value(self) -> Value {
        if let Some(value) = self.value {
            return value;
        }
        // A list with gaps, and names beside numbers, are a dictionary.
        let dense = self.places.keys().enumerate().all(|(at, &place)| at == place);
        if self.names.is_empty() && !self.places.is_empty() && dense {
            return Value::List(self.places.into_values().map(Self::value).collect());
        }
        let mut dict = StateDict::new();
        for (name, node) in self.names {
            dict.insert(name, node.value());
        }
        for (place, node) in self.places {
            dict.insert(Key::Int(place as i64), node.value());
        }
        Value::Dict(dict)
    }
}
