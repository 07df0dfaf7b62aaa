//! PyTorch's oldest format, up to 0.1.9: a tar archive of `sys_info`, `pickle`, `storages` and `tensors`.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::{self, Loader};
use super::{Globals, content, dtypes, tensors};
use crate::format::{Format, Opened, Probe};
use crate::{Content, DType, Error, Global, Map, Result, Storage, Tensor, Value, View};

const BLOCK: usize = 512;
/// The most axes that a tensor of these files is believed to have.
const AXES: u32 = 1024;

/// PyTorch up to 0.1.9: a tar archive.
#[derive(Debug)]
pub struct TorchTar;

impl Format for TorchTar {
    fn name(&self) -> &'static str {
        "torch-tar"
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        header(file.bytes(), 0).is_some()
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        Ok(read_tar(file.map()?)?.into())
    }
}

/// Name, kind and size of the member whose header is at `at`; none if its checksum is wrong.
fn header(bytes: &[u8], at: usize) -> Option<(String, u8, u64)> {
    let head = bytes.get(at..)?.get(..BLOCK)?;
    let sum: u64 =
        head.iter().enumerate().map(|(i, &byte)| u64::from(if (148..156).contains(&i) { b' ' } else { byte })).sum();
    if head[0] == 0 || octal(&head[148..156])? != sum {
        return None;
    }
    let name = head[..100].split(|&byte| byte == 0).next()?;
    Some((String::from_utf8_lossy(name).into_owned(), head[156], octal(&head[124..136])?))
}

fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    u64::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
}

/// The members by their names without folders.
fn members(bytes: &[u8]) -> Result<HashMap<String, Range<usize>>> {
    let mut members = HashMap::new();
    let mut at = 0;
    while let Some((name, kind, size)) = header(bytes, at) {
        let start = at + BLOCK;
        let end = usize::try_from(size).ok().and_then(|size| start.checked_add(size)).filter(|&end| end <= bytes.len());
        let Some(end) = end else {
            return Err(Error::damaged(format!(
                "the tar member '{name}' claims {size} bytes, the file ends before: it is cut short"
            )));
        };
        if matches!(kind, 0 | b'0') {
            let name = name.rsplit('/').next().unwrap_or_default().to_string();
            members.insert(name, start..end);
        }
        at = end.next_multiple_of(BLOCK);
    }
    Ok(members)
}

/// Reads a tar file of PyTorch's.
fn read_tar(map: &Map) -> Result<Content> {
    let members = members(map.bytes())?;
    let member = |name: &str| {
        members.get(name).cloned().ok_or_else(|| {
            let mut held: Vec<_> = members.keys().take(4).map(String::as_str).collect();
            held.sort_unstable();
            Error::new(
                crate::ErrorKind::UnknownFormat,
                format!(
                    "a tar archive without a member '{name}' is no PyTorch file (it holds {}): unpack it first",
                    held.join(", ")
                ),
            )
        })
    };
    let (main, storages, tensors) = (member("pickle")?, member("storages")?, member("tensors")?);
    let mut globals = Globals::default();
    let storages = read_storages(map, storages, &mut globals).map_err(|error| error.within("storages"))?;
    let tensors = read_tensors(map, tensors, &storages, &mut globals).map_err(|error| error.within("tensors"))?;
    let graph = pickle::read(&map.bytes()[main]).map_err(|error| error.within("pickle"))?;
    let root = pickle::build(&graph, &mut Objects { storages, tensors }, &mut globals)?;
    Ok(content(root, globals))
}

/// A member that holds pickles and raw numbers one after the other.
struct Cursor<'a> {
    map: &'a Map,
    range: Range<usize>,
}

impl Cursor<'_> {
    fn pickle(&mut self, globals: &mut Globals) -> Result<Value> {
        let graph = pickle::read(&self.map.bytes()[self.range.clone()])?;
        self.range.start += graph.len;
        pickle::build(&graph, &mut super::Bare, globals)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.map.bytes()[self.range.clone()].first_chunk::<N>();
        let bytes = *bytes.ok_or_else(|| Error::damaged("the member ends early: the file is cut short"))?;
        self.range.start += N;
        Ok(bytes)
    }

    fn size(&mut self) -> Result<u64> {
        let size = i64::from_le_bytes(self.take()?);
        u64::try_from(size).map_err(|_| Error::damaged(format!("a size is negative: {size}")))
    }

    /// How many objects follow; each takes more than one byte.
    fn count(&mut self, globals: &mut Globals) -> Result<usize> {
        let count = self.pickle(globals)?;
        let found = count.as_int().and_then(|count| usize::try_from(count).ok());
        found
            .filter(|&count| count <= self.range.len())
            .ok_or_else(|| Error::damaged("the number of objects is out of range"))
    }
}

/// The key of an object: an integer in these members, its digits in the main pickle.
fn key(value: &Value) -> Result<String> {
    match value {
        Value::Str(key) => Ok(key.clone()),
        Value::Int(key) => Ok(key.to_string()),
        Value::BigInt(key) => Ok(key.to_string()),
        other => Err(Error::damaged(format!("the key of an object is of type {}", other.type_name()))),
    }
}

/// A storage, or a window on one.
#[derive(Clone)]
struct Elements {
    class: Global,
    dtype: DType,
    storage: Storage,
    offset: u64,
    numel: u64,
}

