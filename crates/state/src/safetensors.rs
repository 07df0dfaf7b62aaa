//! safetensors: a JSON header, then the tensors' bytes without gaps.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map as JsonMap, Value as Json, json};

use crate::format::{Format, Opened, Probe, Writer};
use crate::tree::{self, Flat, flatten, unflatten};
use crate::{AtomicFile, Content, DType, Error, Map, Result, StateDict, Storage, Tensor, Value};

/// The largest header that is read or written, as in the format's own library.
const MAX_HEADER: u64 = 100_000_000;

/// The format's names of element types; the second list is read but not written, because PyTorch's own reader lacks it.
const NAMES: [(&str, DType); 16] = [
    ("F64", DType::F64),
    ("F32", DType::F32),
    ("F16", DType::F16),
    ("BF16", DType::BF16),
    ("I64", DType::I64),
    ("I32", DType::I32),
    ("I16", DType::I16),
    ("I8", DType::I8),
    ("U64", DType::U64),
    ("U32", DType::U32),
    ("U16", DType::U16),
    ("U8", DType::U8),
    ("BOOL", DType::Bool),
    ("F8_E4M3", DType::F8E4M3Fn),
    ("F8_E5M2", DType::F8E5M2),
    ("C64", DType::Complex64),
];
const READ_ONLY_NAMES: [(&str, DType); 3] =
    [("F8_E8M0", DType::F8E8M0Fnu), ("F8_E4M3FNUZ", DType::F8E4M3Fnuz), ("F8_E5M2FNUZ", DType::F8E5M2Fnuz)];

fn name_of(dtype: DType) -> Option<&'static str> {
    NAMES.iter().find(|(_, named)| *named == dtype).map(|(name, _)| *name)
}

/// safetensors: `.safetensors`.
#[derive(Debug)]
pub struct Safetensors;

impl Format for Safetensors {
    fn name(&self) -> &'static str {
        "safetensors"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["safetensors"]
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        has_header(file.bytes())
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        Ok(read_safetensors(file.map()?)?.into())
    }

    fn writer(&self) -> Option<Writer> {
        Some(|path, root, options| write_safetensors(path, root, &options.metadata))
    }

    fn keeps_metadata(&self) -> bool {
        true
    }
}

/// Eight bytes of length, of which the upper are 0, then JSON: no pickle or archive goes on like that.
pub(crate) fn has_header(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, _, 0, 0, 0, 0, b'{', ..])
}

/// Reads a safetensors file; no tensor's bytes are touched.
///
/// # Errors
/// When the header is not valid, or its offsets do not cover the file exactly once.
pub fn read_safetensors(map: &Map) -> Result<Content> {
    read(map).map_err(|error| error.at(map.path()))
}

fn read(map: &Map) -> Result<Content> {
    let bytes = map.bytes();
    let length = bytes.first_chunk::<8>().map(|length| u64::from_le_bytes(*length));
    let length =
        length.ok_or_else(|| Error::damaged(format!("a safetensors file of {} bytes has no header", bytes.len())))?;
    if length > MAX_HEADER {
        return Err(Error::damaged(format!("the header claims {length} bytes, the limit is {MAX_HEADER}")));
    }
    let held = bytes.len() as u64 - 8;
    if length > held {
        return Err(Error::damaged(format!(
            "the header claims {length} bytes, the file holds {held} after the length"
        )));
    }
    let data = 8 + length;
    let header: Header = serde_json::from_slice(&bytes[8..data as usize])
        .map_err(|error| Error::damaged(format!("the safetensors header is not valid: {error}")))?;
    cover(&header, bytes.len() as u64 - data)?;
    let mut tensors = Vec::with_capacity(header.tensors.len());
    for (name, info) in header.tensors {
        let tensor = tensor(map, data, &info).map_err(|error| error.within(format!("tensor '{name}'")))?;
        tensors.push((name, tensor));
    }
    let mut metadata = header.metadata;
    let at = metadata.iter().position(|(key, _)| key == tree::KEY);
    let structure = at.map(|at| metadata.remove(at).1);
    let tree = structure.as_deref().map(|structure| unflatten(structure, &tensors)).transpose()?.flatten();
    let root = tree.unwrap_or_else(|| Value::Dict(tensors.into_iter().collect::<StateDict>()));
    Ok(Content { root, metadata, globals: Vec::new() })
}

/// That the tensors' ranges follow each other without gap or overlap up to the end of the file.
fn cover(header: &Header, held: u64) -> Result<()> {
    let mut ranges: Vec<_> = header.tensors.iter().map(|(name, info)| (info.data_offsets, name)).collect();
    ranges.sort();
    let mut end = 0;
    for ((start, stop), name) in ranges {
        if start != end || stop < start {
            return Err(Error::damaged(format!(
                "tensor '{name}': its bytes are {start}..{stop}, expected them to begin at {end}"
            )));
        }
        end = stop;
    }
    if end != held {
        return Err(Error::damaged(format!("the tensors take {end} bytes, the file holds {held} after the header")));
    }
    Ok(())
}

