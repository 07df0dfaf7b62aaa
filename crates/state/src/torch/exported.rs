//! Archives of `torch.export.save` (`.pt2`): each weight in an entry of its own beside a description of all, and the form before
//! PyTorch 2.8, with a file of `torch.save` inside. The program is not read.

use std::collections::HashMap;

use serde::Deserialize;
use serde_json::{Map, Value as Json};

use super::zip::Zip;
use super::{Globals, content, inner_file};
use crate::{Content, DType, Error, Result, StateDict, Storage, Tensor, Value, View};

/// What the descriptions of weights and of constants end with.
const CONFIGS: [(&str, &str); 2] = [("weights/", "_weights_config.json"), ("constants/", "_constants_config.json")];
/// Files of `torch.save` that hold weights and constants: up to PyTorch 2.7, and in 2.8.
const INSIDE: [&str; 4] =
    ["serialized_state_dict.pt", "serialized_constants.pt", "data/weights/model.pt", "data/constants/model.pt"];

#[derive(Deserialize)]
struct Config {
    config: Map<String, Json>,
}

/// Where a tensor lies and what it is.
#[derive(Deserialize)]
struct Payload {
    path_name: String,
    #[serde(default)]
    use_pickle: bool,
    #[serde(default)]
    is_param: bool,
    tensor_meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    dtype: u64,
    sizes: Vec<Number>,
    strides: Vec<Number>,
    storage_offset: Number,
    #[serde(default)]
    requires_grad: bool,
}

/// A number of the program, which could also be a symbol.
#[derive(Deserialize)]
struct Number {
    as_int: Option<u64>,
}

/// Whether an archive is one of `torch.export`.
pub(super) fn is_exported(zip: &Zip) -> bool {
    zip.entries().iter().any(|entry| {
        let name = entry.name.rsplit('/').next().unwrap_or_default();
        matches!(name, "archive_format" | "serialized_exported_program.json") || INSIDE[..2].contains(&name)
    })
}

/// Reads the weights and constants of an archive, under the names of the program's state dict.
pub(super) fn read_exported(zip: &Zip) -> Result<Content> {
    let mut dict = StateDict::ordered();
    let mut globals = Globals::default();
    // A program without parameters has a list of weights that is empty.
    let mut lists = 0;
    for (folder, end) in CONFIGS {
        let configs = zip.entries().iter().filter(|entry| entry.name.ends_with(end));
        for entry in configs {
            let Some(at) = entry.name.rfind(folder) else { continue };
            let broken = |error| Error::damaged(format!("'{}' is not what torch.export writes: {error}", entry.name));
            let config: Config = serde_json::from_slice(&zip.read(&entry.name)?).map_err(broken)?;
            let mut storages = HashMap::new();
            lists += 1;
            for (name, payload) in config.config {
                let payload: Payload = serde_json::from_value(payload).map_err(broken)?;
                let value = weight(zip, &entry.name[..at + folder.len()], &payload, &mut storages, &mut globals);
                dict.insert(name.as_str(), value.map_err(|error| error.within(format!("tensor '{name}'")))?);
            }
        }
    }
    for inside in INSIDE {
        let found =
            zip.entries().iter().find(|entry| entry.name == inside || entry.name.ends_with(&format!("/{inside}")));
        let Some(entry) = found else { continue };
        if let Value::Dict(entries) = inner_file(&zip.file(&entry.name)?, &entry.name, &mut globals)? {
            entries.into_iter().for_each(|(key, value)| {
                dict.insert(key, value);
            });
        }
    }
    if dict.is_empty() && lists == 0 {
        return Err(Error::unsupported(
            "an archive of torch.export (.pt2) without weights in it: save the module's state_dict with torch.save instead",
        ));
    }
    Ok(content(Value::Dict(dict), globals))
}

fn weight(
    zip: &Zip,
    folder: &str,
    payload: &Payload,
    storages: &mut HashMap<String, Storage>,
    globals: &mut Globals,
) -> Result<Value> {
    let entry = format!("{folder}{}", payload.path_name);
    if payload.use_pickle {
        return inner_file(&zip.file(&entry)?, &entry, globals);
    }
    let Some(meta) = &payload.tensor_meta else {
        return Err(Error::unsupported("an object of the program's own is no tensor"));
    };
    let dtype = dtype(meta.dtype)?;
    let storage = match storages.get(&entry) {
        Some(storage) => storage.clone(),
        None => {
            let storage = zip.storage(&entry, &payload.path_name)?.0;
            let order = folder.split("data/").next().unwrap_or_default();
            let byteorder = format!("{order}byteorder");
            let big = zip.contains(&byteorder) && zip.read(&byteorder)?.trim_ascii() == b"big";
            let storage = if big { storage.big_endian() } else { storage };
            storages.insert(entry, storage.clone());
            storage
        }
    };
    let numbers = |numbers: &[Number]| numbers.iter().map(number).collect::<Result<Vec<u64>>>();
    let view = View {
        storage,
        offset: number(&meta.storage_offset)?,
        strides: numbers(&meta.strides)?,
        conjugate: false,
        negative: false,
    };
    let mut tensor = Tensor::strided(dtype, &numbers(&meta.sizes)?, view)?;
    tensor.parameter = payload.is_param;
    tensor.requires_grad = meta.requires_grad;
    Ok(Value::Tensor(tensor))
}

fn number(number: &Number) -> Result<u64> {
    number.as_int.ok_or_else(|| Error::unsupported("a size of it is a symbol, not a number"))
}

/// PyTorch's numbers of element types in exported programs.
fn dtype(number: u64) -> Result<DType> {
    Ok(match number {
        1 => DType::U8,
        2 => DType::I8,
        3 => DType::I16,
        4 => DType::I32,
        5 => DType::I64,
        6 => DType::F16,
        7 => DType::F32,
        8 => DType::F64,
        9 => DType::ComplexHalf,
        10 => DType::Complex64,
        11 => DType::Complex128,
        12 => DType::Bool,
        13 => DType::BF16,
        28 => DType::U16,
        29 => DType::F8E4M3Fn,
        30 => DType::F8E5M2,
        31 => DType::F8E4M3Fnuz,
        32 => DType::F8E5M2Fnuz,
        33 => DType::F8E8M0Fnu,
        34 => DType::U32,
        35 => DType::U64,
        other => {
            return Err(Error::unsupported(format!("the element type has the number {other}, which is not known")));
        }
    })
}
