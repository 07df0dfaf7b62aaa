//! torchvision's Inception v3: blocks of branches with factorised kernels, and an auxiliary classifier in training.
//!
//! Source: Szegedy et al., *Rethinking the Inception Architecture for Computer Vision*, 2015.

use burn::module::{Flag, Module, Param};
use burn::nn::pool::{AvgPool2dConfig, MaxPool2d};
use burn::nn::{Dropout, DropoutConfig, Linear, PaddingConfig2d};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    BasicConv2d, ConvConfig, ConvInit, check_width, from_imagenet, global_mean, linear_normal_weight, max_pool,
    named_module, scaled,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, Scores, check_probability, check_sizes};
use crate::layers;

/// The arguments of torchvision's Inception v3.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct InceptionConfig {
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Whether the auxiliary classifier is there.
    pub aux_logits: bool,
    /// Whether inputs are normalised as ImageNet's, and have to be turned into what the network was trained on.
    pub transform_input: bool,
    /// torchvision's initialisation; otherwise each layer's own.
    pub init_weights: bool,
    /// Factor of every layer's channels, in steps of 1/16; torchvision has 1 alone.
    pub width_mult: f64,
    /// Probability of dropout before the classifier.
    pub dropout: f64,
}

impl Default for InceptionConfig {
    fn default() -> Self {
        Self {
            classes: 1000,
            aux_logits: true,
            transform_input: false,
            init_weights: true,
            width_mult: 1.0,
            dropout: 0.5,
        }
    }
}

/// Weight of the auxiliary classifier's loss, as PyTorch's fine-tuning tutorial takes it.
const AUXILIARY: f32 = 0.4;

/// The least side of the map that the auxiliary classifier can take: that of images of 299 pixels. Smaller ones have no auxiliary
/// loss.
const AUXILIARY_SIDE: usize = 17;

/// Deviation of torchvision's initial weights, where a layer has none of its own.
const STD: f64 = 0.1;

/// What the channels of every layer are multiples of.
const STEP: usize = 16;

/// Channels of the first convolution.
const FIRST: usize = 32;

/// Builds the parts of a network.
struct Builder<'a> {
    config: &'a InceptionConfig,
    device: &'a Device,
}

impl Builder<'_> {
    fn config(&self, channels: [usize; 2], kernel: [usize; 2], std: f64) -> ConvConfig {
        let init = if self.config.init_weights { ConvInit::Normal(std) } else { ConvInit::Layer };
        ConvConfig::new(channels.map(|channels| self.wide(channels)), 1).kernel(kernel).drawn(init)
    }

    fn wide(&self, channels: usize) -> usize {
        scaled(channels, STEP, self.config.width_mult)
    }

    /// Padded so that the size stays.
    fn same(&self, from: usize, to: usize, kernel: [usize; 2]) -> BasicConv2d {
        BasicConv2d::new(&self.config([from, to], kernel, STD), self.device)
    }

    fn one(&self, from: usize, to: usize) -> BasicConv2d {
        self.same(from, to, [1, 1])
    }

    /// A 3×3 kernel without padding.
    fn inside(&self, from: usize, to: usize, stride: usize) -> BasicConv2d {
        BasicConv2d::new(&self.config([from, to], [3, 3], STD).padding(0).stride(stride), self.device)
    }

    fn linear(&self, inputs: usize, std: f64) -> Linear {
        let inputs = self.wide(inputs);
        if self.config.init_weights {
            linear_normal_weight(inputs, self.config.classes, std, self.device)
        } else {
            layers::linear_config(inputs, self.config.classes).init(self.device)
        }
    }
}

impl InceptionConfig {
    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> Inception {
        let b = Builder { config: self, device };
        Inception {
            conv_1a: b.inside(3, FIRST, 2),
            conv_2a: b.inside(FIRST, 32, 1),
            conv_2b: b.same(32, 64, [3, 3]),
            pool1: max_pool(3, 2, 0, false),
            conv_3b: b.one(64, 80),
            conv_4a: b.inside(80, 192, 1),
            pool2: max_pool(3, 2, 0, false),
            mixed_5b: MixedA::new(&b, 192, 32),
            mixed_5c: MixedA::new(&b, 256, 64),
            mixed_5d: MixedA::new(&b, 288, 64),
            mixed_6a: MixedB::new(&b, 288),
            mixed_6b: MixedC::new(&b, 768, 128),
            mixed_6c: MixedC::new(&b, 768, 160),
            mixed_6d: MixedC::new(&b, 768, 160),
            mixed_6e: MixedC::new(&b, 768, 192),
            auxiliary: self.aux_logits.then(|| Auxiliary::new(&b, 768)),
            mixed_7a: MixedD::new(&b, 768),
            mixed_7b: MixedE::new(&b, 1280),
            mixed_7c: MixedE::new(&b, 2048),
            dropout: DropoutConfig::new(self.dropout).init(),
            fc: b.linear(2048, STD),
            training: Param::from_bool(true),
            transform_input: self.transform_input,
        }
    }
}

