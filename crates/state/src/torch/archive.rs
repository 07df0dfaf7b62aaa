//! PyTorch's zip archives, since 1.6: `data.pkl`, and one entry for each storage.

use std::collections::HashMap;
use std::ops::Range;

use super::exported::{is_exported, read_exported};
use super::pickle::{self, Loader};
use super::zip::Zip;
use super::{Globals, TorchOptions, content, dtypes, tensors, write_torch};
use crate::format::{Format, Opened, Probe, Writer};
use crate::npy::holds_arrays;
use crate::{Content, DType, Error, Global, Result, Storage, Value};

/// PyTorch 1.6 and later: a zip archive of `torch.save` or `torch.export.save`.
#[derive(Debug)]
pub struct TorchZip;

impl Format for TorchZip {
    fn name(&self) -> &'static str {
        "torch-zip"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["pth", "pt", "ckpt", "bin"]
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        file.is_zip() && !file.zip().is_some_and(holds_arrays)
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        match file.zip() {
            Some(zip) if is_exported(zip) => Ok(read_exported(zip)?.into()),
            Some(zip) => Ok(read(zip, Globals::default())?.into()),
            // Opened again for its error.
            None => Ok(read(&Zip::open(file.map()?)?, Globals::default())?.into()),
        }
    }

    fn writer(&self) -> Option<Writer> {
        Some(|path, root, _| write_torch(path, root, &TorchOptions::default()))
    }
}

/// Reads an archive that may lie inside another file.
pub(super) fn read(zip: &Zip, mut globals: Globals) -> Result<Content> {
    let root = root_folder(zip)?;
    let value = read_record(zip, &root, "data.pkl", "data/", &mut globals)?;
    Ok(content(value, globals))
}

/// The folder that holds `data.pkl`: with its slash, empty for the top.
pub(crate) fn root_folder(zip: &Zip) -> Result<String> {
    let mut roots = zip.entries().iter().filter_map(|entry| {
        let root = entry.name.strip_suffix("data.pkl")?;
        (root.is_empty() || root.ends_with('/')).then_some(root)
    });
    match (roots.next(), roots.next()) {
        (Some(root), None) => Ok(root.to_string()),
        (Some(first), Some(second)) => Err(Error::damaged(format!(
            "the zip archive has two pickles, '{first}data.pkl' and '{second}data.pkl': which one counts is ambiguous"
        ))),
        (None, _) => {
            let names: Vec<_> =
                zip.entries().iter().take(3).map(|entry| format!("'{}'", entry.name.escape_debug())).collect();
            if zip.entries().iter().any(|entry| entry.name.ends_with("/.data/extern_modules")) {
                return Err(Error::unsupported(
                    "an archive of torch.package holds a program's source text with its pickles, and is not read: save the state_dict with torch.save instead",
                ));
            }
            let held = if names.is_empty() { "nothing".to_string() } else { names.join(", ") };
            Err(Error::new(
                crate::ErrorKind::UnknownFormat,
                format!("a zip archive without a data.pkl is no PyTorch file; it holds {held}"),
            ))
        }
    }
}

/// One pickle of an archive with the storages that it refers to.
pub(crate) fn read_record(zip: &Zip, root: &str, name: &str, folder: &str, globals: &mut Globals) -> Result<Value> {
    let bytes = zip.read(&format!("{root}{name}"))?;
    let big_endian = match zip.contains(&format!("{root}byteorder")) {
        false => false,
        true => match zip.read(&format!("{root}byteorder"))?.trim_ascii() {
            b"little" => false,
            b"big" => true,
            other => {
                return Err(Error::damaged(format!(
                    "the byteorder record says '{}': expected little or big",
                    other.escape_ascii()
                )));
            }
        },
    };
    let graph = pickle::read(&bytes).map_err(|error| error.within(name))?;
    let mut storages =
        Storages { zip, prefix: format!("{root}{folder}"), big_endian, found: HashMap::new(), ranges: Vec::new() };
    let value = pickle::build(&graph, &mut storages, globals)?;
    storages.check_overlap()?;
    Ok(value)
}

