//! The tutorial's CIFAR-10 network (`Cnn`): three 7×7 convolutions, then two linear layers.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
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

impl Forward for CifarCnn {
    type Input = Tensor<4>;
    type Output = Tensor<2>;
    const RECORD_PREFIX: Option<&'static str> = Some("CifarCnn");

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for CifarCnnConfig {
    type Model = CifarCnn;
    const NAME: &'static str = "cifar_cnn";

    fn check(&self) -> Result<(), Invalid> {
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

    fn init(&self, device: &Device) -> CifarCnn {
        let c = self.channels;
        let conv = |from, to, i: usize| layers::conv2d_config([from, to], self.kernel, self.padding[i]).init(device);
        CifarCnn {
            conv: conv(self.in_channels, c[0], 0),
            conv1: conv(c[0], c[1], 1),
            conv2: conv(c[1], c[2], 2),
            pool: MaxPool2dConfig::new([self.pool[0]; 2]).with_strides([self.pool[1]; 2]).init(),
            average: AdaptiveAvgPool2dConfig::new([1, 1]).init(),
            dropout: Dropout2d::new(self.dropout),
            dropout1: DropoutConfig::new(self.dropout).init(),
            fc: layers::linear_config(c[2], self.hidden).init(device),
            fc1: layers::linear_config(self.hidden, self.classes).init(device),
        }
    }

    fn io(&self) -> Io {
        let smallest = (1..).find(|&side| self.last_side(side).is_some()).unwrap_or(1);
        let config = self.clone();
        Io::classifier([self.in_channels, 32, 32], self.classes).accepting(
            format!("{} channels and sides of at least {smallest}", self.in_channels),
            move |[channels, height, width]| {
                channels == config.in_channels
                    && config.last_side(height).is_some()
                    && config.last_side(width).is_some()
            },
        )
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self {
            in_channels: shapes.axis("conv.weight", 1)?,
            channels: shapes.outputs(["conv", "conv1", "conv2"])?,
            kernel: shapes.axis("conv.weight", 2)?,
            hidden: shapes.axis("fc.weight", 0)?,
            classes: shapes.axis("fc1.weight", 0)?,
            ..self.clone()
        })
    }
}
