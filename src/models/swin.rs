//! torchvision's Swin transformer, both versions: attention inside windows that are shifted every other block.
//!
//! Sources: Liu et al., *Swin Transformer*, 2021; *Swin Transformer V2*, 2022.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::{Initializer, Linear};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    ConvConfig, ConvInit, LayerNorm, Mlp, ShiftedWindowAttention, StochasticDepth, WindowConfig, global_mean,
    linear_last, linear_normal, named_module, pad, rising,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers;

/// The arguments of torchvision's Swin transformer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SwinConfig {
    /// Whether it is the second version: normalisation after attention, cosine attention.
    pub v2: bool,
    /// Height and width of a patch.
    pub patch_size: [usize; 2],
    /// Features of a patch in the first stage; each stage doubles them.
    pub embed_dim: usize,
    /// Blocks of each stage.
    pub depths: Vec<usize>,
    /// Heads of each stage's attention.
    pub num_heads: Vec<usize>,
    /// Height and width of a window, in patches.
    pub window_size: [usize; 2],
    /// Features inside a block's linear layers for each outside.
    pub mlp_ratio: f64,
    /// Probability of dropout.
    pub dropout: f64,
    /// Probability of dropout of attention weights.
    pub attention_dropout: f64,
    /// Probability that a sample leaves out the last block; it rises from 0 for the first.
    pub stochastic_depth_prob: f64,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
}

impl Default for SwinConfig {
    fn default() -> Self {
        Self::swin_t()
    }
}

/// What layer normalisation adds to the variance.
const EPSILON: f64 = 1e-5;

/// Deviation of initial weights.
const STD: f64 = 0.02;

impl SwinConfig {
    fn new(embed_dim: usize, third: usize, first_heads: usize, stochastic_depth_prob: f64) -> Self {
        Self {
            v2: false,
            patch_size: [4, 4],
            embed_dim,
            depths: vec![2, 2, third, 2],
            num_heads: [1, 2, 4, 8].map(|factor| factor * first_heads).into(),
            window_size: [7, 7],
            mlp_ratio: 4.0,
            dropout: 0.0,
            attention_dropout: 0.0,
            stochastic_depth_prob,
            classes: 1000,
        }
    }

    fn second(self) -> Self {
        Self { v2: true, window_size: [8, 8], ..self }
    }

    /// 28 million parameters.
    pub fn swin_t() -> Self {
        Self::new(96, 6, 3, 0.2)
    }

    /// 50 million parameters.
    pub fn swin_s() -> Self {
        Self::new(96, 18, 3, 0.3)
    }

    /// 88 million parameters.
    pub fn swin_b() -> Self {
        Self::new(128, 18, 4, 0.5)
    }

    /// 28 million parameters, second version.
    pub fn swin_v2_t() -> Self {
        Self::swin_t().second()
    }

    /// 50 million parameters, second version.
    pub fn swin_v2_s() -> Self {
        Self::swin_s().second()
    }

    /// 88 million parameters, second version.
    pub fn swin_v2_b() -> Self {
        Self::swin_b().second()
    }

    /// Whether stages have a number of heads each that divides their features.
    fn problem(&self) -> Option<Invalid> {
        if self.depths.is_empty() || self.depths.len() != self.num_heads.len() {
            let problem = format!("{} stages have {} numbers of heads", self.depths.len(), self.num_heads.len());
            return Some(Invalid::new("num_heads", problem));
        }
        let width = |stage: usize| self.embed_dim << stage;
        let uneven = |&(stage, &heads): &(usize, &usize)| heads == 0 || !width(stage).is_multiple_of(heads);
        let (stage, heads) = self.num_heads.iter().enumerate().find(uneven)?;
        Some(Invalid::new("num_heads", format!("{heads} heads don't divide the {} features of a stage", width(stage))))
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> Swin {
        let [height, width] = self.patch_size;
        // torchvision leaves this convolution as `torch.nn.Conv2d` draws it.
        let mut conv = ConvConfig::new([3, self.embed_dim], 1)
            .kernel([height, width])
            .padding(0)
            .biased()
            .drawn(ConvInit::Layer)
            .init(device);
        conv.stride = self.patch_size;
        let mut features = vec![Feature::Patches(Patches { conv, norm: norm(self.embed_dim, device) })];
        let blocks: usize = self.depths.iter().sum();
        let mut built = 0;
        let mut width = self.embed_dim;
        for (stage, (&depth, &heads)) in self.depths.iter().zip(&self.num_heads).enumerate() {
            let stage_blocks = (0..depth).map(|at| {
                let prob = rising(self.stochastic_depth_prob, built, blocks);
                built += 1;
                Block::new(self, [width, heads], at % 2 == 1, prob, device)
            });
            features.push(Feature::Stage(stage_blocks.collect()));
            if stage + 1 < self.depths.len() {
                features.push(Feature::Merge(PatchMerging::new(width, self.v2, device)));
                width *= 2;
            }
        }
        Swin { features, norm: norm(width, device), head: linear_normal(width, self.classes, STD, device) }
    }
}

fn norm(features: usize, device: &Device) -> LayerNorm {
    LayerNorm::new(features, EPSILON, device)
}

/// torchvision's Swin transformer.
#[derive(Module, Debug)]
pub struct Swin {
    features: Vec<Feature>,
    norm: LayerNorm,
    head: Linear,
}

#[derive(Module, Debug)]
enum Feature {
    Patches(Patches),
    Stage(Vec<Block>),
    Merge(PatchMerging),
}

#[derive(Debug, Clone)]
struct Patches {
    conv: Conv2d,
    norm: LayerNorm,
}

named_module!(Patches { conv => "0", norm => "2" });

impl Swin {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features.iter().fold(x, |x, feature| match feature {
            Feature::Patches(Patches { conv, norm }) => norm.forward(layers::conv2d(conv, x).permute([0, 2, 3, 1])),
            Feature::Stage(blocks) => blocks.iter().fold(x, |x, block| block.forward(x)),
            Feature::Merge(merge) => merge.forward(x),
        });
        let x = self.norm.forward(x).permute([0, 3, 1, 2]);
        layers::linear(&self.head, global_mean(x))
    }
}

