//! Small models, made in memory.

#![allow(dead_code, reason = "each test uses a part of it")]

pub mod hostile;

use rekindle_state::onnx::proto::type_proto::Value as Type;
use rekindle_state::onnx::proto::{
    AttributeProto, Dimension, FunctionProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, TensorShapeProto, TensorType, TypeProto, ValueInfoProto, attribute, dimension,
};

/// A node.
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<AttributeProto>) -> NodeProto {
    NodeProto {
        op_type: operator.to_string(),
        input: names(inputs),
        output: names(outputs),
        attribute: attributes,
        ..NodeProto::default()
    }
}

pub fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_string(), r#type: attribute::INT, i: value, ..AttributeProto::default() }
}

pub fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto {
        name: name.to_string(),
        r#type: attribute::INTS,
        ints: values.to_vec(),
        ..AttributeProto::default()
    }
}

pub fn text(name: &str, value: &str) -> AttributeProto {
    AttributeProto {
        name: name.to_string(),
        r#type: attribute::STRING,
        s: value.as_bytes().to_vec().into(),
        ..AttributeProto::default()
    }
}

pub fn graph(name: &str, graph: GraphProto) -> AttributeProto {
    AttributeProto { name: name.to_string(), r#type: attribute::GRAPH, g: Some(graph), ..AttributeProto::default() }
}

/// A float tensor with its values in `raw_data`.
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    TensorProto {
        name: name.to_string(),
        dims: dims.to_vec(),
        data_type: 1,
        raw_data: Some(raw.into()),
        ..TensorProto::default()
    }
}

/// Integers without axes when there is one, else a list.
pub fn int64s(name: &str, values: &[i64]) -> TensorProto {
    let raw: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let dims = if values.len() == 1 { Vec::new() } else { vec![values.len() as i64] };
    TensorProto { name: name.to_string(), dims, data_type: 7, raw_data: Some(raw.into()), ..TensorProto::default() }
}

/// A float tensor whose values are in another file.
pub fn external(name: &str, dims: &[i64], location: &str, offset: u64) -> TensorProto {
    let entry = |key: &str, value: String| StringStringEntryProto { key: key.to_string(), value };
    let external_data = vec![entry("location", location.to_string()), entry("offset", offset.to_string())];
    TensorProto {
        name: name.to_string(),
        dims: dims.to_vec(),
        data_type: 1,
        external_data,
        data_location: 1,
        ..TensorProto::default()
    }
}

/// An input or output: a tensor of an element type and of the axes.
pub fn port(name: &str, dtype: i32, axes: &[i64]) -> ValueInfoProto {
    let dim = axes
        .iter()
        .map(|&axis| Dimension { value: Some(dimension::Value::DimValue(axis)), ..Dimension::default() })
        .collect();
    let tensor = TensorType { elem_type: dtype, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto {
        name: name.to_string(),
        r#type: Some(TypeProto { value: Some(Type::TensorType(tensor)), ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// A value of which nothing is said.
pub fn untyped(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.to_string(), ..ValueInfoProto::default() }
}

pub fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: name.to_string(),
        domain: "own".to_string(),
        input: names(inputs),
        output: names(outputs),
        node: nodes,
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 21 }],
        ..FunctionProto::default()
    }
}

/// A call of a function of the model.
pub fn call(function: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: "own".to_string(), ..node(function, inputs, outputs, Vec::new()) }
}

pub fn model(graph: GraphProto, functions: Vec<FunctionProto>) -> ModelProto {
    let set = |domain: &str, version| OperatorSetIdProto { domain: domain.to_string(), version };
    ModelProto {
        ir_version: 10,
        graph: Some(graph),
        opset_import: vec![set("", 21), set("own", 1)],
        functions,
        ..ModelProto::default()
    }
}
