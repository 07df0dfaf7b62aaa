//! torchvision's MobileNet v3: inverted residuals, some with squeeze-excitation, found by architecture search.
//!
//! Source: Howard et al., *Searching for MobileNetV3*, 2019.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    Activation, ConvConfig, ConvInit, ConvNormActivation, Head, Layer, NormConfig, SqueezeExcitation, classify,
    global_mean, linear_normal, make_divisible, run,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};

/// Which of the two published networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MobileNetV3Size {
    /// The larger one.
    #[default]
    Large,
    /// The smaller one.
    Small,
}

/// The arguments of torchvision's MobileNet v3.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MobileNetV3Config {
    /// Which of the two published networks.
    pub size: MobileNetV3Size,
    /// Factor of every layer's channels.
    pub width_mult: f64,
    /// Whether the last stage and the classifier have half the channels.
    pub reduced_tail: bool,
    /// Whether the last stage keeps the size of the image and dilates its kernels.
    pub dilated: bool,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Probability of dropout before the classifier's last layer.
    pub dropout: f64,
    /// What batch normalisation adds to the variance.
    pub norm_epsilon: f64,
}

impl Default for MobileNetV3Config {
    fn default() -> Self {
        Self {
            size: MobileNetV3Size::Large,
            width_mult: 1.0,
            reduced_tail: false,
            dilated: false,
            classes: 1000,
            dropout: 0.2,
            norm_epsilon: 1e-3,
        }
    }
}

/// A block: channels in, kernel, expanded channels, channels out, squeeze-excitation, hard-swish (else ReLU), stride.
type Row = (usize, usize, usize, usize, bool, bool, usize);

const LARGE: [Row; 15] = [
    (16, 3, 16, 16, false, false, 1),
    (16, 3, 64, 24, false, false, 2),
    (24, 3, 72, 24, false, false, 1),
    (24, 5, 72, 40, true, false, 2),
    (40, 5, 120, 40, true, false, 1),
    (40, 5, 120, 40, true, false, 1),
    (40, 3, 240, 80, false, true, 2),
    (80, 3, 200, 80, false, true, 1),
    (80, 3, 184, 80, false, true, 1),
    (80, 3, 184, 80, false, true, 1),
    (80, 3, 480, 112, true, true, 1),
    (112, 3, 672, 112, true, true, 1),
    (112, 5, 672, 160, true, true, 2),
    (160, 5, 960, 160, true, true, 1),
    (160, 5, 960, 160, true, true, 1),
];

const SMALL: [Row; 11] = [
    (16, 3, 16, 16, true, false, 2),
    (16, 3, 72, 24, false, false, 2),
    (24, 3, 88, 24, false, false, 1),
    (24, 5, 96, 40, true, true, 2),
    (40, 5, 240, 40, true, true, 1),
    (40, 5, 240, 40, true, true, 1),
    (40, 5, 120, 48, true, true, 1),
    (48, 5, 144, 48, true, true, 1),
    (48, 5, 288, 96, true, true, 2),
    (96, 5, 576, 96, true, true, 1),
    (96, 5, 576, 96, true, true, 1),
];

/// Blocks at the end that may be reduced and dilated, in either network.
const TAIL: usize = 3;

/// Weight of a new batch in the running statistics.
const MOMENTUM: f64 = 0.01;

/// A block's sizes.
struct Plan {
    channels: [usize; 3],
    kernel: usize,
    excited: bool,
    activation: Activation,
    stride: usize,
    dilation: usize,
}

impl MobileNetV3Config {
    /// The larger network.
    pub fn mobilenet_v3_large() -> Self {
        Self::default()
    }

    /// The smaller network.
    pub fn mobilenet_v3_small() -> Self {
        Self { size: MobileNetV3Size::Small, ..Self::default() }
    }

    fn width(&self, channels: usize) -> usize {
        make_divisible(channels as f64 * self.width_mult, 8)
    }

    /// Divides the channels of the tail.
    fn divider(&self) -> usize {
        if self.reduced_tail { 2 } else { 1 }
    }

    fn plan(&self) -> Vec<Plan> {
        let rows = match self.size {
            MobileNetV3Size::Large => LARGE.as_slice(),
            MobileNetV3Size::Small => SMALL.as_slice(),
        };
        let tail = rows.len() - TAIL;
        let plan = rows.iter().enumerate().map(|(at, &(from, kernel, inside, to, excited, hard, stride))| {
            let reduced = |channels: usize| self.width(channels / self.divider());
            let channels = match at {
                // The tail's first block still takes and expands what comes before it.
                at if at == tail => [self.width(from), self.width(inside), reduced(to)],
                at if at > tail => [from, inside, to].map(reduced),
                _ => [from, inside, to].map(|channels| self.width(channels)),
            };
            let activation = if hard { Activation::HardSwish } else { Activation::Relu };
            let dilation = if self.dilated && at >= tail { 2 } else { 1 };
            Plan { channels, kernel, excited, activation, stride, dilation }
        });
        plan.collect()
    }

