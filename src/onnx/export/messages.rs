//! Small messages of ONNX.

use rekindle_state::onnx::proto::{
    Dimension, StringStringEntryProto, TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto, dimension,
    type_proto,
};

use super::dims::{BATCH, Dim};

/// A value's name, element type and shape. A multiple of the batch size has no name of its own, and is left open.
pub fn value_info(name: &str, element_type: i32, shape: &[Dim]) -> ValueInfoProto {
    let axis = |dim: &Dim| Dimension {
        value: match dim {
            Dim::Fixed(size) => Some(dimension::Value::DimValue(*size as i64)),
            Dim::Batch(1) => Some(dimension::Value::DimParam(BATCH.to_string())),
            Dim::Batch(_) => None,
        },
        ..Dimension::default()
    };
    let shape = Some(TensorShapeProto { dim: shape.iter().map(axis).collect() });
    let value = Some(type_proto::Value::TensorType(TensorType { elem_type: element_type, shape }));
    ValueInfoProto {
        name: name.to_string(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// The sizes of a value's axes, as far as they are known.
pub fn sizes(info: &ValueInfoProto) -> Vec<Option<usize>> {
    let Some(type_proto::Value::TensorType(tensor)) = info.r#type.as_ref().and_then(|kind| kind.value.as_ref()) else {
        return Vec::new();
    };
    let size = |axis: &Dimension| match axis.value {
        Some(dimension::Value::DimValue(size)) => usize::try_from(size).ok(),
        _ => None,
    };
    tensor.shape.iter().flat_map(|shape| &shape.dim).map(size).collect()
}

/// A constant list of 64-bit integers.
pub fn integers(name: &str, values: &[i64]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto {
        name: name.to_string(),
        dims: vec![values.len() as i64],
        data_type: 7,
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// A key and its value.
pub fn entry(key: impl Into<String>, value: impl Into<String>) -> StringStringEntryProto {
    StringStringEntryProto { key: key.into(), value: value.into() }
}