fn tensor(map: &Map, data: u64, info: &Info) -> Result<Tensor> {
    let (start, stop) = info.data_offsets;
    let mut shape = info.shape.clone();
    let dtype = if info.dtype == "F4" {
        // PyTorch counts the bytes of packed pairs.
        match shape.last_mut() {
            Some(last) if *last % 2 == 0 => *last /= 2,
            _ => return Err(Error::unsupported("F4 values of an odd number along the last axis are not read")),
        }
        DType::F4E2M1FnX2
    } else {
        let known = NAMES.iter().chain(&READ_ONLY_NAMES).find(|(name, _)| *name == info.dtype);
        known.ok_or_else(|| Error::unsupported(format!("the element type '{}' is not known", info.dtype)))?.1
    };
    let expected = shape.iter().try_fold(dtype.size() as u64, |n, &axis| n.checked_mul(axis));
    if expected != Some(stop - start) {
        return Err(Error::damaged(format!(
            "it has {} bytes, which is not {dtype} of shape {}",
            stop - start,
            crate::show_shape(&shape)
        )));
    }
    let slice =
        map.slice(data + start..data + stop).ok_or_else(|| Error::damaged("its bytes are past the end of the file"))?;
    Tensor::contiguous(dtype, &shape, Storage::new(slice, ""), 0)
}

/// What the header says of a tensor.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

/// The header, with its order.
struct Header {
    tensors: Vec<(String, Info)>,
    metadata: Vec<(String, String)>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut header = Header { tensors: Vec::new(), metadata: Vec::new() };
                let mut seen = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        let fields: Option<JsonMap<String, Json>> = map.next_value()?;
                        for (key, value) in fields.unwrap_or_default() {
                            match value {
                                Json::String(text) => header.metadata.push((key, text)),
                                other => {
                                    return Err(A::Error::custom(format!(
                                        "the metadata '{key}' is {other}, expected a text"
                                    )));
                                }
                            }
                        }
                    } else if seen.insert(name.clone()) {
                        header.tensors.push((name, map.next_value()?));
                    } else {
                        return Err(A::Error::custom(format!("the tensor '{name}' is there twice")));
                    }
                }
                Ok(header)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

/// Writes a tree as a safetensors file, which appears whole or not at all.
///
/// Tensors keep their order in the header; their bytes are laid out by the size of their elements, so that each begins at a
/// multiple of it. Everything that is not a dictionary of tensors goes into the metadata under `rekindle`, which
/// [`read_safetensors`] rebuilds the tree from and other programs ignore. Returns notes on what other programs see differently.
///
/// # Errors
/// When the file cannot be written, a tensor cannot be read, or the header would be larger than the format allows.
pub fn write_safetensors(path: &Path, root: &Value, metadata: &[(String, String)]) -> Result<Vec<String>> {
    let Written { header, flat, order } = Written::plan(root, metadata).map_err(|error| error.at(path))?;
    let mut file = AtomicFile::create(path)?;
    file.put(&header)?;
    for index in order {
        file.put(&flat.tensors[index].bytes().map_err(|error| error.at(path))?)?;
    }
    file.commit()?;
    Ok(flat.notes)
}

/// A tree as the bytes of a safetensors file: what [`write_safetensors`] writes.
///
/// # Errors
/// When a tensor cannot be read, or the header would be larger than the format allows.
pub fn safetensors_bytes(root: &Value) -> Result<Vec<u8>> {
    let Written { header: mut file, flat, order } = Written::plan(root, &[])?;
    for index in order {
        file.extend_from_slice(&flat.tensors[index].bytes()?);
    }
    Ok(file)
}

/// A file that is about to be written.
struct Written {
    /// The length of the header's text, and the text.
    header: Vec<u8>,
    flat: Flat,
    /// The tensors in the order of their bytes.
    order: Vec<usize>,
}

impl Written {
    fn plan(root: &Value, metadata: &[(String, String)]) -> Result<Self> {
        let flat = flatten(root, |dtype| name_of(dtype).is_some())?;
        let mut order: Vec<usize> = (0..flat.tensors.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(flat.tensors[index].dtype.swap_unit()));
        let mut offsets = vec![(0_u64, 0_u64); order.len()];
        let mut end = 0_u64;
        for &index in &order {
            let stop = end.checked_add(flat.tensors[index].nbytes());
            let stop = stop.ok_or_else(|| Error::unsupported("the tensors have more than 2^64 bytes"))?;
            offsets[index] = (end, stop);
            end = stop;
        }
        let mut header = JsonMap::new();
        let kept = metadata.iter().filter(|(key, _)| key != tree::KEY);
        let mut fields: JsonMap<String, Json> = kept.map(|(key, value)| (key.clone(), json!(value))).collect();
        if let Some(structure) = &flat.structure {
            fields.insert(tree::KEY.to_string(), json!(structure));
        }
        if !fields.is_empty() {
            header.insert("__metadata__".to_string(), Json::Object(fields));
        }
        for (tensor, (start, stop)) in flat.tensors.iter().zip(&offsets) {
            let info = json!({"dtype": name_of(tensor.dtype), "shape": tensor.shape, "data_offsets": [start, stop]});
            header.insert(tensor.name.clone(), info);
        }
        let mut text = Json::Object(header).to_string().into_bytes();
        text.resize(text.len().next_multiple_of(8), b' ');
        if text.len() as u64 > MAX_HEADER {
            return Err(Error::unsupported(format!(
                "the header would have {} bytes, the format allows {MAX_HEADER}",
                text.len()
            )));
        }
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend(text);
        Ok(Self { header, flat, order })
    }
}
