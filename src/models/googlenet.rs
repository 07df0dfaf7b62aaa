//! torchvision's GoogLeNet: four branches side by side, and two auxiliary classifiers in training.
//!
//! Source: Szegedy et al., *Going Deeper with Convolutions*, 2014; with batch normalisation, as torchvision has it.

use burn::module::{Flag, Module, Param};
use burn::nn::pool::MaxPool2d;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{
    BasicConv2d, ConvConfig, ConvInit, check_width, from_imagenet, global_mean, linear_normal_weight, max_pool,
    named_module, scaled,
};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, Scores, check_probability, check_sizes};
use crate::layers;

/// The arguments of torchvision's GoogLeNet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GoogLeNetConfig {
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Whether the auxiliary classifiers are there.
    pub aux_logits: bool,
    /// Whether inputs are normalised as ImageNet's, and have to be turned into what the network was trained on.
    pub transform_input: bool,
    /// torchvision's initialisation; otherwise each layer's own.
    pub init_weights: bool,
    /// Factor of every layer's channels, in steps of 1/8; torchvision has 1 alone.
    pub width_mult: f64,
    /// Probability of dropout before the classifier.
    pub dropout: f64,
    /// Probability of dropout in the auxiliary classifiers.
    pub dropout_aux: f64,
}

impl Default for GoogLeNetConfig {
    fn default() -> Self {
        Self {
            classes: 1000,
            aux_logits: true,
            transform_input: false,
            init_weights: true,
            width_mult: 1.0,
            dropout: 0.2,
            dropout_aux: 0.7,
        }
    }
}

/// Weight of each auxiliary classifier's loss, from the paper.
const AUXILIARY: f32 = 0.3;

/// Deviation of torchvision's initial weights.
const STD: f64 = 0.01;

/// What the channels of every layer are multiples of.
const STEP: usize = 8;

/// Channels of the first convolution.
const FIRST: usize = 64;

/// Channels in, of the first branch, the second's two convolutions, the third's two, and the fourth.
type Plan = [usize; 7];

impl GoogLeNetConfig {
    fn conv(&self, channels: [usize; 2], kernel: usize) -> ConvConfig {
        let init = if self.init_weights { ConvInit::Normal(STD) } else { ConvInit::Layer };
        ConvConfig::new(channels.map(|channels| self.wide(channels)), kernel).drawn(init)
    }

    fn wide(&self, channels: usize) -> usize {
        scaled(channels, STEP, self.width_mult)
    }

    fn linear(&self, inputs: usize, outputs: usize, device: &Device) -> Linear {
        if self.init_weights {
            linear_normal_weight(inputs, outputs, STD, device)
        } else {
            layers::linear_config(inputs, outputs).init(device)
        }
    }

    fn inception(&self, plan: Plan, device: &Device) -> Inception {
        let [from, one, three_in, three, five_in, five, pooled] = plan;
        let conv = |channels, kernel| BasicConv2d::new(&self.conv(channels, kernel), device);
        Inception {
            branch1: conv([from, one], 1),
            branch2: (conv([from, three_in], 1), conv([three_in, three], 3)),
            // The paper has 5×5 here; torchvision kept TensorFlow's 3×3.
            branch3: (conv([from, five_in], 1), conv([five_in, five], 3)),
            branch4: Pooled { pool: max_pool(3, 1, 1, false), conv: conv([from, pooled], 1) },
        }
    }

    fn auxiliary(&self, channels: usize, device: &Device) -> Auxiliary {
        Auxiliary {
            conv: BasicConv2d::new(&self.conv([channels, 128], 1), device),
            fc1: self.linear(self.wide(2048), self.wide(1024), device),
            fc2: self.linear(self.wide(1024), self.classes, device),
            dropout: DropoutConfig::new(self.dropout_aux).init(),
        }
    }

    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> GoogLeNet {
        let conv = |config: &ConvConfig| BasicConv2d::new(config, device);
        let inception = |plan| self.inception(plan, device);
        GoogLeNet {
            conv1: conv(&self.conv([3, FIRST], 7).stride(2)),
            conv2: conv(&self.conv([FIRST, 64], 1)),
            conv3: conv(&self.conv([64, 192], 3)),
            inception3a: inception([192, 64, 96, 128, 16, 32, 32]),
            inception3b: inception([256, 128, 128, 192, 32, 96, 64]),
            inception4a: inception([480, 192, 96, 208, 16, 48, 64]),
            inception4b: inception([512, 160, 112, 224, 24, 64, 64]),
            inception4c: inception([512, 128, 128, 256, 24, 64, 64]),
            inception4d: inception([512, 112, 144, 288, 32, 64, 64]),
            inception4e: inception([528, 256, 160, 320, 32, 128, 128]),
            inception5a: inception([832, 256, 160, 320, 32, 128, 128]),
            inception5b: inception([832, 384, 192, 384, 48, 128, 128]),
            aux1: self.aux_logits.then(|| self.auxiliary(512, device)),
            aux2: self.aux_logits.then(|| self.auxiliary(528, device)),
            dropout: DropoutConfig::new(self.dropout).init(),
            fc: self.linear(self.wide(1024), self.classes, device),
            training: Param::from_bool(true),
            transform_input: self.transform_input,
        }
    }
}

