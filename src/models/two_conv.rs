//! The tutorial's `TheModelClass` and `Net`: two convolutions with pooling, then three linear layers.
//!
//! The same network under two sets of names and sizes, as in the tutorial.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Architecture, Configure, ModelError, Network, Summary, expect_input};
use crate::layers;

const KEYS: &[&str] = &["in_channels", "channels", "kernel", "pool", "grid", "hidden", "classes"];

/// Defines a network and its configuration: class, names of the three linear layers, defaults.
macro_rules! two_conv_net {
    ($(#[$doc:meta])* $model:ident, $config:ident, $name:literal, $class:literal, [$first:ident, $second:ident, $third:ident], $defaults:expr) => {
        $(#[$doc])*
        #[derive(Module, Debug)]
        pub struct $model {
            conv: Conv2d,
            pool: MaxPool2d,
            conv1: Conv2d,
            $first: Linear,
            $second: Linear,
            $third: Linear,
        }

        impl $model {
            /// `[batch, in_channels, side, side]` to logits `[batch, classes]`.
            pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
                let x = layers::max_pool2d(&self.pool, layers::conv2d_relu(&self.conv, x));
                let x = layers::max_pool2d(&self.pool, layers::conv2d_relu(&self.conv1, x));
                let x: Tensor<2> = x.flatten(1, 3);
                let x = layers::linear_relu(&self.$first, x);
                let x = layers::linear_relu(&self.$second, x);
                layers::linear(&self.$third, x)
            }
        }

        #[doc = concat!("The arguments of `", $class, "`'s constructor.")]
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $config {
            /// Channels of the input image.
            pub in_channels: usize,
            /// Channels after each convolution.
            pub channels: [usize; 2],
            /// Side of both convolution kernels.
            pub kernel: usize,
            /// Side and stride of both pools.
            pub pool: usize,
            /// Side of the grid of cells that enters the linear layers.
            pub grid: usize,
            /// Outputs of the first two linear layers.
            pub hidden: [usize; 2],
            /// Number of classes.
            pub classes: usize,
        }

        impl Default for $config {
            fn default() -> Self {
                let (in_channels, channels, kernel, pool, grid, hidden, classes) = $defaults;
                Self { in_channels, channels, kernel, pool, grid, hidden, classes }
            }
        }

        impl $config {
            fn flat(&self) -> usize {
                self.channels[1] * self.grid * self.grid
            }
        }

        impl Configure for $config {
            const KEYS: &'static [&'static str] = KEYS;

            fn check(&self) -> Result<(), String> {
                let sizes = [
                    ("in_channels", self.in_channels), ("channels", self.channels[0].min(self.channels[1])), ("kernel", self.kernel),
                    ("pool", self.pool), ("grid", self.grid), ("hidden", self.hidden[0].min(self.hidden[1])), ("classes", self.classes),
                ];
                super::check_sizes(&sizes)
            }
        }

        impl Architecture for $config {
            fn build(&self, device: &Device) -> Network {
                Network::$model($model {
                    conv: layers::conv2d_config([self.in_channels, self.channels[0]], self.kernel, 0).init(device),
                    pool: max_pool(self.pool),
                    conv1: layers::conv2d_config(self.channels, self.kernel, 0).init(device),
                    $first: layers::linear_config(self.flat(), self.hidden[0]).init(device),
                    $second: layers::linear_config(self.hidden[0], self.hidden[1]).init(device),
                    $third: layers::linear_config(self.hidden[1], self.classes).init(device),
                })
            }

            fn input_shape(&self) -> [usize; 3] {
                let side = smallest_side(self.kernel, self.pool, self.grid);
                [self.in_channels, side, side]
            }

            fn check_input(&self, shape: [usize; 3]) -> Result<(), ModelError> {
                let [_, smallest, _] = self.input_shape();
                let passes = |side| cells(side, self.kernel, self.pool) == Some(self.grid);
                // A second pool leaves room for pool² - 1 rows more.
                let largest = (smallest..).take_while(|&side| passes(side)).last().unwrap_or(smallest);
                let ok = shape[0] == self.in_channels && passes(shape[1]) && passes(shape[2]);
                expect_input($name, ok, format!("{} channels and sides of {smallest} to {largest}", self.in_channels), shape)
            }

            fn classes(&self) -> Option<usize> {
                Some(self.classes)
            }

            fn summary(&self, input: [usize; 3]) -> Summary {
                let mut summary = Summary { class: $class, input, layers: Vec::new() };
                let mut shape = input;
                summary.conv("conv", &mut shape, self.channels[0], self.kernel, 0);
                pool(&mut shape, self.pool);
                let layer = format!("MaxPool2d(kernel_size={0}, stride={0}, padding=0, dilation=1, ceil_mode=False)", self.pool);
                summary.push("pool", layer, &shape, 0);
                summary.conv("conv1", &mut shape, self.channels[1], self.kernel, 0);
                summary.linear(stringify!($first), self.flat(), self.hidden[0]);
                summary.linear(stringify!($second), self.hidden[0], self.hidden[1]);
                summary.linear(stringify!($third), self.hidden[1], self.classes);
                summary
            }

            fn config(&self) -> serde_json::Value {
                serde_json::json!(self)
            }
        }
    };
}

two_conv_net!(
    /// The tutorial's `TheModelClass`: 65×65 to 73×73 images of four channels into ten classes.
    TheModelClass, TheModelClassConfig, "the_model_class", "TheModelClass", [fc1, fc2, fc3],
    (4, [7, 17], 6, 3, 5, [120, 84], 10)
);
two_conv_net!(
    /// The tutorial's `Net`: 142×142 to 157×157 images of five channels into twelve classes.
    Net, NetConfig, "net", "Net", [fc, fc1, fc2],
    (5, [8, 18], 7, 4, 7, [140, 86], 12)
);

fn max_pool(side: usize) -> MaxPool2d {
    MaxPool2dConfig::new([side, side]).with_strides([side, side]).with_padding(PaddingConfig2d::Valid).init()
}

fn pool(shape: &mut [usize; 3], side: usize) {
    shape[1] /= side;
    shape[2] /= side;
}

/// Cells that come out of two convolutions and pools of an image side; none when the image is too small.
fn cells(side: usize, kernel: usize, pool: usize) -> Option<usize> {
    let after = |side: usize| Some((side + 1).checked_sub(kernel)? / pool);
    after(after(side)?)
}

/// The smallest image side for which `grid` cells come out.
fn smallest_side(kernel: usize, pool: usize, grid: usize) -> usize {
    ((grid * pool) + kernel - 1) * pool + kernel - 1
}