/// The storages of an archive, each opened when it is first referred to.
struct Storages<'z> {
    zip: &'z Zip,
    prefix: String,
    big_endian: bool,
    found: HashMap<String, Storage>,
    ranges: Vec<Range<u64>>,
}

/// The parts of a persistent id: `('storage', class, key, location, number of elements)`.
pub(crate) struct StorageId<'v> {
    pub class: &'v Global,
    pub dtype: DType,
    pub key: String,
    pub numel: u64,
}

impl<'v> StorageId<'v> {
    /// Reads an id; the checks are those of every format.
    pub fn read(parts: &'v [Value]) -> Result<Self> {
        let [tag, class, key, _, numel, ..] = parts else {
            return Err(Error::damaged(format!("a persistent id has {} parts, a storage's has 5", parts.len())));
        };
        if tag.as_str() != Some("storage") {
            return Err(Error::damaged(format!(
                "a persistent id of the unknown kind '{}'",
                tag.as_str().unwrap_or(tag.type_name())
            )));
        }
        let Value::Global(class) = class else {
            return Err(Error::damaged(format!("the class of a storage is of type {}", class.type_name())));
        };
        let Some(dtype) = dtypes::of_storage(class) else {
            return Err(Error::unsupported(format!("{class} is no storage class that is known")));
        };
        let key = match key {
            Value::Str(key) => key.clone(),
            Value::Int(key) => key.to_string(),
            Value::BigInt(key) => key.to_string(),
            other => {
                return Err(Error::damaged(format!("the key of a storage is of type {}, not text", other.type_name())));
            }
        };
        let found = numel.as_int().and_then(|numel| u64::try_from(numel).ok());
        let Some(numel) = found.filter(|numel| numel.checked_mul(dtype.size() as u64).is_some()) else {
            let found = numel.as_int().map_or_else(|| format!("of type {}", numel.type_name()), |int| int.to_string());
            return Err(Error::damaged(format!("the number of elements of storage '{key}' is {found}, out of range")));
        };
        Ok(Self { class, dtype, key, numel })
    }

    /// That `held` bytes are enough.
    pub fn check(&self, held: u64) -> Result<()> {
        let needed = self.numel * self.dtype.size() as u64;
        if held >= needed {
            return Ok(());
        }
        Err(Error::damaged(format!(
            "storage '{}' holds {held} bytes, but the pickle says {} elements of {}, {needed} bytes",
            self.key, self.numel, self.dtype
        )))
    }
}

impl Loader for Storages<'_> {
    fn persistent(&mut self, id: Value) -> Result<Value> {
        let Value::Tuple(parts) = &id else {
            return Err(Error::damaged(format!("a persistent id is of type {}, not a tuple", id.type_name())));
        };
        let id = StorageId::read(parts)?;
        let storage = match self.found.get(&id.key) {
            Some(storage) => storage.clone(),
            None => {
                let (storage, range) = self.zip.storage(&format!("{}{}", self.prefix, id.key), &id.key)?;
                let storage = if self.big_endian { storage.big_endian() } else { storage };
                self.ranges.push(range);
                self.found.insert(id.key.clone(), storage.clone());
                storage
            }
        };
        id.check(storage.len())?;
        tensors::storage_value(id.class.clone(), id.dtype, storage, 0, id.numel)
    }
}

impl Storages<'_> {
    /// That no two storages share bytes of the file, as those of a zip bomb do.
    fn check_overlap(&mut self) -> Result<()> {
        self.ranges.retain(|range| !range.is_empty());
        self.ranges.sort_unstable_by_key(|range| range.start);
        match self.ranges.windows(2).find(|pair| pair[0].end > pair[1].start) {
            Some(pair) => {
                Err(Error::damaged(format!("two storages of the zip archive overlap at byte {}", pair[1].start)))
            }
            None => Ok(()),
        }
    }
}
