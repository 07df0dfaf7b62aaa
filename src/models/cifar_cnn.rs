//! The tutorial's CIFAR-10 network (`Cnn`): three 7×7 convolutions, then two linear layers.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Architecture, Configure, ModelError, Network, Summary, check_probability, check_sizes, expect_input};
use crate::layers::{self, Dropout2d};

/// Three convolutions with dropout of whole channels, averaged over the image.
#[derive(Module, Debug)]
pub struct CifarCnn {
    conv: Conv2d,
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    average: AdaptiveAvgPool2d,
    dropout: Dropout2d,
    dropout1: Dropout,
    fc: Linear,
    fc1: Linear,
}

impl CifarCnn {
    /// `[batch, in_channels, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.dropout.forward(layers::conv2d_relu(&self.conv, x));
        let x = layers::max_pool2d(&self.pool, x);
        let x = layers::max_pool2d(&self.pool, layers::conv2d_relu(&self.conv1, x));
        let x = layers::conv2d_relu(&self.conv2, x);
        let x: Tensor<2> = self.average.forward(x).flatten(1, 3);
        let x = layers::dropout(&self.dropout1, layers::linear_relu(&self.fc, x));
        layers::linear(&self.fc1, x)
    }
}

/// The arguments of `Cnn`'s constructor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CifarCnnConfig {
    /// Channels of the input image.
    pub in_channels: usize,
    /// Channels after each convolution.
    pub channels: [usize; 3],
    /// Side of the three kernels.
    pub kernel: usize,
    /// Padding of each convolution.
    pub padding: [usize; 3],
    /// Side and stride of the two max pools.
    pub pool: [usize; 2],
    /// Outputs of the hidden linear layer.
    pub hidden: usize,
    /// Number of classes.
    pub classes: usize,
    /// Probability of dropout, of channels and of hidden values.
    pub dropout: f64,
}

impl Default for CifarCnnConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            channels: [66, 66, 130],
            kernel: 7,
            padding: [1, 3, 3],
            pool: [5, 4],
            hidden: 1000,
            classes: 10,
            dropout: 0.7,
        }
    }
}

impl CifarCnnConfig {
    /// Side after the layers up to the third convolution; none when the image is too small.
    fn last_side(&self, side: usize) -> Option<usize> {
        let conv =
            |side: usize, i: usize| (side + 2 * self.padding[i] + 1).checked_sub(self.kernel).filter(|&side| side > 0);
        let pool = |side: usize| side.checked_sub(self.pool[0]).map(|side| side / self.pool[1] + 1);
        conv(pool(conv(pool(conv(side, 0)?)?, 1)?)?, 2)
    }
}

impl Configure for CifarCnnConfig {
    const KEYS: &'static [&'static str] =
        &["in_channels", "channels", "kernel", "padding", "pool", "hidden", "classes", "dropout"];

    fn check(&self) -> Result<(), String> {
        let channels = *self.channels.iter().min().unwrap_or(&0);
        let pool = self.pool[0].min(self.pool[1]);
        check_sizes(&[
            ("in_channels", self.in_channels),
            ("channels", channels),
            ("kernel", self.kernel),
            ("pool", pool),
            ("hidden", self.hidden),
            ("classes", self.classes),
        ])?;
        check_probability("dropout", self.dropout)
    }
}

impl Architecture for CifarCnnConfig {
    fn build(&self, device: &Device) -> Network {
        let c = self.channels;
        let conv = |from, to, i: usize| layers::conv2d_config([from, to], self.kernel, self.padding[i]).init(device);
        Network::CifarCnn(CifarCnn {
            conv: conv(self.in_channels, c[0], 0),
            conv1: conv(c[0], c[1], 1),
            conv2: conv(c[1], c[2], 2),
            pool: MaxPool2dConfig::new([self.pool[0]; 2]).with_strides([self.pool[1]; 2]).init(),
            average: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            dropout: Dropout2d::new(self.dropout),
            dropout1: DropoutConfig::new(self.dropout).init(),
            fc: layers::linear_config(c[2], self.hidden).init(device),
            fc1: layers::linear_config(self.hidden, self.classes).init(device),
        })
    }

    fn input_shape(&self) -> [usize; 3] {
        [self.in_channels, 32, 32]
    }

    fn check_input(&self, shape: [usize; 3]) -> Result<(), ModelError> {
        let smallest = (1..).find(|&side| self.last_side(side).is_some()).unwrap_or(1);
        let ok =
            shape[0] == self.in_channels && self.last_side(shape[1]).is_some() && self.last_side(shape[2]).is_some();
        expect_input("cifar_cnn", ok, format!("{} channels and sides of at least {smallest}", self.in_channels), shape)
    }

    fn classes(&self) -> Option<usize> {
        Some(self.classes)
    }

    fn summary(&self, input: [usize; 3]) -> Summary {
        let mut summary = Summary { class: "Cnn", input, layers: Vec::new() };
        let mut shape = input;
        let pool = |shape: &mut [usize; 3]| {
            for side in &mut shape[1..] {
                *side = (*side - self.pool[0]) / self.pool[1] + 1;
            }
        };
        summary.conv("conv", &mut shape, self.channels[0], self.kernel, self.padding[0]);
        pool(&mut shape);
        summary.conv("conv1", &mut shape, self.channels[1], self.kernel, self.padding[1]);
        pool(&mut shape);
        let pooled = shape;
        summary.conv("conv2", &mut shape, self.channels[2], self.kernel, self.padding[2]);
        let [kernel, stride] = self.pool;
        let layer = format!("MaxPool2d(kernel_size={kernel}, stride={stride}, padding=0, dilation=1, ceil_mode=False)");
        summary.push("pool", layer, &pooled, 0);
        summary.push("dropout", format!("Dropout2d(p={}, inplace=False)", self.dropout), &[self.channels[0]], 0);
        summary.push("dropout1", format!("Dropout(p={}, inplace=False)", self.dropout), &[self.hidden], 0);
        summary.linear("fc", self.channels[2], self.hidden);
        summary.linear("fc1", self.hidden, self.classes);
        summary
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}
