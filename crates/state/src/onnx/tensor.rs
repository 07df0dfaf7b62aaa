//! A `TensorProto` as a tensor: its bytes lie in the file, in typed fields or in another file.

use prost::bytes::Bytes;

use super::external::External;
use super::proto::TensorProto;
use crate::{Array, DType, Error, Result, Storage, Tensor, Value};

/// ONNX's number of the type of texts.
const STRING: i32 = 8;

/// The element type of an ONNX number, where PyTorch has it.
fn dtype(number: i32) -> Option<DType> {
    Some(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        14 => DType::Complex64,
        15 => DType::Complex128,
        16 => DType::BF16,
        17 => DType::F8E4M3Fn,
        18 => DType::F8E4M3Fnuz,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2Fnuz,
        24 => DType::F8E8M0Fnu,
        _ => return None,
    })
}

/// Types of less than a byte: name and bits.
fn packed(number: i32) -> Option<(&'static str, u64)> {
    Some(match number {
        21 => ("uint4", 4),
        22 => ("int4", 4),
        23 => ("float4e2m1", 4),
        25 => ("uint2", 2),
        26 => ("int2", 2),
        _ => return None,
    })
}

/// The name of an element type.
pub(super) fn type_name(number: i32) -> String {
    match (dtype(number), packed(number)) {
        (Some(dtype), _) => dtype.name().to_string(),
        (_, Some((name, _))) => name.to_string(),
        _ if number == STRING => "string".to_string(),
        _ => format!("type {number}"),
    }
}

/// The value of an initializer: a tensor, a list of texts, or the raw bytes of types of less than a byte.
///
/// # Errors
/// When it does not hold as many values as its shape has, its type is unknown, or its data is in a file that is not beside the model.
pub fn value(proto: &TensorProto, external: &mut External) -> Result<Value> {
    let shape: Option<Vec<u64>> = proto.dims.iter().map(|&axis| u64::try_from(axis).ok()).collect();
    let shape = shape.ok_or_else(|| Error::damaged(format!("its shape {:?} has a negative axis", proto.dims)))?;
    let count = shape.iter().try_fold(1_u64, |n, &axis| n.checked_mul(axis));
    let count = count.ok_or_else(|| Error::damaged("its shape has more than 2^64 elements"))?;
    if proto.data_type == STRING {
        if proto.string_data.len() as u64 != count {
            return Err(Error::damaged(format!("it has {} texts for a shape of {count}", proto.string_data.len())));
        }
        let text = |bytes: &Bytes| match std::str::from_utf8(bytes) {
            Ok(text) => Value::Str(text.to_string()),
            Err(_) => Value::Bytes(bytes.to_vec()),
        };
        return Ok(Value::List(proto.string_data.iter().map(text).collect()));
    }
    let storage = if proto.data_location == 1 {
        external.storage(&proto.external_data)?
    } else if let Some(raw) = &proto.raw_data {
        external.inside(raw)
    } else {
        Storage::new(typed_data(proto), "")
    };
    if let Some(dtype) = dtype(proto.data_type) {
        let needs = count.checked_mul(dtype.size() as u64);
        if needs != Some(storage.len()) {
            return Err(Error::damaged(format!(
                "it holds {} bytes, which is not {dtype} of shape {}",
                storage.len(),
                crate::show_shape(&shape)
            )));
        }
        return Tensor::contiguous(dtype, &shape, storage, 0).map(Value::Tensor);
    }
    let Some((name, bits)) = packed(proto.data_type) else {
        return Err(Error::unsupported(format!("the element type {} of ONNX is not known", proto.data_type)));
    };
    if count.checked_mul(bits).map(|bits| bits.div_ceil(8)) != Some(storage.len()) {
        return Err(Error::damaged(format!(
            "it holds {} bytes, which is not {name} of shape {}",
            storage.len(),
            crate::show_shape(&shape)
        )));
    }
    let raw = storage.bytes()?.into_owned();
    Ok(Value::Array(Array { descr: name.to_string(), scalar: false, tensor: None, raw, shape, objects: Vec::new() }))
}

/// The bytes of values in fields of their own type; small types are widened to int32 there, and each 16-bit or 8-bit float is
/// the integer of its bits.
fn typed_data(proto: &TensorProto) -> Vec<u8> {
    let ints = &proto.int32_data;
    match dtype(proto.data_type) {
        Some(DType::F32 | DType::Complex64) => proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Some(DType::F64 | DType::Complex128) => proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Some(DType::I64) => proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Some(DType::U64) => proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Some(DType::U32) => proto.uint64_data.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect(),
        Some(DType::I32) => ints.iter().flat_map(|v| v.to_le_bytes()).collect(),
        Some(DType::I16 | DType::U16 | DType::F16 | DType::BF16) => {
            ints.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect()
        }
        _ => ints.iter().map(|v| *v as u8).collect(),
    }
}
