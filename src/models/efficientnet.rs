//! torchvision's EfficientNet and EfficientNet v2: inverted residuals with squeeze-excitation, scaled together in width and depth.
//!
//! Sources: Tan and Le, *EfficientNet*, 2019; *EfficientNetV2*, 2021.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    Activation, ConvConfig, ConvInit, ConvNormActivation, Head, Layer, NormConfig, SqueezeExcitation, StochasticDepth,
    classify, global_mean, linear_drawn, make_divisible, run,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers;

/// A stage of blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EfficientNetStage {
    /// Whether one convolution stands for the 1×1 and the depthwise one, and squeeze-excitation is left out.
    pub fused: bool,
    /// Channels inside a block for each that enters it.
    pub expand_ratio: f64,
    /// Side of the kernels.
    pub kernel: usize,
    /// Stride of the first block.
    pub stride: usize,
    /// Channels that enter the first block.
    pub input_channels: usize,
    /// Channels that leave each block.
    pub out_channels: usize,
    /// Number of blocks.
    pub num_layers: usize,
}

/// The arguments of torchvision's EfficientNet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EfficientNetConfig {
    /// The stages.
    pub inverted_residual_setting: Vec<EfficientNetStage>,
    /// Probability of dropout before the classifier.
    pub dropout: f64,
    /// Probability that a sample leaves out the last block; it rises from 0 for the first.
    pub stochastic_depth_prob: f64,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Channels of the last convolution.
    pub last_channel: usize,
    /// What batch normalisation adds to the variance.
    pub norm_epsilon: f64,
    /// Weight of a new batch in the running statistics.
    pub norm_momentum: f64,
}

impl Default for EfficientNetConfig {
    fn default() -> Self {
        Self::efficientnet_b0()
    }
}

/// Expansion, kernel, stride, channels in and out, blocks of B0's stages.
const B0: [[usize; 6]; 7] = [
    [1, 3, 1, 32, 16, 1],
    [6, 3, 2, 16, 24, 2],
    [6, 5, 2, 24, 40, 2],
    [6, 3, 2, 40, 80, 3],
    [6, 5, 1, 80, 112, 3],
    [6, 5, 2, 112, 192, 4],
    [6, 3, 1, 192, 320, 1],
];

/// Whether fused (1), expansion, stride, channels in and out, blocks; all kernels have 3 pixels.
type V2Row = [usize; 6];

const V2_S: [V2Row; 6] = [
    [1, 1, 1, 24, 24, 2],
    [1, 4, 2, 24, 48, 4],
    [1, 4, 2, 48, 64, 4],
    [0, 4, 2, 64, 128, 6],
    [0, 6, 1, 128, 160, 9],
    [0, 6, 2, 160, 256, 15],
];
const V2_M: [V2Row; 7] = [
    [1, 1, 1, 24, 24, 3],
    [1, 4, 2, 24, 48, 5],
    [1, 4, 2, 48, 80, 5],
    [0, 4, 2, 80, 160, 7],
    [0, 6, 1, 160, 176, 14],
    [0, 6, 2, 176, 304, 18],
    [0, 6, 1, 304, 512, 5],
];
const V2_L: [V2Row; 7] = [
    [1, 1, 1, 32, 32, 4],
    [1, 4, 2, 32, 64, 7],
    [1, 4, 2, 64, 96, 7],
    [0, 4, 2, 96, 192, 10],
    [0, 6, 1, 192, 224, 19],
    [0, 6, 2, 224, 384, 25],
    [0, 6, 1, 384, 640, 7],
];

impl EfficientNetConfig {
    /// B0 scaled in width and depth.
    fn scaled(width: f64, depth: f64, dropout: f64) -> Self {
        let stages = B0.map(|[expansion, kernel, stride, from, to, blocks]| EfficientNetStage {
            fused: false,
            expand_ratio: expansion as f64,
            kernel,
            stride,
            input_channels: make_divisible(from as f64 * width, 8),
            out_channels: make_divisible(to as f64 * width, 8),
            num_layers: (blocks as f64 * depth).ceil() as usize,
        });
        let last_channel = 4 * stages[6].out_channels;
        Self {
            inverted_residual_setting: stages.into(),
            dropout,
            stochastic_depth_prob: 0.2,
            classes: 1000,
            last_channel,
            norm_epsilon: 1e-5,
            norm_momentum: 0.1,
        }
    }

    fn v2(rows: &[V2Row], dropout: f64) -> Self {
        let stages = rows.iter().map(|&[fused, expansion, stride, from, to, blocks]| EfficientNetStage {
            fused: fused == 1,
            expand_ratio: expansion as f64,
            kernel: 3,
            stride,
            input_channels: from,
            out_channels: to,
            num_layers: blocks,
        });
        Self {
            inverted_residual_setting: stages.collect(),
            dropout,
            stochastic_depth_prob: 0.2,
            classes: 1000,
            last_channel: 1280,
            norm_epsilon: 1e-3,
            norm_momentum: 0.1,
        }
    }

    /// The normalisation of the three largest of the first version.
    fn large_norm(self) -> Self {
        Self { norm_epsilon: 1e-3, norm_momentum: 0.01, ..self }
    }

    /// For images of 224 pixels.
    pub fn efficientnet_b0() -> Self {
        Self::scaled(1.0, 1.0, 0.2)
    }

    /// For images of 240 pixels.
    pub fn efficientnet_b1() -> Self {
        Self::scaled(1.0, 1.1, 0.2)
    }

    /// For images of 288 pixels.
    pub fn efficientnet_b2() -> Self {
        Self::scaled(1.1, 1.2, 0.3)
    }

