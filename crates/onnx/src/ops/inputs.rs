//! The inputs of a node.

use crate::{Array, Error, Result, Value};

/// The inputs of a node, by position.
pub struct Inputs<'v>(Vec<Option<&'v Value>>);

impl<'v> Inputs<'v> {
    /// Inputs by position; `None` for one left out.
    pub fn new(values: Vec<Option<&'v Value>>) -> Self {
        Self(values)
    }

    /// How many there are, those left out in the middle included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A value, if it is given.
    pub fn get(&self, position: usize) -> Option<&'v Value> {
        self.0.get(position).copied().flatten()
    }

    /// A value that must be given.
    ///
    /// # Errors
    /// When it is not.
    pub fn value(&self, position: usize) -> Result<&'v Value> {
        self.get(position).ok_or_else(|| Error::invalid(format!("input {position} is missing")))
    }

    /// A tensor that must be given.
    ///
    /// # Errors
    /// When it is not, or is no tensor.
    pub fn array(&self, position: usize) -> Result<&'v Array> {
        self.value(position)?.array()
    }

    /// A tensor, if it is given.
    ///
    /// # Errors
    /// When the value is no tensor.
    pub fn optional(&self, position: usize) -> Result<Option<&'v Array>> {
        self.get(position).map(Value::array).transpose()
    }

    /// All tensors.
    ///
    /// # Errors
    /// When one is left out or is no tensor.
    pub fn arrays(&self) -> Result<Vec<&'v Array>> {
        (0..self.len()).map(|position| self.array(position)).collect()
    }

    /// Integers (axes, shapes, positions), if they are given.
    ///
    /// # Errors
    /// When the value is no tensor of numbers.
    pub fn ints(&self, position: usize) -> Result<Option<Vec<i64>>> {
        self.optional(position)?.map(Array::int64s).transpose()
    }
}
