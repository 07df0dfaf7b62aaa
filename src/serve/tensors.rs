//! Tensors in requests and answers: JSON, `.npy`, safetensors, and the binary parts of KServe's protocol.

use std::path::Path;

use rekindle_state::{DType, Map, Tensor, tensors};
use serde_json::{Map as JsonMap, Value, json};

use super::engine::Port;

/// Names in KServe's protocol, with ours.
const NAMES: &[(&str, DType)] = &[
    ("BOOL", DType::Bool),
    ("UINT8", DType::U8),
    ("UINT16", DType::U16),
    ("UINT32", DType::U32),
    ("UINT64", DType::U64),
    ("INT8", DType::I8),
    ("INT16", DType::I16),
    ("INT32", DType::I32),
    ("INT64", DType::I64),
    ("FP16", DType::F16),
    ("BF16", DType::BF16),
    ("FP32", DType::F32),
    ("FP64", DType::F64),
];

/// The name in KServe's protocol.
pub fn protocol_name(dtype: DType) -> &'static str {
    NAMES.iter().find(|(_, known)| *known == dtype).map_or("BYTES", |(name, _)| name)
}

/// The element type of a name in KServe's protocol.
pub fn of_protocol_name(name: &str) -> Option<DType> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype)
}

/// The values of a tensor as a flat JSON list. What JSON has no number for is null.
pub fn to_json(tensor: &Tensor) -> Result<Value, String> {
    let dtype = tensor.dtype();
    if dtype == DType::Bool {
        let bytes = tensor.bytes().map_err(|error| error.to_string())?;
        return Ok(Value::Array(bytes.iter().map(|byte| Value::Bool(*byte != 0)).collect()));
    }
    if dtype == DType::F32 {
        // As short as the value needs: printed as f64, 0.1 would have seventeen digits.
        let values = tensor.to_f32().map_err(|error| error.to_string())?;
        return Ok(Value::Array(values.into_iter().map(short).collect()));
    }
    if dtype.is_float() {
        let values = tensor.to_f64().map_err(|error| error.to_string())?;
        return Ok(Value::Array(values.into_iter().map(|value| json!(value)).collect()));
    }
    let values = tensor.to_i64().map_err(|error| error.to_string())?;
    Ok(Value::Array(values.into_iter().map(|value| json!(value)).collect()))
}

/// The shortest number that reads back as the same f32.
pub fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, |value| json!(value))
}

/// A tensor from JSON values, nested or flat.
///
/// # Errors
/// When lists are ragged, values do not fit the type, or there are too few or many for the shape.
pub fn from_json(value: &Value, dtype: DType, shape: Option<&[u64]>) -> Result<Tensor, String> {
    let mut found = Vec::new();
    let mut bytes = Vec::new();
    let mut count = 0_u64;
    collect(value, dtype, 0, &mut found, &mut bytes, &mut count)?;
    let shape = match shape {
        Some(shape) => shape.to_vec(),
        None => found,
    };
    let wanted = shape.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
    if wanted != Some(count) {
        return Err(format!("the shape {shape:?} does not hold {count} values"));
    }
    Tensor::from_bytes(dtype, &shape, bytes).map_err(|error| error.to_string())
}

/// Lists may be nested this deep.
const DEEPEST: usize = 16;

fn collect(
    value: &Value,
    dtype: DType,
    depth: usize,
    shape: &mut Vec<u64>,
    bytes: &mut Vec<u8>,
    count: &mut u64,
) -> Result<(), String> {
    let Value::Array(list) = value else {
        push(value, dtype, bytes)?;
        *count += 1;
        return if shape.len() == depth { Ok(()) } else { Err("a list has a number where others have lists".into()) };
    };
    if depth >= DEEPEST {
        return Err(format!("lists are nested deeper than {DEEPEST}"));
    }
    match shape.get(depth) {
        // Only before the first number is read does a new axis appear.
        None if *count == 0 => shape.push(list.len() as u64),
        None => return Err("a list has a list where others have numbers".into()),
        Some(len) if *len != list.len() as u64 => {
            return Err(format!("lists of {len} and of {} values are side by side", list.len()));
        }
        Some(_) => {}
    }
    list.iter().try_for_each(|item| collect(item, dtype, depth + 1, shape, bytes, count))
}

