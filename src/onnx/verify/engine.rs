//! Engines that run a written file: what they are asked, whoever they are.

use std::path::Path;

use super::Values;

/// An engine for ONNX files.
pub trait Engine: Sync {
    /// Its name and version, for people.
    fn name(&self) -> &'static str;

    /// Runs a model on each of the inputs; gives the values of its outputs, in the file's order, for each.
    ///
    /// # Errors
    /// Why it cannot, as part of a sentence.
    fn run(&self, model: &Path, input: &str, inputs: &[Values]) -> Result<Vec<Vec<Values>>, String>;
}
