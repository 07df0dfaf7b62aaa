//! `torch.optim.RAdam`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::State;
use super::adam::{MEAN, SQUARES};
use super::field::Field;
use super::kind::{Class, OptimizerKind};
use super::math::{decayed, lerp, running_mean, signed};
use super::state::Buffer;

/// `torch.optim.RAdam` without its learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct RAdam {
    /// Decay rates of the two running means.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Factor of the weight decay.
    pub weight_decay: f64,
    /// Weights decay by themselves, apart from the gradient.
    pub decoupled_weight_decay: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
}

impl Default for RAdam {
    fn default() -> Self {
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.0, decoupled_weight_decay: false, maximize: false }
    }
}

impl RAdam {
    /// The rectification of an update; none while the variance of few squared gradients has no bound.
    fn rectification(&self, updates: f64) -> Option<f64> {
        let beta2 = self.betas[1];
        let longest = 2.0 / (1.0 - beta2) - 1.0;
        let length = longest - 2.0 * updates * beta2.powf(updates) / (1.0 - beta2.powf(updates));
        // 5 and not 4, as the paper has it: PyTorch keeps the authors' code.
        (length > 5.0)
            .then(|| ((length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)).sqrt())
    }
}

impl OptimizerKind for RAdam {
    const CLASSES: &'static [Class<Self>] = &[Class { name: "radam", torch: "RAdam", lr: 1e-3, new: Self::default }];
    const BUFFERS: &'static [Buffer] = &[MEAN, SQUARES];

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::pair("betas", &mut self.betas).below_one(),
            Field::number("eps", &mut self.eps).not_negative(),
            Field::number("weight_decay", &mut self.weight_decay).not_negative(),
            Field::flag("maximize", &mut self.maximize),
            Field::constant("foreach", Value::None),
            Field::constant("capturable", false),
            Field::flag("decoupled_weight_decay", &mut self.decoupled_weight_decay),
            Field::constant("differentiable", false),
        ]
    }

    fn written_by(group: &StateDict, _: &str) -> Option<&'static str> {
        let has = |key: &str| group.get(key).is_some();
        (has("betas") && has("decoupled_weight_decay") && !has("amsgrad") && !has("momentum_decay")).then_some("RAdam")
    }

    /// m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − γ/(1−β₁ᵗ) · m, times r · √(1−β₂ᵗ) / (√v + ε) once r is defined.
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
        let mean = lerp(state.take(MEAN), grad.clone(), 1.0 - beta1);
        let squares = running_mean(state.take(SQUARES), grad.square(), beta2);
        let rate = lr / (1.0 - beta1.powf(updates));
        let change = match self.rectification(updates) {
            None => mean.clone().mul_scalar(rate),
            Some(rectification) => {
                let rate = rate * rectification * (1.0 - beta2.powf(updates)).sqrt();
                mean.clone().div(squares.clone().sqrt().add_scalar(self.eps)).mul_scalar(rate)
            }
        };
        state.put(MEAN, mean);
        state.put(SQUARES, squares);
        (tensor - change, state)
    }
}
