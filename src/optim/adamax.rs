//! `torch.optim.Adamax`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::State;
use super::adam::MEAN;
use super::field::Field;
use super::kind::{Class, OptimizerKind};
use super::math::{lerp, penalised, signed};
use super::state::Buffer;

/// `torch.optim.Adamax` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Adamax {
    /// Decay rates of the running mean and the running maximum.
    pub betas: [f64; 2],
    /// Added to the size of each gradient.
    pub eps: f64,
    /// Factor of the L2 penalty that is added to the gradient.
    pub weight_decay: f64,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for Adamax {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, maximize: false }
    }
}

/// Running maximum of the gradients' sizes.
const MAXIMUM: Buffer = Buffer("exp_inf");

impl OptimizerKind for Adamax {
    const CLASSES: &'static [Class<Self>] = &[Class { name: "adamax", torch: "Adamax", lr: 2e-3, new: Self::default }];
    const BUFFERS: &'static [Buffer] = &[MEAN, MAXIMUM];

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::pair("betas", &mut self.betas).below_one(),
            Field::number("eps", &mut self.eps).not_negative(),
            Field::number("weight_decay", &mut self.weight_decay).not_negative(),
            Field::constant("foreach", Value::None),
            Field::flag("maximize", &mut self.maximize),
            Field::constant("differentiable", false),
            Field::constant("capturable", false),
        ]
    }

    fn written_by(group: &StateDict, _: &str) -> Option<&'static str> {
        // No key is Adamax's own: the absence of others' says it, and then the buffers of the state.
        let others = ["amsgrad", "momentum_decay", "decoupled_weight_decay", "etas", "rho"];
        let has = |key: &&str| group.get(key).is_some();
        (["betas", "eps", "weight_decay", "foreach", "capturable"].iter().all(has) && !others.iter().any(has))
            .then_some("Adamax")
    }

    /// m ← β₁m + (1−β₁)g; u ← max(β₂u, |g| + ε); θ ← θ − γ/(1−β₁ᵗ) · m/u.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        mut state: State<D>,
    ) -> (Tensor<D>, State<D>) {
        let [beta1, beta2] = self.betas;
        let grad = penalised(signed(grad, self.maximize), &tensor, self.weight_decay);
        let mean = lerp(state.take(MEAN), grad.clone(), 1.0 - beta1);
        let size = grad.abs().add_scalar(self.eps);
        let maximum = match state.take(MAXIMUM) {
            None => size,
            Some(maximum) => maximum.mul_scalar(beta2).max_pair(size),
        };
        let rate = lr / (1.0 - beta1.powf(state.step as f64));
        let change = mean.clone().div(maximum.clone()).mul_scalar(rate);
        state.put(MEAN, mean);
        state.put(MAXIMUM, maximum);
        (tensor - change, state)
    }
}
