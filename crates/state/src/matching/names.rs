//! The names that a model has, and the names of files that mean them.

use std::collections::HashSet;

use super::types::Wanted;
use crate::former;

/// The names that a model has.
pub struct Names<'a> {
    pub all: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    pub fn new(wanted: &'a [Wanted]) -> Self {
        Self { all: wanted.iter().map(|parameter| parameter.name.as_str()).collect() }
    }

    fn has(&self, name: &str) -> bool {
        self.all.contains(name)
    }

    /// The name itself, or with TensorFlow's words for a norm's parameters or torchvision's former names replaced, where the model
    /// has that.
    pub fn resolve(&self, name: &str) -> Option<String> {
        if self.has(name) {
            return Some(name.to_string());
        }
        let renamed = match name.rsplit_once('.') {
            Some((head, "gamma")) => format!("{head}.weight"),
            Some((head, "beta")) => format!("{head}.bias"),
            _ => former::renamed(name)?,
        };
        self.has(&renamed).then_some(renamed)
    }
}

/// A name without the segments that wrappers put anywhere in it.
pub fn unwrapped(name: &str) -> String {
    name.split('.').filter(|part| *part != "_orig_mod" && *part != "module").collect::<Vec<_>>().join(".")
}
