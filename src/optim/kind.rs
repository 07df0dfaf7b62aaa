//! What an optimizer is: one file that implements [`OptimizerKind`], and one row of the table in [`super::rule`].

use std::fmt::Debug;

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::error::config;
use super::settings::SettingKind;
use super::state::{Buffer, State};
use super::{OptimError, Setting};

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

    /// Every setting but the learning rate, under PyTorch's key.
    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)>;

    /// The limits that PyTorch's constructor checks; infinite values are refused as well.
    ///
    /// # Errors
    /// With the first setting that is wrong.
    fn check(&self, limits: &Limits) -> Result<(), OptimError>;

    /// Of [`OptimizerKind::BUFFERS`], those that these settings use.
    fn buffers(&self) -> Vec<Buffer> {
        Self::BUFFERS.to_vec()
    }

    /// The class that wrote one of `param_groups`, if it is one of these; of several, `expected` where nothing in the file tells
    /// them apart.
    fn written_by(group: &StateDict, expected: &str) -> Option<&'static str>;

    /// Everything of one of `param_groups` between the learning rate and the parameters, in the order in which torch 2.15 writes it.
    fn group(&self) -> Vec<(&'static str, Value)>;

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

/// Where a setting is kept.
#[derive(Debug)]
pub enum Slot<'a> {
    /// A number.
    Number(&'a mut f64),
    /// Two numbers.
    Pair(&'a mut [f64; 2]),
    /// A whole number.
    Length(&'a mut u64),
    /// A switch.
    Flag(&'a mut bool),
}

impl Slot<'_> {
    /// The value that is there.
    pub fn get(&self) -> Setting {
        match self {
            Self::Number(value) => Setting::Number(**value),
            Self::Pair(value) => Setting::Pair(**value),
            Self::Length(value) => Setting::Length(**value),
            Self::Flag(value) => Setting::Flag(**value),
        }
    }

    /// Puts a value there; whether it is of the right kind.
    pub fn set(&mut self, value: &Setting) -> bool {
        match (self, value) {
            (Self::Number(slot), Setting::Number(value)) => **slot = *value,
            (Self::Pair(slot), Setting::Pair(value)) => **slot = *value,
            (Self::Length(slot), Setting::Length(value)) => **slot = *value,
            (Self::Flag(slot), Setting::Flag(value)) => **slot = *value,
            _ => return false,
        }
        true
    }

    /// The kind of its values.
    pub(super) fn kind(&self) -> SettingKind {
        match self {
            Self::Number(_) => SettingKind::Number,
            Self::Pair(_) => SettingKind::Pair,
            Self::Length(_) => SettingKind::Length,
            Self::Flag(_) => SettingKind::Flag,
        }
    }

    /// What a value must be.
    pub fn expected(&self) -> &'static str {
        match self {
            Self::Number(_) => "a number",
            Self::Pair(_) => "two numbers",
            Self::Length(_) => "a whole number",
            Self::Flag(_) => "true or false",
        }
    }
}

/// Limits of settings, for an optimizer of some name.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The name in a recipe.
    pub optimizer: &'static str,
}

impl Limits {
    /// Refuses numbers below 0.
    ///
    /// # Errors
    /// When it is one.
    pub fn not_negative(&self, key: &str, value: f64) -> Result<(), OptimError> {
        if value >= 0.0 && value.is_finite() {
            return Ok(());
        }
        let name = self.optimizer;
        config(format!("optimizer '{name}' cannot have {key} = {value}: expected a number that is 0 or more"))
    }

    /// Refuses decay rates outside of 0 to 1.
    ///
    /// # Errors
    /// When there is one.
    pub fn betas(&self, betas: [f64; 2]) -> Result<(), OptimError> {
        for (index, beta) in betas.iter().enumerate() {
            if !(0.0..1.0).contains(beta) {
                return config(format!(
                    "optimizer '{}' cannot have betas[{index}] = {beta}: expected a number from 0 to 1, 1 excluded",
                    self.optimizer
                ));
            }
        }
        Ok(())
    }
}

/// Two numbers as PyTorch writes them.
pub(super) fn pair(values: [f64; 2]) -> Value {
    Value::Tuple(values.map(Value::Float).to_vec())
}
