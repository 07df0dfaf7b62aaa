//! torchvision's ShuffleNet v2: half of the channels pass a block unchanged, then both halves are shuffled.
//!
//! Source: Ma et al., *ShuffleNet V2*, 2018.

use burn::module::Module;
use burn::nn::Linear;
use burn::nn::pool::MaxPool2d;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{Activation, ConvConfig, ConvInit, Layer, global_mean, max_pool, run};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_sizes};
use crate::layers::{self, BatchNorm2d};

/// The arguments of torchvision's ShuffleNet v2.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ShuffleNetConfig {
    /// Blocks of the three stages.
    pub stages_repeats: [usize; 3],
    /// Channels of the first convolution, of the three stages and of the last convolution.
    pub stages_out_channels: [usize; 5],
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
}

impl Default for ShuffleNetConfig {
    fn default() -> Self {
        Self::shufflenet_v2_x1_0()
    }
}

impl ShuffleNetConfig {
    fn new(stages_out_channels: [usize; 5]) -> Self {
        Self { stages_repeats: [4, 8, 4], stages_out_channels, classes: 1000 }
    }

    /// Half the width.
    pub fn shufflenet_v2_x0_5() -> Self {
        Self::new([24, 48, 96, 192, 1024])
    }

    /// The paper's width.
    pub fn shufflenet_v2_x1_0() -> Self {
        Self::new([24, 116, 232, 464, 1024])
    }

    /// One and a half times the width.
    pub fn shufflenet_v2_x1_5() -> Self {
        Self::new([24, 176, 352, 704, 1024])
    }

    /// Twice the width.
    pub fn shufflenet_v2_x2_0() -> Self {
        Self::new([24, 244, 488, 976, 2048])
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> ShuffleNet {
        let [first, second, third, fourth, last] = self.stages_out_channels;
        let stage = |from, to, at: usize| -> Vec<Unit> {
            let rest = (1..self.stages_repeats[at]).map(|_| Unit::new([to, to], 1, device));
            std::iter::once(Unit::new([from, to], 2, device)).chain(rest).collect()
        };
        let conv = |channels, kernel, stride| {
            let conv = ConvConfig::new(channels, kernel).stride(stride).drawn(ConvInit::Layer).init(device);
            vec![Layer::Conv(conv), Layer::Norm(BatchNorm2d::new(channels[1], device)), relu()]
        };
        ShuffleNet {
            conv1: conv([3, first], 3, 2),
            maxpool: max_pool(3, 2, 1, false),
            stage2: stage(first, second, 0),
            stage3: stage(second, third, 1),
            stage4: stage(third, fourth, 2),
            conv5: conv([fourth, last], 1, 1),
            fc: layers::linear_config(last, self.classes).init(device),
        }
    }
}

fn relu() -> Layer {
    Layer::Activation(Activation::Relu)
}

/// torchvision's ShuffleNet v2.
#[derive(Module, Debug)]
pub struct ShuffleNet {
    conv1: Vec<Layer>,
    maxpool: MaxPool2d,
    stage2: Vec<Unit>,
    stage3: Vec<Unit>,
    stage4: Vec<Unit>,
    conv5: Vec<Layer>,
    fc: Linear,
}

impl ShuffleNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = layers::max_pool2d(&self.maxpool, run(&self.conv1, x));
        let units = self.stage2.iter().chain(&self.stage3).chain(&self.stage4);
        let x = units.fold(x, |x, unit| unit.forward(x));
        layers::linear(&self.fc, global_mean(run(&self.conv5, x)))
    }
}

impl Forward for ShuffleNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for ShuffleNetConfig {
    type Model = ShuffleNet;
    const NAME: &'static str = "shufflenet_v2";

    fn init(&self, device: &Device) -> ShuffleNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(1)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes)])?;
        check_sizes(&self.stages_repeats.map(|blocks| ("stages_repeats", blocks)))?;
        check_sizes(&self.stages_out_channels.map(|channels| ("stages_out_channels", channels / 2)))
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("fc.weight", 0)?, ..self.clone() })
    }
}

/// torchvision's `InvertedResidual` of this network.
#[derive(Module, Debug)]
struct Unit {
    /// Empty where half of the channels pass unchanged.
    branch1: Vec<Layer>,
    branch2: Vec<Layer>,
}

impl Unit {
    fn new([from, to]: [usize; 2], stride: usize, device: &Device) -> Self {
        let half = to / 2;
        let conv = |channels, kernel| ConvConfig::new(channels, kernel).drawn(ConvInit::Layer);
        let depthwise =
            |channels| Layer::Conv(conv([channels, channels], 3).stride(stride).groups(channels).init(device));
        let pointwise = |from| Layer::Conv(conv([from, half], 1).init(device));
        let norm = |channels| Layer::Norm(BatchNorm2d::new(channels, device));
        let branch1 = if stride == 1 {
            Vec::new()
        } else {
            vec![depthwise(from), norm(from), pointwise(from), norm(half), relu()]
        };
        let branch2 = vec![
            pointwise(if stride == 1 { half } else { from }),
            norm(half),
            relu(),
            depthwise(half),
            norm(half),
            pointwise(half),
            norm(half),
            relu(),
        ];
        Self { branch1, branch2 }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let (kept, changed) = if self.branch1.is_empty() {
            let half = x.dims()[1] / 2;
            (x.clone().narrow(1, 0, half), x.narrow(1, half, half))
        } else {
            (run(&self.branch1, x.clone()), x)
        };
        shuffle(Tensor::cat(vec![kept, run(&self.branch2, changed)], 1))
    }
}

/// Channels of the first half and of the second by turns.
fn shuffle(x: Tensor<4>) -> Tensor<4> {
    let [batch, channels, height, width] = x.dims();
    let halves = x.reshape([batch, 2, channels / 2, height, width]);
    halves.swap_dims(1, 2).reshape([batch, channels, height, width])
}
