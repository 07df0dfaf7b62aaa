//! Values that are no tensors, as JSON.

use serde_json::{Value as Json, json};

use crate::{Array, DType, Global, Object, Result, StateDict, Value, hashes};

/// Integers beyond this cannot be told apart by programs that keep numbers as doubles: they become text.
const EXACT: u64 = 1 << 53;
/// Text is cut after this many characters, so that source code in a pickle does not fill a listing.
const TEXT: usize = 100_000;

/// A value as JSON: what JSON has as it is, all else as an object with its type.
pub(crate) fn json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(int) if int.unsigned_abs() <= EXACT => json!(int),
        Value::Int(int) => json!(int.to_string()),
        Value::BigInt(int) => json!(int.to_string()),
        Value::Float(float) => number(*float),
        Value::Complex(re, im) => json!({"type": "complex", "real": number(*re), "imag": number(*im)}),
        Value::Str(text) if text.len() > TEXT => json!(text.chars().take(TEXT).collect::<String>()),
        Value::Str(text) => json!(text),
        Value::Bytes(bytes) => json!({"type": "bytes", "length": bytes.len()}),
        Value::ByteArray(bytes) => json!({"type": "bytearray", "length": bytes.len()}),
        Value::List(items) | Value::Tuple(items) => items.iter().map(json).collect(),
        Value::Set(items) | Value::FrozenSet(items) => {
            json!({"type": value.type_name(), "items": items.iter().map(json).collect::<Vec<_>>()})
        }
        Value::Dict(dict) => entries(dict),
        Value::Tensor(tensor) => json!({"type": "Tensor", "dtype": tensor.dtype().name(), "shape": tensor.shape()}),
        Value::Array(array) => shape_of(array),
        Value::DType(name) => json!({"type": "dtype", "value": format!("torch.{name}")}),
        Value::Device(name) => json!({"type": "device", "value": name}),
        Value::Global(global) => named(global),
        Value::Object(object) => opaque(object),
    }
}

fn entries(dict: &StateDict) -> Json {
    Json::Object(dict.iter().map(|(key, value)| (key.text().into_owned(), json(value))).collect())
}

/// What was looked up by its name: a constant of Python or PyTorch, a class or a function.
fn named(global: &Global) -> Json {
    let Global { module, name } = global;
    let constant = match (module.as_str(), name.as_str()) {
        ("builtins" | "__builtin__", "Ellipsis") => return json!({"type": "ellipsis"}),
        ("builtins" | "__builtin__", "NotImplemented") => return json!({"type": "NotImplementedType"}),
        ("torch", "strided" | "_mkldnn" | "jagged") => "layout",
        ("torch", name) if name.starts_with("sparse_") => "layout",
        ("torch", "contiguous_format" | "channels_last" | "channels_last_3d" | "preserve_format") => "memory_format",
        ("torch", name) if name.starts_with("per_tensor_") || name.starts_with("per_channel_") => "qscheme",
        _ => {
            // Python's convention: classes begin with a capital letter, but for the interpreter's and numpy's.
            let function = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
                && !matches!(
                    module.split('.').next(),
                    Some("builtins" | "__builtin__" | "numpy" | "collections" | "datetime")
                );
            return json!({"type": if function { "function" } else { "type" }, "class": global.to_string()});
        }
    };
    json!({"type": constant, "value": global.to_string()})
}

/// A float; JSON has no infinities.
fn number(float: f64) -> Json {
    if float.is_nan() {
        json!("nan")
    } else if float.is_infinite() {
        json!(if float > 0.0 { "inf" } else { "-inf" })
    } else {
        json!(float)
    }
}

/// An opaque object: its class, and what it would have been made from.
fn opaque(object: &Object) -> Json {
    let mut out = serde_json::Map::new();
    // Protocol 2 writes Python 2's names.
    let name = if object.class.name == "xrange" { "range" } else { &object.class.name };
    out.insert("type".to_string(), json!(name));
    out.insert("class".to_string(), json!(object.class.to_string()));
    if !object.args.is_empty() {
        out.insert("arguments".to_string(), object.args.iter().map(json).collect());
    }
    match &object.state {
        Value::None => {}
        Value::Dict(dict) => {
            out.insert("attributes".to_string(), entries(dict));
        }
        other => {
            out.insert("state".to_string(), json(other));
        }
    }
    if !object.items.is_empty() {
        out.insert("items".to_string(), object.items.iter().map(json).collect());
    }
    if !object.entries.is_empty() {
        out.insert("entries".to_string(), entries(&object.entries));
    }
    Json::Object(out)
}

