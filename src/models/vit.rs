//! torchvision's vision transformer: patches of an image as a sequence.
//!
//! Source: Dosovitskiy et al., *An Image is Worth 16x16 Words*, 2020.

use burn::module::{Module, Param};
use burn::nn::conv::Conv2d;
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    Activation, ConvConfig, ConvInit, LayerNorm, Mlp, MultiheadAttention, Named, linear_drawn, linear_normal,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers;

/// The arguments of torchvision's vision transformer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VitConfig {
    /// Side of the images.
    pub image_size: usize,
    /// Side of a patch.
    pub patch_size: usize,
    /// Blocks of the encoder.
    pub num_layers: usize,
    /// Heads of each attention.
    pub num_heads: usize,
    /// Features of a position.
    pub hidden_dim: usize,
    /// Features inside a block's linear layers.
    pub mlp_dim: usize,
    /// Probability of dropout.
    pub dropout: f64,
    /// Probability of dropout of attention weights.
    pub attention_dropout: f64,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Features between two layers of the classifier; 0 for a classifier of one layer.
    pub representation_size: usize,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self::vit_b_16()
    }
}

/// What layer normalisation adds to the variance.
const EPSILON: f64 = 1e-6;

impl VitConfig {
    fn new(patch_size: usize, num_layers: usize, num_heads: usize, hidden_dim: usize) -> Self {
        Self {
            image_size: 224,
            patch_size,
            num_layers,
            num_heads,
            hidden_dim,
            mlp_dim: 4 * hidden_dim,
            dropout: 0.0,
            attention_dropout: 0.0,
            classes: 1000,
            representation_size: 0,
        }
    }

    /// Base, patches of 16 pixels.
    pub fn vit_b_16() -> Self {
        Self::new(16, 12, 12, 768)
    }

    /// Base, patches of 32 pixels.
    pub fn vit_b_32() -> Self {
        Self::new(32, 12, 12, 768)
    }

    /// Large, patches of 16 pixels.
    pub fn vit_l_16() -> Self {
        Self::new(16, 24, 16, 1024)
    }

    /// Large, patches of 32 pixels.
    pub fn vit_l_32() -> Self {
        Self::new(32, 24, 16, 1024)
    }

    /// Huge, patches of 14 pixels.
    pub fn vit_h_14() -> Self {
        Self::new(14, 32, 16, 1280)
    }

