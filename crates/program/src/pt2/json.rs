//! The JSON of an exported program, as `torch/_export/serde/schema.py` defines it: majors 5, 7 and 8.

use std::collections::HashMap;

use rekindle_onnx::DType;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::{Error, Result};

/// The whole file.
#[derive(Debug, Deserialize)]
pub struct ExportedProgram {
    pub graph_module: GraphModule,
    #[serde(default)]
    pub torch_version: String,
}

#[derive(Debug, Deserialize)]
pub struct Version {
    pub major: u32,
    #[serde(default)]
    pub minor: u32,
}

#[derive(Debug, Deserialize)]
pub struct GraphModule {
    pub graph: Graph,
    pub signature: Signature,
}

#[derive(Debug, Deserialize)]
pub struct Graph {
    #[serde(default)]
    pub inputs: Vec<Json>,
    #[serde(default)]
    pub outputs: Vec<Json>,
    pub nodes: Vec<Node>,
    #[serde(default)]
    pub tensor_values: HashMap<String, TensorMeta>,
}

#[derive(Debug, Deserialize)]
pub struct Node {
    pub target: String,
    #[serde(default)]
    pub inputs: Vec<NamedArgument>,
    #[serde(default)]
    pub outputs: Vec<Json>,
    #[serde(default)]
    pub metadata: HashMap<String, String>,
}

#[derive(Debug, Deserialize)]
pub struct NamedArgument {
    #[serde(default)]
    pub name: String,
    pub arg: Json,
}

#[derive(Debug, Clone, Deserialize)]
pub struct TensorMeta {
    pub dtype: i64,
    #[serde(default)]
    pub sizes: Vec<Json>,
    #[serde(default)]
    pub strides: Vec<Json>,
}

#[derive(Debug, Deserialize)]
pub struct Signature {
    pub input_specs: Vec<serde_json::Map<String, Json>>,
    pub output_specs: Vec<serde_json::Map<String, Json>>,
}

/// A size in the description of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Size {
    Known(i64),
    /// An expression of symbols, with its value in the example that was exported.
    Open {
        expression: String,
        hint: Option<i64>,
    },
}

impl Size {
    pub fn hint(&self) -> Option<i64> {
        match self {
            Self::Known(size) => Some(*size),
            Self::Open { hint, .. } => *hint,
        }
    }

    /// Reads `{"as_int": 3}` or `{"as_expr": {"expr_str": "…", "hint": {"as_int": 2}}}`.
    pub fn read(json: &Json) -> Result<Self> {
        if let Some(int) = json.get("as_int").and_then(Json::as_i64) {
            return Ok(Self::Known(int));
        }
        let expression = json.get("as_expr").and_then(|expr| Some((expr.get("expr_str")?.as_str()?, expr.get("hint"))));
        let (text, hint) = expression.ok_or_else(|| Error::invalid(format!("a size of the program is {json}")))?;
        let hint = hint.and_then(|hint| hint.get("as_int")).and_then(Json::as_i64);
        Ok(Self::Open { expression: text.to_string(), hint })
    }

    /// The symbol, if the expression is one alone: `s77` of `Symbol('s77', positive=True, integer=True)`.
    pub fn symbol(&self) -> Option<&str> {
        let Self::Open { expression, .. } = self else { return None };
        let name = match expression.strip_prefix("Symbol('") {
            Some(rest) => rest.split_once('\'').filter(|(_, rest)| !rest.contains("Symbol"))?.0,
            None => expression,
        };
        name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
    }
}

/// The case of a union and what it holds: `{"as_int": 3}` is `("as_int", 3)`.
pub fn case(json: &Json) -> Result<(&str, &Json)> {
    let found = json.as_object().and_then(|map| {
        // Older writers name every case and set all but one to null.
        map.iter().find(|(_, value)| !value.is_null()).or_else(|| map.iter().next())
    });
    found.map(|(key, value)| (key.as_str(), value)).ok_or_else(|| Error::invalid(format!("no argument: {json}")))
}

/// PyTorch's element types by the numbers of the schema.
pub fn dtype(number: i64) -> Result<DType> {
    Ok(match number {
        1 => DType::U8,
        2 => DType::I8,
        3 => DType::I16,
        4 => DType::I32,
        5 => DType::I64,
        6 => DType::F16,
        7 => DType::F32,
        8 => DType::F64,
        12 => DType::Bool,
        13 => DType::BF16,
        other => return Err(Error::beyond(format!("element type number {other}"))),
    })
}

/// The type of the parts of a complex element type.
pub fn complex_part(number: i64) -> Option<DType> {
    match number {
        10 => Some(DType::F32),
        11 => Some(DType::F64),
        _ => None,
    }
}

/// A float, which JSON has no word for when it is infinite.
pub fn float(json: &Json) -> Option<f64> {
    match json {
        Json::String(text) => match text.as_str() {
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            "NaN" => Some(f64::NAN),
            text => text.parse().ok(),
        },
        other => other.as_f64(),
    }
}
