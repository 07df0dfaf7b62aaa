//! Linear layers on the last axis, and two of them in a row.

use burn::nn::{Dropout, DropoutConfig, Initializer, Linear};
use burn::tensor::{Device, Tensor};

use super::activation::Activation;
use super::named::named_module;
use crate::layers;

/// A linear layer on `[…, in]`, to `[…, out]`.
pub fn linear_last<const D: usize>(layer: &Linear, x: Tensor<D>) -> Tensor<D> {
    let mut shape = x.dims();
    let rows = shape[..D - 1].iter().product::<usize>();
    let y = layers::linear(layer, x.reshape([rows, shape[D - 1]]));
    shape[D - 1] = y.dims()[1];
    y.reshape(shape)
}

/// Two linear layers with a GELU between and dropout after each: torchvision's `MLP` of two layers.
#[derive(Debug, Clone)]
pub struct Mlp {
    first: Linear,
    dropout: Dropout,
    second: Linear,
}

named_module!(Mlp { first => "0", dropout => "2", second => "3" });

impl Mlp {
    /// From `features` to `hidden` and back, with weights and biases drawn as told.
    pub fn new(
        features: usize,
        hidden: usize,
        dropout: f64,
        [weight, bias]: [&Initializer; 2],
        device: &Device,
    ) -> Self {
        let linear = |inputs: usize, outputs: usize| {
            let mut linear = layers::linear_config(inputs, outputs).init(device);
            linear.weight = weight.init_with([inputs, outputs], Some(inputs), Some(outputs), device);
            linear.bias = Some(bias.init([outputs], device));
            linear
        };
        Self {
            first: linear(features, hidden),
            dropout: DropoutConfig::new(dropout).init(),
            second: linear(hidden, features),
        }
    }

    /// `[…, features]` to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let hidden = Activation::Gelu.forward(linear_last(&self.first, x));
        let hidden = layers::dropout(&self.dropout, hidden);
        layers::dropout(&self.dropout, linear_last(&self.second, hidden))
    }
}
