//! The axes of a tensor before its values are known.

use std::fmt;

/// An axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Axis {
    /// Of a known size.
    Size(usize),
    /// Of one size wherever the name stands.
    Named(String),
    /// Of any size.
    Any,
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Size(size) => write!(f, "{size}"),
            Self::Named(name) => f.write_str(name),
            Self::Any => f.write_str("?"),
        }
    }
}
