//! The tutorial's `FashionClassifier`: five linear layers with dropout between them.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::infer::Shapes;
use super::{Forward, Invalid, Io, ModelConfig, check_probability, check_sizes};
use crate::layers;

/// Five linear layers; gives log-probabilities.
#[derive(Module, Debug)]
pub struct FashionClassifier {
    fc: Linear,
    fc1: Linear,
    fc2: Linear,
    fc3: Linear,
    fc4: Linear,
    dropout: Dropout,
}

impl FashionClassifier {
    /// `[batch, channels, height, width]` with `inputs` values an image to log-probabilities `[batch, classes]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let x: Tensor<2> = x.flatten(1, 3);
        let x = layers::dropout(&self.dropout, layers::linear_relu(&self.fc, x));
        let x = layers::dropout(&self.dropout, layers::linear_relu(&self.fc1, x));
        let x = layers::dropout(&self.dropout, layers::linear_relu(&self.fc2, x));
        let x = layers::dropout(&self.dropout, layers::linear_relu(&self.fc3, x));
        log_softmax(layers::linear(&self.fc4, x), 1)
    }
}

/// The arguments of `FashionClassifier`'s constructor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FashionClassifierConfig {
    /// Values of one image: 784 for 28×28.
    pub inputs: usize,
    /// Outputs of the first four layers.
    pub hidden: [usize; 4],
    /// Number of classes.
    pub classes: usize,
    /// Probability of dropout after each hidden layer.
    pub dropout: f64,
}

impl Default for FashionClassifierConfig {
    fn default() -> Self {
        Self { inputs: 784, hidden: [514, 258, 130, 66], classes: 12, dropout: 0.2 }
    }
}

impl FashionClassifierConfig {
    /// Inputs and outputs of each layer with its name.
    fn layers(&self) -> [(&'static str, usize, usize); 5] {
        let h = self.hidden;
        [
            ("fc", self.inputs, h[0]),
            ("fc1", h[0], h[1]),
            ("fc2", h[1], h[2]),
            ("fc3", h[2], h[3]),
            ("fc4", h[3], self.classes),
        ]
    }
}

impl Forward for FashionClassifier {
    type Input = Tensor<4>;
    type Output = Tensor<2>;
    const RECORD_PREFIX: Option<&'static str> = Some("FashionClassifier");

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.forward(x)
    }
}

impl ModelConfig for FashionClassifierConfig {
    type Model = FashionClassifier;
    const NAME: &'static str = "fashion_classifier";

    fn check(&self) -> Result<(), Invalid> {
        check_sizes(&[
            ("inputs", self.inputs),
            ("hidden", *self.hidden.iter().min().unwrap_or(&0)),
            ("classes", self.classes),
        ])?;
        check_probability("dropout", self.dropout)
    }

    fn init(&self, device: &Device) -> FashionClassifier {
        let [fc, fc1, fc2, fc3, fc4] =
            self.layers().map(|(_, inputs, outputs)| layers::linear_config(inputs, outputs).init(device));
        FashionClassifier { fc, fc1, fc2, fc3, fc4, dropout: DropoutConfig::new(self.dropout).init() }
    }

    fn io(&self) -> Io {
        let (inputs, side) = (self.inputs, self.inputs.isqrt());
        let image = if side * side == inputs { [1, side, side] } else { [1, 1, inputs] };
        Io::classifier(image, self.classes)
            .with_log_probabilities()
            .accepting(format!("{inputs} values an image"), move |shape| shape.iter().product::<usize>() == inputs)
    }

    fn fit(&self, shapes: &Shapes) -> Option<Self> {
        Some(Self {
            inputs: shapes.axis("fc.weight", 1)?,
            hidden: shapes.outputs(["fc", "fc1", "fc2", "fc3"])?,
            classes: shapes.axis("fc4.weight", 0)?,
            ..self.clone()
        })
    }
}
