//! torchvision's MNASNet: inverted residuals with kernels of 3 and 5 pixels, found by architecture search.
//!
//! Source: Tan et al., *MnasNet*, 2018.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    Activation, ConvConfig, Head, Layer, NormConfig, classify, conv_norm, global_mean, linear_drawn, make_divisible,
    run,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers::{self, BatchNorm2d};

/// The arguments of torchvision's MNASNet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MnasNetConfig {
    /// Factor of every layer's channels but the last convolution's.
    pub alpha: f64,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Probability of dropout before the classifier.
    pub dropout: f64,
    /// Whether the first layers have the same width whatever `alpha` is, as in torchvision until 0.5: weights of then need it, and
    /// their shapes show it.
    pub fixed_stem: bool,
}

impl Default for MnasNetConfig {
    fn default() -> Self {
        Self::with_alpha(1.0)
    }
}

/// Batch normalisation of this network; the momentum is TensorFlow's 0.9997 as PyTorch counts it.
const NORM: NormConfig = NormConfig { epsilon: 1e-5, momentum: 1.0 - 0.9997 };

/// Channels of the last convolution.
const LAST: usize = 1280;

/// Of each stage: which of the widths it gives, kernel, stride of its first block, expansion, blocks.
const STAGES: [[usize; 5]; 6] =
    [[2, 3, 2, 3, 3], [3, 5, 2, 3, 3], [4, 5, 2, 6, 3], [5, 3, 1, 6, 2], [6, 5, 2, 6, 4], [7, 3, 1, 6, 1]];

impl MnasNetConfig {
    fn with_alpha(alpha: f64) -> Self {
        Self { alpha, classes: 1000, dropout: 0.2, fixed_stem: false }
    }

    /// Half the width.
    pub fn mnasnet0_5() -> Self {
        Self::with_alpha(0.5)
    }

    /// Three quarters of the width.
    pub fn mnasnet0_75() -> Self {
        Self::with_alpha(0.75)
    }

    /// The paper's width.
    pub fn mnasnet1_0() -> Self {
        Self::with_alpha(1.0)
    }

    /// 1.3 times the width.
    pub fn mnasnet1_3() -> Self {
        Self::with_alpha(1.3)
    }

    /// Channels after each part.
    fn widths(&self) -> [usize; 8] {
        let mut widths =
            [32, 16, 24, 40, 80, 96, 192, 320].map(|width| make_divisible(f64::from(width) * self.alpha, 8));
        if self.fixed_stem {
            widths[..2].copy_from_slice(&[32, 16]);
        }
        widths
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> MnasNet {
        let widths = self.widths();
        let [first, second, ..] = widths;
        let conv = |config: ConvConfig| Stage::Conv(config.init(device));
        let norm = |channels| Stage::Norm(NORM.init(channels, device));
        let relu = || Stage::Activation(Activation::Relu);
        let mut layers = vec![
            conv(ConvConfig::new([3, first], 3).stride(2)),
            norm(first),
            relu(),
            conv(ConvConfig::new([first, first], 3).groups(first)),
            norm(first),
            relu(),
            conv(ConvConfig::new([first, second], 1)),
            norm(second),
        ];
        let mut from = second;
        for [width, kernel, stride, expansion, blocks] in STAGES {
            let to = widths[width];
            let first = InvertedResidual::new([from, to], kernel, stride, expansion, device);
            let rest = (1..blocks).map(|_| InvertedResidual::new([to, to], kernel, 1, expansion, device));
            layers.push(Stage::Stack(std::iter::once(first).chain(rest).collect()));
            from = to;
        }
        layers.extend([conv(ConvConfig::new([from, LAST], 1)), norm(LAST), relu()]);
        // He's uniform distribution by the fan out, with the gain of a sigmoid.
        let init = layers::uniform((3.0 / self.classes as f64).sqrt());
        let linear = linear_drawn(LAST, self.classes, init, device);
        MnasNet { layers, classifier: vec![Head::dropout(self.dropout), Head::Linear(linear)] }
    }
}

/// torchvision's MNASNet.
#[derive(Module, Debug)]
pub struct MnasNet {
    layers: Vec<Stage>,
    classifier: Vec<Head>,
}

#[derive(Module, Debug)]
enum Stage {
    Conv(Conv2d),
    Norm(BatchNorm2d),
    Activation(Activation),
    Stack(Vec<InvertedResidual>),
}

impl MnasNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, mut x: Tensor<4>) -> Tensor<2> {
        let mut rest = self.layers.as_slice();
        while let [stage, others @ ..] = rest {
            (x, rest) = match (stage, others) {
                (Stage::Conv(conv), [Stage::Norm(norm), Stage::Activation(activation), others @ ..]) => {
                    (conv_norm(conv, Some(norm), *activation, x), others)
                }
                (Stage::Conv(conv), [Stage::Norm(norm), others @ ..]) => {
                    (conv_norm(conv, Some(norm), Activation::Identity, x), others)
                }
                (Stage::Conv(conv), _) => (layers::conv2d(conv, x), others),
                (Stage::Norm(norm), _) => (norm.forward(x), others),
                (Stage::Activation(activation), _) => (activation.forward(x), others),
                (Stage::Stack(blocks), _) => (blocks.iter().fold(x, |x, block| block.forward(x)), others),
            };
        }
        classify(&self.classifier, global_mean(x))
    }
}

impl Forward for MnasNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for MnasNetConfig {
    type Model = MnasNet;
    const NAME: &'static str = "mnasnet";

    fn init(&self, device: &Device) -> MnasNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(1)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes)])?;
        check_probability("dropout", self.dropout)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        let stem = shapes.axis("layers.0.weight", 0)?;
        let fixed_stem = if stem == self.widths()[0] { self.fixed_stem } else { stem == 32 };
        Some(Self { classes: shapes.axis("classifier.1.weight", 0)?, fixed_stem, ..self.clone() })
    }
}

#[derive(Module, Debug)]
struct InvertedResidual {
    layers: Vec<Layer>,
    residual: bool,
}

impl InvertedResidual {
    fn new([from, to]: [usize; 2], kernel: usize, stride: usize, expansion: usize, device: &Device) -> Self {
        let inside = from * expansion;
        let conv = |config: ConvConfig| Layer::Conv(config.init(device));
        let norm = |channels| Layer::Norm(NORM.init(channels, device));
        let relu = || Layer::Activation(Activation::Relu);
        let layers = vec![
            conv(ConvConfig::new([from, inside], 1)),
            norm(inside),
            relu(),
            conv(ConvConfig::new([inside, inside], kernel).stride(stride).groups(inside)),
            norm(inside),
            relu(),
            conv(ConvConfig::new([inside, to], 1)),
            norm(to),
        ];
        Self { layers, residual: from == to && stride == 1 }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if self.residual { run(&self.layers, x.clone()) + x } else { run(&self.layers, x) }
    }
}
