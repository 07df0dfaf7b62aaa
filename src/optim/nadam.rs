//! `torch.optim.NAdam`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::State;
use super::adam::{MEAN, SQUARES};
use super::field::Field;
use super::kind::{Class, OptimizerKind};
use super::math::{decayed, lerp, running_mean, signed};
use super::state::Buffer;

/// `torch.optim.NAdam` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct NAdam {
    /// Decay rates of the two running means.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Factor of the weight decay.
    pub weight_decay: f64,
    /// How fast the momentum grows to its final value.
    pub momentum_decay: f64,
    /// Weights decay by themselves, apart from the gradient.
    pub decoupled_weight_decay: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for NAdam {
    fn default() -> Self {
        Self {
            betas: [0.9, 0.999],
            eps: 1e-8,
            weight_decay: 0.0,
            momentum_decay: 4e-3,
            decoupled_weight_decay: false,
            maximize: false,
        }
    }
}

impl NAdam {
    /// The momentum of an update.
    fn momentum(&self, updates: f64) -> f64 {
        self.betas[0] * (1.0 - 0.5 * 0.96_f64.powf(updates * self.momentum_decay))
    }
}

/// The product of the momenta so far, a float32 in PyTorch.
const PRODUCT: &str = "mu_product";

impl OptimizerKind for NAdam {
    const CLASSES: &'static [Class<Self>] = &[Class { name: "nadam", torch: "NAdam", lr: 2e-3, new: Self::default }];
    const BUFFERS: &'static [Buffer] = &[MEAN, SQUARES];
    const SCALARS: &'static [&'static str] = &[PRODUCT];

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::pair("betas", &mut self.betas).below_one(),
            Field::number("eps", &mut self.eps).not_negative(),
            Field::number("weight_decay", &mut self.weight_decay).not_negative(),
            Field::number("momentum_decay", &mut self.momentum_decay).not_negative(),
            Field::flag("decoupled_weight_decay", &mut self.decoupled_weight_decay),
            Field::flag("maximize", &mut self.maximize),
            Field::constant("foreach", Value::None),
            Field::constant("capturable", false),
            Field::constant("differentiable", false),
        ]
    }

    fn written_by(group: &StateDict, _: &str) -> Option<&'static str> {
        group.get("momentum_decay").is_some().then_some("NAdam")
    }

    /// m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; d ← √(v/(1−β₂ᵗ)) + ε;
    /// θ ← θ − γ(1−μₜ)/(1−∏μ) · g/d − γμₜ₊₁/(1−∏μ·μₜ₊₁) · m/d.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        mut state: State<D>,
    ) -> (Tensor<D>, State<D>) {
        let [beta1, beta2] = self.betas;
        let updates = state.step as f64;
        let decoupled = self.decoupled_weight_decay.then_some(lr);
        let (tensor, grad) = decayed(tensor, signed(grad, self.maximize), self.weight_decay, decoupled);
        let (momentum, next) = (self.momentum(updates), self.momentum(updates + 1.0));
        let product = f64::from((state.scalar(PRODUCT).unwrap_or(1.0) * momentum) as f32);
        state.set_scalar(PRODUCT, product);
        let mean = lerp(state.take(MEAN), grad.clone(), 1.0 - beta1);
        let squares = running_mean(state.take(SQUARES), grad.clone().square(), beta2);
        let correction = 1.0 - beta2.powf(updates);
        let spread = squares.clone().div_scalar(correction).sqrt().add_scalar(self.eps);
        let now = grad.mul_scalar(lr * (1.0 - momentum) / (1.0 - product));
        let ahead = mean.clone().mul_scalar(lr * next / (1.0 - product * next));
        state.put(MEAN, mean);
        state.put(SQUARES, squares);
        (tensor - (now + ahead).div(spread), state)
    }
}
