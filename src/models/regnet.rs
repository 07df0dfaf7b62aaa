//! torchvision's RegNet: stages whose widths follow a quantised line.
//!
//! Source: Radosavovic et al., *Designing Network Design Spaces*, 2020.

use burn::module::Module;
use burn::nn::Linear;
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    Activation, ConvConfig, ConvInit, ConvNormActivation, Named, NormConfig, SqueezeExcitation, global_mean,
    linear_normal, make_divisible,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_sizes};
use crate::layers;

/// The arguments of torchvision's RegNet and of its `BlockParams.from_init_params`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegNetConfig {
    /// Number of blocks.
    pub depth: usize,
    /// Width of the first block, a multiple of 8.
    pub w_0: usize,
    /// Slope of the line of widths.
    pub w_a: f64,
    /// Factor from one width to the next when the line is quantised; more than 1.
    pub w_m: f64,
    /// Channels of a group.
    pub group_width: usize,
    /// Channels inside a block for each that leaves it.
    pub bottleneck_multiplier: f64,
    /// Channels of squeeze-excitation for each that enters a block; 0 leaves it out.
    pub se_ratio: f64,
    /// Channels of the first convolution.
    pub stem_width: usize,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
}

impl Default for RegNetConfig {
    fn default() -> Self {
        Self::regnet_y_400mf()
    }
}

macro_rules! published {
    ($($name:ident: $about:literal, $depth:literal, $w_0:literal, $w_a:literal, $w_m:literal, $group:literal;)*) => {
        impl RegNetConfig {
            $(
                #[doc = $about]
                pub fn $name() -> Self {
                    let se_ratio = if stringify!($name).starts_with("regnet_y") { 0.25 } else { 0.0 };
                    Self {
                        depth: $depth,
                        w_0: $w_0,
                        w_a: $w_a,
                        w_m: $w_m,
                        group_width: $group,
                        bottleneck_multiplier: 1.0,
                        se_ratio,
                        stem_width: 32,
                        classes: 1000,
                    }
                }
            )*
        }
    };
}

published! {
    regnet_y_400mf: "400 million operations, with squeeze-excitation.", 16, 48, 27.89, 2.09, 8;
    regnet_y_800mf: "800 million operations, with squeeze-excitation.", 14, 56, 38.84, 2.4, 16;
    regnet_y_1_6gf: "1.6 billion operations, with squeeze-excitation.", 27, 48, 20.71, 2.65, 24;
    regnet_y_3_2gf: "3.2 billion operations, with squeeze-excitation.", 21, 80, 42.63, 2.66, 24;
    regnet_y_8gf: "8 billion operations, with squeeze-excitation.", 17, 192, 76.82, 2.19, 56;
    regnet_y_16gf: "16 billion operations, with squeeze-excitation.", 18, 200, 106.23, 2.48, 112;
    regnet_y_32gf: "32 billion operations, with squeeze-excitation.", 20, 232, 115.89, 2.53, 232;
    regnet_y_128gf: "128 billion operations, with squeeze-excitation.", 27, 456, 160.83, 2.52, 264;
    regnet_x_400mf: "400 million operations.", 22, 24, 24.48, 2.54, 16;
    regnet_x_800mf: "800 million operations.", 16, 56, 35.73, 2.28, 16;
    regnet_x_1_6gf: "1.6 billion operations.", 18, 80, 34.01, 2.25, 24;
    regnet_x_3_2gf: "3.2 billion operations.", 25, 88, 26.31, 2.25, 48;
    regnet_x_8gf: "8 billion operations.", 23, 80, 49.56, 2.88, 120;
    regnet_x_16gf: "16 billion operations.", 22, 216, 55.59, 2.1, 128;
    regnet_x_32gf: "32 billion operations.", 23, 320, 69.86, 2.0, 168;
}

/// A stage of blocks of one width.
struct Stage {
    width: usize,
    blocks: usize,
    group_width: usize,
}

impl RegNetConfig {
    /// What is wrong with the line of widths.
    fn problem(&self) -> Option<Invalid> {
        let bad = self.w_a < 0.0 || self.w_0 == 0 || self.w_m <= 1.0 || !self.w_0.is_multiple_of(8);
        let rule = "w_0 must be a multiple of 8, w_a at least 0, w_m more than 1";
        bad.then(|| Invalid::new("w_0", format!("{rule}; found {}, {} and {}", self.w_0, self.w_a, self.w_m)))
    }

