//! Losses as PyTorch computes them, each the mean over its elements.

use std::str::FromStr;

use burn::Tensor;
use burn::tensor::Int;
use burn::tensor::activation::log_softmax;
use serde::{Deserialize, Serialize};

use super::OptimError;
use super::error::config;

/// A loss of a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LossConfig {
    /// `cross-entropy`, `nn.CrossEntropyLoss`: scores against class numbers.
    CrossEntropy,
    /// `nll`, `nn.NLLLoss`: log-probabilities against class numbers.
    Nll,
    /// `mse`, `nn.MSELoss`: squared differences.
    Mse,
    /// `l1`, `nn.L1Loss`: absolute differences.
    L1,
}

impl LossConfig {
    /// The name in a recipe.
    pub fn name(self) -> &'static str {
        match self {
            Self::CrossEntropy => "cross-entropy",
            Self::Nll => "nll",
            Self::Mse => "mse",
            Self::L1 => "l1",
        }
    }

    /// Whether targets are class numbers.
    pub fn takes_classes(self) -> bool {
        matches!(self, Self::CrossEntropy | Self::Nll)
    }

    /// The loss of predictions `[batch, classes]` for class numbers `[batch]`, which must be below `classes`.
    ///
    /// # Errors
    /// When this loss compares values.
    pub fn of_classes(self, output: Tensor<2>, targets: Tensor<1, Int>) -> Result<Tensor<1>, OptimError> {
        match self {
            Self::CrossEntropy => Ok(cross_entropy(output, targets)),
            Self::Nll => Ok(nll(output, targets)),
            Self::Mse | Self::L1 => config(format!(
                "loss '{}' compares values, the targets are class numbers: use cross-entropy or nll",
                self.name()
            )),
        }
    }

    /// The loss of predictions for values of the same shape.
    ///
    /// # Errors
    /// When this loss needs class numbers.
    pub fn of_values<const D: usize>(self, output: Tensor<D>, targets: Tensor<D>) -> Result<Tensor<1>, OptimError> {
        match self {
            Self::Mse => Ok(mse(output, targets)),
            Self::L1 => Ok(l1(output, targets)),
            Self::CrossEntropy | Self::Nll => {
                config(format!("loss '{}' needs class numbers, the targets are values: use mse or l1", self.name()))
            }
        }
    }
}

impl FromStr for LossConfig {
    type Err = OptimError;

    fn from_str(name: &str) -> Result<Self, OptimError> {
        match name {
            "cross-entropy" | "cross_entropy" => Ok(Self::CrossEntropy),
            "nll" => Ok(Self::Nll),
            "mse" => Ok(Self::Mse),
            "l1" => Ok(Self::L1),
            _ => config(format!("unknown loss '{name}': expected one of cross-entropy, nll, mse, l1")),
        }
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

/// `F.cross_entropy`: log-softmax of scores `[batch, classes]`, then [`nll`].
pub fn cross_entropy(scores: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    nll(log_softmax(scores, 1), targets)
}

/// `F.nll_loss`: minus the mean of the log-probabilities `[batch, classes]` of the classes `[batch]`.
pub fn nll(log_probabilities: Tensor<2>, targets: Tensor<1, Int>) -> Tensor<1> {
    log_probabilities.gather(1, targets.unsqueeze_dim(1)).mean().neg()
}

/// `F.mse_loss`: mean of squared differences.
pub fn mse<const D: usize>(output: Tensor<D>, target: Tensor<D>) -> Tensor<1> {
    (output - target).square().mean()
}

/// `F.l1_loss`: mean of absolute differences.
pub fn l1<const D: usize>(output: Tensor<D>, target: Tensor<D>) -> Tensor<1> {
    (output - target).abs().mean()
}
