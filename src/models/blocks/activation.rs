//! Activations by name, as parts of a network without parameters.

use std::fmt;

use burn::empty;
use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, hard_sigmoid, hard_swish, relu, relu6, sigmoid, silu, tanh};

use crate::kernels::{self, Pointwise};

/// A function of each value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// The value itself.
    #[default]
    Identity,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x · sigmoid(x)`.
    Silu,
    /// `x · relu6(x + 3) / 6`.
    HardSwish,
    /// `relu6(x + 3) / 6`.
    HardSigmoid,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// The Gaussian error linear unit, by the error function.
    Gelu,
    /// The hyperbolic tangent.
    Tanh,
}

impl Activation {
    /// Each value of `x` through the function; the shape stays.
    pub fn forward<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        if self == Self::Identity {
            return x;
        }
        kernels::pointwise(&x, self.function()).unwrap_or_else(|| self.of_burn(x))
    }

    /// The function as our kernels name it.
    pub(crate) fn function(self) -> Pointwise {
        match self {
            Self::Identity => Pointwise::None,
            Self::Relu => kernels::RELU,
            Self::Relu6 => Pointwise::Clip(0.0, 6.0),
            Self::Silu => Pointwise::Silu,
            Self::HardSwish => Pointwise::HardSwish,
            Self::HardSigmoid => Pointwise::HardSigmoid(1.0 / 6.0, 0.5),
            Self::Sigmoid => Pointwise::Sigmoid,
            Self::Gelu => Pointwise::Gelu,
            Self::Tanh => Pointwise::Tanh,
        }
    }

    /// The same with Burn's operations.
    fn of_burn<const D: usize>(self, x: Tensor<D>) -> Tensor<D> {
        match self {
            Self::Identity => x,
            Self::Relu => relu(x),
            Self::Relu6 => relu6(x),
            Self::Silu => silu(x),
            Self::HardSwish => hard_swish(x),
            Self::HardSigmoid => hard_sigmoid(x, 1.0 / 6.0, 0.5),
            Self::Sigmoid => sigmoid(x),
            Self::Gelu => gelu(x),
            Self::Tanh => tanh(x),
        }
    }
}

impl fmt::Display for Activation {
    /// The name of PyTorch's layer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "Identity",
            Self::Relu => "ReLU",
            Self::Relu6 => "ReLU6",
            Self::Silu => "SiLU",
            Self::HardSwish => "Hardswish",
            Self::HardSigmoid => "Hardsigmoid",
            Self::Sigmoid => "Sigmoid",
            Self::Gelu => "GELU",
            Self::Tanh => "Tanh",
        })
    }
}

empty!(Activation);