    /// The layers before the classifier, and the channels that each gives.
    pub(super) fn features(&self, device: &Device) -> (Vec<Feature>, Vec<usize>) {
        let plan = self.plan();
        let norm = NormConfig { epsilon: self.norm_epsilon, momentum: MOMENTUM };
        let first = plan.first().map_or(0, |plan| plan.channels[0]);
        let conv = ConvConfig::new([3, first], 3).stride(2).norm(norm, Activation::HardSwish, device);
        let (mut features, mut channels) = (vec![Feature::Conv(conv)], vec![first]);
        for plan in &plan {
            features.push(Feature::Residual(InvertedResidual::new(plan, norm, device)));
            channels.push(plan.channels[2]);
        }
        let last = channels[channels.len() - 1];
        let conv = ConvConfig::new([last, 6 * last], 1).norm(norm, Activation::HardSwish, device);
        features.push(Feature::Conv(conv));
        channels.push(6 * last);
        (features, channels)
    }

    /// Where the image shrinks among [`Self::features`], with the first and the last layer: torchvision's stages.
    pub(super) fn stages(&self) -> Vec<usize> {
        let plan = self.plan();
        let strided = plan.iter().enumerate().filter(|(_, plan)| plan.stride > 1).map(|(at, _)| at + 1);
        std::iter::once(0).chain(strided).chain([plan.len() + 1]).collect()
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> MobileNetV3 {
        let (features, channels) = self.features(device);
        let hidden = self.width(match self.size {
            MobileNetV3Size::Large => 1280 / self.divider(),
            MobileNetV3Size::Small => 1024 / self.divider(),
        });
        let classifier = vec![
            Head::Linear(linear_normal(channels[channels.len() - 1], hidden, 0.01, device)),
            Head::Activation(Activation::HardSwish),
            Head::dropout(self.dropout),
            Head::Linear(linear_normal(hidden, self.classes, 0.01, device)),
        ];
        MobileNetV3 { features, classifier }
    }
}

/// torchvision's MobileNet v3.
#[derive(Module, Debug)]
pub struct MobileNetV3 {
    features: Vec<Feature>,
    classifier: Vec<Head>,
}

/// A layer before the classifier.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few of them, and a box would be one more hop to each layer"
)]
pub(super) enum Feature {
    Conv(ConvNormActivation),
    Residual(InvertedResidual),
}

impl Feature {
    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    pub(super) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match self {
            Self::Conv(block) => block.forward(x),
            Self::Residual(block) => block.forward(x),
        }
    }
}

impl MobileNetV3 {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features.iter().fold(x, |x, feature| feature.forward(x));
        classify(&self.classifier, global_mean(x))
    }
}

impl Forward for MobileNetV3 {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for MobileNetV3Config {
    type Model = MobileNetV3;
    const NAME: &'static str = "mobilenet_v3";

    fn init(&self, device: &Device) -> MobileNetV3 {
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
        Some(Self { classes: shapes.axis("classifier.3.weight", 0)?, ..self.clone() })
    }
}

#[derive(Module, Debug)]
pub(super) struct InvertedResidual {
    block: Vec<Layer>,
    residual: bool,
}

impl InvertedResidual {
    fn new(plan: &Plan, norm: NormConfig, device: &Device) -> Self {
        let &Plan { channels: [from, inside, to], kernel, excited, activation, stride, dilation } = plan;
        let mut block = Vec::new();
        if inside != from {
            block.push(Layer::Block(ConvConfig::new([from, inside], 1).norm(norm, activation, device)));
        }
        // A dilated block does not shrink the image.
        let depthwise = ConvConfig::new([inside, inside], kernel)
            .stride(if dilation > 1 { 1 } else { stride })
            .dilation(dilation)
            .groups(inside);
        block.push(Layer::Block(depthwise.norm(norm, activation, device)));
        if excited {
            let squeezed = make_divisible((inside / 4) as f64, 8);
            let activations = [Activation::Relu, Activation::HardSigmoid];
            let excitation = SqueezeExcitation::new(inside, squeezed, activations, ConvInit::FanOut, device);
            block.push(Layer::Excitation(excitation));
        }
        block.push(Layer::Block(ConvConfig::new([inside, to], 1).norm(norm, Activation::Identity, device)));
        Self { block, residual: stride == 1 && from == to }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if self.residual { run(&self.block, x.clone()) + x } else { run(&self.block, x) }
    }
}
