//! `torch.optim.SGD`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::error::config;
use super::field::Field;
use super::kind::{Class, OptimizerKind};
use super::math::{penalised, scaled, signed};
use super::state::Buffer;
use super::{OptimError, State, fused};

/// `torch.optim.SGD` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Sgd {
    /// Share of the former velocity that is kept; 0 for none.
    pub momentum: f64,
    /// Share of each gradient, from the second update on, that does not enter the velocity.
    pub dampening: f64,
    /// Factor of the L2 penalty that is added to the gradient.
    pub weight_decay: f64,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for Sgd {
    fn default() -> Self {
        Self { momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, maximize: false }
    }
}

/// The velocity.
pub(super) const VELOCITY: Buffer = Buffer("momentum_buffer");

impl OptimizerKind for Sgd {
    const CLASSES: &'static [Class<Self>] = &[Class { name: "sgd", torch: "SGD", lr: 1e-3, new: Self::default }];
    const BUFFERS: &'static [Buffer] = &[VELOCITY];
    const COUNTS: bool = false;

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::number("momentum", &mut self.momentum).not_negative(),
            Field::number("dampening", &mut self.dampening),
            Field::number("weight_decay", &mut self.weight_decay).not_negative(),
            Field::flag("nesterov", &mut self.nesterov),
            Field::flag("maximize", &mut self.maximize),
            Field::constant("foreach", Value::None),
            Field::constant("differentiable", false),
            Field::constant("fused", Value::None),
        ]
    }

    fn check(&self) -> Result<(), OptimError> {
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            return config(format!(
                "optimizer 'sgd' with nesterov = true needs a momentum above 0 and dampening = 0: found momentum = {} and dampening = {}",
                self.momentum, self.dampening
            ));
        }
        Ok(())
    }

    fn buffers(&self) -> Vec<Buffer> {
        if self.momentum == 0.0 { Vec::new() } else { vec![VELOCITY] }
    }

    fn written_by(group: &StateDict, _: &str) -> Option<&'static str> {
        (group.get("nesterov").is_some() && group.get("dampening").is_some()).then_some("SGD")
    }

    /// g ← ±∇ + λθ; v ← g at first, then μv + (1−τ)g; g ← g + μv with Nesterov, else v; θ ← θ − γg.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        mut state: State<D>,
    ) -> (Tensor<D>, State<D>) {
        if fused::serves(&tensor, &grad) {
            return fused::sgd(self, lr, tensor, grad, state);
        }
        let grad = penalised(signed(grad, self.maximize), &tensor, self.weight_decay);
        if self.momentum == 0.0 {
            return (tensor - grad.mul_scalar(lr), state);
        }
        // The gradient is given away as early as can be, so that its memory serves again.
        let look_ahead = self.nesterov.then(|| grad.clone());
        let velocity = match state.take(VELOCITY) {
            None => grad,
            Some(velocity) => scaled(grad, 1.0 - self.dampening) + velocity.mul_scalar(self.momentum),
        };
        let direction = match look_ahead {
            Some(grad) => grad + velocity.clone().mul_scalar(self.momentum),
            None => velocity.clone(),
        };
        state.put(VELOCITY, velocity);
        (tensor - direction.mul_scalar(lr), state)
    }
}
