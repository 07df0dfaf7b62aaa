//! Why a network cannot be built or used.

use super::import;

/// A value of a configuration that is impossible: what [`ModelConfig::check`](super::ModelConfig::check) finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The key.
    pub key: String,
    /// What is wrong with it.
    pub problem: String,
}

impl Invalid {
    /// A problem of a key: `Invalid::new("dropout", "must be less than 1, found 3")`.
    pub fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

/// Checks that sizes are not zero.
///
/// # Errors
/// The first key that is 0.
pub fn check_sizes(sizes: &[(&str, usize)]) -> Result<(), Invalid> {
    match sizes.iter().find(|(_, size)| *size == 0) {
        Some((key, _)) => Err(Invalid::new(*key, "must be at least 1, found 0")),
        None => Ok(()),
    }
}

/// Checks that a probability of dropout is one (1 would drop everything, and is refused as Burn refuses it).
///
/// # Errors
/// The key, when it is not.
pub fn check_probability(key: &str, prob: f64) -> Result<(), Invalid> {
    if (0.0..1.0).contains(&prob) {
        Ok(())
    } else {
        Err(Invalid::new(key, format!("must be at least 0 and less than 1, found {prob}")))
    }
}

/// Why a network cannot be built or used as asked. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No network of the registry has the name.
    #[error("unknown model '{name}'{nearest}; `rekindle models` lists them")]
    Unknown {
        /// What was asked for.
        name: String,
        /// A suggestion, or nothing.
        nearest: String,
    },
    /// The configuration has no such key.
    #[error("model '{name}': unknown key '{key}'{nearest}; its keys are {known}", known = known.join(", "))]
    UnknownKey {
        /// The network.
        name: String,
        /// The key.
        key: String,
        /// A suggestion, or nothing.
        nearest: String,
        /// Every key that there is.
        known: Vec<String>,
    },
    /// A key of the configuration is of a wrong type, or impossible.
    #[error("model '{name}': key '{key}': {problem}")]
    Key {
        /// The network.
        name: String,
        /// The key.
        key: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A network cannot be made of its configuration or file.
    #[error("model '{name}': {problem}")]
    Config {
        /// The network.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// The input does not fit the network.
    #[error("model '{name}' expects {expected}, found {found}")]
    Input {
        /// The network.
        name: String,
        /// What passes.
        expected: String,
        /// What was given.
        found: String,
    },
    /// The output is not what the task needs.
    #[error("the model gives {found}, and {task} needs {expected}")]
    Output {
        /// The task.
        task: &'static str,
        /// What the task needs.
        expected: String,
        /// What the network gave.
        found: String,
    },
    /// The names or shapes of a weight file do not fit the network.
    #[error("the weights do not fit the model; --partial loads what fits\n{table}")]
    Weights {
        /// What matched and what did not.
        table: Box<import::Report>,
    },
    /// A graph cannot be read or run.
    #[error("{0}")]
    Graph(String),
    /// A file or a state dict cannot be read.
    #[error(transparent)]
    State(#[from] rekindle_state::Error),
}
