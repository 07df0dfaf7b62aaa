//! torchvision's VGG: stages of 3×3 convolutions and max pools, then three linear layers.
//!
//! Source: Simonyan and Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2014.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, Relu};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::kernels::Activation;
use crate::layers::{self, BatchNorm2d};

/// Side of the grid of cells that enters the linear layers.
const GRID: usize = 7;

/// One element of the sequence `features`; every element counts in the parameters' names.
#[derive(Module, Debug)]
pub enum Feature {
    /// A convolution.
    Conv(Conv2d),
    /// Batch normalisation, in the `_bn` forms.
    Norm(BatchNorm2d),
    /// A ReLU.
    Relu(Relu),
    /// A max pool.
    Pool(MaxPool2d),
}

/// One element of the sequence `classifier`.
#[derive(Module, Debug)]
pub enum Head {
    /// A linear layer.
    Linear(Linear),
    /// A ReLU.
    Relu(Relu),
    /// Dropout.
    Dropout(Dropout),
}

/// torchvision's VGG of any depth.
#[derive(Module, Debug)]
pub struct Vgg {
    features: Vec<Feature>,
    avgpool: AdaptiveAvgPool2d,
    classifier: Vec<Head>,
}

impl Vgg {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = self.features(x);
        self.classify(self.avgpool.forward(x).flatten(1, 3))
    }

    /// The linear layers, each with the ReLU that follows it in one pass where the device can.
    fn classify(&self, mut x: Tensor<2>) -> Tensor<2> {
        let mut rest = self.classifier.as_slice();
        loop {
            (x, rest) = match rest {
                [Head::Linear(linear), Head::Relu(_), rest @ ..] => (layers::linear_relu(linear, x), rest),
                [Head::Linear(linear), rest @ ..] => (layers::linear(linear, x), rest),
                [Head::Relu(relu), rest @ ..] => (relu.forward(x), rest),
                [Head::Dropout(dropout), rest @ ..] => (layers::dropout(dropout, x), rest),
                [] => return x,
            };
        }
    }

    /// The convolutions, each with what follows it in one pass where the device can.
    fn features(&self, mut x: Tensor<4>) -> Tensor<4> {
        let mut rest = self.features.as_slice();
        loop {
            (x, rest) = match rest {
                [Feature::Conv(conv), Feature::Norm(norm), Feature::Relu(_), rest @ ..] => {
                    (layers::conv2d_norm(conv, norm, x, Activation::Relu), rest)
                }
                [Feature::Conv(conv), Feature::Relu(_), rest @ ..] => (layers::conv2d_relu(conv, x), rest),
                [Feature::Conv(conv), rest @ ..] => (layers::conv2d(conv, x), rest),
                [Feature::Norm(norm), rest @ ..] => (norm.forward(x), rest),
                [Feature::Relu(relu), rest @ ..] => (relu.forward(x), rest),
                [Feature::Pool(pool), rest @ ..] => (layers::max_pool2d(pool, x), rest),
                [] => return x,
            };
        }
    }
}

/// How many convolutions each of the five stages has, by the number of layers with weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "usize", into = "usize")]
pub enum VggDepth {
    /// 1, 1, 2, 2, 2.
    Eleven = 11,
    /// 2, 2, 2, 2, 2.
    Thirteen = 13,
    /// 2, 2, 3, 3, 3.
    Sixteen = 16,
    /// 2, 2, 4, 4, 4.
    Nineteen = 19,
}

impl VggDepth {
    /// Convolutions in each of the five stages.
    fn repeats(self) -> [usize; 5] {
        match self {
            Self::Eleven => [1, 1, 2, 2, 2],
            Self::Thirteen => [2, 2, 2, 2, 2],
            Self::Sixteen => [2, 2, 3, 3, 3],
            Self::Nineteen => [2, 2, 4, 4, 4],
        }
    }
}

impl From<VggDepth> for usize {
    fn from(depth: VggDepth) -> Self {
        depth as Self
    }
}

impl TryFrom<usize> for VggDepth {
    type Error = String;

    fn try_from(layers: usize) -> Result<Self, String> {
        let all = [Self::Eleven, Self::Thirteen, Self::Sixteen, Self::Nineteen];
        all.into_iter()
            .find(|&depth| depth as usize == layers)
            .ok_or_else(|| format!("must be 11, 13, 16 or 19, found {layers}"))
    }
}

/// The arguments of torchvision's VGG constructors, and the widths that it has fixed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VggConfig {
    /// Channels of the five stages.
    pub widths: [usize; 5],
    /// Outputs of the first two linear layers.
    pub hidden: [usize; 2],
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Probability of dropout after the hidden linear layers.
    pub dropout: f64,
    /// torchvision's initialisation; otherwise each layer's own.
    pub init_weights: bool,
    /// Layers with weights: 11, 13, 16 or 19.
    pub depth: VggDepth,
    /// Whether each convolution is followed by batch normalisation.
    pub batch_norm: bool,
}

