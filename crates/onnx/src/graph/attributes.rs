//! The constants of a node.

use indexmap::IndexMap;
use rekindle_state::onnx::External;
use rekindle_state::onnx::proto::{AttributeProto, TypeProto, attribute};

use super::weight;
use crate::{Array, Error, Result};

/// A constant of a node. Graphs are kept with the node that runs them.
#[derive(Debug, Clone)]
pub enum Attribute {
    /// A float.
    Float(f32),
    /// An integer.
    Int(i64),
    /// A text, or any bytes.
    Str(Vec<u8>),
    /// A tensor.
    Array(Array),
    /// Floats.
    Floats(Vec<f32>),
    /// Integers.
    Ints(Vec<i64>),
    /// Texts.
    Strs(Vec<Vec<u8>>),
    /// Tensors.
    Arrays(Vec<Array>),
    /// A type.
    Type(TypeProto),
}

/// The constants of a node, by name.
#[derive(Debug, Clone, Default)]
pub struct Attributes(IndexMap<String, Attribute>);

impl Attribute {
    /// Reads an attribute; `None` for a graph.
    pub(crate) fn read(proto: &AttributeProto, external: &mut External) -> Result<Option<Self>> {
        Ok(Some(match kind(proto) {
            attribute::FLOAT => Self::Float(proto.f),
            attribute::INT => Self::Int(proto.i),
            attribute::STRING => Self::Str(proto.s.to_vec()),
            attribute::TENSOR => {
                let tensor = proto
                    .t
                    .as_ref()
                    .ok_or_else(|| Error::invalid(format!("attribute '{}' holds no tensor", proto.name)))?;
                Self::Array(weight::read(tensor, external)?.array()?)
            }
            attribute::GRAPH | attribute::GRAPHS => return Ok(None),
            attribute::FLOATS => Self::Floats(proto.floats.clone()),
            attribute::INTS => Self::Ints(proto.ints.clone()),
            attribute::STRINGS => Self::Strs(proto.strings.iter().map(|s| s.to_vec()).collect()),
            attribute::TENSORS => {
                Self::Arrays(proto.tensors.iter().map(|t| weight::read(t, external)?.array()).collect::<Result<_>>()?)
            }
            attribute::SPARSE_TENSOR => {
                let sparse = proto.sparse_tensor.as_ref();
                let sparse = sparse
                    .ok_or_else(|| Error::invalid(format!("attribute '{}' holds no sparse tensor", proto.name)))?;
                Self::Array(weight::read_sparse(sparse, external)?)
            }
            attribute::TYPE_PROTO => Self::Type(proto.tp.clone().unwrap_or_default()),
            other => return Err(Error::beyond(format!("attribute '{}' of kind {other}", proto.name))),
        }))
    }
}

/// The kind of an attribute. Files of the first version of the format say none: the field that is there tells.
pub(super) fn kind(proto: &AttributeProto) -> i32 {
    match proto.r#type {
        0 if proto.g.is_some() => attribute::GRAPH,
        0 if proto.t.is_some() => attribute::TENSOR,
        0 if !proto.s.is_empty() => attribute::STRING,
        0 if !proto.floats.is_empty() => attribute::FLOATS,
        0 if !proto.ints.is_empty() => attribute::INTS,
        0 if !proto.strings.is_empty() => attribute::STRINGS,
        0 if proto.f != 0.0 => attribute::FLOAT,
        0 => attribute::INT,
        kind => kind,
    }
}

/// Declares a getter: absent is `None`, another kind an error.
macro_rules! getter {
    ($(#[$doc:meta])* $name:ident, $pattern:pat => $value:expr, $ty:ty, $kind:literal) => {
        $(#[$doc])*
        ///
        /// # Errors
        /// When the attribute is of another kind.
        pub fn $name(&self, name: &str) -> Result<Option<$ty>> {
            match self.0.get(name) {
                None => Ok(None),
                Some($pattern) => Ok(Some($value)),
                Some(_) => Err(Error::invalid(format!("attribute '{name}' is not {}", $kind))),
            }
        }
    };
}

impl Attributes {
    /// Adds an attribute.
    pub fn insert(&mut self, name: String, attribute: Attribute) {
        self.0.insert(name, attribute);
    }

    /// An attribute of any kind.
    pub fn get(&self, name: &str) -> Option<&Attribute> {
        self.0.get(name)
    }

    /// Names and values in the order of the file.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attribute)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    getter!(/** An integer. */ int, Attribute::Int(value) => *value, i64, "an integer");
    getter!(/** Integers. */ ints, Attribute::Ints(value) => value.as_slice(), &[i64], "a list of integers");
    getter!(/** A float. */ float, Attribute::Float(value) => *value, f32, "a float");
    getter!(/** Floats. */ floats, Attribute::Floats(value) => value.as_slice(), &[f32], "a list of floats");
    getter!(/** A tensor. */ array, Attribute::Array(value) => value, &Array, "a tensor");
    getter!(/** Texts as bytes. */ byte_strs, Attribute::Strs(value) => value.as_slice(), &[Vec<u8>], "a list of texts");
    getter!(/** A text as bytes. */ bytes, Attribute::Str(value) => value.as_slice(), &[u8], "a text");

    /// An integer, or what it is when absent.
    ///
    /// # Errors
    /// When the attribute is of another kind.
    pub fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.int(name)?.unwrap_or(default))
    }

    /// A float, or what it is when absent.
    ///
    /// # Errors
    /// When the attribute is of another kind.
    pub fn float_or(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.float(name)?.unwrap_or(default))
    }

    /// Whether an integer is there and not 0, or what it is when absent.
    ///
    /// # Errors
    /// When the attribute is of another kind.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int(name)?.map_or(default, |value| value != 0))
    }

    /// A text.
    ///
    /// # Errors
    /// When the attribute is of another kind, or no UTF-8.
    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        let utf8 = |bytes| {
            std::str::from_utf8(bytes).map_err(|_| Error::invalid(format!("attribute '{name}' is no UTF-8 text")))
        };
        self.bytes(name)?.map(utf8).transpose()
    }

    /// A text, or what it is when absent.
    ///
    /// # Errors
    /// When the attribute is of another kind, or no UTF-8.
    pub fn text_or<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.text(name)?.unwrap_or(default))
    }

    /// Texts.
    ///
    /// # Errors
    /// When the attribute is of another kind, or one is no UTF-8.
    pub fn texts(&self, name: &str) -> Result<Option<Vec<String>>> {
        let utf8 = |bytes: &Vec<u8>| {
            String::from_utf8(bytes.clone())
                .map_err(|_| Error::invalid(format!("attribute '{name}' holds a text that is no UTF-8")))
        };
        self.byte_strs(name)?.map(|texts| texts.iter().map(utf8).collect()).transpose()
    }
}
