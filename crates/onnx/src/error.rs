//! What can go wrong with a model or its inputs.

use std::fmt;
use std::path::Path;

/// Result with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operator is not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It is not known.
    Unknown,
    /// The model asks for a version of its operator set after the newest known one, which this is.
    Newer(i64),
    /// It came with this version of its operator set, after the one that the model asks for.
    Later(i64),
}

/// An operator that a model uses and that is not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The operator, with its domain if that is not the standard one.
    pub operator: String,
    /// The version of its operator set that the model asks for.
    pub version: i64,
    /// Why it is not run.
    pub reason: Reason,
    /// Names of the nodes that use it.
    pub nodes: Vec<String>,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.nodes.iter().take(3).map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ");
        let more = if self.nodes.len() > 3 { ", …" } else { "" };
        let why = match self.reason {
            Reason::Unknown => String::new(),
            Reason::Newer(newest) => format!(", newer than {newest}, the newest known"),
            Reason::Later(since) => format!(", and it came with opset {since}"),
        };
        write!(f, "{} (opset {}{why}) ×{}: {shown}{more}", self.operator, self.version, self.nodes.len())
    }
}

/// Why a model cannot be read or run. Each message is one sentence for a user.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is not a valid model.
    #[error("{0}")]
    Invalid(String),
    /// Operators that are not implemented: all of them.
    #[error("operators that are not supported: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Unsupported(Vec<Missing>),
    /// An input is missing, unknown, or of the wrong type or shape.
    #[error("{0}")]
    Input(String),
    /// A node cannot do its work on the values that it gets.
    #[error("node '{node}' ({operator}): {message}")]
    Node {
        /// Name of the node, or of its first output.
        node: String,
        /// Its operator.
        operator: String,
        /// What is wrong.
        message: String,
    },
    /// What is asked of an operator is beyond it: a combination of types or attributes that is not implemented.
    #[error("{0} is not supported")]
    Beyond(String),
    /// A file that cannot be read.
    #[error(transparent)]
    State(#[from] rekindle_state::Error),
}

impl Error {
    /// The file is not a valid model.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }

    /// Something that is not implemented, as a noun phrase.
    pub fn beyond(what: impl Into<String>) -> Self {
        Self::Beyond(what.into())
    }

    /// Says in which node it happened. The innermost node is kept.
    pub fn in_node(self, node: &str, operator: &str) -> Self {
        match self {
            Self::Invalid(message) | Self::Input(message) => {
                Self::Node { node: node.to_string(), operator: operator.to_string(), message }
            }
            Self::Beyond(what) => Self::Beyond(format!("node '{node}' ({operator}): {what}")),
            other => other,
        }
    }

    /// Says in which file it happened.
    pub fn at(self, path: &Path) -> Self {
        match self {
            Self::Invalid(message) => Self::Invalid(format!("{}: {message}", path.display())),
            Self::Input(message) => Self::Input(format!("{}: {message}", path.display())),
            other => other,
        }
    }
}