impl Default for VggConfig {
    fn default() -> Self {
        Self {
            widths: [64, 128, 256, 512, 512],
            hidden: [4096, 4096],
            classes: 1000,
            dropout: 0.5,
            init_weights: true,
            depth: VggDepth::Sixteen,
            batch_norm: false,
        }
    }
}

/// An element of `features` before it is built.
enum Plan {
    Conv([usize; 2]),
    Norm(usize),
    Relu,
    Pool,
}

impl VggConfig {
    /// torchvision's sizes at a depth, with or without batch normalisation.
    pub fn of(depth: VggDepth, batch_norm: bool) -> Self {
        Self { depth, batch_norm, ..Self::default() }
    }

    fn features(&self) -> Vec<Plan> {
        let mut plan = Vec::new();
        let mut from = 3;
        for (&width, repeat) in self.widths.iter().zip(self.depth.repeats()) {
            for _ in 0..repeat {
                plan.push(Plan::Conv([from, width]));
                if self.batch_norm {
                    plan.push(Plan::Norm(width));
                }
                plan.push(Plan::Relu);
                from = width;
            }
            plan.push(Plan::Pool);
        }
        plan
    }

    /// Inputs and outputs of the three linear layers.
    fn linears(&self) -> [(usize, usize); 3] {
        let [a, b] = self.hidden;
        [(self.widths[4] * GRID * GRID, a), (a, b), (b, self.classes)]
    }

    fn conv(&self, channels: [usize; 2], device: &Device) -> Conv2d {
        let mut conv = layers::conv2d_config(channels, 3, 1).init(device);
        if self.init_weights {
            // kaiming_normal_ with fan_out: 9 weights for each output channel.
            let std = (2.0 / (channels[1] * 9) as f64).sqrt();
            conv.weight = layers::normal(std).init([channels[1], channels[0], 3, 3], device);
            conv.bias = Some(Initializer::Zeros.init([channels[1]], device));
        }
        conv
    }

    fn linear(&self, inputs: usize, outputs: usize, device: &Device) -> Linear {
        let mut linear = layers::linear_config(inputs, outputs).init(device);
        if self.init_weights {
            linear.weight = layers::normal(0.01).init([inputs, outputs], device);
            linear.bias = Some(Initializer::Zeros.init([outputs], device));
        }
        linear
    }
}

impl Forward for Vgg {
    type Input = Tensor<4>;
    type Output = Tensor<2>;
    const RECORD_PREFIX: Option<&'static str> = Some("Vgg");

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for VggConfig {
    type Model = Vgg;
    const NAME: &'static str = "vgg";

    fn check(&self) -> Result<(), Invalid> {
        let width = *self.widths.iter().min().unwrap_or(&0);
        check_sizes(&[("widths", width), ("hidden", self.hidden[0].min(self.hidden[1])), ("classes", self.classes)])?;
        check_probability("dropout", self.dropout)
    }

    fn init(&self, device: &Device) -> Vgg {
        let features = self.features().into_iter().map(|plan| match plan {
            Plan::Conv(channels) => Feature::Conv(self.conv(channels, device)),
            Plan::Norm(channels) => Feature::Norm(BatchNorm2d::new(channels, device)),
            Plan::Relu => Feature::Relu(Relu::new()),
            Plan::Pool => Feature::Pool(MaxPool2dConfig::new([2, 2]).with_strides([2, 2]).init()),
        });
        let features = features.collect();
        let [a, b, c] = self.linears().map(|(inputs, outputs)| Head::Linear(self.linear(inputs, outputs, device)));
        let relu = || Head::Relu(Relu::new());
        let dropout = || Head::Dropout(DropoutConfig::new(self.dropout).init());
        Vgg {
            features,
            avgpool: AdaptiveAvgPool2dConfig::new([GRID, GRID]).init(),
            classifier: vec![a, relu(), dropout(), b, relu(), dropout(), c],
        }
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(32)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        // The last convolution of each stage says how wide the stage is.
        let mut widths = Vec::new();
        for (place, plan) in self.features().iter().enumerate() {
            match plan {
                Plan::Conv(_) => widths.push((false, shapes.axis(&format!("features.{place}.weight"), 0)?)),
                Plan::Pool => widths.last_mut()?.0 = true,
                Plan::Norm(_) | Plan::Relu => {}
            }
        }
        let widths: Vec<usize> = widths.into_iter().filter(|(last, _)| *last).map(|(_, width)| width).collect();
        Some(Self {
            widths: widths.try_into().ok()?,
            hidden: shapes.outputs(["classifier.0", "classifier.3"])?,
            classes: shapes.axis("classifier.6.weight", 0)?,
            ..self.clone()
        })
    }
}
