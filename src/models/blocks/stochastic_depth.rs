//! Stochastic depth: a branch is left out for some samples in training.
//!
//! Source: Huang et al., *Deep Networks with Stochastic Depth*, 2016.

use burn::module::{Flag, Module, Param};
use burn::tensor::{Distribution, Shape, Tensor};

/// Sets whole samples to zero in training, each with probability `prob`, and scales the others by 1/(1-prob): torchvision's
/// `StochasticDepth(mode="row")`.
#[derive(Module, Debug)]
pub struct StochasticDepth {
    /// Probability that a sample is set to zero.
    pub prob: f64,
    /// Whether training behaviour is on; off in evaluation mode.
    pub training: Param<Flag>,
}

impl StochasticDepth {
    /// `prob` is in 0 to 1, checked by the network's configuration.
    pub fn new(prob: f64) -> Self {
        Self { prob, training: Param::from_bool(true) }
    }

    /// `[batch, …]` to the same.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let device = x.device();
        if !self.training.is_enabled() || !device.is_autodiff() || self.prob == 0.0 {
            return x;
        }
        let mut shape = [1; D];
        shape[0] = x.dims()[0];
        let kept = 1.0 - self.prob;
        let mask = Tensor::<D>::random(Shape::from(shape), Distribution::Bernoulli(kept), &device);
        // With probability 1 nothing is left to scale.
        if kept > 0.0 { x * (mask * (1.0 / kept)) } else { x * mask }
    }
}

/// The probability of a block among `blocks` in a row: from 0 for the first to `prob` for the last.
pub fn rising(prob: f64, block: usize, blocks: usize) -> f64 {
    prob * block as f64 / (blocks as f64 - 1.0).max(1.0)
}
