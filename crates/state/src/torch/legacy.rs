//! PyTorch's legacy format, 0.1.10 to 1.5: pickles one after the other, then the storages.

use std::collections::HashMap;

use super::archive::StorageId;
use super::pickle::{self, Graph, Loader};
use super::{Globals, TorchOptions, content, tensors, write_torch};
use crate::format::{Format, Opened, Probe, Writer};
use crate::{Content, Error, Map, Result, Storage, Value};

/// The first pickle of every legacy file.
const MAGIC: &str = "119547037146038801333356";
const VERSION: i64 = 1001;

/// PyTorch 0.1.10 to 1.5: pickles and storages one after the other.
#[derive(Debug)]
pub struct TorchLegacy;

impl Format for TorchLegacy {
    fn name(&self) -> &'static str {
        "torch-legacy"
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        super::bare::is_pickle(file.bytes()) && is_legacy(file.bytes())
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        Ok(read(file.map()?, Globals::default())?.into())
    }

    fn writer(&self) -> Option<Writer> {
        Some(|path, root, _| write_torch(path, root, &TorchOptions { legacy: true, ..TorchOptions::default() }))
    }
}

/// Whether the first pickle is the magic number, in any protocol.
pub(crate) fn is_legacy(bytes: &[u8]) -> bool {
    // The number's ten bytes come within the first few: protocol, perhaps a frame, the opcode and the length.
    const NUMBER: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
    let head = &bytes[..bytes.len().min(32)];
    head.windows(NUMBER.len()).any(|window| window == NUMBER)
        || head.windows(MAGIC.len()).any(|window| window == MAGIC.as_bytes())
}

/// Reads a file that may lie inside another.
pub(super) fn read(map: &Map, mut globals: Globals) -> Result<Content> {
    let bytes = map.bytes();
    let mut at = 0;
    let magic = plain(bytes, &mut at, &mut globals, "the magic number")?;
    if !matches!(&magic, Value::BigInt(int) if int.to_string() == MAGIC) {
        return Err(Error::damaged("the magic number of PyTorch's legacy format is wrong: the file is damaged"));
    }
    match plain(bytes, &mut at, &mut globals, "the protocol version")? {
        Value::Int(VERSION) => {}
        other => {
            return Err(Error::unsupported(format!(
                "protocol version {} of PyTorch's legacy format; {VERSION} is known",
                shown(&other)
            )));
        }
    }
    let info = plain(bytes, &mut at, &mut globals, "the system information")?;
    let Some(info) = info.as_dict() else {
        let found = match &info {
            Value::Object(object) => format!("a call of {}", object.class),
            other => format!("of type {}", other.type_name()),
        };
        return Err(Error::damaged(format!("the system information is {found}, not a dictionary")));
    };
    let big_endian = info.get("little_endian").and_then(Value::as_bool) == Some(false);
    let main = graph(bytes, &mut at, "the main pickle")?;
    let keys = plain(bytes, &mut at, &mut globals, "the list of storages")?;
    let Some(keys) = keys.as_slice() else {
        return Err(Error::damaged(format!("the list of storages is of type {}", keys.type_name())));
    };
    let mut storages = Storages { elements: element_sizes(&main), found: HashMap::new() };
    for key in keys {
        let key = match key {
            Value::Str(key) => key.clone(),
            Value::Int(key) => key.to_string(),
            other => return Err(Error::damaged(format!("the key of a storage is of type {}", other.type_name()))),
        };
        at = storages.read(map, at, &key, big_endian)?;
    }
    let root = pickle::build(&main, &mut storages, &mut globals)?;
    Ok(content(root, globals))
}

/// A plain value for a message.
fn shown(value: &Value) -> String {
    match value {
        Value::Int(int) => int.to_string(),
        other => format!("of type {}", other.type_name()),
    }
}

fn graph<'a>(bytes: &'a [u8], at: &mut usize, what: &str) -> Result<Graph<'a>> {
    let graph = pickle::read(&bytes[*at..]).map_err(|error| error.within(format_args!("{what}, from byte {at}")))?;
    *at += graph.len;
    Ok(graph)
}