/// numpy's name of the element type: `float32` where PyTorch has it, the description otherwise.
fn type_name(array: &Array) -> String {
    match &array.tensor {
        Some(tensor) if tensor.dtype() == DType::Bool => "numpy.bool".to_string(),
        Some(tensor) => format!("numpy.{}", tensor.dtype().name()),
        None => match array.descr.trim_start_matches(['|', '<', '>', '=']) {
            kind if kind.starts_with('O') => "numpy.object".to_string(),
            "f16" => "numpy.float128".to_string(),
            "c32" => "numpy.complex256".to_string(),
            // Dates and spans carry their unit: `M8[ns]`.
            kind if kind.starts_with("M8") => format!("numpy.datetime64{}", &kind[2..]),
            kind if kind.starts_with("m8") => format!("numpy.timedelta64{}", &kind[2..]),
            _ => format!("numpy.{}", array.descr),
        },
    }
}

fn shape_of(array: &Array) -> Json {
    if array.scalar
        && let Some(value) = scalar(array).or_else(|| text(array))
    {
        return value;
    }
    json!({"type": type_name(array), "shape": array.shape})
}

/// A numpy array by type, shape and hash; a scalar by its value.
pub(crate) fn array(array: &Array, hash: bool) -> Result<Json> {
    let mut out = shape_of(array);
    if let Json::Object(out) = &mut out {
        if !array.objects.is_empty() {
            out.insert("items".to_string(), array.objects.iter().map(json).collect());
        } else if hash {
            let sha256 = match &array.tensor {
                Some(tensor) => hashes::sha256(tensor)?,
                None => Some(hashes::hex(&array.raw)),
            };
            out.insert("sha256".to_string(), json!(sha256));
        }
    }
    Ok(out)
}

/// A scalar of a real type.
fn scalar(array: &Array) -> Option<Json> {
    let tensor = array.tensor.as_ref()?;
    let bytes = tensor.bytes().ok()?;
    Some(match (tensor.dtype(), &*bytes) {
        (DType::F64, bytes) => number(f64::from_le_bytes(bytes.try_into().ok()?)),
        (DType::F32, bytes) => number(f64::from(f32::from_le_bytes(bytes.try_into().ok()?))),
        (DType::F16, bytes) => number(half::f16::from_le_bytes(bytes.try_into().ok()?).to_f64()),
        (DType::Bool, [byte]) => json!(*byte != 0),
        (DType::U64, bytes) => {
            let int = u64::from_le_bytes(bytes.try_into().ok()?);
            if int <= EXACT { json!(int) } else { json!(int.to_string()) }
        }
        (DType::I64, bytes) => json(&Value::Int(i64::from_le_bytes(bytes.try_into().ok()?))),
        (DType::I32, bytes) => json!(i32::from_le_bytes(bytes.try_into().ok()?)),
        (DType::I16, bytes) => json!(i16::from_le_bytes(bytes.try_into().ok()?)),
        (DType::I8, bytes) => json!(i8::from_le_bytes(bytes.try_into().ok()?)),
        (DType::U32, bytes) => json!(u32::from_le_bytes(bytes.try_into().ok()?)),
        (DType::U16, bytes) => json!(u16::from_le_bytes(bytes.try_into().ok()?)),
        (DType::U8, [byte]) => json!(byte),
        (DType::Complex64, bytes) => {
            let (re, im) = bytes.split_first_chunk::<4>()?;
            let (re, im) = (f32::from_le_bytes(*re), f32::from_le_bytes(im.try_into().ok()?));
            json(&Value::Complex(f64::from(re), f64::from(im)))
        }
        (DType::Complex128, bytes) => {
            let (re, im) = bytes.split_first_chunk::<8>()?;
            json(&Value::Complex(f64::from_le_bytes(*re), f64::from_le_bytes(im.try_into().ok()?)))
        }
        _ => return None,
    })
}

/// A scalar of text: UTF-32, or bytes that are text.
fn text(array: &Array) -> Option<Json> {
    match array.descr.as_bytes() {
        [b'<', b'U', ..] => {
            let points = array.raw.as_chunks::<4>().0.iter().map(|point| char::from_u32(u32::from_le_bytes(*point)));
            Some(json!(points.collect::<Option<String>>()?.trim_end_matches('\0')))
        }
        [_, b'S', ..] => Some(json!(std::str::from_utf8(&array.raw).ok()?.trim_end_matches('\0'))),
        _ => None,
    }
}
