//! Names of values: each graph has its own, and sees those of the graphs around it.

use std::collections::HashMap;

use super::ValueId;
use crate::{Error, Result};

/// Finds values of graphs further out.
pub(super) trait Outer {
    /// The number of a value in that graph, if the name is known there or around it.
    fn resolve(&mut self, name: &str) -> Option<ValueId>;
}

/// The names of one graph while it is built.
pub(super) struct Scope<'o> {
    numbers: HashMap<String, ValueId>,
    /// Names by number.
    pub names: Vec<String>,
    /// Values of the outer graph that are used: numbers there and here.
    pub captures: Vec<(ValueId, ValueId)>,
    outer: Option<&'o mut dyn Outer>,
}

impl<'o> Scope<'o> {
    pub fn new(outer: Option<&'o mut dyn Outer>) -> Self {
        Self { numbers: HashMap::new(), names: Vec::new(), captures: Vec::new(), outer }
    }

    /// Gives a new value its number.
    pub fn define(&mut self, name: &str) -> Result<ValueId> {
        if self.numbers.contains_key(name) {
            return Err(Error::invalid(format!("the value '{name}' is defined twice")));
        }
        Ok(self.add(name))
    }

    /// The number of a value that is defined here.
    pub fn own(&self, name: &str) -> Option<ValueId> {
        self.numbers.get(name).copied()
    }

    fn add(&mut self, name: &str) -> ValueId {
        let id = self.names.len();
        self.names.push(name.to_string());
        self.numbers.insert(name.to_string(), id);
        id
    }
}

impl Outer for Scope<'_> {
    fn resolve(&mut self, name: &str) -> Option<ValueId> {
        if let Some(id) = self.numbers.get(name) {
            return Some(*id);
        }
        let outside = self.outer.as_deref_mut()?.resolve(name)?;
        let inside = self.add(name);
        self.captures.push((outside, inside));
        Some(inside)
    }
}
