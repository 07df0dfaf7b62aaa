//! torchvision's MaxViT: convolution blocks, then attention inside windows and over a grid of the whole image.
//!
//! Source: Tu et al., *MaxViT: Multi-Axis Vision Transformer*, 2022.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2d, AvgPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Linear, PaddingConfig2d};
use burn::tensor::activation::softmax;
use burn::tensor::{Device, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    Activation, ConvConfig, ConvInit, ConvNormActivation, LayerNorm, NormConfig, SqueezeExcitation, StochasticDepth,
    global_mean, int_buffer, linear_last, linear_normal, named_module, relative_bias, relative_position_index, rising,
    split_heads,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers::{self, BatchNorm2d};

/// The arguments of torchvision's MaxViT.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MaxVitConfig {
    /// Height and width of the images.
    pub input_size: [usize; 2],
    /// Channels of the first convolutions.
    pub stem_channels: usize,
    /// Side of a window, and of the grid.
    pub partition_size: usize,
    /// Channels of each block.
    pub block_channels: Vec<usize>,
    /// Layers of each block.
    pub block_layers: Vec<usize>,
    /// Features of an attention's head.
    pub head_dim: usize,
    /// Probability that a sample leaves out the last layer; it rises from 0 for the first.
    pub stochastic_depth_prob: f64,
    /// Channels of squeeze-excitation for each of its layer.
    pub squeeze_ratio: f64,
    /// Channels inside a convolution block for each outside.
    pub expansion_ratio: f64,
    /// Features inside linear layers for each outside.
    pub mlp_ratio: usize,
    /// Probability of dropout after linear layers.
    pub mlp_dropout: f64,
    /// Probability of dropout after attention.
    pub attention_dropout: f64,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
}

impl Default for MaxVitConfig {
    fn default() -> Self {
        Self {
            input_size: [224, 224],
            stem_channels: 64,
            partition_size: 7,
            block_channels: vec![64, 128, 256, 512],
            block_layers: vec![2, 2, 5, 2],
            head_dim: 32,
            stochastic_depth_prob: 0.2,
            squeeze_ratio: 0.25,
            expansion_ratio: 4.0,
            mlp_ratio: 4,
            mlp_dropout: 0.0,
            attention_dropout: 0.0,
            classes: 1000,
        }
    }
}

/// Batch normalisation of this network.
const NORM: NormConfig = NormConfig { epsilon: 1e-3, momentum: 0.01 };

/// Deviation of initial weights.
const STD: f64 = 0.02;

/// How initial weights of convolutions are drawn.
const INIT: ConvInit = ConvInit::Normal(STD);

/// What layer normalisation adds to the variance.
const EPSILON: f64 = 1e-5;

