//! What is asked of a file, and the answer.

use crate::Tensor;

/// A parameter or buffer that a model has, under PyTorch's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name: `features.0.weight`.
    pub name: String,
    /// The shape.
    pub shape: Vec<u64>,
    /// Whether a file may lack it (`num_batches_tracked`).
    pub optional: bool,
}

/// How to look for the weights, where the automatic way is not the right one.
#[derive(Debug, Clone, Default)]
pub struct MatchOptions {
    /// The path of the dictionary that holds the weights, joined by `/`; found by its names otherwise.
    pub key: Option<String>,
    /// A prefix to take off the file's names; found by the model's names otherwise.
    pub strip: Option<String>,
}

/// A tensor that was found for a parameter.
#[derive(Debug, Clone)]
pub struct Matched {
    /// The model's name.
    pub name: String,
    /// The file's name, in the dictionary that holds the weights.
    pub file_name: String,
    /// The tensor.
    pub tensor: Tensor,
}

/// What came of matching a file with a model.
#[derive(Debug, Clone, Default)]
pub struct Matching {
    /// The path of the dictionary that the weights were taken from; empty for the root.
    pub path: String,
    /// Whether that place was found, and not asked for.
    pub searched: bool,
    /// Parameters that were found, with the right shape, in the model's order.
    pub matched: Vec<Matched>,
    /// Parameters that the file lacks.
    pub missing: Vec<String>,
    /// The file's tensors that the model has no place for.
    pub unused: Vec<String>,
    /// Parameters whose shape is another: name, the model's shape, the file's.
    pub shape_differs: Vec<(String, Vec<u64>, Vec<u64>)>,
    /// For a missing parameter, the unused tensor with the most similar name.
    pub suggestions: Vec<(String, String)>,
    /// Everything that was done to make names match, as sentences.
    pub helps: Vec<String>,
    /// Keys of the network's configuration, with their values, in which the library whose names the file has differs, and that no
    /// shape shows (`norm_epsilon`).
    pub keys: Vec<(&'static str, f64)>,
}

impl Matching {
    /// Whether every parameter was found with its shape, and nothing is left over.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.shape_differs.is_empty()
    }
}
