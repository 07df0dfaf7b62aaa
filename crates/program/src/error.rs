//! What can go wrong with a program.

use std::fmt;
use std::path::Path;

/// Result with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Where in the program something happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Path of the module: `layer1.0.conv1`; empty for the root.
    pub module: String,
    /// File and line of the source that was exported, if the program says.
    pub source: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.module.is_empty(), self.source.is_empty()) {
            (true, true) => f.write_str("the program"),
            (false, true) => write!(f, "module '{}'", self.module),
            (true, false) => f.write_str(&self.source),
            (false, false) => write!(f, "module '{}', {}", self.module, self.source),
        }
    }
}

/// An operator of a program that is not supported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The operator: `aten.fft_rfft`.
    pub operator: String,
    /// How often the program uses it.
    pub count: usize,
    /// The first use.
    pub first: Place,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ×{} (first in {})", self.operator, self.count, self.first)
    }
}

/// Why a program cannot be read or lowered. Each message is one sentence for a user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is no valid program.
    #[error("{0}")]
    Invalid(String),
    /// Operators that are not supported: all of them.
    #[error("operators that are not supported: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Missing(Vec<Missing>),
    /// A form of an operator, or a feature, that is not supported.
    #[error("{0} is not supported")]
    Beyond(String),
    /// An operator cannot be lowered.
    #[error("{operator} in {place}: {message}")]
    Operator {
        /// The operator.
        operator: String,
        /// Where it is.
        place: Place,
        /// What is wrong.
        message: String,
    },
    /// The archive cannot be read.
    #[error(transparent)]
    State(#[from] rekindle_state::Error),
    /// The graph cannot be built.
    #[error(transparent)]
    Graph(#[from] rekindle_onnx::Error),
}

impl Error {
    /// The file is no valid program.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// Something that is not supported, as a noun phrase.
    pub fn beyond(what: impl Into<String>) -> Self {
        Self::Beyond(what.into())
    }

    /// Says at which operator it happened; the innermost is kept.
    pub(crate) fn at_operator(self, operator: &str, place: &Place) -> Self {
        match self {
            Self::Missing(_) | Self::Operator { .. } | Self::State(_) => self,
            other => {
                Self::Operator { operator: operator.to_string(), place: place.clone(), message: other.to_string() }
            }
        }
    }

    /// Says in which file it happened.
    pub fn at(self, path: &Path) -> Self {
        match self {
            Self::State(_) => self,
            other => Self::Invalid(format!("{}: {other}", path.display())),
        }
    }
}