impl Forward for Swin {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for SwinConfig {
    type Model = Swin;
    const NAME: &'static str = "swin";

    fn init(&self, device: &Device) -> Swin {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, if self.v2 { 256 } else { 224 }, if self.v2 { 256 } else { 224 }], self.classes)
            .with_sides_from(self.patch_size[0].max(self.patch_size[1]))
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("embed_dim", self.embed_dim), ("classes", self.classes)])?;
        for sizes in [self.patch_size, self.window_size] {
            check_sizes(&sizes.map(|side| ("patch_size and window_size", side)))?;
        }
        for (key, prob) in [
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("stochastic_depth_prob", self.stochastic_depth_prob),
        ] {
            check_probability(key, prob)?;
        }
        self.problem().map_or(Ok(()), Err)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("head.weight", 0)?, ..self.clone() })
    }
}

/// Four neighbours become one position with twice the features.
#[derive(Module, Debug)]
struct PatchMerging {
    reduction: Linear,
    norm: LayerNorm,
    v2: bool,
}

impl PatchMerging {
    fn new(features: usize, v2: bool, device: &Device) -> Self {
        let mut reduction = linear_normal(4 * features, 2 * features, STD, device);
        reduction.bias = None;
        Self { reduction, norm: norm(if v2 { 2 } else { 4 } * features, device), v2 }
    }

    /// `[batch, height, width, features]` to `[batch, height / 2, width / 2, 2 · features]`.
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [_, height, width, _] = x.dims();
        let x = pad(x, [height % 2, width % 2]);
        let [batch, height, width, features] = x.dims();
        // PyTorch's order of the four: down first, then across.
        let pairs = x.reshape([batch, height / 2, 2, width / 2, 2, features]).permute([0, 1, 3, 4, 2, 5]);
        let x = pairs.reshape([batch, height / 2, width / 2, 4 * features]);
        if self.v2 {
            self.norm.forward(linear_last(&self.reduction, x))
        } else {
            linear_last(&self.reduction, self.norm.forward(x))
        }
    }
}

/// torchvision's `SwinTransformerBlock` and `SwinTransformerBlockV2`.
#[derive(Module, Debug)]
struct Block {
    norm1: LayerNorm,
    attn: ShiftedWindowAttention,
    stochastic_depth: StochasticDepth,
    norm2: LayerNorm,
    mlp: Mlp,
    v2: bool,
}

impl Block {
    fn new(config: &SwinConfig, [features, heads]: [usize; 2], shifted: bool, prob: f64, device: &Device) -> Self {
        let window = WindowConfig {
            features,
            window: config.window_size,
            shift: config.window_size.map(|side| if shifted { side / 2 } else { 0 }),
            heads,
            attention_dropout: config.attention_dropout,
            dropout: config.dropout,
        };
        let attn = if config.v2 {
            ShiftedWindowAttention::v2(&window, device)
        } else {
            ShiftedWindowAttention::new(&window, device)
        };
        let hidden = (features as f64 * config.mlp_ratio) as usize;
        let [weight, bias] = [layers::normal(STD), Initializer::Zeros];
        Self {
            norm1: norm(features, device),
            attn,
            stochastic_depth: StochasticDepth::new(prob),
            norm2: norm(features, device),
            mlp: Mlp::new(features, hidden, config.dropout, [&weight, &bias], device),
            v2: config.v2,
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let around = |branch: Tensor<4>, x: Tensor<4>| x + self.stochastic_depth.forward(branch);
        if self.v2 {
            let x = around(self.norm1.forward(self.attn.forward(x.clone())), x);
            around(self.norm2.forward(self.mlp.forward(x.clone())), x)
        } else {
            let x = around(self.attn.forward(self.norm1.forward(x.clone())), x);
            around(self.mlp.forward(self.norm2.forward(x.clone())), x)
        }
    }
}
