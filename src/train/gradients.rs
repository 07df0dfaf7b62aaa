//! Gradients of several batches as those of one.

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::Tensor;

use crate::models::Network;

/// The gradients of this process's batches of a window: the mean over all the window's items, whatever the sizes of its batches.
///
/// A window of one batch on one rank keeps that batch's gradients as they are.
pub(super) struct Window {
    sum: GradientsAccumulator<Network>,
    /// Items of the window, those of all ranks.
    items: usize,
    /// Whether there is nothing to add.
    single: bool,
}

impl Window {
    /// A window of some items in some batches.
    pub(super) fn new(items: usize, batches: usize) -> Self {
        Self { sum: GradientsAccumulator::new(), items, single: batches == 1 }
    }

    /// What a batch is worth in the gradients of the window.
    pub(super) fn share(&self, items: usize) -> f64 {
        if self.single { 1.0 } else { items as f64 / self.items as f64 }
    }

    /// Adds a batch: the gradients of the mean over its items.
    pub(super) fn add(&mut self, network: &Network, grads: GradientsParams, items: usize) {
        let grads = if self.single { grads } else { scaled(grads, network, self.share(items)) };
        self.sum.accumulate(network, grads);
    }

    /// The gradients so far.
    pub(super) fn take(&mut self) -> GradientsParams {
        self.sum.grads()
    }
}

/// Multiplies each gradient.
fn scaled(grads: GradientsParams, network: &Network, factor: f64) -> GradientsParams {
    struct Scale(GradientsParams, f64);
    impl ModuleVisitor for Scale {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(grad) = self.0.remove::<D>(param.id) {
                self.0.register(param.id, grad.mul_scalar(self.1));
            }
        }
    }
    let mut scale = Scale(grads, factor);
    network.visit(&mut scale);
    scale.0
}
