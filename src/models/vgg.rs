//! torchvision's VGG: stages of 3×3 convolutions and max pools, then three linear layers.
//!
//! Source: Simonyan and Zisserman, *Very Deep Convolutional Networks for Large-Scale Image Recognition*, 2014.

use burn::module::Module;
use burn::nn::conv::Conv2d;
use burn::nn::pool::{AdaptiveAvgPool2d, AdaptiveAvgPool2dConfig, MaxPool2d, MaxPool2dConfig};
use burn::nn::{Dropout, DropoutConfig, Initializer, Linear, Relu};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::{Architecture, Configure, ModelError, Network, Summary, check_probability, check_sizes, expect_input};
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

/// How many convolutions each of the five stages has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VggDepth {
    /// 1, 1, 2, 2, 2.
    Eleven,
    /// 2, 2, 2, 2, 2.
    Thirteen,
    /// 2, 2, 3, 3, 3.
    #[default]
    Sixteen,
    /// 2, 2, 4, 4, 4.
    Nineteen,
}

impl VggDepth {
    /// The depth and whether batch normalisation is in, from names such as `vgg16_bn`.
    pub(super) fn from_name(name: &str) -> (Self, bool) {
        let depth = match name.trim_start_matches("vgg").trim_end_matches("_bn") {
            "11" => Self::Eleven,
            "13" => Self::Thirteen,
            "19" => Self::Nineteen,
            _ => Self::Sixteen,
        };
        (depth, name.ends_with("_bn"))
    }

    /// Convolutions in each of the five stages.
    pub(super) fn repeats(self) -> [usize; 5] {
        match self {
            Self::Eleven => [1, 1, 2, 2, 2],
            Self::Thirteen => [2, 2, 2, 2, 2],
            Self::Sixteen => [2, 2, 3, 3, 3],
            Self::Nineteen => [2, 2, 4, 4, 4],
        }
    }

    fn name(self, batch_norm: bool) -> String {
        let depth = self.repeats().iter().sum::<usize>() + 3;
        format!("vgg{depth}{}", if batch_norm { "_bn" } else { "" })
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
    #[serde(skip)]
    depth: VggDepth,
    #[serde(skip)]
    batch_norm: bool,
}

impl Default for VggConfig {
    fn default() -> Self {
        Self {
            widths: [64, 128, 256, 512, 512],
            hidden: [4096, 4096],
            classes: 1000,
            dropout: 0.5,
            init_weights: true,
            depth: VggDepth::default(),
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
    /// The same sizes at another depth, with or without batch normalisation.
    #[must_use]
    pub fn with_depth(self, depth: VggDepth, batch_norm: bool) -> Self {
        Self { depth, batch_norm, ..self }
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

impl Configure for VggConfig {
    const KEYS: &'static [&'static str] = &["widths", "hidden", "classes", "num_classes", "dropout", "init_weights"];

    fn check(&self) -> Result<(), String> {
        let width = *self.widths.iter().min().unwrap_or(&0);
        check_sizes(&[("widths", width), ("hidden", self.hidden[0].min(self.hidden[1])), ("classes", self.classes)])?;
        check_probability("dropout", self.dropout)
    }
}

impl Architecture for VggConfig {
    fn build(&self, device: &Device) -> Network {
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
        Network::Vgg(Vgg {
            features,
            avgpool: AdaptiveAvgPool2dConfig::new([GRID, GRID]).init(),
            classifier: vec![a, relu(), dropout(), b, relu(), dropout(), c],
        })
    }

    fn input_shape(&self) -> [usize; 3] {
        [3, 224, 224]
    }

    fn check_input(&self, shape: [usize; 3]) -> Result<(), ModelError> {
        let ok = shape[0] == 3 && shape[1] >= 32 && shape[2] >= 32;
        expect_input(&self.depth.name(self.batch_norm), ok, "3 channels and sides of at least 32".into(), shape)
    }

    fn classes(&self) -> Option<usize> {
        Some(self.classes)
    }

    fn summary(&self, input: [usize; 3]) -> Summary {
        let mut summary = Summary { class: "VGG", input, layers: Vec::new() };
        let mut shape = input;
        for (i, plan) in self.features().into_iter().enumerate() {
            let path = format!("features.{i}");
            match plan {
                Plan::Conv([_, to]) => summary.conv(path, &mut shape, to, 3, 1),
                Plan::Norm(channels) => {
                    let layer = format!(
                        "BatchNorm2d({channels}, eps=1e-05, momentum=0.1, affine=True, track_running_stats=True)"
                    );
                    summary.push(path, layer, &shape, 2 * channels);
                }
                Plan::Relu => summary.push(path, "ReLU(inplace=True)", &shape, 0),
                Plan::Pool => {
                    shape = [shape[0], shape[1] / 2, shape[2] / 2];
                    summary.push(
                        path,
                        "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)",
                        &shape,
                        0,
                    );
                }
            }
        }
        summary.push("avgpool", format!("AdaptiveAvgPool2d(output_size=({GRID}, {GRID}))"), &[shape[0], GRID, GRID], 0);
        for (i, (inputs, outputs)) in self.linears().into_iter().enumerate() {
            summary.linear(format!("classifier.{}", 3 * i), inputs, outputs);
            if i < 2 {
                summary.push(format!("classifier.{}", 3 * i + 1), "ReLU(inplace=True)", &[outputs], 0);
                summary.push(
                    format!("classifier.{}", 3 * i + 2),
                    format!("Dropout(p={}, inplace=False)", self.dropout),
                    &[outputs],
                    0,
                );
            }
        }
        summary
    }

    fn config(&self) -> serde_json::Value {
        serde_json::json!(self)
    }
}
