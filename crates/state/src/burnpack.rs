//! burnpack, the format of Burn 0.22: a CBOR header, then tensors at multiples of 256 bytes.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::format::{Format, Opened, Probe, Writer};
use crate::pairs::{MAX_ENTRIES, Pairs};
use crate::tree::{self, flatten, unflatten};
use crate::{AtomicFile, Content, DType, Error, Map, Result, StateDict, Storage, Tensor, Value};

/// "BURN" as a big-endian number, written in little endian.
const MAGIC: u32 = 0x4255_524E;
const VERSION: u16 = 1;
/// Magic number, version, length of the CBOR header.
const PRELUDE: usize = 10;
/// Tensors and the data section begin at multiples of this.
const ALIGNMENT: u64 = 256;
/// The largest CBOR header, as in Burn's own reader.
const MAX_HEADER: u32 = 100 * 1024 * 1024;
/// The largest tensor that Burn's own reader takes.
const MAX_TENSOR: u64 = 10 * 1024 * 1024 * 1024;
const MAX_DEPTH: usize = 128;

/// Burn's burnpack: `.bpk`.
#[derive(Debug)]
pub struct Burnpack;

impl Format for Burnpack {
    fn name(&self) -> &'static str {
        "burnpack"
    }

    fn extensions(&self) -> &'static [&'static str] {
        &["bpk"]
    }

    fn recognizes(&self, file: &Probe<'_>) -> bool {
        file.bytes().starts_with(&MAGIC.to_le_bytes())
    }

    fn read(&self, file: &Probe<'_>) -> Result<Opened> {
        Ok(read_burnpack(file.map()?)?.into())
    }

    fn writer(&self) -> Option<Writer> {
        Some(|path, root, options| write_burnpack(path, root, &options.metadata, &options.param_ids))
    }

    fn keeps_metadata(&self) -> bool {
        true
    }
}

/// The CBOR header.
#[derive(Serialize, Deserialize)]
struct Header {
    tensors: Pairs<Info>,
    #[serde(default, skip_serializing_if = "Pairs::is_empty")]
    metadata: Pairs<String>,
    #[serde(default, skip_serializing_if = "Pairs::is_empty")]
    scalars: Pairs<Scalar>,
}

/// What the header says of a tensor.
#[derive(Serialize, Deserialize)]
struct Info {
    dtype: BurnType,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
    #[serde(default, skip_serializing_if = "Option::is_none")]
    param_id: Option<u64>,
}

/// Burn's element types, by the names that its serialization gives them.
#[derive(Serialize, Deserialize, Clone, Copy)]
enum BurnType {
    F64,
    F32,
    Flex32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool(BoolStore),
    #[serde(skip_serializing)]
    QFloat(serde::de::IgnoredAny),
}

/// How Burn keeps truth values.
#[derive(Serialize, Deserialize, Clone, Copy)]
enum BoolStore {
    Native,
    U8,
    U32,
}

/// A number beside the tensors.
#[derive(Serialize, Deserialize, Clone, Copy)]
enum Scalar {
    Int(i64),
    UInt(u64),
    Float(f64),
    Bool(bool),
}

impl BurnType {
    fn from_dtype(dtype: DType) -> Option<Self> {
        Some(match dtype {
            DType::F64 => Self::F64,
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            DType::I64 => Self::I64,
            DType::I32 => Self::I32,
            DType::I16 => Self::I16,
            DType::I8 => Self::I8,
            DType::U64 => Self::U64,
            DType::U32 => Self::U32,
            DType::U16 => Self::U16,
            DType::U8 => Self::U8,
            DType::Bool => Self::Bool(BoolStore::Native),
            _ => return None,
        })
    }

    /// The type to read as: truth values of 32 bits are read as the integers that they are.
    fn dtype(self) -> Result<DType> {
        Ok(match self {
            Self::F64 => DType::F64,
            Self::F32 | Self::Flex32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::I64 => DType::I64,
            Self::I32 => DType::I32,
            Self::I16 => DType::I16,
            Self::I8 => DType::I8,
            Self::U64 => DType::U64,
            Self::U32 | Self::Bool(BoolStore::U32) => DType::U32,
            Self::U16 => DType::U16,
            Self::U8 => DType::U8,
            Self::Bool(_) => DType::Bool,
            Self::QFloat(_) => return Err(Error::unsupported("tensors that Burn has quantized are not read")),
        })
    }
}