    /// For images of 300 pixels.
    pub fn efficientnet_b3() -> Self {
        Self::scaled(1.2, 1.4, 0.3)
    }

    /// For images of 380 pixels.
    pub fn efficientnet_b4() -> Self {
        Self::scaled(1.4, 1.8, 0.4)
    }

    /// For images of 456 pixels.
    pub fn efficientnet_b5() -> Self {
        Self::scaled(1.6, 2.2, 0.4).large_norm()
    }

    /// For images of 528 pixels.
    pub fn efficientnet_b6() -> Self {
        Self::scaled(1.8, 2.6, 0.5).large_norm()
    }

    /// For images of 600 pixels.
    pub fn efficientnet_b7() -> Self {
        Self::scaled(2.0, 3.1, 0.5).large_norm()
    }

    /// The small second version, for images of 384 pixels.
    pub fn efficientnet_v2_s() -> Self {
        Self::v2(&V2_S, 0.2)
    }

    /// The medium second version, for images of 480 pixels.
    pub fn efficientnet_v2_m() -> Self {
        Self::v2(&V2_M, 0.3)
    }

    /// The large second version, for images of 480 pixels.
    pub fn efficientnet_v2_l() -> Self {
        Self::v2(&V2_L, 0.4)
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> EfficientNet {
        let norm = NormConfig { epsilon: self.norm_epsilon, momentum: self.norm_momentum };
        let stages = &self.inverted_residual_setting;
        let first = stages.first().map_or(0, |stage| stage.input_channels);
        let last = stages.last().map_or(first, |stage| stage.out_channels);
        let conv = |config: ConvConfig| Feature::Conv(config.norm(norm, Activation::Silu, device));
        let mut features = vec![conv(ConvConfig::new([3, first], 3).stride(2))];
        let blocks: usize = stages.iter().map(|stage| stage.num_layers).sum();
        let mut built = 0;
        for stage in stages {
            let stage = (0..stage.num_layers).map(|at| {
                let prob = self.stochastic_depth_prob * built as f64 / blocks as f64;
                built += 1;
                Block::new(stage, at == 0, prob, norm, device)
            });
            features.push(Feature::Stage(stage.collect()));
        }
        features.push(conv(ConvConfig::new([last, self.last_channel], 1)));
        let init = layers::uniform(1.0 / (self.classes as f64).sqrt());
        let linear = linear_drawn(self.last_channel, self.classes, init, device);
        EfficientNet { features, classifier: vec![Head::dropout(self.dropout), Head::Linear(linear)] }
    }
}

/// torchvision's EfficientNet of either version.
#[derive(Module, Debug)]
pub struct EfficientNet {
    features: Vec<Feature>,
    classifier: Vec<Head>,
}

#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few of them, and a box would be one more hop to each layer"
)]
enum Feature {
    Conv(ConvNormActivation),
    Stage(Vec<Block>),
}

impl EfficientNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features.iter().fold(x, |x, feature| match feature {
            Feature::Conv(block) => block.forward(x),
            Feature::Stage(blocks) => blocks.iter().fold(x, |x, block| block.forward(x)),
        });
        classify(&self.classifier, global_mean(x))
    }
}

impl Forward for EfficientNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for EfficientNetConfig {
    type Model = EfficientNet;
    const NAME: &'static str = "efficientnet";

    fn init(&self, device: &Device) -> EfficientNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(1)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes), ("last_channel", self.last_channel)])?;
        for stage in &self.inverted_residual_setting {
            let sizes = [stage.kernel, stage.stride, stage.input_channels, stage.out_channels, stage.num_layers];
            check_sizes(&sizes.map(|size| ("inverted_residual_setting", size)))?;
        }
        check_probability("stochastic_depth_prob", self.stochastic_depth_prob)?;
        check_probability("dropout", self.dropout)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("classifier.1.weight", 0)?, ..self.clone() })
    }
}

/// torchvision's `MBConv` and `FusedMBConv`.
#[derive(Module, Debug)]
struct Block {
    block: Vec<Layer>,
    stochastic_depth: StochasticDepth,
    residual: bool,
}

impl Block {
    fn new(stage: &EfficientNetStage, first: bool, prob: f64, norm: NormConfig, device: &Device) -> Self {
        let to = stage.out_channels;
        let (from, stride) = if first { (stage.input_channels, stage.stride) } else { (to, 1) };
        let inside = make_divisible(from as f64 * stage.expand_ratio, 8);
        let layer = |config: ConvConfig, activation| Layer::Block(config.norm(norm, activation, device));
        let spatial = |channels| ConvConfig::new(channels, stage.kernel).stride(stride);
        let narrow = || layer(ConvConfig::new([inside, to], 1), Activation::Identity);
        let mut block = Vec::new();
        match (stage.fused, inside == from) {
            (true, true) => block.push(layer(spatial([from, to]), Activation::Silu)),
            (true, false) => block.extend([layer(spatial([from, inside]), Activation::Silu), narrow()]),
            (false, same) => {
                if !same {
                    block.push(layer(ConvConfig::new([from, inside], 1), Activation::Silu));
                }
                let activations = [Activation::Silu, Activation::Sigmoid];
                let squeezed = (from / 4).max(1);
                let excitation = SqueezeExcitation::new(inside, squeezed, activations, ConvInit::FanOut, device);
                block.push(layer(spatial([inside, inside]).groups(inside), Activation::Silu));
                block.extend([Layer::Excitation(excitation), narrow()]);
            }
        }
        Self { block, stochastic_depth: StochasticDepth::new(prob), residual: stride == 1 && from == to }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if self.residual { self.stochastic_depth.forward(run(&self.block, x.clone())) + x } else { run(&self.block, x) }
    }
}