fn push(value: &Value, dtype: DType, bytes: &mut Vec<u8>) -> Result<(), String> {
    let wrong = || format!("expected a value of {dtype}, found {value}");
    if dtype.is_float() {
        let number = if value.is_null() { f64::NAN } else { value.as_f64().ok_or_else(wrong)? };
        match dtype {
            DType::F64 => bytes.extend(number.to_le_bytes()),
            DType::F32 => bytes.extend((number as f32).to_le_bytes()),
            DType::F16 => bytes.extend(half::f16::from_f64(number).to_le_bytes()),
            DType::BF16 => bytes.extend(half::bf16::from_f64(number).to_le_bytes()),
            _ => return Err(format!("values of {dtype} cannot be given as JSON")),
        }
        return Ok(());
    }
    if dtype == DType::Bool {
        let flag = value.as_bool().or_else(|| value.as_u64().filter(|v| *v < 2).map(|v| v == 1)).ok_or_else(wrong)?;
        bytes.push(u8::from(flag));
        return Ok(());
    }
    let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from)).ok_or_else(wrong)?;
    macro_rules! put {
        ($type:ty) => {
            bytes.extend(<$type>::try_from(number).map_err(|_| wrong())?.to_le_bytes())
        };
    }
    match dtype {
        DType::U8 => put!(u8),
        DType::U16 => put!(u16),
        DType::U32 => put!(u32),
        DType::U64 => put!(u64),
        DType::I8 => put!(i8),
        DType::I16 => put!(i16),
        DType::I32 => put!(i32),
        DType::I64 => put!(i64),
        _ => return Err(format!("values of {dtype} cannot be given as JSON")),
    }
    Ok(())
}

/// A tensor as KServe's protocol describes it, with its data as JSON.
pub fn described(name: &str, tensor: &Tensor) -> Result<JsonMap<String, Value>, String> {
    let mut map = JsonMap::new();
    map.insert("name".into(), json!(name));
    map.insert("shape".into(), json!(tensor.shape()));
    map.insert("datatype".into(), json!(protocol_name(tensor.dtype())));
    map.insert("data".into(), to_json(tensor)?);
    Ok(map)
}

/// The tensors of a `.npy` or safetensors body, in the order of the model's inputs.
///
/// # Errors
/// When the bytes are neither, or an input is missing.
pub fn from_file(bytes: Vec<u8>, ports: &[Port]) -> Result<Vec<Tensor>, String> {
    let map = Map::from_bytes(Path::new("the body"), bytes);
    let content = if map.bytes().starts_with(b"\x93NUMPY") {
        rekindle_state::read_npy(&map)
    } else {
        rekindle_state::read_safetensors(&map)
    };
    let content = content.map_err(|error| error.to_string())?;
    let found = tensors(&content.root);
    if let ([(_, tensor)], [_]) = (found.as_slice(), ports) {
        return Ok(vec![(*tensor).clone()]);
    }
    let of = |port: &Port| {
        let tensor = found.iter().find(|(name, _)| *name == port.name);
        tensor.map(|(_, tensor)| (*tensor).clone()).ok_or_else(|| format!("the body has no tensor '{}'", port.name))
    };
    ports.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str) -> Port {
        Port { name: name.into(), dtype: Some(DType::F32), shape: Some(vec![None, Some(2)]) }
    }

    #[test]
    fn nested_lists_have_a_shape_and_ragged_ones_none() {
        let tensor = from_json(&json!([[1, 2.5], [3, null]]), DType::F32, None).unwrap();
        assert_eq!(tensor.shape(), [2, 2]);
        assert!(tensor.to_f32().unwrap()[3].is_nan());
        assert_eq!(from_json(&json!([1, 2, 3, 4]), DType::I64, Some(&[2, 2])).unwrap().shape(), [2, 2]);
        for wrong in [json!([[1, 2], [3]]), json!([1, [2]]), json!([[1], 2]), json!(["a"]), json!({"a": 1})] {
            assert!(from_json(&wrong, DType::F32, None).is_err(), "{wrong}");
        }
        for (value, dtype) in [(json!([300]), DType::U8), (json!([-1]), DType::U32), (json!([1.5]), DType::I64)] {
            assert!(from_json(&value, dtype, None).is_err(), "{value}");
        }
        assert!(from_json(&json!([1, 2]), DType::F32, Some(&[u64::MAX, 2])).is_err());
    }

    #[test]
    fn files_in_memory_are_read_back() {
        let tensor = Tensor::from_f32(&[1, 2], &[0.1, -2.0]).unwrap();
        let npy = from_file(rekindle_state::npy_bytes(&tensor).unwrap(), &[port("x")]).unwrap();
        assert_eq!(npy[0].to_f32().unwrap(), [0.1, -2.0]);
        let mut named = rekindle_state::StateDict::new();
        named.insert("x", tensor);
        named.insert("y", Tensor::from_i64(&[1], &[7]).unwrap());
        let file = rekindle_state::safetensors_bytes(&rekindle_state::Value::Dict(named)).unwrap();
        let both = from_file(file, &[port("y"), port("x")]).unwrap();
        assert_eq!((both[0].to_i64().unwrap(), both[1].to_f32().unwrap()), (vec![7], vec![0.1, -2.0]));
        assert!(from_file(b"nonsense".to_vec(), &[port("x")]).is_err());
    }

    #[test]
    fn a_float_is_as_short_as_it_can_be() {
        assert_eq!(short(0.1).to_string(), "0.1");
        assert_eq!(short(f32::NAN), Value::Null);
    }
}
