//! Layer normalisation, over the last axis or over the channels of images.

use burn::module::{Module, Param};
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use crate::kernels;

/// `torch.nn.LayerNorm` over the last axis.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// Scale of each feature.
    pub weight: Param<Tensor<1>>,
    /// Shift of each feature.
    pub bias: Param<Tensor<1>>,
    /// Added to the variance.
    pub epsilon: f64,
}

impl LayerNorm {
    /// Scale 1, shift 0.
    pub fn new(features: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([features], device),
            bias: Initializer::Zeros.init([features], device),
            epsilon,
        }
    }

    /// `[…, features]` to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let [weight, bias] = [self.weight.val(), self.bias.val()];
        kernels::layer_norm(&x, [weight.clone(), bias.clone()], self.epsilon)
            .unwrap_or_else(|| burn::tensor::module::layer_norm(x, weight, Some(bias), self.epsilon))
    }

    /// Over the channels of `[batch, channels, height, width]`: torchvision's `LayerNorm2d`.
    pub fn forward_images(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward(x.permute([0, 2, 3, 1])).permute([0, 3, 1, 2])
    }
}