    /// Whether patches divide the image and heads the features.
    fn problem(&self) -> Option<Invalid> {
        if self.image_size == 0 || !self.image_size.is_multiple_of(self.patch_size) {
            let problem = format!("patches of {} pixels don't divide {} pixels", self.patch_size, self.image_size);
            return Some(Invalid::new("image_size", problem));
        }
        let problem = || format!("{} heads don't divide {} features", self.num_heads, self.hidden_dim);
        (!self.hidden_dim.is_multiple_of(self.num_heads)).then(|| Invalid::new("num_heads", problem()))
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> Vit {
        let hidden = self.hidden_dim;
        let fan_in = 3 * self.patch_size * self.patch_size;
        let conv = ConvConfig::new([3, hidden], self.patch_size)
            .stride(self.patch_size)
            .padding(0)
            .biased()
            .drawn(ConvInit::Normal((1.0 / fan_in as f64).sqrt()));
        let positions = (self.image_size / self.patch_size).pow(2) + 1;
        let layers = (0..self.num_layers).map(|at| (format!("encoder_layer_{at}"), Block::new(self, device)));
        let represented = self.representation_size;
        let zeros = |inputs| linear_drawn(inputs, self.classes, Initializer::Zeros, device);
        let heads = Heads {
            pre_logits: (represented > 0)
                .then(|| linear_normal(hidden, represented, (1.0 / hidden as f64).sqrt(), device)),
            head: zeros(if represented > 0 { represented } else { hidden }),
        };
        Vit {
            class_token: Initializer::Zeros.init([1, 1, hidden], device),
            conv_proj: conv.init(device),
            encoder: Encoder {
                pos_embedding: layers::normal(0.02).init([1, positions, hidden], device),
                dropout: DropoutConfig::new(self.dropout).init(),
                layers: Named::new(layers),
                ln: LayerNorm::new(hidden, EPSILON, device),
            },
            heads,
        }
    }
}

/// torchvision's vision transformer.
#[derive(Module, Debug)]
pub struct Vit {
    class_token: Param<Tensor<3>>,
    conv_proj: Conv2d,
    encoder: Encoder,
    heads: Heads,
}

#[derive(Module, Debug)]
struct Encoder {
    pos_embedding: Param<Tensor<3>>,
    dropout: Dropout,
    layers: Named<Block>,
    ln: LayerNorm,
}

#[derive(Module, Debug)]
struct Heads {
    pre_logits: Option<Linear>,
    head: Linear,
}

impl Vit {
    /// `[batch, 3, side, side]` to logits `[batch, classes]`; `side` is the configuration's.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let patches: Tensor<3> = layers::conv2d(&self.conv_proj, x).flatten(2, 3);
        let [batch, hidden, _] = patches.dims();
        let token = self.class_token.val().repeat_dim(0, batch);
        let x = Tensor::cat(vec![token, patches.swap_dims(1, 2)], 1);
        let x = self.encoder.forward(x);
        let x: Tensor<2> = x.narrow(1, 0, 1).reshape([batch, hidden]);
        let x = match &self.heads.pre_logits {
            Some(linear) => Activation::Tanh.forward(layers::linear(linear, x)),
            None => x,
        };
        layers::linear(&self.heads.head, x)
    }
}

impl Forward for Vit {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for VitConfig {
    type Model = Vit;
    const NAME: &'static str = "vit";

    fn init(&self, device: &Device) -> Vit {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, self.image_size, self.image_size], self.classes)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[
            ("patch_size", self.patch_size),
            ("num_heads", self.num_heads),
            ("hidden_dim", self.hidden_dim),
            ("mlp_dim", self.mlp_dim),
            ("classes", self.classes),
        ])?;
        check_probability("dropout", self.dropout)?;
        check_probability("attention_dropout", self.attention_dropout)?;
        self.problem().map_or(Ok(()), Err)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        let side = (shapes.axis("encoder.pos_embedding", 1)? - 1).isqrt();
        Some(Self { classes: shapes.axis("heads.head.weight", 0)?, image_size: side * self.patch_size, ..self.clone() })
    }
}

impl Encoder {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = layers::dropout(&self.dropout, x + self.pos_embedding.val());
        let x = self.layers.modules.iter().fold(x, |x, block| block.forward(x));
        self.ln.forward(x)
    }
}

/// torchvision's `EncoderBlock`.
#[derive(Module, Debug)]
struct Block {
    ln_1: LayerNorm,
    self_attention: MultiheadAttention,
    dropout: Dropout,
    ln_2: LayerNorm,
    mlp: Mlp,
}

impl Block {
    fn new(config: &VitConfig, device: &Device) -> Self {
        let hidden = config.hidden_dim;
        let [weight, bias] = [Initializer::XavierUniform { gain: 1.0 }, layers::normal(1e-6)];
        Self {
            ln_1: LayerNorm::new(hidden, EPSILON, device),
            self_attention: MultiheadAttention::new(hidden, config.num_heads, config.attention_dropout, device),
            dropout: DropoutConfig::new(config.dropout).init(),
            ln_2: LayerNorm::new(hidden, EPSILON, device),
            mlp: Mlp::new(hidden, config.mlp_dim, config.dropout, [&weight, &bias], device),
        }
    }

    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let y = self.self_attention.forward(self.ln_1.forward(x.clone()));
        let x = layers::dropout(&self.dropout, y) + x;
        self.mlp.forward(self.ln_2.forward(x.clone())) + x
    }
}
