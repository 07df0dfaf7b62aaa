//! Why an optimizer, a schedule or their saved state could not be used.

use burn::store::RecordError;

/// An error of this layer; its text is one sentence that names the key, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OptimError {
    /// A configuration with an unknown name, a setting that does not apply, or an impossible value.
    #[error("{0}")]
    Config(String),
    /// A saved state that does not fit the model or the configuration.
    #[error("{0}")]
    State(String),
    /// A tensor of a saved state that cannot be read.
    #[error(transparent)]
    Tensor(#[from] rekindle_state::Error),
    /// Burn's own record of the state that cannot be read or written.
    #[error("the optimizer's record cannot be read or written: {0}")]
    Record(String),
}

impl From<RecordError> for OptimError {
    fn from(error: RecordError) -> Self {
        Self::Record(error.to_string())
    }
}

impl From<burn_pack::Error> for OptimError {
    fn from(error: burn_pack::Error) -> Self {
        Self::Record(error.to_string())
    }
}

/// Shorthand for an error of the configuration.
pub(super) fn config<T>(message: impl Into<String>) -> Result<T, OptimError> {
    Err(OptimError::Config(message.into()))
}

/// Shorthand for an error of a saved state.
pub(super) fn state<T>(message: impl Into<String>) -> Result<T, OptimError> {
    Err(OptimError::State(message.into()))
}
