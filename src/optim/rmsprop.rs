//! `torch.optim.RMSprop`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::kind::{Class, Limits, OptimizerKind, Slot};
use super::math::{lerp, penalised, running_mean, signed};
use super::sgd::VELOCITY;
use super::state::Buffer;
use super::{OptimError, State};

/// `torch.optim.RMSprop` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct RmsProp {
    /// Decay rate of the running mean of squares.
    pub alpha: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Factor of the L2 penalty that is added to the gradient.
    pub weight_decay: f64,
    /// Share of the former velocity that is kept; 0 for none.
    pub momentum: f64,
    /// Divide by an estimate of the variance instead of the mean of squares.
    pub centered: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false, maximize: false }
    }
}

/// Mean of squared gradients.
const SQUARES: Buffer = Buffer("square_avg");
/// Centered: mean of gradients.
const MEAN: Buffer = Buffer("grad_avg");

impl OptimizerKind for RmsProp {
    const CLASSES: &'static [Class<Self>] =
        &[Class { name: "rmsprop", torch: "RMSprop", lr: 1e-2, new: Self::default }];
    const BUFFERS: &'static [Buffer] = &[SQUARES, VELOCITY, MEAN];

    fn settings(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("alpha", Slot::Number(&mut self.alpha)),
            ("eps", Slot::Number(&mut self.eps)),
            ("weight_decay", Slot::Number(&mut self.weight_decay)),
            ("momentum", Slot::Number(&mut self.momentum)),
            ("centered", Slot::Flag(&mut self.centered)),
            ("maximize", Slot::Flag(&mut self.maximize)),
        ]
    }

    fn check(&self, limits: &Limits) -> Result<(), OptimError> {
        limits.not_negative("alpha", self.alpha)?;
        limits.not_negative("eps", self.eps)?;
        limits.not_negative("weight_decay", self.weight_decay)?;
        limits.not_negative("momentum", self.momentum)
    }

    fn buffers(&self) -> Vec<Buffer> {
        let used = [(SQUARES, true), (VELOCITY, self.momentum > 0.0), (MEAN, self.centered)];
        used.into_iter().filter_map(|(buffer, used)| used.then_some(buffer)).collect()
    }

    fn written_by(group: &StateDict, _: &str) -> Option<&'static str> {
        (group.get("alpha").is_some() && group.get("centered").is_some()).then_some("RMSprop")
    }

    fn group(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("momentum", self.momentum.into()),
            ("alpha", self.alpha.into()),
            ("eps", self.eps.into()),
            ("centered", self.centered.into()),
            ("weight_decay", self.weight_decay.into()),
            ("capturable", false.into()),
            ("foreach", Value::None),
            ("maximize", self.maximize.into()),
            ("differentiable", false.into()),
        ]
    }

    /// v ← αv + (1−α)g²; d ← √v + ε, centered √(v − ḡ²) + ε; θ ← θ − γg/d, with momentum b ← μb + g/d and θ ← θ − γb.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        mut state: State<D>,
    ) -> (Tensor<D>, State<D>) {
        let grad = penalised(signed(grad, self.maximize), &tensor, self.weight_decay);
        let squares = running_mean(state.take(SQUARES), grad.clone().square(), self.alpha);
        let spread = if self.centered {
            let mean = lerp(state.take(MEAN), grad.clone(), 1.0 - self.alpha);
            let variance = squares.clone() - mean.clone().square();
            state.put(MEAN, mean);
            variance
        } else {
            squares.clone()
        };
        state.put(SQUARES, squares);
        let direction = grad.div(spread.sqrt().add_scalar(self.eps));
        if self.momentum > 0.0 {
            let velocity = match state.take(VELOCITY) {
                None => direction,
                Some(velocity) => velocity.mul_scalar(self.momentum) + direction,
            };
            state.put(VELOCITY, velocity.clone());
            return (tensor - velocity.mul_scalar(lr), state);
        }
        (tensor - direction.mul_scalar(lr), state)
    }
}
