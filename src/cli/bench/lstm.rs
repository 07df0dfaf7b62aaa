//! A classifier of sequences, which no built-in network is: the rows of an image, one after the other, through an LSTM.

use burn::module::Module;
use burn::nn::{Linear, Lstm, LstmConfig};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use crate::layers;
use crate::models::{Forward, Io, ModelConfig};

/// Rows of an image, and values of a row.
const SIDE: usize = 28;
/// Values of the state.
const HIDDEN: usize = 128;
/// Classes.
const CLASSES: usize = 10;

#[derive(Module, Debug)]
pub struct LstmClassifier {
    lstm: Lstm,
    head: Linear,
}

impl Forward for LstmClassifier {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let batch = x.dims()[0];
        let states = layers::lstm(&self.lstm, x.reshape([batch, SIDE, SIDE]));
        layers::linear(&self.head, states.narrow(1, SIDE - 1, 1).reshape([batch, HIDDEN]))
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LstmClassifierConfig {}

impl ModelConfig for LstmClassifierConfig {
    type Model = LstmClassifier;
    const NAME: &'static str = "lstm_classifier";

    fn init(&self, device: &Device) -> LstmClassifier {
        LstmClassifier {
            lstm: LstmConfig::new(SIDE, HIDDEN, true).init(device),
            head: layers::linear_config(HIDDEN, CLASSES).init(device),
        }
    }

    fn io(&self) -> Io {
        Io::classifier([1, SIDE, SIDE], CLASSES)
    }
}
