//! The tutorial's `TheModelClass` and `Net`: two convolutions with pooling, then three linear layers.
//!
//! The same network under two sets of names and sizes, as in the tutorial.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_sizes};
use crate::layers;

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

        impl Forward for $model {
            type Input = Tensor<4>;
            type Output = Tensor<2>;
            const RECORD_PREFIX: Option<&'static str> = Some($class);

            fn forward(&self, x: Tensor<4>) -> Tensor<2> {
                self.forward(x)
            }
        }

        impl ModelConfig for $config {
            type Model = $model;
            const NAME: &'static str = $name;

            fn check(&self) -> Result<(), Invalid> {
                let sizes = [
                    ("in_channels", self.in_channels), ("channels", self.channels[0].min(self.channels[1])), ("kernel", self.kernel),
                    ("pool", self.pool), ("grid", self.grid), ("hidden", self.hidden[0].min(self.hidden[1])), ("classes", self.classes),
                ];
                check_sizes(&sizes)
            }

            fn init(&self, device: &Device) -> $model {
                $model {
                    conv: layers::conv2d_config([self.in_channels, self.channels[0]], self.kernel, 0).init(device),
                    pool: max_pool(self.pool),
                    conv1: layers::conv2d_config(self.channels, self.kernel, 0).init(device),
                    $first: layers::linear_config(self.flat(), self.hidden[0]).init(device),
                    $second: layers::linear_config(self.hidden[0], self.hidden[1]).init(device),
                    $third: layers::linear_config(self.hidden[1], self.classes).init(device),
                }
            }

            fn io(&self) -> Io {
                let Self { in_channels, kernel, pool, grid, .. } = *self;
                let smallest = smallest_side(kernel, pool, grid);
                let passes = move |side| cells(side, kernel, pool) == Some(grid);
                // A second pool leaves room for pool² - 1 rows more.
                let largest = (smallest..).take_while(|&side| passes(side)).last().unwrap_or(smallest);
                let expected = format!("{in_channels} channels and sides of {smallest} to {largest}");
                Io::classifier([in_channels, smallest, smallest], self.classes)
                    .accepting(expected, move |[channels, height, width]| channels == in_channels && passes(height) && passes(width))
            }

            fn fit(&self, shapes: &Shapes) -> Option<Self> {
                let [first, second, third] = [stringify!($first), stringify!($second), stringify!($third)];
                let channels = shapes.outputs(["conv", "conv1"])?;
                let cells = shapes.axis(&format!("{first}.weight"), 1)?.checked_div(channels[1])?;
                Some(Self {
                    in_channels: shapes.axis("conv.weight", 1)?,
                    channels,
                    kernel: shapes.axis("conv.weight", 2)?,
                    grid: cells.isqrt(),
                    hidden: shapes.outputs([first, second])?,
                    classes: shapes.axis(&format!("{third}.weight"), 0)?,
                    ..self.clone()
                })
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

/// Cells that come out of two convolutions and pools of an image side; none when the image is too small.
fn cells(side: usize, kernel: usize, pool: usize) -> Option<usize> {
    let after = |side: usize| Some((side + 1).checked_sub(kernel)? / pool);
    after(after(side)?)
}

/// The smallest image side for which `grid` cells come out.
fn smallest_side(kernel: usize, pool: usize, grid: usize) -> usize {
    ((grid * pool) + kernel - 1) * pool + kernel - 1
}
