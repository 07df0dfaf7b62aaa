//! Squeeze-excitation: channels scaled by what the whole image says.
//!
//! Source: Hu et al., *Squeeze-and-Excitation Networks*, 2018.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};

use super::activation::Activation;
use super::conv::{ConvConfig, ConvInit, conv_norm};
use crate::kernels;

/// torchvision's `SqueezeExcitation`.
#[derive(Module, Debug)]
pub struct SqueezeExcitation {
    fc1: Conv2d,
    fc2: Conv2d,
    activation: Activation,
    scale: Activation,
}

impl SqueezeExcitation {
    /// From `channels` to `squeezed` and back; the first activation stands between, the second gives the scale.
    pub fn new(
        channels: usize,
        squeezed: usize,
        [activation, scale]: [Activation; 2],
        init: ConvInit,
        device: &Device,
    ) -> Self {
        let conv = |channels| ConvConfig::new(channels, 1).biased().drawn(init).init(device);
        Self { fc1: conv([channels, squeezed]), fc2: conv([squeezed, channels]), activation, scale }
    }

    /// `[batch, channels, height, width]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let mean = kernels::mean_of_planes(&x).unwrap_or_else(|| adaptive_avg_pool2d(x.clone(), [1, 1]));
        let squeezed = conv_norm(&self.fc1, None, self.activation, mean);
        let scale = conv_norm(&self.fc2, None, self.scale, squeezed);
        kernels::scaled_planes(&x, &scale).unwrap_or_else(|| x * scale)
    }
}
