//! numpy's files: `.npy`, one array, and `.npz`, a zip archive of them.

mod header;
mod npz;

use std::path::Path;

use header::Header;
pub(crate) use npz::holds_arrays;
pub use npz::{Npz, read_npz, write_npz};

use crate::format::{Format, Opened, Probe, Writer};
use crate::{Array, AtomicFile, Content, DType, Error, Map, Result, Storage, Tensor, Value, View};

/// One numpy array: `.npy`.
#[derive(Debug)]
pub struct Npy;

impl Format for Npy {
    fn name(&self) -> &'static str {
        "npy"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["npy"]
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        file.bytes().starts_with(b"\x93NUMPY")
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        Ok(read_npy(file.map()?)?.into())
    }

    fn writer(&self) -> Option<Writer> {
        Some(|path, root, _| write_npy(path, root))
    }
}

/// Reads a `.npy` file; the elements are not touched. Arrays of a type that PyTorch lacks (text, dates) are kept as raw bytes.
///
/// # Errors
/// When the header is not valid, the file does not hold what it claims, or the elements are Python objects or records.
pub fn read_npy(map: &Map) -> Result<Content> {
    let read = || {
        let header = Header::parse(map.bytes())?;
        let data = header.length;
        let end = map.bytes().len() as u64;
        let slice = map.slice(data..end).ok_or_else(|| Error::damaged("it ends inside its header"))?;
        array(&header, Storage::new(slice, ""), 0)
    };
    let root = read().map_err(|error: Error| error.at(map.path()))?;
    Ok(Content { root, metadata: Vec::new(), globals: Vec::new() })
}

/// The array whose elements begin at a byte of a storage.
fn array(header: &Header, storage: Storage, start: u64) -> Result<Value> {
    let held = storage.len().saturating_sub(start);
    let count = header.shape.iter().try_fold(1_u64, |n, &axis| n.checked_mul(axis));
    let needs = count.and_then(|count| count.checked_mul(header.item_size()?));
    let Some(needs) = needs else {
        return Err(Error::unsupported(format!(
            "arrays of type {} are not read: objects would run code, records are no tensors; save plain arrays",
            header.descr
        )));
    };
    if needs > held {
        return Err(Error::damaged(format!("the array needs {needs} bytes, the file holds {held}")));
    }
    if let Some(dtype) = header.dtype() {
        let size = dtype.size() as u64;
        let (storage, offset) = if start.is_multiple_of(size) {
            (if header.is_big_endian() { storage.big_endian() } else { storage }, start / size)
        } else {
            // A header of an odd length: offsets count elements.
            let copied = Storage::new(storage.bytes()?.get(start as usize..).unwrap_or_default().to_vec(), "");
            (if header.is_big_endian() { copied.big_endian() } else { copied }, 0)
        };
        let tensor = if header.fortran_order {
            let mut step = 1_u64;
            let mut strides = Vec::with_capacity(header.shape.len());
            for &axis in &header.shape {
                strides.push(step);
                step = step.saturating_mul(axis.max(1));
            }
            Tensor::strided(dtype, &header.shape, View { storage, offset, strides, conjugate: false, negative: false })?
        } else {
            Tensor::contiguous(dtype, &header.shape, storage, offset)?
        };
        return Ok(Value::Tensor(tensor));
    }
    if header.fortran_order && header.shape.len() > 1 {
        return Err(Error::unsupported(format!("arrays of type {} in Fortran order are not read", header.descr)));
    }
    let bytes = storage.bytes()?;
    let raw = bytes
        .get(start as usize..(start + needs) as usize)
        .ok_or_else(|| Error::damaged("the array is cut short"))?
        .to_vec();
    let shape = header.shape.clone();
    Ok(Value::Array(Array {
        descr: header.descr.clone(),
        scalar: false,
        tensor: None,
        raw,
        shape,
        objects: Vec::new(),
    }))
}

/// numpy's description of an element type, where it has one.
fn descr(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F64 => "<f8",
        DType::F32 => "<f4",
        DType::F16 => "<f2",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::I16 => "<i2",
        DType::I8 => "|i1",
        DType::U64 => "<u8",
        DType::U32 => "<u4",
        DType::U16 => "<u2",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
        DType::Complex64 => "<c8",
        DType::Complex128 => "<c16",
        _ => return None,
    })
}

/// A tensor of a type that numpy has: itself, or as 32-bit floats with a note.
fn for_numpy(name: &str, tensor: &Tensor, notes: &mut Vec<String>) -> Result<Option<Tensor>> {
    if tensor.layout() == "strided" && descr(tensor.dtype()).is_some() {
        return Ok(Some(tensor.clone()));
    }
    let cast = match tensor.layout() {
        "strided" => tensor.cast(DType::F32),
        layout => Err(Error::unsupported(format!("a {layout} tensor is no array"))),
    };
    match cast {
        Ok(cast) => {
            notes.push(format!("'{name}' is {}, which numpy lacks: it is written as float32", tensor.dtype()));
            Ok(Some(cast))
        }
        Err(error) if error.kind() == crate::ErrorKind::Unsupported => {
            notes.push(format!(
                "'{name}' is a {} {} tensor, which numpy lacks: it is left out",
                tensor.layout(),
                tensor.dtype()
            ));
            Ok(None)
        }
        Err(error) => Err(error.within(format!("tensor '{name}'"))),
    }
}

/// The header of a row-major array.
fn header_of(tensor: &Tensor) -> Vec<u8> {
    header::format(descr(tensor.dtype()).unwrap_or("|u1"), tensor.shape())
}

/// Writes the only tensor of a tree as a `.npy` file, which appears whole or not at all. Returns notes on what was changed.
///
/// # Errors
/// When there is not exactly one tensor, or the file cannot be written.
pub fn write_npy(path: &Path, root: &Value) -> Result<Vec<String>> {
    let mut tensors = Vec::new();
    crate::walk(root, &mut |name, value| {
        if let Value::Tensor(tensor) | Value::Array(Array { tensor: Some(tensor), .. }) = value {
            tensors.push((name.to_string(), tensor.clone()));
        }
    });
    let [(name, tensor)] = tensors.as_slice() else {
        return Err(Error::unsupported(format!(
            "a .npy file holds one tensor, there are {}: choose one with --key or --only, or write a .npz file",
            tensors.len()
        ))
        .at(path));
    };
    let mut notes = Vec::new();
    let Some(tensor) = for_numpy(name, tensor, &mut notes).map_err(|error| error.at(path))? else {
        return Err(Error::unsupported(notes.concat()).at(path));
    };
    let bytes = tensor.bytes().map_err(|error| error.at(path))?;
    let mut file = AtomicFile::create(path)?;
    file.put(&header_of(&tensor))?;
    file.put(&bytes)?;
    file.commit()?;
    Ok(notes)
}

/// A tensor as the bytes of an `.npy` file. What NumPy has no type for is widened as [`write_npy`] does it.
///
/// # Errors
/// When NumPy has no type for its values, or they cannot be read.
pub fn npy_bytes(tensor: &Tensor) -> Result<Vec<u8>> {
    let mut notes = Vec::new();
    let Some(tensor) = for_numpy("the tensor", tensor, &mut notes)? else {
        return Err(Error::unsupported(notes.concat()));
    };
    let mut file = header_of(&tensor);
    file.extend_from_slice(&tensor.bytes()?);
    Ok(file)
}
