//! torchvision's DenseNet: each layer sees what all layers before it in its block gave.
//!
//! Source: Huang et al., *Densely Connected Convolutional Networks*, 2017.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AvgPool2dConfig, MaxPool2d};
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{ConvConfig, ConvInit, Named, global_mean, max_pool};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::kernels::Activation;
use crate::layers::{self, BatchNorm2d};

/// The arguments of torchvision's DenseNet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DenseNetConfig {
    /// Channels that each layer adds.
    pub growth_rate: usize,
    /// Layers of the four blocks.
    pub block_config: [usize; 4],
    /// Channels of the first convolution.
    pub num_init_features: usize,
    /// Channels of a layer's 1×1 convolution, for each that it adds.
    pub bn_size: usize,
    /// Probability of dropout after each layer.
    pub drop_rate: f64,
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
}

impl Default for DenseNetConfig {
    fn default() -> Self {
        Self::densenet121()
    }
}

impl DenseNetConfig {
    fn new(growth_rate: usize, block_config: [usize; 4], num_init_features: usize) -> Self {
        Self { growth_rate, block_config, num_init_features, bn_size: 4, drop_rate: 0.0, classes: 1000 }
    }

    /// 121 layers.
    pub fn densenet121() -> Self {
        Self::new(32, [6, 12, 24, 16], 64)
    }

    /// 161 layers, wider.
    pub fn densenet161() -> Self {
        Self::new(48, [6, 12, 36, 24], 96)
    }

    /// 169 layers.
    pub fn densenet169() -> Self {
        Self::new(32, [6, 12, 32, 32], 64)
    }

    /// 201 layers.
    pub fn densenet201() -> Self {
        Self::new(32, [6, 12, 48, 32], 64)
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> DenseNet {
        let mut channels = self.num_init_features;
        let first = ConvConfig::new([3, channels], 7).stride(2).drawn(ConvInit::FanIn).init(device);
        let mut features = vec![
            ("conv0".to_string(), Feature::Conv(first)),
            ("norm0".to_string(), Feature::Norm(BatchNorm2d::new(channels, device))),
            ("pool0".to_string(), Feature::Pool(max_pool(3, 2, 1, false))),
        ];
        for (i, &layers) in self.block_config.iter().enumerate() {
            let block = (0..layers).map(|layer| {
                let from = channels + layer * self.growth_rate;
                (format!("denselayer{}", layer + 1), DenseLayer::new(from, self, device))
            });
            features.push((format!("denseblock{}", i + 1), Feature::Block(Named::new(block))));
            channels += layers * self.growth_rate;
            if i + 1 < self.block_config.len() {
                let transition = Transition::new(channels, device);
                features.push((format!("transition{}", i + 1), Feature::Transition(transition)));
                channels /= 2;
            }
        }
        features.push(("norm5".to_string(), Feature::Norm(BatchNorm2d::new(channels, device))));
        let mut classifier = layers::linear_config(channels, self.classes).init(device);
        classifier.bias = Some(Initializer::Zeros.init([self.classes], device));
        DenseNet { features: Named::new(features), classifier }
    }
}

/// torchvision's DenseNet.
#[derive(Module, Debug)]
pub struct DenseNet {
    features: Named<Feature>,
    classifier: Linear,
}

#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few of them, and a box would be one more hop to each layer"
)]
enum Feature {
    Conv(Conv2d),
    Norm(BatchNorm2d),
    Pool(MaxPool2d),
    Block(Named<DenseLayer>),
    Transition(Transition),
}

impl DenseNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features.modules.iter().fold(x, |x, feature| match feature {
            Feature::Conv(conv) => layers::conv2d(conv, x),
            // A ReLU follows the first normalisation and the last.
            Feature::Norm(norm) => relu(norm.forward(x)),
            Feature::Pool(pool) => layers::max_pool2d(pool, x),
            Feature::Block(block) => dense_block(&block.modules, x),
            Feature::Transition(transition) => transition.forward(x),
        });
        layers::linear(&self.classifier, global_mean(x))
    }
}

impl Forward for DenseNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for DenseNetConfig {
    type Model = DenseNet;
    const NAME: &'static str = "densenet";

    fn init(&self, device: &Device) -> DenseNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(29)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[
            ("growth_rate", self.growth_rate),
            ("num_init_features", self.num_init_features),
            ("bn_size", self.bn_size),
            ("classes", self.classes),
        ])?;
        check_sizes(&self.block_config.map(|layers| ("block_config", layers)))?;
        check_probability("drop_rate", self.drop_rate)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("classifier.weight", 0)?, ..self.clone() })
    }
}

fn dense_block(layers: &[DenseLayer], x: Tensor<4>) -> Tensor<4> {
    layers.iter().fold(x, |x, layer| {
        let new = layer.forward(x.clone());
        Tensor::cat(vec![x, new], 1)
    })
}

#[derive(Module, Debug)]
struct DenseLayer {
    norm1: BatchNorm2d,
    conv1: Conv2d,
    norm2: BatchNorm2d,
    conv2: Conv2d,
    dropout: Dropout,
}

impl DenseLayer {
    fn new(from: usize, config: &DenseNetConfig, device: &Device) -> Self {
        let inside = config.bn_size * config.growth_rate;
        let conv = |channels, kernel| ConvConfig::new(channels, kernel).drawn(ConvInit::FanIn).init(device);
        Self {
            norm1: BatchNorm2d::new(from, device),
            conv1: conv([from, inside], 1),
            norm2: BatchNorm2d::new(inside, device),
            conv2: conv([inside, config.growth_rate], 3),
            dropout: DropoutConfig::new(config.drop_rate).init(),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = relu(self.norm1.forward(x));
        let x = layers::conv2d_norm(&self.conv1, &self.norm2, x, Activation::Relu);
        layers::dropout(&self.dropout, layers::conv2d(&self.conv2, x))
    }
}

/// Half the channels and half the size, between two blocks.
#[derive(Module, Debug)]
struct Transition {
    norm: BatchNorm2d,
    conv: Conv2d,
}

impl Transition {
    fn new(channels: usize, device: &Device) -> Self {
        let conv = ConvConfig::new([channels, channels / 2], 1).drawn(ConvInit::FanIn).init(device);
        Self { norm: BatchNorm2d::new(channels, device), conv }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let x = layers::conv2d(&self.conv, relu(self.norm.forward(x)));
        AvgPool2dConfig::new([2, 2]).with_strides([2, 2]).init().forward(x)
    }
}