/// torchvision's Inception v3.
#[derive(Debug, Clone)]
pub struct Inception {
    conv_1a: BasicConv2d,
    conv_2a: BasicConv2d,
    conv_2b: BasicConv2d,
    pool1: MaxPool2d,
    conv_3b: BasicConv2d,
    conv_4a: BasicConv2d,
    pool2: MaxPool2d,
    mixed_5b: MixedA,
    mixed_5c: MixedA,
    mixed_5d: MixedA,
    mixed_6a: MixedB,
    mixed_6b: MixedC,
    mixed_6c: MixedC,
    mixed_6d: MixedC,
    mixed_6e: MixedC,
    auxiliary: Option<Auxiliary>,
    mixed_7a: MixedD,
    mixed_7b: MixedE,
    mixed_7c: MixedE,
    dropout: Dropout,
    fc: Linear,
    training: Param<Flag>,
    transform_input: bool,
}

named_module!(Inception {
    conv_1a => "Conv2d_1a_3x3",
    conv_2a => "Conv2d_2a_3x3",
    conv_2b => "Conv2d_2b_3x3",
    pool1 => "maxpool1",
    conv_3b => "Conv2d_3b_1x1",
    conv_4a => "Conv2d_4a_3x3",
    pool2 => "maxpool2",
    mixed_5b => "Mixed_5b",
    mixed_5c => "Mixed_5c",
    mixed_5d => "Mixed_5d",
    mixed_6a => "Mixed_6a",
    mixed_6b => "Mixed_6b",
    mixed_6c => "Mixed_6c",
    mixed_6d => "Mixed_6d",
    mixed_6e => "Mixed_6e",
    auxiliary => "AuxLogits",
    mixed_7a => "Mixed_7a",
    mixed_7b => "Mixed_7b",
    mixed_7c => "Mixed_7c",
    dropout => "dropout",
    fc => "fc",
    training => "training";
    transform_input
});

