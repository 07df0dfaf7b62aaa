//! Formulas that several updates share.
//!
//! Scalars are float64 and enter each kernel once. Divisions by a bias correction are folded into the neighbouring scalar, which
//! saves passes over memory and changes a result by rounding only.

use burn::Tensor;

/// The gradient, with the other sign to ascend.
pub(super) fn signed<const D: usize>(grad: Tensor<D>, maximize: bool) -> Tensor<D> {
    if maximize { grad.neg() } else { grad }
}

/// The gradient with that of an L2 penalty.
pub(super) fn penalised<const D: usize>(grad: Tensor<D>, tensor: &Tensor<D>, weight_decay: f64) -> Tensor<D> {
    if weight_decay == 0.0 { grad } else { grad + tensor.clone().mul_scalar(weight_decay) }
}

/// The parameter and its gradient with weight decay, by itself (`decoupled`) or as an L2 penalty.
pub(super) fn decayed<const D: usize>(
    tensor: Tensor<D>,
    grad: Tensor<D>,
    weight_decay: f64,
    decoupled: Option<f64>,
) -> (Tensor<D>, Tensor<D>) {
    match decoupled {
        Some(lr) => (scaled(tensor, 1.0 - lr * weight_decay), grad),
        None => {
            let grad = penalised(grad, &tensor, weight_decay);
            (tensor, grad)
        }
    }
}

/// A product, without a pass over memory for a factor of one.
pub(super) fn scaled<const D: usize>(tensor: Tensor<D>, factor: f64) -> Tensor<D> {
    if factor == 1.0 { tensor } else { tensor.mul_scalar(factor) }
}

/// `torch.lerp` from a mean that starts at zero: exact at both ends, as PyTorch's two formulas are.
pub(super) fn lerp<const D: usize>(mean: Option<Tensor<D>>, value: Tensor<D>, weight: f64) -> Tensor<D> {
    match mean {
        None => value.mul_scalar(weight),
        Some(mean) if weight < 0.5 => {
            let change = (value - mean.clone()).mul_scalar(weight);
            mean + change
        }
        Some(mean) => {
            let change = (value.clone() - mean).mul_scalar(1.0 - weight);
            value - change
        }
    }
}

/// A running mean that starts at zero, as products and a sum.
pub(super) fn running_mean<const D: usize>(mean: Option<Tensor<D>>, value: Tensor<D>, decay: f64) -> Tensor<D> {
    let value = value.mul_scalar(1.0 - decay);
    match mean {
        None => value,
        Some(mean) => mean.mul_scalar(decay) + value,
    }
}
