//! Keys of dictionaries from values.

use super::distributed;
use crate::{Error, Key, Result, Value};

/// A value as a key. `place` tells apart keys without a text of their own: tensors, objects.
pub(crate) fn key(value: Value, place: usize) -> Result<Key> {
    Ok(match value {
        Value::Str(text) => Key::Str(text),
        Value::Int(int) => Key::Int(int),
        Value::Bool(value) => Key::Bool(value),
        Value::None => Key::None,
        Value::Float(float) => Key::Float(float.to_bits()),
        Value::Bytes(bytes) => Key::Bytes(bytes),
        Value::Tuple(items) => Key::Tuple(items.into_iter().map(|item| key(item, place)).collect::<Result<_>>()?),
        Value::BigInt(int) => Key::Other(int.to_string()),
        Value::Complex(re, im) => Key::Other(format!("({re}{im:+}j)")),
        Value::DType(name) => Key::Other(format!("torch.{name}")),
        Value::Device(name) => Key::Other(name),
        Value::Global(global) => Key::Other(global.to_string()),
        value @ (Value::List(_) | Value::Dict(_)) => {
            return Err(Error::damaged(format!(
                "a {} is the key of a dictionary, which Python does not allow",
                value.type_name()
            )));
        }
        Value::Object(object) if object.class.name == "MetadataIndex" => distributed::index_key(&object, place),
        // Old optimizers keep their state by parameter: each is a key of its own.
        other => Key::Other(format!("<{} {place}>", other.type_name())),
    })
}