impl MaxVitConfig {
    /// What is wrong with the sizes: each block's image must be a whole number of windows.
    fn problem(&self) -> Option<Invalid> {
        let mut size = self.input_size.map(|side| side.div_ceil(2));
        for block in 0..self.block_channels.len() {
            size = size.map(|side| side.div_ceil(2));
            if size.iter().any(|&side| side == 0 || !side.is_multiple_of(self.partition_size.max(1))) {
                let [height, width] = size;
                let side = self.partition_size;
                let problem = format!(
                    "block {block} would see {height} × {width} positions, which windows of {side} × {side} don't divide"
                );
                return Some(Invalid::new("input_size", problem));
            }
        }
        let uneven = self.block_channels.iter().find(|&&channels| !channels.is_multiple_of(self.head_dim.max(1)))?;
        let problem = format!("{} does not divide the {uneven} channels of a block", self.head_dim);
        Some(Invalid::new("head_dim", problem))
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> MaxVit {
        let stem = self.stem_channels;
        let first = ConvConfig::new([3, stem], 3).stride(2).drawn(INIT).norm(NORM, Activation::Gelu, device);
        let second = ConvConfig::new([stem, stem], 3).biased().drawn(INIT).activation(Activation::Identity, device);
        let mut blocks = Vec::new();
        let (mut from, mut built) = (stem, 0);
        let count: usize = self.block_layers.iter().sum();
        for (&to, &layers) in self.block_channels.iter().zip(&self.block_layers) {
            let block = (0..layers).map(|at| {
                let prob = rising(self.stochastic_depth_prob, built, count);
                built += 1;
                let (channels, stride) = if at == 0 { ([from, to], 2) } else { ([to, to], 1) };
                Layer::new(self, channels, stride, prob, device)
            });
            blocks.push(Block { layers: block.collect() });
            from = to;
        }
        let mut last = linear_normal(from, self.classes, STD, device);
        last.bias = None;
        let classifier = Classifier {
            norm: LayerNorm::new(from, EPSILON, device),
            hidden: linear_normal(from, from, STD, device),
            last,
        };
        MaxVit { stem: (first, second), blocks, classifier }
    }
}

/// torchvision's MaxViT.
#[derive(Module, Debug)]
pub struct MaxVit {
    stem: (ConvNormActivation, ConvNormActivation),
    blocks: Vec<Block>,
    classifier: Classifier,
}

#[derive(Debug, Clone)]
struct Classifier {
    norm: LayerNorm,
    hidden: Linear,
    last: Linear,
}

named_module!(Classifier { norm => "2", hidden => "3", last => "5" });

#[derive(Module, Debug)]
struct Block {
    layers: Vec<Layer>,
}

impl MaxVit {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`; the size is the configuration's.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.stem.1.forward(self.stem.0.forward(x));
        let layers = self.blocks.iter().flat_map(|block| &block.layers);
        let x = global_mean(layers.fold(x, |x, layer| layer.forward(x)));
        let Classifier { norm, hidden, last } = &self.classifier;
        let hidden = Activation::Tanh.forward(layers::linear(hidden, norm.forward(x)));
        layers::linear(last, hidden)
    }
}

impl Forward for MaxVit {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for MaxVitConfig {
    type Model = MaxVit;
    const NAME: &'static str = "maxvit";

    fn init(&self, device: &Device) -> MaxVit {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, self.input_size[0], self.input_size[1]], self.classes)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[
            ("stem_channels", self.stem_channels),
            ("mlp_ratio", self.mlp_ratio),
            ("classes", self.classes),
        ])?;
        for (key, prob) in [
            ("mlp_dropout", self.mlp_dropout),
            ("attention_dropout", self.attention_dropout),
            ("stochastic_depth_prob", self.stochastic_depth_prob),
        ] {
            check_probability(key, prob)?;
        }
        self.problem().map_or(Ok(()), Err)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("classifier.5.weight", 0)?, ..self.clone() })
    }
}

/// torchvision's `MaxVitLayer`.
#[derive(Module, Debug)]
struct Layer {
    layers: Parts,
}

#[derive(Debug, Clone)]
struct Parts {
    conv: MbConv,
    window: PartitionAttention,
    grid: PartitionAttention,
}

named_module!(Parts { conv => "MBconv", window => "window_attention", grid => "grid_attention" });

impl Layer {
    fn new(config: &MaxVitConfig, channels: [usize; 2], stride: usize, prob: f64, device: &Device) -> Self {
        let attention = |grid| PartitionAttention::new(config, channels[1], grid, prob, device);
        let conv = MbConv::new(config, channels, stride, prob, device);
        Self { layers: Parts { conv, window: attention(false), grid: attention(true) } }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let Parts { conv, window, grid } = &self.layers;
        grid.forward(window.forward(conv.forward(x)))
    }
}

/// torchvision's `MBConv` of this network: normalisation first.
#[derive(Module, Debug)]
struct MbConv {
    proj: Option<Projection>,
    layers: ConvLayers,
    stochastic_depth: StochasticDepth,
}

/// The way around a block that changes size or channels.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few of them, and a box would be one more hop to each layer"
)]
enum Projection {
    Conv(Vec<Conv2d>),
    Pooled((AvgPool2d, Conv2d)),
}

#[derive(Module, Debug)]
struct ConvLayers {
    pre_norm: BatchNorm2d,
    conv_a: ConvNormActivation,
    conv_b: ConvNormActivation,
    squeeze_excitation: SqueezeExcitation,
    conv_c: Conv2d,
}

impl MbConv {
    fn new(config: &MaxVitConfig, [from, to]: [usize; 2], stride: usize, prob: f64, device: &Device) -> Self {
        let inside = (to as f64 * config.expansion_ratio) as usize;
        let squeezed = (to as f64 * config.squeeze_ratio) as usize;
        let conv = |channels, kernel| ConvConfig::new(channels, kernel).drawn(INIT);
        let around = || conv([from, to], 1).biased().init(device);
        let pool =
            AvgPool2dConfig::new([3, 3]).with_strides([2, 2]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1));
        let proj = match stride {
            2 => Some(Projection::Pooled((pool.init(), around()))),
            _ => (from != to).then(|| Projection::Conv(vec![around()])),
        };
        let activations = [Activation::Silu, Activation::Sigmoid];
        let layers = ConvLayers {
            pre_norm: NORM.init(from, device),
            conv_a: conv([from, inside], 1).norm(NORM, Activation::Gelu, device),
            conv_b: conv([inside, inside], 3).stride(stride).groups(inside).norm(NORM, Activation::Gelu, device),
            squeeze_excitation: SqueezeExcitation::new(inside, squeezed, activations, INIT, device),
            conv_c: conv([inside, to], 1).biased().init(device),
        };
        Self { proj, layers, stochastic_depth: StochasticDepth::new(prob) }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let ConvLayers { pre_norm, conv_a, conv_b, squeeze_excitation, conv_c } = &self.layers;
        let y = conv_b.forward(conv_a.forward(pre_norm.forward(x.clone())));
        let y = layers::conv2d(conv_c, squeeze_excitation.forward(y));
        let x = match &self.proj {
            Some(Projection::Conv(convs)) => convs.iter().fold(x, |x, conv| layers::conv2d(conv, x)),
            Some(Projection::Pooled((pool, conv))) => layers::conv2d(conv, pool.forward(x)),
            None => x,
        };
        x + self.stochastic_depth.forward(y)
    }
}

/// torchvision's `PartitionAttentionLayer`.
#[derive(Module, Debug)]
struct PartitionAttention {
    attn_layer: (LayerNorm, RelativeAttention, Dropout),
    mlp_layer: PartitionMlp,
    stochastic_dropout: StochasticDepth,
    side: usize,
    grid: bool,
}

#[derive(Debug, Clone)]
struct PartitionMlp {
    norm: LayerNorm,
    wide: Linear,
    narrow: Linear,
    dropout: Dropout,
}

named_module!(PartitionMlp { norm => "0", wide => "1", narrow => "3", dropout => "4" });

impl PartitionAttention {
    fn new(config: &MaxVitConfig, features: usize, grid: bool, prob: f64, device: &Device) -> Self {
        let norm = || LayerNorm::new(features, EPSILON, device);
        let attention = RelativeAttention::new(features, config.head_dim, config.partition_size, device);
        let inside = features * config.mlp_ratio;
        let mlp_layer = PartitionMlp {
            norm: norm(),
            wide: linear_normal(features, inside, STD, device),
            narrow: linear_normal(inside, features, STD, device),
            dropout: DropoutConfig::new(config.mlp_dropout).init(),
        };
        Self {
            attn_layer: (norm(), attention, DropoutConfig::new(config.attention_dropout).init()),
            mlp_layer,
            stochastic_dropout: StochasticDepth::new(prob),
            side: config.partition_size,
            grid,
        }
    }

    /// `[batch, features, height, width]` to the same.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, features, height, width] = x.dims();
        let side = self.side;
        let [down, across] = [height / side, width / side];
        // Positions that attend to one another: those of a window, or those at one place of every window.
        let (shape, order, back) = if self.grid {
            ([batch, features, side, down, side, across], [0, 3, 5, 2, 4, 1], [0, 5, 3, 1, 4, 2])
        } else {
            ([batch, features, down, side, across, side], [0, 2, 4, 3, 5, 1], [0, 5, 1, 3, 2, 4])
        };
        let x = x.reshape(shape).permute(order).reshape([batch, down * across, side * side, features]);

        let (norm, attention, dropout) = &self.attn_layer;
        let y = layers::dropout(dropout, attention.forward(norm.forward(x.clone())));
        let x = x + self.stochastic_dropout.forward(y);
        let PartitionMlp { norm, wide, narrow, dropout } = &self.mlp_layer;
        let y = Activation::Gelu.forward(linear_last(wide, norm.forward(x.clone())));
        let x = x + self.stochastic_dropout.forward(layers::dropout(dropout, linear_last(narrow, y)));

        let x = x.reshape([batch, down, across, side, side, features]).permute(back);
        x.reshape([batch, features, height, width])
    }
}

/// torchvision's `RelativePositionalMultiHeadAttention`.
#[derive(Module, Debug)]
struct RelativeAttention {
    relative_position_bias_table: Param<Tensor<2>>,
    relative_position_index: Param<Tensor<2, Int>>,
    to_qkv: Linear,
    merge: Linear,
    heads: usize,
}

impl RelativeAttention {
    fn new(features: usize, head_dim: usize, side: usize, device: &Device) -> Self {
        let (heads, area) = (features / head_dim, side * side);
        let entries = (2 * side - 1) * (2 * side - 1);
        Self {
            relative_position_bias_table: layers::normal(STD).init([entries, heads], device),
            relative_position_index: int_buffer(relative_position_index([side, side]), [area, area], device),
            to_qkv: linear_normal(features, 3 * features, STD, device),
            merge: linear_normal(features, features, STD, device),
            heads,
        }
    }

    /// `[batch, groups, positions, features]` to the same.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, groups, area, features] = x.dims();
        let qkv = layers::linear(&self.to_qkv, x.reshape([batch * groups * area, features]));
        let [q, k, v] = split_heads(qkv, [batch * groups, area], self.heads);
        // torchvision scales by all features, not by those of a head.
        let k = k * (features as f64).powf(-0.5);
        let index = self.relative_position_index.val().flatten(0, 1);
        let bias = relative_bias(self.relative_position_bias_table.val(), index, area);
        let weights = softmax(q.matmul(k.transpose()) + bias, 3);
        let y = weights.matmul(v).swap_dims(1, 2).reshape([batch * groups * area, features]);
        layers::linear(&self.merge, y).reshape([batch, groups, area, features])
    }
}
