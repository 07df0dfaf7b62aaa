//! `.npz`: a zip archive of `.npy` files.

use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

use super::header::Header;
use super::{array, for_numpy, header_of};
use crate::format::{Format, Opened, Probe, Writer};
use crate::torch::zip::Zip;
use crate::torch::zip_write::ZipWriter;
use crate::{Array, AtomicFile, Content, Error, Map, Result, StateDict, Tensor, Value, walk};

/// How much of a deflated entry is unpacked to find its header.
const HEAD: u64 = 1 << 17;

/// A zip archive of numpy arrays: `.npz`.
#[derive(Debug)]
pub struct Npz;

impl Format for Npz {
    fn name(&self) -> &'static str {
        "npz"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["npz"]
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        file.zip().is_some_and(holds_arrays)
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        Ok(read_npz(file.map()?)?.into())
    }

    fn writer(&self) -> Option<Writer> {
        Some(|path, root, _| write_npz(path, root))
    }
}

/// Whether an archive holds nothing but arrays.
pub(crate) fn holds_arrays(zip: &Zip) -> bool {
    let mut entries = zip.entries().iter().filter(|entry| !entry.name.ends_with('/')).peekable();
    entries.peek().is_some() && entries.all(|entry| entry.name.ends_with(".npy"))
}

/// Reads a `.npz` file, stored or deflated; deflated arrays are unpacked when their bytes are asked for.
///
/// # Errors
/// When the archive or one of its headers is not valid, or an array holds Python objects or records.
pub fn read_npz(map: &Map) -> Result<Content> {
    let zip = Zip::open(map).map_err(|error| error.at(map.path()))?;
    read_npz_entries(map, &zip).map_err(|error| error.at(map.path()))
}

/// Reads the arrays of an archive that is known to be a `.npz` file.
pub(crate) fn read_npz_entries(map: &Map, zip: &Zip) -> Result<Content> {
    let mut root = StateDict::new();
    for entry in zip.entries() {
        let Some(name) = entry.name.strip_suffix(".npy") else { continue };
        let value = read_entry(map, zip, &entry.name).map_err(|error| error.within(format!("array '{name}'")))?;
        root.insert(name, value);
    }
    Ok(Content { root: Value::Dict(root), metadata: Vec::new(), globals: Vec::new() })
}

fn read_entry(map: &Map, zip: &Zip, name: &str) -> Result<Value> {
    let (storage, range) = zip.storage(name, name)?;
    let packed = map.bytes().get(range.start as usize..range.end as usize).unwrap_or_default();
    // A deflated stream does not begin with numpy's magic.
    let header = if packed.starts_with(b"\x93NUMPY") {
        Header::parse(packed)?
    } else {
        let mut head = Vec::new();
        let mut decoder = flate2::read::DeflateDecoder::new(packed).take(HEAD);
        decoder.read_to_end(&mut head).map_err(|error| Error::damaged(format!("it does not unpack: {error}")))?;
        Header::parse(&head)?
    };
    array(&header, storage, header.length)
}

/// Writes the tensors of a tree as a `.npz` file, which appears whole or not at all.
///
/// Names are paths, joined by `/`; a sole tensor is `arr_0`, as numpy has it. Integers, floats and truth values become arrays
/// without axes. Returns notes on what was changed or left out.
///
/// # Errors
/// When the file cannot be written or a tensor cannot be read.
pub fn write_npz(path: &Path, root: &Value) -> Result<Vec<String>> {
    let mut arrays: Vec<(String, Tensor)> = Vec::new();
    let mut notes = Vec::new();
    walk(root, &mut |name, value| {
        let name = if name.is_empty() { "arr_0" } else { name };
        let tensor = match value {
            Value::Tensor(tensor) | Value::Array(Array { tensor: Some(tensor), .. }) => Some(tensor.clone()),
            Value::Int(int) => Tensor::from_bytes(crate::DType::I64, &[], int.to_le_bytes().to_vec()).ok(),
            Value::Float(float) => Tensor::from_bytes(crate::DType::F64, &[], float.to_le_bytes().to_vec()).ok(),
            Value::Bool(value) => Tensor::from_bytes(crate::DType::Bool, &[], vec![u8::from(*value)]).ok(),
            _ => None,
        };
        match tensor {
            Some(tensor) => arrays.push((name.to_string(), tensor)),
            None => notes.push(format!(
                "'{name}' is of type {}, which a .npz file does not hold: it is left out",
                value.type_name()
            )),
        }
    });
    let mut zip = ZipWriter::new(AtomicFile::create(path)?);
    let mut names = HashSet::new();
    for (name, tensor) in arrays {
        let mut unique = name.clone();
        let mut number = 1;
        while !names.insert(unique.clone()) {
            number += 1;
            unique = format!("{name}~{number}");
        }
        let Some(tensor) = for_numpy(&name, &tensor, &mut notes).map_err(|error| error.at(path))? else { continue };
        let bytes = tensor.bytes().map_err(|error| error.within(format!("tensor '{name}'")).at(path))?;
        zip.add_parts(&format!("{unique}.npy"), &header_of(&tensor), &bytes).map_err(|error| error.at(path))?;
    }
    zip.finish()?.commit()?;
    Ok(notes)
}
