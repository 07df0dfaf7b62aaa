//! Convolutions with what follows them.

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{Initializer, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::activation::Activation;
use super::named::named_module;
use crate::kernels;
use crate::layers::{self, BatchNorm2d};

/// How the first weights of a convolution are drawn. A bias begins at 0 unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ConvInit {
    /// As `torch.nn.Conv2d` does by itself.
    Layer,
    /// He's normal distribution by the fan out: `kaiming_normal_(mode="fan_out")`.
    FanOut,
    /// The same, but a bias is drawn as `torch.nn.Conv2d` does by itself.
    FanOutOfWeights,
    /// He's normal distribution by the fan in: `kaiming_normal_()`.
    FanIn,
    /// He's uniform distribution by the fan in: `kaiming_uniform_()`.
    FanInUniform,
    /// A normal distribution of this deviation. torchvision's `trunc_normal_` cuts it at ±2, that is at 20 deviations or more.
    Normal(f64),
}

/// A convolution that is to be built.
#[derive(Debug, Clone)]
pub struct ConvConfig {
    channels: [usize; 2],
    kernel: [usize; 2],
    stride: usize,
    padding: [usize; 2],
    dilation: usize,
    groups: usize,
    bias: bool,
    init: ConvInit,
}

impl ConvConfig {
    /// A square kernel of odd side, padded so that stride 1 keeps the size; without a bias, drawn by [`ConvInit::FanOut`].
    pub fn new(channels: [usize; 2], kernel: usize) -> Self {
        let padding = [(kernel - 1) / 2; 2];
        let init = ConvInit::FanOut;
        Self { channels, kernel: [kernel; 2], stride: 1, padding, dilation: 1, groups: 1, bias: false, init }
    }

    /// A kernel of any two sides, padded so that stride 1 keeps the size.
    #[must_use]
    pub fn kernel(self, kernel: [usize; 2]) -> Self {
        Self { kernel, padding: kernel.map(|side| (side - 1) / 2), ..self }
    }

    /// Pixels from one output to the next.
    #[must_use]
    pub fn stride(self, stride: usize) -> Self {
        Self { stride, ..self }
    }

    /// Zeros on each side.
    #[must_use]
    pub fn padding(self, padding: usize) -> Self {
        Self { padding: [padding; 2], ..self }
    }

    /// Pixels from one tap to the next, padded so that stride 1 keeps the size.
    #[must_use]
    pub fn dilation(self, dilation: usize) -> Self {
        Self { dilation, padding: self.kernel.map(|side| (side - 1) / 2 * dilation), ..self }
    }

    /// Groups of channels that don't see one another.
    #[must_use]
    pub fn groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }

    /// With a bias.
    #[must_use]
    pub fn biased(self) -> Self {
        Self { bias: true, ..self }
    }

    /// How the first weights are drawn.
    #[must_use]
    pub fn drawn(self, init: ConvInit) -> Self {
        Self { init, ..self }
    }

    /// The convolution with fresh weights.
    pub fn init(&self, device: &Device) -> Conv2d {
        let [from, to] = self.channels;
        let [top, left] = self.padding;
        let area = self.kernel[0] * self.kernel[1];
        // PyTorch counts all output channels in the fan out, whatever the groups.
        let (fan_in, fan_out) = ((from / self.groups * area) as f64, (to * area) as f64);
        let mut config = Conv2dConfig::new(self.channels, self.kernel)
            .with_stride([self.stride; 2])
            .with_padding(PaddingConfig2d::Explicit(top, left, top, left))
            .with_dilation([self.dilation; 2])
            .with_groups(self.groups)
            .with_bias(self.bias);
        match self.init {
            ConvInit::Layer => return config.init(device),
            ConvInit::FanOutOfWeights => {
                let weight = layers::normal((2.0 / fan_out).sqrt());
                let mut conv = config.init(device);
                conv.weight = weight.init(conv.weight.lazy_shape(), device);
                return conv;
            }
            ConvInit::FanOut => config.initializer = layers::normal((2.0 / fan_out).sqrt()),
            ConvInit::FanIn => config.initializer = layers::normal((2.0 / fan_in).sqrt()),
            ConvInit::FanInUniform => config.initializer = layers::uniform((6.0 / fan_in).sqrt()),
            ConvInit::Normal(std) => config.initializer = layers::normal(std),
        }
        let mut conv = config.init(device);
        conv.bias = self.bias.then(|| Initializer::Zeros.init([to], device));
        conv
    }

    /// The convolution, a batch normalisation and an activation.
    pub fn norm(&self, norm: NormConfig, activation: Activation, device: &Device) -> ConvNormActivation {
        let norm = Some(norm.init(self.channels[1], device));
        ConvNormActivation { conv: self.init(device), norm, activation }
    }

    /// The convolution and an activation.
    pub fn activation(&self, activation: Activation, device: &Device) -> ConvNormActivation {
        ConvNormActivation { conv: self.init(device), norm: None, activation }
    }
}

/// The constants of a batch normalisation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NormConfig {
    /// Added to the variance.
    pub epsilon: f64,
    /// Weight of a new batch in the running statistics.
    pub momentum: f64,
}

impl Default for NormConfig {
    /// PyTorch's.
    fn default() -> Self {
        Self { epsilon: 1e-5, momentum: 0.1 }
    }
}

impl NormConfig {
    /// The normalisation of so many channels: scale 1, shift 0.
    pub fn init(self, channels: usize, device: &Device) -> BatchNorm2d {
        BatchNorm2d { epsilon: self.epsilon, momentum: self.momentum, ..BatchNorm2d::new(channels, device) }
    }
}

/// A convolution, perhaps a batch normalisation, and an activation: torchvision's `Conv2dNormActivation`.
#[derive(Debug, Clone)]
pub struct ConvNormActivation {
    conv: Conv2d,
    norm: Option<BatchNorm2d>,
    activation: Activation,
}

named_module!(ConvNormActivation { conv => "0", norm => "1"; activation });

impl ConvNormActivation {
    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        conv_norm(&self.conv, self.norm.as_ref(), self.activation, x)
    }
}

/// The same with the names of torchvision's `BasicConv2d` (GoogLeNet and Inception v3): `conv`, `bn`, then a ReLU.
#[derive(Module, Debug)]
pub struct BasicConv2d {
    conv: Conv2d,
    bn: BatchNorm2d,
}

impl BasicConv2d {
    /// A convolution without a bias; the normalisation adds 0.001 to the variance.
    pub fn new(config: &ConvConfig, device: &Device) -> Self {
        let norm = NormConfig { epsilon: 1e-3, ..NormConfig::default() };
        Self { conv: config.init(device), bn: norm.init(config.channels[1], device) }
    }

    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        layers::conv2d_norm(&self.conv, &self.bn, x, kernels::Activation::Relu)
    }
}

/// A convolution and what follows it, in one pass where the device can.
pub fn conv_norm(conv: &Conv2d, norm: Option<&BatchNorm2d>, activation: Activation, x: Tensor<4>) -> Tensor<4> {
    if let Some(norm) = norm
        && let Some(y) = layers::conv2d_norm_trained(conv, norm, &x, activation.function())
    {
        return y;
    }
    let (fused, rest) = match activation {
        Activation::Relu => (kernels::Activation::Relu, Activation::Identity),
        other => (kernels::Activation::None, other),
    };
    rest.forward(match (norm, fused) {
        (Some(norm), fused) => layers::conv2d_norm(conv, norm, x, fused),
        (None, kernels::Activation::Relu) => layers::conv2d_relu(conv, x),
        (None, kernels::Activation::None) => layers::conv2d(conv, x),
    })
}
