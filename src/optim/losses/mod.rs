//! Losses as PyTorch computes them, each the mean over its elements. A loss is a file here and a line in [`LOSSES`].

mod cross_entropy;
mod l1;
mod mse;
mod nll;
mod smooth_l1;

use std::fmt;
use std::str::FromStr;

use burn::Tensor;
use burn::tensor::Int;
use serde::{Deserialize, Serialize};

pub use cross_entropy::cross_entropy;
pub use l1::l1;
pub use mse::mse;
pub use nll::nll;
pub use smooth_l1::smooth_l1;

use super::OptimError;

/// Every loss, in the order in which messages list them.
static LOSSES: &[&Loss] = &[&cross_entropy::LOSS, &nll::LOSS, &mse::LOSS, &l1::LOSS, &smooth_l1::LOSS];

/// A loss.
#[derive(Debug)]
struct Loss {
    /// The name in a recipe: that of PyTorch's class in small letters, `cross-entropy`.
    name: &'static str,
    compute: Compute,
}

/// What a loss compares, and how.
#[derive(Debug, Clone, Copy)]
pub enum Compute {
    /// Scores `[items, classes]` with class numbers `[items]`, which are below `classes`.
    Scores(fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>),
    /// Log-probabilities `[items, classes]` with class numbers `[items]`; of plain scores it would fall without end.
    LogProbabilities(fn(Tensor<2>, Tensor<1, Int>) -> Tensor<1>),
    /// Values with values of the same shape.
    Values(fn(Tensor<4>, Tensor<4>) -> Tensor<1>),
}

/// A loss of a recipe, by its name.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LossConfig(&'static Loss);

impl LossConfig {
    /// `cross-entropy`, `nn.CrossEntropyLoss`: scores against class numbers.
    pub const CROSS_ENTROPY: Self = Self(&cross_entropy::LOSS);
    /// `nll`, `nn.NLLLoss`: log-probabilities against class numbers.
    pub const NLL: Self = Self(&nll::LOSS);
    /// `mse`, `nn.MSELoss`: squared differences.
    pub const MSE: Self = Self(&mse::LOSS);
    /// `l1`, `nn.L1Loss`: absolute differences.
    pub const L1: Self = Self(&l1::LOSS);
    /// `smooth-l1`, `nn.SmoothL1Loss`: squared where small, absolute where large.
    pub const SMOOTH_L1: Self = Self(&smooth_l1::LOSS);

    /// The name in a recipe.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// What it compares, and how.
    pub fn compute(self) -> Compute {
        self.0.compute
    }

    /// The names of the losses of which something holds, as a sentence lists them: `mse or l1`.
    pub fn names(holds: impl Fn(Compute) -> bool) -> String {
        let names: Vec<&str> = LOSSES.iter().filter(|loss| holds(loss.compute)).map(|loss| loss.name).collect();
        names.join(" or ")
    }
}

impl PartialEq for LossConfig {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for LossConfig {}

impl fmt::Debug for LossConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LossConfig {
    type Err = OptimError;

    /// PyTorch writes functions with `_` where recipes have `-`; both are taken.
    fn from_str(name: &str) -> Result<Self, OptimError> {
        let found = LOSSES.iter().find(|loss| loss.name == name.replace('_', "-"));
        found.map(|loss| Self(loss)).ok_or_else(|| {
            let known: Vec<&str> = LOSSES.iter().map(|loss| loss.name).collect();
            OptimError::Config(format!("unknown loss '{name}': expected one of {}", known.join(", ")))
        })
    }
}

impl TryFrom<String> for LossConfig {
    type Error = OptimError;

    fn try_from(name: String) -> Result<Self, OptimError> {
        name.parse()
    }
}

impl From<LossConfig> for String {
    fn from(loss: LossConfig) -> Self {
        loss.name().to_string()
    }
}
