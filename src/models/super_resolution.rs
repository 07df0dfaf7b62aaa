//! The tutorial's `SuperResolutionModel` (ESPCN): four convolutions, then a pixel shuffle.
//!
//! Source: Shi et al., *Real-Time Single Image and Video Super-Resolution Using an Efficient Sub-Pixel CNN*, 2016.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Initializer, PixelShuffle, PixelShuffleConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_sizes};
use crate::layers;

/// Enlarges a luma image by a whole factor.
#[derive(Module, Debug)]
pub struct SuperResolution {
    conv1: Conv2d,
    conv2: Conv2d,
    conv3: Conv2d,
    conv4: Conv2d,
    pixel_shuffle: PixelShuffle,
}

impl SuperResolution {
    /// `[batch, 1, height, width]` to `[batch, 1, height × factor, width × factor]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = layers::conv2d_relu(&self.conv1, x);
        let x = layers::conv2d_relu(&self.conv2, x);
        let x = layers::conv2d_relu(&self.conv3, x);
        self.pixel_shuffle.forward(layers::conv2d(&self.conv4, x))
    }
}

/// The arguments of `SuperResolutionModel`'s constructor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SuperResolutionConfig {
    /// Factor by which both sides grow.
    pub upscale_factor: usize,
    /// Channels after the first three convolutions.
    pub channels: [usize; 3],
    /// PyTorch's in-place ReLU; changes nothing here.
    pub inplace: bool,
}

impl Default for SuperResolutionConfig {
    fn default() -> Self {
        Self { upscale_factor: 3, channels: [64, 64, 32], inplace: false }
    }
}

impl SuperResolutionConfig {
    /// Name, outputs and kernel side of each convolution.
    fn convolutions(&self) -> [(&'static str, usize, usize); 4] {
        let [a, b, c] = self.channels;
        [("conv1", a, 5), ("conv2", b, 3), ("conv3", c, 3), ("conv4", self.upscale_factor * self.upscale_factor, 3)]
    }
}

impl Forward for SuperResolution {
    type Input = Tensor<4>;
    type Output = Tensor<4>;
    const RECORD_PREFIX: Option<&'static str> = Some("SuperResolution");

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward(x)
    }
}

impl ModelConfig for SuperResolutionConfig {
    type Model = SuperResolution;
    const NAME: &'static str = "super_resolution";

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("upscale_factor", self.upscale_factor), ("channels", *self.channels.iter().min().unwrap_or(&0))])
    }

    fn init(&self, device: &Device) -> SuperResolution {
        let mut from = 1;
        let [conv1, conv2, conv3, conv4] = self.convolutions().map(|(name, to, kernel)| {
            // Orthogonal rows keep the signal's size; √2 makes up for what a ReLU takes away.
            let gain = if name == "conv4" { 1.0 } else { std::f64::consts::SQRT_2 };
            let mut conv = layers::conv2d_config([from, to], kernel, kernel / 2).init(device);
            conv.weight = Initializer::Orthogonal { gain }.init([to, from, kernel, kernel], device);
            from = to;
            conv
        });
        let pixel_shuffle = PixelShuffleConfig::new(self.upscale_factor).init();
        SuperResolution { conv1, conv2, conv3, conv4, pixel_shuffle }
    }

    fn io(&self) -> Io {
        Io::enlarger([1, 224, 224], self.upscale_factor)
            .accepting("one channel (luma) of any size", |[channels, height, width]| {
                channels == 1 && height * width > 0
            })
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self {
            channels: shapes.outputs(["conv1", "conv2", "conv3"])?,
            upscale_factor: shapes.axis("conv4.weight", 0)?.isqrt(),
            ..self.clone()
        })
    }
}
