//! torchvision's ConvNeXt: depthwise convolutions and linear layers, built like a transformer.
//!
//! Source: Liu et al., *A ConvNet for the 2020s*, 2022.

use burn::module::{Module, Param};
use burn::nn::Linear;
use burn::nn::conv::Conv2d;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    Activation, ConvConfig, ConvInit, LayerNorm, StochasticDepth, linear_last, linear_normal, named_module, rising,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers;

/// The arguments of torchvision's ConvNeXt.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConvNextConfig {
    /// Channels of the four stages.
    pub channels: [usize; 4],
    /// Blocks of the four stages.
    pub num_layers: [usize; 4],
    /// Probability that a sample leaves out the last block; it rises from 0 for the first.
    pub stochastic_depth_prob: f64,
    /// First value of each block's scale.
    pub layer_scale: f64,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
}

impl Default for ConvNextConfig {
    fn default() -> Self {
        Self::convnext_tiny()
    }
}

/// Deviation of initial weights.
const STD: f64 = 0.02;

/// What layer normalisation adds to the variance.
const EPSILON: f64 = 1e-6;

impl ConvNextConfig {
    fn new(first: usize, third: usize, stochastic_depth_prob: f64) -> Self {
        let channels = [first, 2 * first, 4 * first, 8 * first];
        Self { channels, num_layers: [3, 3, third, 3], stochastic_depth_prob, layer_scale: 1e-6, classes: 1000 }
    }

    /// 28 million parameters.
    pub fn convnext_tiny() -> Self {
        Self::new(96, 9, 0.1)
    }

    /// 50 million parameters.
    pub fn convnext_small() -> Self {
        Self::new(96, 27, 0.4)
    }

    /// 88 million parameters.
    pub fn convnext_base() -> Self {
        Self::new(128, 27, 0.5)
    }

    /// 197 million parameters.
    pub fn convnext_large() -> Self {
        Self::new(192, 27, 0.5)
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> ConvNext {
        let [first, .., last] = self.channels;
        let stem = patches([3, first], 4, device);
        let mut features = vec![Feature::Stem((stem, LayerNorm::new(first, EPSILON, device)))];
        let blocks: usize = self.num_layers.iter().sum();
        let mut built = 0;
        for (stage, (&channels, &count)) in self.channels.iter().zip(&self.num_layers).enumerate() {
            let stage_blocks = (0..count).map(|_| {
                let prob = rising(self.stochastic_depth_prob, built, blocks);
                built += 1;
                Block::new(channels, self.layer_scale, prob, device)
            });
            features.push(Feature::Stage(stage_blocks.collect()));
            if let Some(&next) = self.channels.get(stage + 1) {
                let norm = LayerNorm::new(channels, EPSILON, device);
                features.push(Feature::Downsample((norm, patches([channels, next], 2, device))));
            }
        }
        let classifier = Classifier {
            norm: LayerNorm::new(last, EPSILON, device),
            linear: linear_normal(last, self.classes, STD, device),
        };
        ConvNext { features, classifier }
    }
}

/// A convolution whose windows lie side by side.
fn patches(channels: [usize; 2], side: usize, device: &Device) -> Conv2d {
    ConvConfig::new(channels, side).stride(side).padding(0).biased().drawn(ConvInit::Normal(STD)).init(device)
}

/// torchvision's ConvNeXt.
#[derive(Module, Debug)]
pub struct ConvNext {
    features: Vec<Feature>,
    classifier: Classifier,
}

#[derive(Module, Debug)]
enum Feature {
    Stem((Conv2d, LayerNorm)),
    Stage(Vec<Block>),
    Downsample((LayerNorm, Conv2d)),
}

#[derive(Debug, Clone)]
struct Classifier {
    norm: LayerNorm,
    linear: Linear,
}

named_module!(Classifier { norm => "0", linear => "2" });

impl ConvNext {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features.iter().fold(x, |x, feature| match feature {
            Feature::Stem((conv, norm)) => norm.forward_images(layers::conv2d(conv, x)),
            Feature::Stage(blocks) => blocks.iter().fold(x, |x, block| block.forward(x)),
            Feature::Downsample((norm, conv)) => layers::conv2d(conv, norm.forward_images(x)),
        });
        let x: Tensor<2> = adaptive_avg_pool2d(x, [1, 1]).flatten(1, 3);
        layers::linear(&self.classifier.linear, self.classifier.norm.forward(x))
    }
}

impl Forward for ConvNext {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for ConvNextConfig {
    type Model = ConvNext;
    const NAME: &'static str = "convnext";

    fn init(&self, device: &Device) -> ConvNext {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(32)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes)])?;
        check_sizes(&self.channels.map(|channels| ("channels", channels)))?;
        check_sizes(&self.num_layers.map(|blocks| ("num_layers", blocks)))?;
        check_probability("stochastic_depth_prob", self.stochastic_depth_prob)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("classifier.2.weight", 0)?, ..self.clone() })
    }
}

/// torchvision's `CNBlock`.
#[derive(Module, Debug)]
struct Block {
    layer_scale: Param<Tensor<3>>,
    block: Branch,
    stochastic_depth: StochasticDepth,
}

#[derive(Debug, Clone)]
struct Branch {
    conv: Conv2d,
    norm: LayerNorm,
    wide: Linear,
    narrow: Linear,
}

named_module!(Branch { conv => "0", norm => "2", wide => "3", narrow => "5" });

impl Block {
    fn new(channels: usize, scale: f64, prob: f64, device: &Device) -> Self {
        let conv = ConvConfig::new([channels, channels], 7).groups(channels).biased().drawn(ConvInit::Normal(STD));
        Self {
            layer_scale: Param::from_tensor(Tensor::full([channels, 1, 1], scale, device)),
            block: Branch {
                conv: conv.init(device),
                norm: LayerNorm::new(channels, EPSILON, device),
                wide: linear_normal(channels, 4 * channels, STD, device),
                narrow: linear_normal(4 * channels, channels, STD, device),
            },
            stochastic_depth: StochasticDepth::new(prob),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let Branch { conv, norm, wide, narrow } = &self.block;
        let y = norm.forward(layers::conv2d(conv, x.clone()).permute([0, 2, 3, 1]));
        let y = linear_last(narrow, Activation::Gelu.forward(linear_last(wide, y))).permute([0, 3, 1, 2]);
        self.stochastic_depth.forward(y * self.layer_scale.val().unsqueeze()) + x
    }
}
