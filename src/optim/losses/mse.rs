//! `nn.MSELoss`.

use burn::Tensor;

use super::{Compute, Loss};

pub(super) static LOSS: Loss = Loss { name: "mse", compute: Compute::Values(mse) };

/// `F.mse_loss`: mean of squared differences of values of the same shape.
pub fn mse<const D: usize>(output: Tensor<D>, target: Tensor<D>) -> Tensor<1> {
    (output - target).square().mean()
}
