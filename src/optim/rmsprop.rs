//! `torch.optim.RMSprop`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::State;
use super::field::Field;
use super::kind::{Class, OptimizerKind};
use super::math::{lerp, penalised, running_mean, signed};
use super::sgd::VELOCITY;
use super::state::Buffer;

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

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::number("momentum", &mut self.momentum).not_negative(),
            Field::number("alpha", &mut self.alpha).not_negative(),
            Field::number("eps", &mut self.eps).not_negative(),
            Field::flag("centered", &mut self.centered),
            Field::number("weight_decay", &mut self.weight_decay).not_negative(),
            Field::constant("capturable", false),
            Field::constant("foreach", Value::None),
            Field::flag("maximize", &mut self.maximize),
            Field::constant("differentiable", false),
        ]
    }

    fn buffers(&self) -> Vec<Buffer> {
        let used = [(SQUARES, true), (VELOCITY, self.momentum > 0.0), (MEAN, self.centered)];
        used.into_iter().filter_map(|(buffer, used)| used.then_some(buffer)).collect()
    }

    fn written_by(group: &StateDict, _: &str) -> Option<&'static str> {
        (group.get("alpha").is_some() && group.get("centered").is_some()).then_some("RMSprop")
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
