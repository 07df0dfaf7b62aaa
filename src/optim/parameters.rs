//! What an optimizer has to know of a model's parameters.

use burn::module::ParamId;

/// One parameter of a model, in Burn's terms and in PyTorch's.
///
/// A model gives a table of these in the order of PyTorch's `model.parameters()`, frozen parameters included: positions in this
/// order are the numbers under which PyTorch saves an optimizer's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterInfo {
    /// Burn's identity of the parameter, which its optimizer state is kept under.
    pub id: ParamId,
    /// Path in the Burn module: `norm.gamma`.
    pub path: String,
    /// Name in the PyTorch module: `norm.weight`.
    pub name: String,
    /// Shape in the PyTorch module.
    pub shape: Vec<usize>,
    /// Whether Burn keeps this two-dimensional tensor with its axes exchanged, as it does a linear layer's weight.
    pub transposed: bool,
}