/// The identities that Burn gives to parameters, by tensor name.
pub type ParamIds = HashMap<String, u64>;

/// Reads a burnpack file; no tensor's bytes are touched.
///
/// # Errors
/// When the header is not valid or the file does not hold what it claims.
pub fn read_burnpack(map: &Map) -> Result<Content> {
    Ok(read_burnpack_with_ids(map)?.0)
}

/// Reads a burnpack file and the identities of its parameters.
///
/// # Errors
/// As [`read_burnpack`].
pub fn read_burnpack_with_ids(map: &Map) -> Result<(Content, ParamIds)> {
    read(map).map_err(|error| error.at(map.path()))
}

fn read(map: &Map) -> Result<(Content, ParamIds)> {
    let bytes = map.bytes();
    let prelude =
        bytes.first_chunk::<PRELUDE>().ok_or_else(|| Error::damaged("a burnpack file of fewer than 10 bytes"))?;
    let [m0, m1, m2, m3, v0, v1, l0, l1, l2, l3] = *prelude;
    if u32::from_le_bytes([m0, m1, m2, m3]) != MAGIC {
        return Err(Error::damaged("it does not begin as a burnpack file does"));
    }
    let version = u16::from_le_bytes([v0, v1]);
    if version > VERSION {
        return Err(Error::unsupported(format!("burnpack version {version} is not known, {VERSION} is")));
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    if length > MAX_HEADER {
        return Err(Error::damaged(format!("the header claims {length} bytes, the limit is {MAX_HEADER}")));
    }
    let header = bytes.get(PRELUDE..PRELUDE + length as usize).ok_or_else(|| {
        Error::damaged(format!(
            "the header claims {length} bytes, the file holds {} after the length",
            bytes.len() - PRELUDE
        ))
    })?;
    let header: Header = ciborium::de::from_reader_with_recursion_limit(header, MAX_DEPTH)
        .map_err(|error| Error::damaged(format!("the burnpack header is not valid: {error}")))?;
    let data = (PRELUDE as u64 + u64::from(length)).next_multiple_of(ALIGNMENT);

    // Burn sorts the header by name and lays the bytes out in the module's order.
    let mut infos = header.tensors.0;
    infos.sort_by_key(|(_, info)| info.data_offsets.0);
    let mut seen = HashSet::new();
    let mut ids = ParamIds::new();
    let mut tensors = Vec::with_capacity(infos.len());
    for (name, info) in infos {
        if !seen.insert(name.clone()) {
            return Err(Error::damaged(format!("the tensor '{name}' is there twice")));
        }
        let tensor = tensor(map, data, &info).map_err(|error| error.within(format!("tensor '{name}'")))?;
        ids.extend(info.param_id.map(|id| (name.clone(), id)));
        tensors.push((name, tensor));
    }
    let mut metadata = header.metadata.0;
    let at = metadata.iter().position(|(key, _)| key == tree::KEY);
    let structure = at.map(|at| metadata.remove(at).1);
    let root = match structure.as_deref().map(|structure| unflatten(structure, &tensors)).transpose()?.flatten() {
        Some(root) => root,
        None => {
            let mut dict: StateDict = tensors.into_iter().collect();
            for (name, scalar) in header.scalars.0 {
                if !seen.contains(&name) {
                    dict.insert(name, scalar_value(scalar));
                }
            }
            Value::Dict(dict)
        }
    };
    Ok((Content { root, metadata, globals: Vec::new() }, ids))
}

fn scalar_value(scalar: Scalar) -> Value {
    match scalar {
        Scalar::Int(int) => Value::Int(int),
        Scalar::UInt(int) => i64::try_from(int).map_or_else(|_| Value::BigInt(int.into()), Value::Int),
        Scalar::Float(float) => Value::Float(float),
        Scalar::Bool(value) => Value::Bool(value),
    }
}

fn tensor(map: &Map, data: u64, info: &Info) -> Result<Tensor> {
    let (start, stop) = info.data_offsets;
    let dtype = info.dtype.dtype()?;
    let held = stop.checked_sub(start).ok_or_else(|| Error::damaged(format!("its bytes are {start}..{stop}")))?;
    if info.shape.iter().try_fold(dtype.size() as u64, |n, &axis| n.checked_mul(axis)) != Some(held) {
        return Err(Error::damaged(format!(
            "it has {held} bytes, which is not {dtype} of shape {}",
            crate::show_shape(&info.shape)
        )));
    }
    let range = data.checked_add(start).zip(data.checked_add(stop));
    let slice = range.and_then(|(start, stop)| map.slice(start..stop));
    let slice =
        slice.ok_or_else(|| Error::damaged(format!("its bytes {start}..{stop} are past the end of the file")))?;
    Tensor::contiguous(dtype, &info.shape, Storage::new(slice, ""), 0)
}

/// Writes a tree as a burnpack file, which appears whole or not at all and which Burn reads.
///
/// Everything that is not a dictionary of tensors goes into the metadata under `rekindle`, as in safetensors files. Tensors named
/// in `ids` get these identities. Returns notes on what Burn sees differently.
///
/// # Errors
/// When the file cannot be written, a tensor cannot be read, or a limit of the format is passed.
pub fn write_burnpack(path: &Path, root: &Value, metadata: &[(String, String)], ids: &ParamIds) -> Result<Vec<String>> {
    write(path, root, metadata, ids).map_err(|error| error.at(path))
}

fn write(path: &Path, root: &Value, metadata: &[(String, String)], ids: &ParamIds) -> Result<Vec<String>> {
    let flat = flatten(root, |dtype| BurnType::from_dtype(dtype).is_some())?;
    if flat.tensors.len() > MAX_ENTRIES {
        return Err(Error::unsupported(format!("{} tensors, the format allows {MAX_ENTRIES}", flat.tensors.len())));
    }
    let mut end = 0_u64;
    let mut infos = Vec::with_capacity(flat.tensors.len());
    for tensor in &flat.tensors {
        let nbytes = tensor.nbytes();
        if nbytes > MAX_TENSOR {
            return Err(Error::unsupported(format!(
                "tensor '{}' has {nbytes} bytes, the format allows {MAX_TENSOR}",
                tensor.name
            )));
        }
        let start = end.next_multiple_of(ALIGNMENT);
        end = start + nbytes;
        let dtype = BurnType::from_dtype(tensor.dtype).unwrap_or(BurnType::U8);
        let param_id = ids.get(&tensor.name).copied();
        infos.push((
            tensor.name.clone(),
            Info { dtype, shape: tensor.shape.clone(), data_offsets: (start, end), param_id },
        ));
    }
    let mut metadata: Vec<_> = metadata.iter().filter(|(key, _)| key != tree::KEY).cloned().collect();
    metadata.extend(flat.structure.map(|structure| (tree::KEY.to_string(), structure)));
    let header = Header { tensors: Pairs(infos), metadata: Pairs(metadata), scalars: Pairs::default() };
    let mut cbor = Vec::new();
    ciborium::into_writer(&header, &mut cbor)
        .map_err(|error| Error::unsupported(format!("the header cannot be written: {error}")))?;
    let length = u32::try_from(cbor.len()).ok().filter(|length| *length <= MAX_HEADER);
    let length = length.ok_or_else(|| {
        Error::unsupported(format!("the header would have {} bytes, the format allows {MAX_HEADER}", cbor.len()))
    })?;

    let mut file = AtomicFile::create(path)?;
    file.put(&MAGIC.to_le_bytes())?;
    file.put(&VERSION.to_le_bytes())?;
    file.put(&length.to_le_bytes())?;
    file.put(&cbor)?;
    for tensor in &flat.tensors {
        file.pad_to(ALIGNMENT)?;
        file.put(&tensor.bytes()?)?;
    }
    if flat.tensors.is_empty() {
        file.pad_to(ALIGNMENT)?;
    }
    file.commit()?;
    Ok(flat.notes)
}
