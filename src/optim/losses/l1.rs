//! `nn.L1Loss`.

use burn::Tensor;

use super::{Compute, Loss};

pub(super) static LOSS: Loss = Loss { name: "l1", compute: Compute::Values(l1) };

/// `F.l1_loss`: mean of absolute differences of values of the same shape.
pub fn l1<const D: usize>(output: Tensor<D>, target: Tensor<D>) -> Tensor<1> {
    (output - target).abs().mean()
}
