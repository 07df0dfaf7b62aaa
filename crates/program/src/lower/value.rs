//! Values of a program while it is lowered.

use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

use crate::{Error, Result};

/// The number of a tensor of the program; several may share memory.
pub type TensorId = usize;

/// An integer: known, or computed by the graph from sizes or data (a scalar of int64).
#[derive(Debug, Clone, PartialEq)]
pub enum Int {
    /// Known when the program is lowered.
    Known(i64),
    /// A value of the graph.
    Open(ValueName),
}

/// A float: known, or computed by the graph (a scalar of float64).
#[derive(Debug, Clone, PartialEq)]
pub enum Float {
    /// Known when the program is lowered.
    Known(f64),
    /// A value of the graph.
    Open(ValueName),
}

/// The size of an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dim {
    /// Always the same.
    Size(usize),
    /// Another in other runs.
    Open,
}

impl Dim {
    /// The size, if it is always the same.
    pub fn size(self) -> Option<usize> {
        if let Self::Size(size) = self { Some(size) } else { None }
    }
}

/// Anything that an operator takes or gives.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing.
    None,
    /// A tensor.
    Tensor(TensorId),
    /// A complex tensor: its real and its imaginary part.
    Complex(TensorId, TensorId),
    /// An integer.
    Int(Int),
    /// A float.
    Float(Float),
    /// A truth value.
    Bool(bool),
    /// A truth value of sizes or data: a scalar of the graph.
    OpenBool(ValueName),
    /// Text.
    Str(String),
    /// An element type.
    DType(DType),
    /// The complex type whose parts are of a type.
    ComplexType(DType),
    /// A device, layout or memory format.
    Other,
    /// A list or tuple.
    List(Vec<Value>),
}

impl Value {
    /// A known integer.
    pub fn int(value: i64) -> Self {
        Self::Int(Int::Known(value))
    }

    /// Known integers.
    pub fn ints(values: &[i64]) -> Self {
        Self::List(values.iter().map(|&value| Self::int(value)).collect())
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Tensor(_) => "a tensor",
            Self::Complex(..) => "a complex tensor",
            Self::Int(_) => "an integer",
            Self::Float(_) => "a float",
            Self::Bool(_) | Self::OpenBool(_) => "a truth value",
            Self::Str(_) => "text",
            Self::DType(_) | Self::ComplexType(_) => "an element type",
            Self::Other => "a device or layout",
            Self::List(_) => "a list",
        }
    }

    /// Whether it is nothing.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }

    /// The tensor.
    pub fn tensor(&self) -> Result<TensorId> {
        match self {
            Self::Tensor(tensor) => Ok(*tensor),
            other => Err(Error::invalid(format!("expected a tensor, found {}", other.kind()))),
        }
    }

    /// The elements.
    pub fn list(&self) -> Result<&[Value]> {
        match self {
            Self::List(values) => Ok(values),
            other => Err(Error::invalid(format!("expected a list, found {}", other.kind()))),
        }
    }
}

/// The arguments of one call, in the order of the operator's schema, with defaults filled in.
#[derive(Debug)]
pub struct Args {
    /// Name of the operator, without namespace and overload.
    pub operator: String,
    /// The overload.
    pub overload: String,
    /// Names and values.
    pub values: Vec<(String, Value)>,
}

impl Args {
    /// An argument, or None when the operator has none of that name.
    pub fn get(&self, name: &str) -> &Value {
        self.values.iter().find(|(own, _)| own == name).map_or(&Value::None, |(_, value)| value)
    }

    /// The first argument of these names that is there.
    pub fn any(&self, names: &[&str]) -> &Value {
        names.iter().map(|name| self.get(name)).find(|value| !value.is_none()).unwrap_or(&Value::None)
    }

