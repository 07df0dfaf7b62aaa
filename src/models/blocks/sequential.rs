//! Layers in a row, of which each counts in the names of `nn.Sequential`, whether it has parameters or not.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor};

use super::activation::Activation;
use super::conv::{ConvNormActivation, conv_norm};
use super::excitation::SqueezeExcitation;
use crate::kernels;
use crate::layers::{self, BatchNorm2d};

/// A layer on images.
#[derive(Module, Debug)]
pub enum Layer {
    /// A convolution.
    Conv(Conv2d),
    /// Batch normalisation.
    Norm(BatchNorm2d),
    /// An activation.
    Activation(Activation),
    /// A max pool.
    Pool(MaxPool2d),
    /// Dropout of single values.
    Dropout(Dropout),
    /// A convolution with its normalisation and activation.
    Block(ConvNormActivation),
    /// A squeeze-excitation.
    Excitation(SqueezeExcitation),
}

impl Layer {
    /// Dropout with a probability in 0 to 1.
    pub fn dropout(prob: f64) -> Self {
        Self::Dropout(DropoutConfig::new(prob).init())
    }
}

/// Runs layers on `[batch, channels, height, width]`, convolutions with what follows them in one pass where the device can.
pub fn run(layers: &[Layer], mut x: Tensor<4>) -> Tensor<4> {
    let mut rest = layers;
    loop {
        (x, rest) = match rest {
            [Layer::Conv(conv), Layer::Norm(norm), Layer::Activation(activation), rest @ ..] => {
                (conv_norm(conv, Some(norm), *activation, x), rest)
            }
            [Layer::Conv(conv), Layer::Norm(norm), rest @ ..] => {
                (conv_norm(conv, Some(norm), Activation::Identity, x), rest)
            }
            [Layer::Conv(conv), Layer::Activation(activation), rest @ ..] => {
                (conv_norm(conv, None, *activation, x), rest)
            }
            [Layer::Conv(conv), rest @ ..] => (layers::conv2d(conv, x), rest),
            [Layer::Norm(norm), rest @ ..] => (norm.forward(x), rest),
            [Layer::Activation(activation), rest @ ..] => (activation.forward(x), rest),
            [Layer::Pool(pool), rest @ ..] => (layers::max_pool2d(pool, x), rest),
            [Layer::Dropout(dropout), rest @ ..] => (layers::dropout(dropout, x), rest),
            [Layer::Block(block), rest @ ..] => (block.forward(x), rest),
            [Layer::Excitation(excitation), rest @ ..] => (excitation.forward(x), rest),
            [] => return x,
        };
    }
}

/// A layer on vectors: one element of a classifier.
#[derive(Module, Debug)]
pub enum Head {
    /// A linear layer.
    Linear(Linear),
    /// An activation.
    Activation(Activation),
    /// Dropout.
    Dropout(Dropout),
}

impl Head {
    /// Dropout with a probability in 0 to 1, checked by the network's configuration.
    pub fn dropout(prob: f64) -> Self {
        Self::Dropout(DropoutConfig::new(prob).init())
    }
}

/// Runs a classifier on `[batch, features]`, linear layers with the ReLU that follows them in one pass where the device can.
pub fn classify(layers: &[Head], mut x: Tensor<2>) -> Tensor<2> {
    let mut rest = layers;
    loop {
        (x, rest) = match rest {
            [Head::Linear(linear), Head::Activation(Activation::Relu), rest @ ..] => {
                (layers::linear_relu(linear, x), rest)
            }
            [Head::Linear(linear), rest @ ..] => (layers::linear(linear, x), rest),
            [Head::Activation(activation), rest @ ..] => (activation.forward(x), rest),
            [Head::Dropout(dropout), rest @ ..] => (layers::dropout(dropout, x), rest),
            [] => return x,
        };
    }
}

/// A linear layer whose weights are drawn from a normal distribution; the bias begins at 0.
pub fn linear_normal(inputs: usize, outputs: usize, std: f64, device: &Device) -> Linear {
    linear_drawn(inputs, outputs, layers::normal(std), device)
}

/// A linear layer whose weights are drawn as told; the bias begins at 0.
pub fn linear_drawn(inputs: usize, outputs: usize, init: Initializer, device: &Device) -> Linear {
    let mut linear = layers::linear_config(inputs, outputs).init(device);
    linear.weight = init.init([inputs, outputs], device);
    linear.bias = Some(Initializer::Zeros.init([outputs], device));
    linear
}

/// A linear layer whose weights are drawn from a normal distribution, the bias as `torch.nn.Linear` draws it by itself.
pub fn linear_normal_weight(inputs: usize, outputs: usize, std: f64, device: &Device) -> Linear {
    let mut linear = layers::linear_config(inputs, outputs).init(device);
    linear.weight = layers::normal(std).init([inputs, outputs], device);
    linear
}

/// A max pool with a square window; with `ceil` a last window may reach over the edge.
pub fn max_pool(kernel: usize, stride: usize, padding: usize, ceil: bool) -> MaxPool2d {
    MaxPool2dConfig::new([kernel; 2])
        .with_strides([stride; 2])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
        .with_ceil_mode(ceil)
        .init()
}

/// ImageNet's normalisation turned into that of networks trained with mean 0.5 and deviation 0.5: torchvision's
/// `transform_input` of GoogLeNet and Inception v3.
pub fn from_imagenet(x: Tensor<4>) -> Tensor<4> {
    let [mean, deviation] = [[0.485_f32, 0.456, 0.406], [0.229, 0.224, 0.225]];
    let device = x.device();
    let each = |values: [f32; 3]| Tensor::<1>::from_floats(values, &device).reshape([1, 3, 1, 1]);
    x * each(deviation.map(|deviation| deviation / 0.5)) + each(mean.map(|mean| (mean - 0.5) / 0.5))
}

/// The mean of each channel: `[batch, channels, height, width]` to `[batch, channels]`.
pub fn global_mean(x: Tensor<4>) -> Tensor<2> {
    let mean = kernels::mean_of_planes(&x);
    mean.unwrap_or_else(|| burn::tensor::module::adaptive_avg_pool2d(x, [1, 1])).flatten(1, 3)
}