fn read_storages(map: &Map, range: Range<usize>, globals: &mut Globals) -> Result<HashMap<String, Elements>> {
    let mut cursor = Cursor { map, range };
    let mut storages = HashMap::new();
    for _ in 0..cursor.count(globals)? {
        let id = cursor.pickle(globals)?;
        let Some([id, _, Value::Global(class)]) = id.as_slice() else {
            return Err(Error::damaged("the head of a storage is not (key, location, class)"));
        };
        let (id, dtype) = (key(id)?, dtypes::of_storage(class));
        let dtype = dtype.ok_or_else(|| Error::unsupported(format!("{class} is no storage class that is known")))?;
        let numel = cursor.size()?;
        let start = cursor.range.start as u64;
        let end = numel.checked_mul(dtype.size() as u64).and_then(|len| start.checked_add(len));
        let slice = end.filter(|&end| end <= cursor.range.end as u64).and_then(|end| map.slice(start..end));
        let Some(slice) = slice else {
            return Err(Error::damaged(format!(
                "storage '{id}' declares {numel} elements of {dtype}, more than follow"
            )));
        };
        cursor.range.start = (start + numel * dtype.size() as u64) as usize;
        let storage = Storage::new(slice, &id);
        storages.insert(id, Elements { class: class.clone(), dtype, storage, offset: 0, numel });
    }
    // Windows on storages that are storages of their own: (key, key of the whole, offset, size).
    if !cursor.range.is_empty() {
        let windows = cursor.pickle(globals)?;
        for window in windows.as_slice().unwrap_or_default() {
            let Some([id, whole, Value::Int(offset), Value::Int(numel)]) = window.as_slice() else {
                return Err(Error::damaged("a window on a storage is not (key, key, offset, size)"));
            };
            let whole = storages
                .get(&key(whole)?)
                .cloned()
                .ok_or_else(|| Error::damaged("a window on a storage that is not there"))?;
            let (offset, numel) =
                (u64::try_from(*offset).unwrap_or(u64::MAX), u64::try_from(*numel).unwrap_or(u64::MAX));
            if offset.checked_add(numel).is_none_or(|end| end > whole.numel) {
                return Err(Error::damaged("a window lies outside its storage"));
            }
            storages.insert(key(id)?, Elements { offset, numel, ..whole });
        }
    }
    Ok(storages)
}

fn read_tensors(
    map: &Map,
    range: Range<usize>,
    storages: &HashMap<String, Elements>,
    globals: &mut Globals,
) -> Result<HashMap<String, Tensor>> {
    let mut cursor = Cursor { map, range };
    let mut tensors = HashMap::new();
    for _ in 0..cursor.count(globals)? {
        let id = cursor.pickle(globals)?;
        let Some([id, storage, Value::Global(class)]) = id.as_slice() else {
            return Err(Error::damaged("the head of a tensor is not (key, storage, class)"));
        };
        // The number of axes takes four bytes, and four more that say nothing.
        let axes = u32::from_le_bytes(cursor.take()?);
        cursor.take::<4>()?;
        if axes > AXES {
            return Err(Error::damaged(format!("a tensor of {axes} axes (at most {AXES} are read)")));
        }
        let mut shape = (0..axes).map(|_| cursor.size()).collect::<Result<Vec<_>>>()?;
        let strides = (0..axes).map(|_| cursor.size()).collect::<Result<Vec<_>>>()?;
        let offset = cursor.size()?;
        let dtype = dtypes::of_tensor(class)
            .ok_or_else(|| Error::unsupported(format!("{class} is no tensor class that is known")))?;
        let (storage, offset) = match storages.get(&key(storage).unwrap_or_default()) {
            Some(elements) if elements.dtype == dtype => {
                (elements.storage.clone(), offset.saturating_add(elements.offset))
            }
            Some(elements) => {
                return Err(Error::damaged(format!("a {dtype} tensor on a storage of {}", elements.dtype)));
            }
            // A tensor that was never given elements has no storage.
            None if matches!(storage, Value::None | Value::Int(0)) => (Storage::new(Vec::new(), ""), 0),
            None => return Err(Error::damaged("a tensor refers to a storage that is not there")),
        };
        let mut strides = strides;
        if axes == 0 {
            // These releases had no scalars: no axes meant no elements.
            (shape, strides) = (vec![0], vec![1]);
        }
        let view = View { storage, offset, strides, conjugate: false, negative: false };
        tensors.insert(key(id)?, Tensor::strided(dtype, &shape, view)?);
    }
    Ok(tensors)
}

/// What the main pickle refers to: tensors and storages by key, classes with their source text.
struct Objects {
    storages: HashMap<String, Elements>,
    tensors: HashMap<String, Tensor>,
}

impl Loader for Objects {
    fn persistent(&mut self, id: Value) -> Result<Value> {
        if let Some([class @ Value::Global(_), ..]) = id.as_slice() {
            return Ok(class.clone());
        }
        let id = key(&id)?;
        if let Some(tensor) = self.tensors.get(&id) {
            return Ok(Value::Tensor(tensor.clone()));
        }
        match self.storages.get(&id) {
            Some(Elements { class, dtype, storage, offset, numel }) => {
                tensors::storage_value(class.clone(), *dtype, storage.clone(), *offset, *numel)
            }
            None => Err(Error::damaged(format!("object '{id}' is not in the file"))),
        }
    }
}
