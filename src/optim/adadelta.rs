//! `torch.optim.Adadelta`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::State;
use super::field::Field;
use super::kind::{Class, OptimizerKind};
use super::math::{penalised, running_mean, signed};
use super::state::Buffer;

/// `torch.optim.Adadelta` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Adadelta {
    /// Decay rate of the two running means.
    pub rho: f64,
    /// Added to both means before their root is taken.
    pub eps: f64,
    /// Factor of the L2 penalty that is added to the gradient.
    pub weight_decay: f64,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for Adadelta {
    fn default() -> Self {
        Self { rho: 0.9, eps: 1e-6, weight_decay: 0.0, maximize: false }
    }
}

/// Running mean of squared gradients, as RMSprop calls it too.
const SQUARES: Buffer = Buffer("square_avg");
/// Running mean of squared changes.
const CHANGES: Buffer = Buffer("acc_delta");

impl OptimizerKind for Adadelta {
    const CLASSES: &'static [Class<Self>] =
        &[Class { name: "adadelta", torch: "Adadelta", lr: 1.0, new: Self::default }];
    const BUFFERS: &'static [Buffer] = &[SQUARES, CHANGES];

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::number("rho", &mut self.rho).share(),
            Field::number("eps", &mut self.eps).not_negative(),
            Field::number("weight_decay", &mut self.weight_decay).not_negative(),
            Field::flag("maximize", &mut self.maximize),
            Field::constant("capturable", false),
            Field::constant("foreach", Value::None),
            Field::constant("differentiable", false),
        ]
    }

    fn written_by(group: &StateDict, _: &str) -> Option<&'static str> {
        group.get("rho").is_some().then_some("Adadelta")
    }

    /// v ← ρv + (1 − ρ)g²; Δ = √(u + ε) / √(v + ε) · g; u ← ρu + (1 − ρ)Δ²; θ ← θ − γΔ.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        mut state: State<D>,
    ) -> (Tensor<D>, State<D>) {
        let grad = penalised(signed(grad, self.maximize), &tensor, self.weight_decay);
        let squares = running_mean(state.take(SQUARES), grad.clone().square(), self.rho);
        let scale = squares.clone().add_scalar(self.eps).sqrt();
        let changes = state.take(CHANGES);
        let root = match &changes {
            Some(changes) => changes.clone().add_scalar(self.eps).sqrt() / scale,
            None => scale.recip().mul_scalar(self.eps.sqrt()),
        };
        let change = root * grad;
        state.put(SQUARES, squares);
        state.put(CHANGES, running_mean(changes, change.clone().square(), self.rho));
        (tensor - change.mul_scalar(lr), state)
    }
}