/// One of the pickles that refer to no storage.
fn plain(bytes: &[u8], at: &mut usize, globals: &mut Globals, what: &str) -> Result<Value> {
    let graph = graph(bytes, at, what)?;
    pickle::build(&graph, &mut super::Bare, globals).map_err(|error| error.within(what))
}

/// Bytes of an element of each storage: the list of storages does not say, the ids in the main pickle do.
fn element_sizes(graph: &Graph<'_>) -> HashMap<String, usize> {
    let mut sizes = HashMap::new();
    for node in &graph.nodes {
        let pickle::Node::Persistent(id) = node else { continue };
        let Some([_, pickle::Item::Global(class), key, ..]) = graph.elements(*id) else { continue };
        let class = graph.globals.get_index(*class as usize);
        let key = match key {
            pickle::Item::Int(key) => Some(key.to_string()),
            key => graph.text(*key).map(str::to_string),
        };
        if let (Some(dtype), Some(key)) = (class.and_then(super::dtypes::of_storage), key) {
            sizes.insert(key, dtype.size());
        }
    }
    sizes
}

struct Storages {
    elements: HashMap<String, usize>,
    found: HashMap<String, Storage>,
}

impl Storages {
    /// One storage: a count of elements, then the elements. Gives where the next begins.
    fn read(&mut self, map: &Map, at: usize, key: &str, big_endian: bool) -> Result<usize> {
        let Some(&size) = self.elements.get(key) else {
            return Err(Error::damaged(format!("the file holds a storage '{key}' that its pickle does not refer to")));
        };
        let short = |needed: u64| {
            Error::damaged(format!(
                "storage '{key}' needs {needed} bytes from byte {at}, but the file ends at byte {}: it is cut short",
                map.bytes().len()
            ))
        };
        let head = map.bytes().get(at..).and_then(|rest| rest.first_chunk::<8>()).ok_or_else(|| short(8))?;
        let numel = i64::from_le_bytes(*head);
        let len = u64::try_from(numel).ok().and_then(|numel| numel.checked_mul(size as u64));
        let len = len.ok_or_else(|| Error::damaged(format!("storage '{key}' declares {numel} elements")))?;
        let start = at as u64 + 8;
        let slice = start.checked_add(len).and_then(|end| map.slice(start..end)).ok_or_else(|| short(len))?;
        let storage = Storage::new(slice, key);
        if self.found.insert(key.to_string(), if big_endian { storage.big_endian() } else { storage }).is_some() {
            return Err(Error::damaged(format!("the file holds storage '{key}' twice")));
        }
        Ok((start + len) as usize)
    }
}

impl Loader for Storages {
    fn persistent(&mut self, id: Value) -> Result<Value> {
        let Value::Tuple(parts) = &id else {
            return Err(Error::damaged(format!("a persistent id is of type {}, not a tuple", id.type_name())));
        };
        // ('module', class, file, source): the class with its source text, which is of no use here.
        if let [Value::Str(tag), class @ Value::Global(_), ..] = parts.as_slice()
            && tag == "module"
        {
            return Ok(class.clone());
        }
        let id = StorageId::read(parts)?;
        let Some(storage) = self.found.get(&id.key) else {
            return Err(Error::damaged(format!("storage '{}' of {} elements is not in the file", id.key, id.numel)));
        };
        let size = id.dtype.size() as u64;
        let held = storage.len() / size;
        if held != id.numel {
            return Err(Error::damaged(format!(
                "storage '{}' holds {held} elements, but the pickle says {}",
                id.key, id.numel
            )));
        }
        let (mut offset, mut numel) = (0, id.numel);
        // A window on the storage that is a storage of its own: (key, offset, size).
        if let Some(Value::Tuple(window)) = parts.get(5) {
            let part = |at: usize| window.get(at).and_then(Value::as_int).and_then(|int| u64::try_from(int).ok());
            let (Some(first), Some(count)) = (part(1), part(2)) else {
                return Err(Error::damaged(format!("the window on storage '{}' has no offset and size", id.key)));
            };
            if first.checked_add(count).is_none_or(|end| end > held) {
                return Err(Error::damaged(format!(
                    "a window of {count} elements at {first} lies outside storage '{}' of {held}",
                    id.key
                )));
            }
            (offset, numel) = (first, count);
        }
        tensors::storage_value(id.class.clone(), id.dtype, storage.clone(), offset, numel)
    }
}
