//! `nn.SmoothL1Loss`.

use burn::Tensor;

use super::{Compute, Loss};

pub(super) static LOSS: Loss = Loss { name: "smooth-l1", compute: Compute::Values(smooth_l1) };

/// `F.smooth_l1_loss` with `beta` 1: the mean of half the square of differences below 1, and of the absolute difference less a half of
/// larger ones.
pub fn smooth_l1<const D: usize>(output: Tensor<D>, target: Tensor<D>) -> Tensor<1> {
    let distance = (output - target).abs();
    // The square of what is below 1, and the rest: x²/2 + (|x| − x), where x is |difference| cut at 1.
    let small = distance.clone().clamp_max(1.0);
    (small.clone().square().div_scalar(2.0) + (distance - small)).mean()
}
