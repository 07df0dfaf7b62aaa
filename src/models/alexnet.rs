//! torchvision's AlexNet.
//!
//! Source: Krizhevsky, *One weird trick for parallelizing convolutional neural networks*, 2014.

use burn::module::Module;
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::blocks::{Activation, ConvConfig, ConvInit, Head, Layer, classify, max_pool, run};
use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers;

/// Side of the grid of cells that enters the linear layers.
const GRID: usize = 6;

/// The arguments of torchvision's AlexNet.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AlexNetConfig {
    /// Number of classes (`num_classes` is read too).
    #[serde(alias = "num_classes")]
    pub classes: usize,
    /// Probability of dropout before the hidden linear layers.
    pub dropout: f64,
}

impl Default for AlexNetConfig {
    fn default() -> Self {
        Self { classes: 1000, dropout: 0.5 }
    }
}

impl AlexNetConfig {
    /// The network with fresh weights.
    pub fn init(&self, device: &Device) -> AlexNet {
        let conv = |channels, kernel| ConvConfig::new(channels, kernel).biased().drawn(ConvInit::Layer);
        let relu = || Layer::Activation(Activation::Relu);
        let pool = || Layer::Pool(max_pool(3, 2, 0, false));
        let linear = |inputs, outputs| Head::Linear(layers::linear_config(inputs, outputs).init(device));
        AlexNet {
            features: vec![
                Layer::Conv(conv([3, 64], 11).stride(4).padding(2).init(device)),
                relu(),
                pool(),
                Layer::Conv(conv([64, 192], 5).init(device)),
                relu(),
                pool(),
                Layer::Conv(conv([192, 384], 3).init(device)),
                relu(),
                Layer::Conv(conv([384, 256], 3).init(device)),
                relu(),
                Layer::Conv(conv([256, 256], 3).init(device)),
                relu(),
                pool(),
            ],
            classifier: vec![
                Head::dropout(self.dropout),
                linear(256 * GRID * GRID, 4096),
                Head::Activation(Activation::Relu),
                Head::dropout(self.dropout),
                linear(4096, 4096),
                Head::Activation(Activation::Relu),
                linear(4096, self.classes),
            ],
        }
    }
}

/// torchvision's AlexNet.
#[derive(Module, Debug)]
pub struct AlexNet {
    features: Vec<Layer>,
    classifier: Vec<Head>,
}

impl AlexNet {
    /// `[batch, 3, height, width]` to logits `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x = adaptive_avg_pool2d(run(&self.features, x), [GRID, GRID]);
        classify(&self.classifier, x.flatten(1, 3))
    }
}

impl Forward for AlexNet {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for AlexNetConfig {
    type Model = AlexNet;
    const NAME: &'static str = "alexnet";

    fn init(&self, device: &Device) -> AlexNet {
        self.init(device)
    }

    fn io(&self) -> Io {
        Io::classifier([3, 224, 224], self.classes).with_sides_from(63)
    }

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[("classes", self.classes)])?;
        check_probability("dropout", self.dropout)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self { classes: shapes.axis("classifier.6.weight", 0)?, ..self.clone() })
    }
}