/// torchvision's GoogLeNet.
#[derive(Module, Debug)]
pub struct GoogLeNet {
    conv1: BasicConv2d,
    conv2: BasicConv2d,
    conv3: BasicConv2d,
    inception3a: Inception,
    inception3b: Inception,
    inception4a: Inception,
    inception4b: Inception,
    inception4c: Inception,
    inception4d: Inception,
    inception4e: Inception,
    inception5a: Inception,
    inception5b: Inception,
    aux1: Option<Auxiliary>,
    aux2: Option<Auxiliary>,
    dropout: Dropout,
    fc: Linear,
    training: Param<Flag>,
    transform_input: bool,
}

impl GoogLeNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`, in training also those of the auxiliary classifiers.
    pub fn forward(&self, x: Tensor<4>) -> Scores {
        let trains = self.training.is_enabled() && x.device().is_autodiff();
        let x = if self.transform_input { from_imagenet(x) } else { x };
        let halve = |x, kernel| layers::max_pool2d(&max_pool(kernel, 2, 0, true), x);
        let x = halve(self.conv1.forward(x), 3);
        let x = halve(self.conv3.forward(self.conv2.forward(x)), 3);
        let x = halve(self.inception3b.forward(self.inception3a.forward(x)), 3);
        let x = self.inception4a.forward(x);
        let first = self.aux1.as_ref().filter(|_| trains).map(|aux| aux.forward(x.clone()));
        let x = self.inception4c.forward(self.inception4b.forward(x));
        let x = self.inception4d.forward(x);
        let second = self.aux2.as_ref().filter(|_| trains).map(|aux| aux.forward(x.clone()));
        let x = halve(self.inception4e.forward(x), 2);
        let x = global_mean(self.inception5b.forward(self.inception5a.forward(x)));
        let logits = layers::linear(&self.fc, layers::dropout(&self.dropout, x));
        Scores { logits, auxiliary: first.into_iter().chain(second).map(|scores| (AUXILIARY, scores)).collect() }
    }
}

impl Forward for GoogLeNet {
    type Input = Tensor<4>;
    type Output = Scores;

    fn forward(&self, x: Tensor<4>) -> Scores {
        self.forward(x)
    }
}

impl ModelConfig for GoogLeNetConfig {
    type Model = GoogLeNet;
    const NAME: &'static str = "googlenet";

    fn init(&self, device: &Device) -> GoogLeNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(15)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes)])?;
        check_width(STEP, self.width_mult)?;
        check_probability("dropout", self.dropout)?;
        check_probability("dropout_aux", self.dropout_aux)
    }

    fn forms(&self) -> Vec<Self> {
        vec![Self { aux_logits: !self.aux_logits, ..self.clone() }]
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        let first = shapes.axis("conv1.conv.weight", 0)?;
        Some(Self { classes: shapes.axis("fc.weight", 0)?, width_mult: first as f64 / FIRST as f64, ..self.clone() })
    }
}

#[derive(Module, Debug)]
struct Inception {
    branch1: BasicConv2d,
    branch2: (BasicConv2d, BasicConv2d),
    branch3: (BasicConv2d, BasicConv2d),
    branch4: Pooled,
}

/// A max pool and a convolution.
#[derive(Debug, Clone)]
struct Pooled {
    pool: MaxPool2d,
    conv: BasicConv2d,
}

named_module!(Pooled { pool => "0", conv => "1" });

impl Inception {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let branches = vec![
            self.branch1.forward(x.clone()),
            self.branch2.1.forward(self.branch2.0.forward(x.clone())),
            self.branch3.1.forward(self.branch3.0.forward(x.clone())),
            self.branch4.conv.forward(layers::max_pool2d(&self.branch4.pool, x)),
        ];
        Tensor::cat(branches, 1)
    }
}

/// An auxiliary classifier.
#[derive(Module, Debug)]
struct Auxiliary {
    conv: BasicConv2d,
    fc1: Linear,
    fc2: Linear,
    dropout: Dropout,
}

impl Auxiliary {
    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.conv.forward(adaptive_avg_pool2d(x, [4, 4])).flatten(1, 3);
        let x = layers::dropout(&self.dropout, layers::linear_relu(&self.fc1, x));
        layers::linear(&self.fc2, x)
    }
}
