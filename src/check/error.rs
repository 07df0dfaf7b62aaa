//! Why a case could not be computed at all.

use burn::store::RecordError;

use crate::data::DataError;
use crate::device::DeviceError;
use crate::models::ModelError;
use crate::optim::OptimError;

/// An error on the way to a comparison. Its text is one sentence.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// A state dict.
    #[error(transparent)]
    State(#[from] rekindle_state::Error),
    /// A network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An optimizer.
    #[error(transparent)]
    Optim(#[from] OptimError),
    /// The sample data.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A device to move to.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// Burn's record of a network or optimizer.
    #[error("a record cannot be written or read: {0}")]
    Record(String),
    /// A file of the program is not what this module expects.
    #[error("the program's file {file}.pth: {problem}")]
    Fixture {
        /// The network.
        file: &'static str,
        /// What is missing.
        problem: String,
    },
    /// What came out cannot be compared at all.
    #[error("{0}")]
    Wrong(String),
}

impl From<RecordError> for CheckError {
    fn from(error: RecordError) -> Self {
        Self::Record(error.to_string())
    }
}
