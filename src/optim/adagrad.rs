//! `torch.optim.Adagrad`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::State;
use super::field::Field;
use super::kind::{Class, OptimizerKind};
use super::math::{penalised, signed};
use super::state::Buffer;

/// `torch.optim.Adagrad` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Adagrad {
    /// How the learning rate falls: it is divided by one plus this for each update before.
    pub lr_decay: f64,
    /// Factor of the L2 penalty that is added to the gradient.
    pub weight_decay: f64,
    /// What the sum of squares starts from.
    pub initial_accumulator_value: f64,
    /// Added to the denominator.
    pub eps: f64,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for Adagrad {
    fn default() -> Self {
        Self { lr_decay: 0.0, weight_decay: 0.0, initial_accumulator_value: 0.0, eps: 1e-10, maximize: false }
    }
}

/// Sum of squared gradients.
const SUM: Buffer = Buffer("sum");

impl OptimizerKind for Adagrad {
    const CLASSES: &'static [Class<Self>] =
        &[Class { name: "adagrad", torch: "Adagrad", lr: 1e-2, new: Self::default }];
    const BUFFERS: &'static [Buffer] = &[SUM];

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::number("lr_decay", &mut self.lr_decay).not_negative(),
            Field::number("eps", &mut self.eps).not_negative(),
            Field::number("weight_decay", &mut self.weight_decay).not_negative(),
            Field::number("initial_accumulator_value", &mut self.initial_accumulator_value).not_negative(),
            Field::constant("foreach", Value::None),
            Field::flag("maximize", &mut self.maximize),
            Field::constant("differentiable", false),
            Field::constant("fused", Value::None),
        ]
    }

    fn written_by(group: &StateDict, _: &str) -> Option<&'static str> {
        (group.get("lr_decay").is_some() && group.get("initial_accumulator_value").is_some()).then_some("Adagrad")
    }

    /// s ← s + g²; θ ← θ − γ/(1 + (t−1)η) · g / (√s + ε).
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        mut state: State<D>,
    ) -> (Tensor<D>, State<D>) {
        let grad = penalised(signed(grad, self.maximize), &tensor, self.weight_decay);
        let squares = grad.clone().square();
        let sum = match state.take(SUM) {
            Some(sum) => sum + squares,
            None if self.initial_accumulator_value == 0.0 => squares,
            None => squares.add_scalar(self.initial_accumulator_value),
        };
        let rate = lr / (1.0 + (state.step as f64 - 1.0) * self.lr_decay);
        let change = grad.div(sum.clone().sqrt().add_scalar(self.eps)).mul_scalar(rate);
        state.put(SUM, sum);
        (tensor - change, state)
    }
}