impl Inception {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`, in training also those of the auxiliary classifier.
    pub fn forward(&self, x: Tensor<4>) -> Scores {
        let trains = self.training.is_enabled() && x.device().is_autodiff();
        let x = if self.transform_input { from_imagenet(x) } else { x };
        let x = self.conv_2b.forward(self.conv_2a.forward(self.conv_1a.forward(x)));
        let x = layers::max_pool2d(&self.pool1, x);
        let x = layers::max_pool2d(&self.pool2, self.conv_4a.forward(self.conv_3b.forward(x)));
        let x = self.mixed_5d.forward(self.mixed_5c.forward(self.mixed_5b.forward(x)));
        let x = self.mixed_6c.forward(self.mixed_6b.forward(self.mixed_6a.forward(x)));
        let x = self.mixed_6e.forward(self.mixed_6d.forward(x));
        let [_, _, height, width] = x.dims();
        let trains = trains && height.min(width) >= AUXILIARY_SIDE;
        let auxiliary = self.auxiliary.as_ref().filter(|_| trains).map(|aux| (AUXILIARY, aux.forward(x.clone())));
        let x = self.mixed_7c.forward(self.mixed_7b.forward(self.mixed_7a.forward(x)));
        let x = layers::dropout(&self.dropout, global_mean(x));
        Scores { logits: layers::linear(&self.fc, x), auxiliary: auxiliary.into_iter().collect() }
    }
}

impl Forward for Inception {
    type Input = Tensor<4>;
    type Output = Scores;

    fn forward(&self, x: Tensor<4>) -> Scores {
        self.forward(x)
    }
}

impl ModelConfig for InceptionConfig {
    type Model = Inception;
    const NAME: &'static str = "inception_v3";

    fn init(&self, device: &Device) -> Inception {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 299, 299], self.classes).with_sides_from(75)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes)])?;
        check_width(STEP, self.width_mult)?;
        check_probability("dropout", self.dropout)
    }

    fn forms(&self) -> Vec<Self> {
        vec![Self { aux_logits: !self.aux_logits, ..self.clone() }]
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        let first = shapes.axis("Conv2d_1a_3x3.conv.weight", 0)?;
        Some(Self { classes: shapes.axis("fc.weight", 0)?, width_mult: first as f64 / FIRST as f64, ..self.clone() })
    }
}

/// The mean around each pixel; the zeros of the padding count.
fn around(x: Tensor<4>) -> Tensor<4> {
    let config = AvgPool2dConfig::new([3, 3]).with_strides([1, 1]);
    config.with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init().forward(x)
}

/// The greatest values, at half the size.
fn halved(x: Tensor<4>) -> Tensor<4> {
    layers::max_pool2d(&max_pool(3, 2, 0, false), x)
}

/// Runs convolutions one after another.
fn chain<const N: usize>(convs: [&BasicConv2d; N], x: &Tensor<4>) -> Tensor<4> {
    convs.iter().fold(x.clone(), |x, conv| conv.forward(x))
}

#[derive(Module, Debug)]
struct MixedA {
    branch1x1: BasicConv2d,
    branch5x5_1: BasicConv2d,
    branch5x5_2: BasicConv2d,
    branch3x3dbl_1: BasicConv2d,
    branch3x3dbl_2: BasicConv2d,
    branch3x3dbl_3: BasicConv2d,
    branch_pool: BasicConv2d,
}

impl MixedA {
    fn new(b: &Builder, from: usize, pooled: usize) -> Self {
        Self {
            branch1x1: b.one(from, 64),
            branch5x5_1: b.one(from, 48),
            branch5x5_2: b.same(48, 64, [5, 5]),
            branch3x3dbl_1: b.one(from, 64),
            branch3x3dbl_2: b.same(64, 96, [3, 3]),
            branch3x3dbl_3: b.same(96, 96, [3, 3]),
            branch_pool: b.one(from, pooled),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branches = vec![
            self.branch1x1.forward(x.clone()),
            chain([&self.branch5x5_1, &self.branch5x5_2], &x),
            chain([&self.branch3x3dbl_1, &self.branch3x3dbl_2, &self.branch3x3dbl_3], &x),
            self.branch_pool.forward(around(x)),
        ];
        Tensor::cat(branches, 1)
    }
}

#[derive(Module, Debug)]
struct MixedB {
    branch3x3: BasicConv2d,
    branch3x3dbl_1: BasicConv2d,
    branch3x3dbl_2: BasicConv2d,
    branch3x3dbl_3: BasicConv2d,
}

impl MixedB {
    fn new(b: &Builder, from: usize) -> Self {
        Self {
            branch3x3: b.inside(from, 384, 2),
            branch3x3dbl_1: b.one(from, 64),
            branch3x3dbl_2: b.same(64, 96, [3, 3]),
            branch3x3dbl_3: b.inside(96, 96, 2),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branches = vec![
            self.branch3x3.forward(x.clone()),
            chain([&self.branch3x3dbl_1, &self.branch3x3dbl_2, &self.branch3x3dbl_3], &x),
            halved(x),
        ];
        Tensor::cat(branches, 1)
    }
}

#[derive(Module, Debug)]
struct MixedC {
    branch1x1: BasicConv2d,
    branch7x7_1: BasicConv2d,
    branch7x7_2: BasicConv2d,
    branch7x7_3: BasicConv2d,
    branch7x7dbl_1: BasicConv2d,
    branch7x7dbl_2: BasicConv2d,
    branch7x7dbl_3: BasicConv2d,
    branch7x7dbl_4: BasicConv2d,
    branch7x7dbl_5: BasicConv2d,
    branch_pool: BasicConv2d,
}

impl MixedC {
    fn new(b: &Builder, from: usize, inside: usize) -> Self {
        Self {
            branch1x1: b.one(from, 192),
            branch7x7_1: b.one(from, inside),
            branch7x7_2: b.same(inside, inside, [1, 7]),
            branch7x7_3: b.same(inside, 192, [7, 1]),
            branch7x7dbl_1: b.one(from, inside),
            branch7x7dbl_2: b.same(inside, inside, [7, 1]),
            branch7x7dbl_3: b.same(inside, inside, [1, 7]),
            branch7x7dbl_4: b.same(inside, inside, [7, 1]),
            branch7x7dbl_5: b.same(inside, 192, [1, 7]),
            branch_pool: b.one(from, 192),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let double = [
            &self.branch7x7dbl_1,
            &self.branch7x7dbl_2,
            &self.branch7x7dbl_3,
            &self.branch7x7dbl_4,
            &self.branch7x7dbl_5,
        ];
        let branches = vec![
            self.branch1x1.forward(x.clone()),
            chain([&self.branch7x7_1, &self.branch7x7_2, &self.branch7x7_3], &x),
            chain(double, &x),
            self.branch_pool.forward(around(x)),
        ];
        Tensor::cat(branches, 1)
    }
}

#[derive(Module, Debug)]
struct MixedD {
    branch3x3_1: BasicConv2d,
    branch3x3_2: BasicConv2d,
    branch7x7x3_1: BasicConv2d,
    branch7x7x3_2: BasicConv2d,
    branch7x7x3_3: BasicConv2d,
    branch7x7x3_4: BasicConv2d,
}

impl MixedD {
    fn new(b: &Builder, from: usize) -> Self {
        Self {
            branch3x3_1: b.one(from, 192),
            branch3x3_2: b.inside(192, 320, 2),
            branch7x7x3_1: b.one(from, 192),
            branch7x7x3_2: b.same(192, 192, [1, 7]),
            branch7x7x3_3: b.same(192, 192, [7, 1]),
            branch7x7x3_4: b.inside(192, 192, 2),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let long = [&self.branch7x7x3_1, &self.branch7x7x3_2, &self.branch7x7x3_3, &self.branch7x7x3_4];
        let branches = vec![chain([&self.branch3x3_1, &self.branch3x3_2], &x), chain(long, &x), halved(x)];
        Tensor::cat(branches, 1)
    }
}

#[derive(Module, Debug)]
struct MixedE {
    branch1x1: BasicConv2d,
    branch3x3_1: BasicConv2d,
    branch3x3_2a: BasicConv2d,
    branch3x3_2b: BasicConv2d,
    branch3x3dbl_1: BasicConv2d,
    branch3x3dbl_2: BasicConv2d,
    branch3x3dbl_3a: BasicConv2d,
    branch3x3dbl_3b: BasicConv2d,
    branch_pool: BasicConv2d,
}

impl MixedE {
    fn new(b: &Builder, from: usize) -> Self {
        Self {
            branch1x1: b.one(from, 320),
            branch3x3_1: b.one(from, 384),
            branch3x3_2a: b.same(384, 384, [1, 3]),
            branch3x3_2b: b.same(384, 384, [3, 1]),
            branch3x3dbl_1: b.one(from, 448),
            branch3x3dbl_2: b.same(448, 384, [3, 3]),
            branch3x3dbl_3a: b.same(384, 384, [1, 3]),
            branch3x3dbl_3b: b.same(384, 384, [3, 1]),
            branch_pool: b.one(from, 192),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let single = self.branch3x3_1.forward(x.clone());
        let double = chain([&self.branch3x3dbl_1, &self.branch3x3dbl_2], &x);
        let branches = vec![
            self.branch1x1.forward(x.clone()),
            self.branch3x3_2a.forward(single.clone()),
            self.branch3x3_2b.forward(single),
            self.branch3x3dbl_3a.forward(double.clone()),
            self.branch3x3dbl_3b.forward(double),
            self.branch_pool.forward(around(x)),
        ];
        Tensor::cat(branches, 1)
    }
}

/// The auxiliary classifier.
#[derive(Module, Debug)]
struct Auxiliary {
    conv0: BasicConv2d,
    conv1: BasicConv2d,
    fc: Linear,
}

impl Auxiliary {
    fn new(b: &Builder, from: usize) -> Self {
        Self {
            conv0: b.one(from, 128),
            conv1: BasicConv2d::new(&b.config([128, 768], [5, 5], 0.01).padding(0), b.device),
            fc: b.linear(768, 0.001),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = AvgPool2dConfig::new([5, 5]).with_strides([3, 3]).init().forward(x);
        layers::linear(&self.fc, global_mean(self.conv1.forward(self.conv0.forward(x))))
    }
}
