//! What an optimizer is: one file that implements [`OptimizerKind`], and one row of the table in [`super::rule`].

use std::fmt::Debug;

use burn::Tensor;
use rekindle_state::StateDict;

use super::OptimError;
use super::field::Field;
use super::state::{Buffer, State};

/// An optimizer of `torch.optim` without its learning rate.
pub trait OptimizerKind: Debug + Clone + PartialEq + Send + Sync + Sized + 'static {
    /// Its classes: one, or two that differ in a switch.
    const CLASSES: &'static [Class<Self>];
    /// Tensors of a parameter's state, of the parameter's shape, in PyTorch's order.
    const BUFFERS: &'static [Buffer];
    /// Numbers of a parameter's state beside the count of updates, in PyTorch's order after it.
    const SCALARS: &'static [&'static str] = &[];
    /// Whether the state counts updates.
    const COUNTS: bool = true;

    /// Which of [`OptimizerKind::CLASSES`] this is.
    fn class(&self) -> usize {
        0
    }

    /// Everything of one of `param_groups` between the learning rate and the parameters, in the order in which torch 2.15 writes it:
    /// settings with the limits that PyTorch's constructor checks, and constants.
    fn fields(&mut self) -> Vec<Field<'_>>;

    /// What settings ask of each other.
    ///
    /// # Errors
    /// With what does not fit.
    fn check(&self) -> Result<(), OptimError> {
        Ok(())
    }

    /// Of [`OptimizerKind::BUFFERS`], those that these settings use.
    fn buffers(&self) -> Vec<Buffer> {
        Self::BUFFERS.to_vec()
    }

    /// The class that wrote one of `param_groups`, if it is one of these; of several, `expected` where nothing in the file tells
    /// them apart.
    fn written_by(group: &StateDict, expected: &str) -> Option<&'static str>;

    /// One update of a parameter, as PyTorch computes it for one tensor at a time. There is state from the second one on, and for
    /// those that count from the first: its count is that of this update.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: State<D>,
    ) -> (Tensor<D>, State<D>);
}

/// A class of `torch.optim`.
pub struct Class<K: 'static> {
    /// The name in a recipe.
    pub name: &'static str,
    /// The name in `torch.optim`.
    pub torch: &'static str,
    /// PyTorch's default learning rate.
    pub lr: f64,
    /// PyTorch's other defaults.
    pub new: fn() -> K,
}
