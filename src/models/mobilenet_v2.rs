//! torchvision's MobileNet v2: inverted residuals with linear bottlenecks.
//!
//! Source: Sandler et al., *MobileNetV2*, 2018.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    Activation, ConvConfig, ConvNormActivation, Head, Layer, NormConfig, classify, global_mean, linear_normal,
    make_divisible, run,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};

/// The arguments of torchvision's MobileNet v2.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MobileNetV2Config {
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Factor of every layer's channels.
    pub width_mult: f64,
    /// For each stage: expansion, channels, blocks, stride of the first block.
    pub inverted_residual_setting: Vec<[usize; 4]>,
    /// Channels are rounded to multiples of this.
    pub round_nearest: usize,
    /// Probability of dropout before the classifier.
    pub dropout: f64,
}

impl Default for MobileNetV2Config {
    fn default() -> Self {
        Self {
            classes: 1000,
            width_mult: 1.0,
            inverted_residual_setting: vec![
                [1, 16, 1, 1],
                [6, 24, 2, 2],
                [6, 32, 3, 2],
                [6, 64, 4, 2],
                [6, 96, 3, 1],
                [6, 160, 3, 2],
                [6, 320, 1, 1],
            ],
            round_nearest: 8,
            dropout: 0.2,
        }
    }
}

impl MobileNetV2Config {
    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> MobileNetV2 {
        let width = |channels: usize, factor: f64| make_divisible(channels as f64 * factor, self.round_nearest);
        let mut channels = width(32, self.width_mult);
        let last = width(1280, self.width_mult.max(1.0));
        let mut features = vec![Feature::Conv(block([3, channels], 3, 2, 1, device))];
        for &[expansion, to, blocks, stride] in &self.inverted_residual_setting {
            let to = width(to, self.width_mult);
            for at in 0..blocks {
                let stride = if at == 0 { stride } else { 1 };
                features.push(Feature::Residual(InvertedResidual::new([channels, to], stride, expansion, device)));
                channels = to;
            }
        }
        features.push(Feature::Conv(block([channels, last], 1, 1, 1, device)));
        let linear = linear_normal(last, self.classes, 0.01, device);
        MobileNetV2 { features, classifier: vec![Head::dropout(self.dropout), Head::Linear(linear)] }
    }
}

fn block(channels: [usize; 2], kernel: usize, stride: usize, groups: usize, device: &Device) -> ConvNormActivation {
    let conv = ConvConfig::new(channels, kernel).stride(stride).groups(groups);
    conv.norm(NormConfig::default(), Activation::Relu6, device)
}

/// torchvision's MobileNet v2.
#[derive(Module, Debug)]
pub struct MobileNetV2 {
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
    Residual(InvertedResidual),
}

impl MobileNetV2 {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features.iter().fold(x, |x, feature| match feature {
            Feature::Conv(block) => block.forward(x),
            Feature::Residual(block) => block.forward(x),
        });
        classify(&self.classifier, global_mean(x))
    }
}

impl Forward for MobileNetV2 {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for MobileNetV2Config {
    type Model = MobileNetV2;
    const NAME: &'static str = "mobilenet_v2";

    fn init(&self, device: &Device) -> MobileNetV2 {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(1)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes), ("round_nearest", self.round_nearest)])?;
        for stage in &self.inverted_residual_setting {
            check_sizes(&stage.map(|size| ("inverted_residual_setting", size)))?;
        }
        check_probability("dropout", self.dropout)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("classifier.1.weight", 0)?, ..self.clone() })
    }
}

/// Up to many channels, a depthwise convolution, and down again without an activation.
#[derive(Module, Debug)]
struct InvertedResidual {
    conv: Vec<Layer>,
    residual: bool,
}

impl InvertedResidual {
    fn new([from, to]: [usize; 2], stride: usize, expansion: usize, device: &Device) -> Self {
        let inside = from * expansion;
        let expand = (expansion != 1).then(|| Layer::Block(block([from, inside], 1, 1, 1, device)));
        let rest = [
            Layer::Block(block([inside, inside], 3, stride, inside, device)),
            Layer::Conv(ConvConfig::new([inside, to], 1).init(device)),
            Layer::Norm(NormConfig::default().init(to, device)),
        ];
        Self { conv: expand.into_iter().chain(rest).collect(), residual: stride == 1 && from == to }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if self.residual { x.clone() + run(&self.conv, x) } else { run(&self.conv, x) }
    }
}
