//! Test data in the layout of the ONNX project: `input_0.pb`, …, `output_0.pb`, … beside a model, and the comparison with them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use prost::Message;
use prost::bytes::Bytes;
pub use rekindle_state::Tolerance;
use rekindle_state::gap;
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{MapProto, OptionalProto, SequenceProto, TensorProto};

use crate::graph::{Kind, Port, weight};
use crate::{Array, DType, Error, Result, Value};

/// Reads the files `stem_0.pb`, `stem_1.pb`, … of a folder for the ports they belong to; files that are not there are left out.
///
/// # Errors
/// When a file cannot be read.
pub fn read_values(folder: &Path, stem: &str, ports: &[Port]) -> Result<Vec<(String, Value)>> {
    let mut values = Vec::new();
    for (position, port) in ports.iter().enumerate() {
        let path = folder.join(format!("{stem}_{position}.pb"));
        if path.is_file() {
            values.push((port.name.clone(), read_value(&path, &port.kind)?));
        }
    }
    Ok(values)
}

/// Reads a value from a file, which does not say itself of what kind it is.
///
/// # Errors
/// When it cannot be read or is not of that kind.
pub fn read_value(path: &Path, kind: &Kind) -> Result<Value> {
    let bytes: Bytes =
        std::fs::read(path).map_err(|error| Error::invalid(format!("cannot be read: {error}")).at(path))?.into();
    let mut external = External::new(path.parent().unwrap_or(Path::new("")));
    let broken = |error: prost::DecodeError| Error::invalid(format!("it is no valid value: {error}"));
    let value = match kind {
        Kind::Other("a sequence") => {
            SequenceProto::decode(bytes).map_err(broken).and_then(|proto| sequence(&proto, &mut external))
        }
        Kind::Other("an optional value") => {
            OptionalProto::decode(bytes).map_err(broken).and_then(|proto| optional(&proto, &mut external))
        }
        Kind::Other("a map") => MapProto::decode(bytes).map_err(broken).and_then(|proto| map(&proto, &mut external)),
        _ => TensorProto::decode(bytes).map_err(broken).and_then(|proto| tensor(&proto, &mut external)),
    };
    value.map_err(|error| error.at(path))
}

fn tensor(proto: &TensorProto, external: &mut External) -> Result<Value> {
    Ok(weight::read(proto, external)?.array()?.into())
}

fn sequence(proto: &SequenceProto, external: &mut External) -> Result<Value> {
    let mut values = Vec::new();
    for proto in &proto.tensor_values {
        values.push(tensor(proto, external)?);
    }
    for proto in &proto.sequence_values {
        values.push(sequence(proto, external)?);
    }
    for proto in &proto.map_values {
        values.push(map(proto, external)?);
    }
    for proto in &proto.optional_values {
        values.push(optional(proto, external)?);
    }
    Ok(Value::Sequence(values))
}

fn optional(proto: &OptionalProto, external: &mut External) -> Result<Value> {
    let value = match proto {
        OptionalProto { tensor_value: Some(proto), .. } => Some(tensor(proto, external)?),
        OptionalProto { sequence_value: Some(proto), .. } => Some(sequence(proto, external)?),
        OptionalProto { map_value: Some(proto), .. } => Some(map(proto, external)?),
        OptionalProto { optional_value: Some(proto), .. } => Some(optional(proto, external)?),
        _ => None,
    };
    Ok(Value::Optional(value.map(Box::new)))
}

fn map(proto: &MapProto, external: &mut External) -> Result<Value> {
    let empty = SequenceProto::default();
    let Value::Sequence(values) = sequence(proto.values.as_ref().unwrap_or(&empty), external)? else {
        return Err(Error::invalid("a map without values"));
    };
    if proto.string_keys.is_empty() {
        return Ok(Value::IntMap(proto.keys.iter().copied().zip(values).collect()));
    }
    let keys = proto.string_keys.iter().map(|key| String::from_utf8_lossy(key).into_owned());
    Ok(Value::StrMap(keys.zip(values).collect::<BTreeMap<_, _>>()))
}

/// How a value differs from what is expected; `None` when it agrees. `worst` keeps the greatest difference seen.
///
/// # Errors
/// Never for values of equal kinds: reading numbers of an array that has none.
pub fn difference(found: &Value, expected: &Value, tolerance: Tolerance, worst: &mut f64) -> Result<Option<String>> {
    match (found, expected) {
        (Value::Array(found), Value::Array(expected)) => arrays(found, expected, tolerance, worst),
        (Value::Sequence(found), Value::Sequence(expected)) => {
            if found.len() != expected.len() {
                return Ok(Some(format!("{} elements instead of {}", found.len(), expected.len())));
            }
            for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
                if let Some(how) = difference(found, expected, tolerance, worst)? {
                    return Ok(Some(format!("element {i}: {how}")));
                }
            }
            Ok(None)
        }
        (Value::Optional(Some(found)), Value::Optional(Some(expected))) => {
            difference(found, expected, tolerance, worst)
        }
        (Value::Optional(None), Value::Optional(None)) => Ok(None),
        // An optional value that is there may be given as itself.
        (found, Value::Optional(Some(expected))) => difference(found, expected, tolerance, worst),
        (Value::IntMap(found), Value::IntMap(expected)) => maps(found, expected, tolerance, worst),
        (Value::StrMap(found), Value::StrMap(expected)) => maps(found, expected, tolerance, worst),
        (found, expected) if found == expected => Ok(None),
        (found, expected) => Ok(Some(format!("{} instead of {}, or another one", found.kind(), expected.kind()))),
    }
}

fn maps<K: Ord + fmt::Display>(
    found: &BTreeMap<K, Value>,
    expected: &BTreeMap<K, Value>,
    tolerance: Tolerance,
    worst: &mut f64,
) -> Result<Option<String>> {
    if !found.keys().eq(expected.keys()) {
        let list = |map: &BTreeMap<K, Value>| map.keys().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return Ok(Some(format!("the keys {} instead of {}", list(found), list(expected))));
    }
    for (key, expected) in expected {
        if let Some(how) = difference(&found[key], expected, tolerance, worst)? {
            return Ok(Some(format!("key '{key}': {how}")));
        }
    }
    Ok(None)
}

fn arrays(found: &Array, expected: &Array, tolerance: Tolerance, worst: &mut f64) -> Result<Option<String>> {
    if found.dtype() != expected.dtype() || found.shape() != expected.shape() {
        let kind = |array: &Array| format!("{} of shape {:?}", array.dtype(), array.shape());
        return Ok(Some(format!("{} instead of {}", kind(found), kind(expected))));
    }
    if !expected.dtype().is_float() {
        return Ok((found != expected).then(|| "other values".to_string()));
    }
    // Two units in the last place of a bfloat16, as ONNX's own runner allows: the order of a sum makes that much.
    let rtol = if expected.dtype() == DType::BF16 { tolerance.rtol.max(1.0 / 64.0) } else { tolerance.rtol };
    let tolerance = Tolerance { rtol, ..tolerance };
    let mut wrong = 0;
    let mut first = None;
    for (i, (found, expected)) in found.floats()?.into_iter().zip(expected.floats()?).enumerate() {
        let apart = gap(found, expected);
        if apart.is_finite() {
            *worst = worst.max(apart);
        }
        if tolerance.allows_gap(apart, expected) {
            continue;
        }
        wrong += 1;
        first.get_or_insert((i, found, expected));
    }
    Ok(first.map(|(i, a, b)| {
        format!("{wrong} of {} values differ, first at position {i}: {a} instead of {b}", found.len())
    }))
}