    fn wrong(&self, name: &str, wanted: &str) -> Error {
        Error::invalid(format!("argument '{name}' should be {wanted}, found {}", self.get(name).kind()))
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Result<TensorId> {
        match self.get(name) {
            Value::Tensor(tensor) => Ok(*tensor),
            _ => Err(self.wrong(name, "a tensor")),
        }
    }

    /// A tensor, or nothing.
    pub fn optional(&self, name: &str) -> Result<Option<TensorId>> {
        if self.get(name).is_none() { Ok(None) } else { self.tensor(name).map(Some) }
    }

    /// A list of tensors.
    pub fn tensors(&self, name: &str) -> Result<Vec<TensorId>> {
        self.get(name).list()?.iter().map(Value::tensor).collect()
    }

    /// An integer that may be open.
    pub fn sym(&self, name: &str) -> Result<Int> {
        match self.get(name) {
            Value::Int(int) => Ok(int.clone()),
            Value::Bool(bool) => Ok(Int::Known(i64::from(*bool))),
            _ => Err(self.wrong(name, "an integer")),
        }
    }

    /// A known integer.
    pub fn int(&self, name: &str) -> Result<i64> {
        match self.sym(name)? {
            Int::Known(int) => Ok(int),
            Int::Open(_) => Err(Error::beyond(format!("argument '{name}' that follows an open size"))),
        }
    }

    /// A known float.
    pub fn float(&self, name: &str) -> Result<f64> {
        match self.get(name) {
            Value::Float(Float::Known(float)) => Ok(*float),
            Value::Int(Int::Known(int)) => Ok(*int as f64),
            Value::Int(_) | Value::Float(_) => {
                Err(Error::beyond(format!("argument '{name}' that follows an open size")))
            }
            _ => Err(self.wrong(name, "a float")),
        }
    }

    /// A known float, or nothing.
    pub fn optional_float(&self, name: &str) -> Result<Option<f64>> {
        if self.get(name).is_none() { Ok(None) } else { self.float(name).map(Some) }
    }

    /// A truth value; None is false.
    pub fn bool(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            Value::Bool(bool) => Ok(*bool),
            Value::Int(Int::Known(int)) => Ok(*int != 0),
            Value::None => Ok(false),
            _ => Err(self.wrong(name, "a truth value")),
        }
    }

    /// Text, or nothing.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.get(name) {
            Value::Str(text) => Ok(Some(text)),
            Value::None => Ok(None),
            _ => Err(self.wrong(name, "text")),
        }
    }

    /// An element type, or nothing.
    pub fn dtype(&self, name: &str) -> Result<Option<DType>> {
        match self.get(name) {
            Value::DType(dtype) => Ok(Some(*dtype)),
            Value::None => Ok(None),
            _ => Err(self.wrong(name, "an element type")),
        }
    }

    /// Integers that may be open; one alone is a list of one. Nothing is an empty list.
    pub fn syms(&self, name: &str) -> Result<Vec<Int>> {
        match self.get(name) {
            Value::List(values) => values
                .iter()
                .map(|value| match value {
                    Value::Int(int) => Ok(int.clone()),
                    Value::Bool(bool) => Ok(Int::Known(i64::from(*bool))),
                    _ => Err(self.wrong(name, "a list of integers")),
                })
                .collect(),
            Value::Int(int) => Ok(vec![int.clone()]),
            Value::None => Ok(Vec::new()),
            _ => Err(self.wrong(name, "a list of integers")),
        }
    }

    /// Known integers.
    pub fn ints(&self, name: &str) -> Result<Vec<i64>> {
        let known = |int: Int| match int {
            Int::Known(int) => Ok(int),
            Int::Open(_) => Err(Error::beyond(format!("argument '{name}' that follows an open size"))),
        };
        self.syms(name)?.into_iter().map(known).collect()
    }

    /// Known integers, one for each of `count` axes: one alone stands for all.
    pub fn each(&self, name: &str, count: usize) -> Result<Vec<i64>> {
        let ints = self.ints(name)?;
        match ints.len() {
            1 => Ok(vec![ints[0]; count]),
            found if found == count => Ok(ints),
            found => Err(Error::invalid(format!("argument '{name}' has {found} numbers, expected {count}"))),
        }
    }
}
