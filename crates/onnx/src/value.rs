//! What flows between nodes on the host.

use std::collections::BTreeMap;

use crate::{Array, Error, Result};

/// A value on the host.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A tensor.
    Array(Array),
    /// A list of values.
    Sequence(Vec<Value>),
    /// A value that may be absent.
    Optional(Option<Box<Value>>),
    /// A dictionary with integer keys.
    IntMap(BTreeMap<i64, Value>),
    /// A dictionary with text keys.
    StrMap(BTreeMap<String, Value>),
}

impl Value {
    /// The kind of the value, as a user would call it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Array(_) => "a tensor",
            Self::Sequence(_) => "a sequence",
            Self::Optional(_) => "an optional value",
            Self::IntMap(_) | Self::StrMap(_) => "a map",
        }
    }

    /// Bytes that it takes on the host.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Array(array) => match array.values::<String>() {
                Some(texts) => texts.iter().map(|text| (size_of::<String>() + text.len()) as u64).sum(),
                None => (array.len() as u64).saturating_mul(array.dtype().bits() as u64).div_ceil(8),
            },
            Self::Sequence(values) => values.iter().map(Self::bytes).sum(),
            Self::Optional(value) => value.as_ref().map_or(0, |value| value.bytes()),
            Self::IntMap(map) => map.values().map(Self::bytes).sum(),
            Self::StrMap(map) => map.values().map(Self::bytes).sum(),
        }
    }

    /// The tensor.
    ///
    /// # Errors
    /// When it is something else.
    pub fn array(&self) -> Result<&Array> {
        match self {
            Self::Array(array) => Ok(array),
            other => Err(Error::invalid(format!("expected a tensor, found {}", other.kind()))),
        }
    }

    /// The tensor itself.
    ///
    /// # Errors
    /// When it is something else.
    pub fn into_array(self) -> Result<Array> {
        match self {
            Self::Array(array) => Ok(array),
            other => Err(Error::invalid(format!("expected a tensor, found {}", other.kind()))),
        }
    }

    /// The elements of the sequence.
    ///
    /// # Errors
    /// When it is something else.
    pub fn sequence(&self) -> Result<&[Self]> {
        match self {
            Self::Sequence(values) => Ok(values),
            other => Err(Error::invalid(format!("expected a sequence, found {}", other.kind()))),
        }
    }
}

impl From<Array> for Value {
    fn from(array: Array) -> Self {
        Self::Array(array)
    }
}