    /// The stages: blocks of equal quantised width, with widths that groups divide.
    fn stages(&self) -> Vec<Stage> {
        let first = self.w_0 as f32;
        let mut stages: Vec<Stage> = Vec::new();
        for block in 0..self.depth {
            // In 32 bits, as PyTorch computes it.
            let width = block as f32 * self.w_a as f32 + first;
            let steps = ((width / first).ln() / (self.w_m as f32).ln()).round_ties_even();
            let width = (first * (self.w_m as f32).powf(steps) / 8.0).round_ties_even() as usize * 8;
            match stages.last_mut() {
                Some(stage) if stage.width == width => stage.blocks += 1,
                _ => stages.push(Stage { width, blocks: 1, group_width: self.group_width }),
            }
        }
        for stage in &mut stages {
            let inside = (stage.width as f64 * self.bottleneck_multiplier) as usize;
            stage.group_width = stage.group_width.min(inside);
            let inside = make_divisible(inside as f64, stage.group_width);
            stage.width = (inside as f64 / self.bottleneck_multiplier) as usize;
        }
        stages
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> RegNet {
        let stem = ConvConfig::new([3, self.stem_width], 3).stride(2);
        let stem = stem.norm(NormConfig::default(), Activation::Relu, device);
        let mut from = self.stem_width;
        let mut trunk = Vec::new();
        for (at, stage) in self.stages().iter().enumerate() {
            let blocks = (0..stage.blocks).map(|block| {
                let (channels, stride) =
                    if block == 0 { ([from, stage.width], 2) } else { ([stage.width, stage.width], 1) };
                (format!("block{}-{block}", at + 1), Block::new(channels, stride, stage.group_width, self, device))
            });
            trunk.push((format!("block{}", at + 1), Named::new(blocks)));
            from = stage.width;
        }
        let fc = linear_normal(from, self.classes, 0.01, device);
        RegNet { stem, trunk_output: Named::new(trunk), fc }
    }
}

/// torchvision's RegNet.
#[derive(Module, Debug)]
pub struct RegNet {
    stem: ConvNormActivation,
    trunk_output: Named<Named<Block>>,
    fc: Linear,
}

impl RegNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let blocks = self.trunk_output.modules.iter().flat_map(|stage| &stage.modules);
        let x = blocks.fold(self.stem.forward(x), |x, block| block.forward(x));
        layers::linear(&self.fc, global_mean(x))
    }
}

impl Forward for RegNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for RegNetConfig {
    type Model = RegNet;
    const NAME: &'static str = "regnet";

    fn init(&self, device: &Device) -> RegNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(1)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[
            ("classes", self.classes),
            ("depth", self.depth),
            ("group_width", self.group_width),
            ("stem_width", self.stem_width),
        ])?;
        self.problem().map_or(Ok(()), Err)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("fc.weight", 0)?, ..self.clone() })
    }
}

/// torchvision's `ResBottleneckBlock`.
#[derive(Module, Debug)]
struct Block {
    proj: Option<ConvNormActivation>,
    f: Transform,
}

#[derive(Module, Debug)]
struct Transform {
    a: ConvNormActivation,
    b: ConvNormActivation,
    se: Option<SqueezeExcitation>,
    c: ConvNormActivation,
}

impl Block {
    fn new([from, to]: [usize; 2], stride: usize, group_width: usize, config: &RegNetConfig, device: &Device) -> Self {
        let inside = (to as f64 * config.bottleneck_multiplier).round_ties_even() as usize;
        let conv = |config: ConvConfig, activation| config.norm(NormConfig::default(), activation, device);
        let changes = from != to || stride != 1;
        let proj = changes.then(|| conv(ConvConfig::new([from, to], 1).stride(stride), Activation::Identity));
        let middle = ConvConfig::new([inside, inside], 3).stride(stride).groups(inside / group_width);
        let squeezed = (config.se_ratio * from as f64).round_ties_even() as usize;
        let activations = [Activation::Relu, Activation::Sigmoid];
        let f = Transform {
            a: conv(ConvConfig::new([from, inside], 1), Activation::Relu),
            b: conv(middle, Activation::Relu),
            se: (config.se_ratio > 0.0)
                .then(|| SqueezeExcitation::new(inside, squeezed, activations, ConvInit::FanOutOfWeights, device)),
            c: conv(ConvConfig::new([inside, to], 1), Activation::Identity),
        };
        Self { proj, f }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let y = self.f.b.forward(self.f.a.forward(x.clone()));
        let y = match &self.f.se {
            Some(se) => se.forward(y),
            None => y,
        };
        let y = self.f.c.forward(y);
        let x = match &self.proj {
            Some(proj) => proj.forward(x),
            None => x,
        };
        relu(x + y)
    }
}
