//! Gradient clipping over a whole module, as `torch.nn.utils` does it.

use burn::Tensor;
use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;

use super::OptimError;

/// Scales all gradients so that their common L2 norm is at most `max_norm`, and gives the norm before: `clip_grad_norm_`.
///
/// The factor is `max_norm / (norm + 1e-6)`, at most 1. As in PyTorch, a norm that is not finite is not an error: gradients become
/// what the factor makes of them, and the caller sees the norm. The device is waited for once.
///
/// # Errors
/// When the norm cannot be read from the device.
pub fn clip_grad_norm<M: Module>(
    grads: GradientsParams,
    module: &M,
    max_norm: f64,
) -> Result<(GradientsParams, f64), OptimError> {
    let mut squares = Squares { grads: &grads, sums: Vec::new() };
    module.visit(&mut squares);
    let sums = squares.sums;
    if sums.is_empty() {
        return Ok((grads, 0.0));
    }
    let norm: f32 = Tensor::cat(sums, 0).sum().sqrt().try_into_scalar().map_err(|error| {
        OptimError::State(format!("the norm of the gradients cannot be read from the device: {error:?}"))
    })?;
    let norm = f64::from(norm);
    let factor = max_norm / (norm + 1e-6);
    if factor >= 1.0 {
        return Ok((grads, norm));
    }
    Ok((map(grads, module, Change::Scale(factor)), norm))
}

/// Limits each element of each gradient to `-limit..=limit`: `clip_grad_value_`.
pub fn clip_grad_value<M: Module>(grads: GradientsParams, module: &M, limit: f64) -> GradientsParams {
    map(grads, module, Change::Clamp(limit))
}

/// Collects the sum of squares of each gradient, on the device.
struct Squares<'a> {
    grads: &'a GradientsParams,
    sums: Vec<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.get::<D>(param.id) {
            self.sums.push(grad.square().sum());
        }
    }
}

/// What happens to every gradient.
#[derive(Clone, Copy)]
enum Change {
    Scale(f64),
    Clamp(f64),
}

/// Replaces each gradient by the changed one.
struct Changes {
    grads: GradientsParams,
    change: Change,
}

impl ModuleVisitor for Changes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.grads.remove::<D>(param.id) {
            let changed = match self.change {
                Change::Scale(factor) => grad.mul_scalar(factor),
                Change::Clamp(limit) => grad.clamp(-limit, limit),
            };
            self.grads.register(param.id, changed);
        }
    }
}

fn map<M: Module>(grads: GradientsParams, module: &M, change: Change) -> GradientsParams {
    let mut changes = Changes { grads, change };
    module.visit(&mut changes);
    changes.grads
}
