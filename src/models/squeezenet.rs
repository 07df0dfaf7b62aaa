//! torchvision's SqueezeNet 1.0 and 1.1: fire modules, and a convolution as classifier.
//!
//! Source: Iandola et al., *SqueezeNet*, 2016.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::MaxPool2d;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{Activation, ConvConfig, ConvInit, Layer, global_mean, max_pool, run};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers;

/// Which of the two published networks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SqueezeNetVersion {
    /// The paper's.
    #[default]
    #[serde(rename = "1_0")]
    First,
    /// As good at 2.4 times fewer operations.
    #[serde(rename = "1_1")]
    Second,
}

/// The arguments of torchvision's SqueezeNet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqueezeNetConfig {
    /// Which of the two published networks.
    pub version: SqueezeNetVersion,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Probability of dropout before the classifier.
    pub dropout: f64,
}

impl Default for SqueezeNetConfig {
    fn default() -> Self {
        Self { version: SqueezeNetVersion::First, classes: 1000, dropout: 0.5 }
    }
}

/// Channels into a fire module, squeezed, and of each of the two expansions.
type FirePlan = [usize; 3];

/// The fire modules of either network; none for a max pool.
const FIRST: [Option<FirePlan>; 10] = [
    Some([96, 16, 64]),
    Some([128, 16, 64]),
    Some([128, 32, 128]),
    None,
    Some([256, 32, 128]),
    Some([256, 48, 192]),
    Some([384, 48, 192]),
    Some([384, 64, 256]),
    None,
    Some([512, 64, 256]),
];
const SECOND: [Option<FirePlan>; 10] = [
    Some([64, 16, 64]),
    Some([128, 16, 64]),
    None,
    Some([128, 32, 128]),
    Some([256, 32, 128]),
    None,
    Some([256, 48, 192]),
    Some([384, 48, 192]),
    Some([384, 64, 256]),
    Some([512, 64, 256]),
];

impl SqueezeNetConfig {
    /// The paper's network.
    pub fn squeezenet1_0() -> Self {
        Self::default()
    }

    /// The smaller one.
    pub fn squeezenet1_1() -> Self {
        Self { version: SqueezeNetVersion::Second, ..Self::default() }
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> SqueezeNet {
        let (channels, kernel, plan) = match self.version {
            SqueezeNetVersion::First => (96, 7, FIRST),
            SqueezeNetVersion::Second => (64, 3, SECOND),
        };
        let pool = || Stage::Pool(max_pool(3, 2, 0, true));
        let first = conv([3, channels], kernel).stride(2).padding(0).init(device);
        let mut features = vec![Stage::Conv(first), Stage::Activation(Activation::Relu), pool()];
        features.extend(plan.map(|plan| plan.map_or_else(pool, |plan| Stage::Fire(Fire::new(plan, device)))));
        let last = conv([512, self.classes], 1).drawn(ConvInit::Normal(0.01)).init(device);
        let classifier = vec![Layer::dropout(self.dropout), Layer::Conv(last), Layer::Activation(Activation::Relu)];
        SqueezeNet { features, classifier }
    }
}

fn conv(channels: [usize; 2], kernel: usize) -> ConvConfig {
    ConvConfig::new(channels, kernel).biased().drawn(ConvInit::FanInUniform)
}

/// torchvision's SqueezeNet.
#[derive(Module, Debug)]
pub struct SqueezeNet {
    features: Vec<Stage>,
    classifier: Vec<Layer>,
}

#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few of them, and a box would be one more hop to each layer"
)]
enum Stage {
    Conv(Conv2d),
    Activation(Activation),
    Pool(MaxPool2d),
    Fire(Fire),
}

impl SqueezeNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features.iter().fold(x, |x, stage| match stage {
            Stage::Conv(conv) => layers::conv2d(conv, x),
            Stage::Activation(activation) => activation.forward(x),
            Stage::Pool(pool) => layers::max_pool2d(pool, x),
            Stage::Fire(fire) => fire.forward(x),
        });
        global_mean(run(&self.classifier, x))
    }
}

impl Forward for SqueezeNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for SqueezeNetConfig {
    type Model = SqueezeNet;
    const NAME: &'static str = "squeezenet";

    fn init(&self, device: &Device) -> SqueezeNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(21)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes)])?;
        check_probability("dropout", self.dropout)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("classifier.1.weight", 0)?, ..self.clone() })
    }
}

/// A squeeze to few channels, and two expansions side by side.
#[derive(Module, Debug)]
struct Fire {
    squeeze: Conv2d,
    expand1x1: Conv2d,
    expand3x3: Conv2d,
}

impl Fire {
    fn new([from, squeezed, expanded]: FirePlan, device: &Device) -> Self {
        Self {
            squeeze: conv([from, squeezed], 1).init(device),
            expand1x1: conv([squeezed, expanded], 1).init(device),
            expand3x3: conv([squeezed, expanded], 3).init(device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = layers::conv2d_relu(&self.squeeze, x);
        let small = layers::conv2d_relu(&self.expand1x1, x.clone());
        Tensor::cat(vec![small, layers::conv2d_relu(&self.expand3x3, x)], 1)
    }
}
