//! `torch.optim.Adam` and `torch.optim.AdamW`.

use burn::Tensor;
use rekindle_state::{StateDict, Value};

use super::field::Field;
use super::kind::{Class, OptimizerKind};
use super::math::{decayed, lerp, running_mean, signed};
use super::state::Buffer;
use super::{State, fused};

/// `torch.optim.Adam` and, with `decoupled`, `torch.optim.AdamW`, without the learning rate.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// Decay rates of the two running means.
    pub betas: [f64; 2],
    /// Added to the denominator.
    pub eps: f64,
    /// Factor of the weight decay.
    pub weight_decay: f64,
    /// Divide by the largest mean of squares so far.
    pub amsgrad: bool,
    /// Ascend instead of descend.
    pub maximize: bool,
    /// AdamW: weights decay by themselves, apart from the gradient.
    pub decoupled: bool,
}

impl Adam {
    /// PyTorch's defaults of Adam, or of AdamW when `decoupled`.
    pub fn new(decoupled: bool) -> Self {
        let weight_decay = if decoupled { 1e-2 } else { 0.0 };
        Self { betas: [0.9, 0.999], eps: 1e-8, weight_decay, amsgrad: false, maximize: false, decoupled }
    }

    /// ε and the learning rate with the bias corrections of an update: γ/c₁ · m / (√v/c₂ + ε), numerator and denominator multiplied
    /// by c₂.
    pub(super) fn corrected(&self, lr: f64, step: u64) -> (f64, f64) {
        let [beta1, beta2] = self.betas;
        let updates = step as f64;
        let correction1 = 1.0 - beta1.powf(updates);
        let correction2 = (1.0 - beta2.powf(updates)).sqrt();
        (self.eps * correction2, lr / correction1 * correction2)
    }
}

/// Mean of gradients.
pub(super) const MEAN: Buffer = Buffer("exp_avg");
/// Mean of squared gradients.
pub(super) const SQUARES: Buffer = Buffer("exp_avg_sq");
/// AMSGrad: largest mean of squared gradients so far.
pub(super) const LARGEST: Buffer = Buffer("max_exp_avg_sq");

impl OptimizerKind for Adam {
    const CLASSES: &'static [Class<Self>] = &[
        Class { name: "adam", torch: "Adam", lr: 1e-3, new: || Self::new(false) },
        Class { name: "adamw", torch: "AdamW", lr: 1e-3, new: || Self::new(true) },
    ];
    const BUFFERS: &'static [Buffer] = &[MEAN, SQUARES, LARGEST];

    fn class(&self) -> usize {
        usize::from(self.decoupled)
    }

    fn fields(&mut self) -> Vec<Field<'_>> {
        vec![
            Field::pair("betas", &mut self.betas).below_one(),
            Field::number("eps", &mut self.eps).not_negative(),
            Field::number("weight_decay", &mut self.weight_decay).not_negative(),
            Field::flag("amsgrad", &mut self.amsgrad),
            Field::flag("maximize", &mut self.maximize),
            Field::constant("foreach", Value::None),
            Field::constant("capturable", false),
            Field::constant("differentiable", false),
            Field::constant("fused", Value::None),
            Field::constant("decoupled_weight_decay", self.decoupled),
        ]
    }

    fn buffers(&self) -> Vec<Buffer> {
        if self.amsgrad { Self::BUFFERS.to_vec() } else { vec![MEAN, SQUARES] }
    }

    fn written_by(group: &StateDict, expected: &str) -> Option<&'static str> {
        if group.get("betas").is_none() || group.get("amsgrad").is_none() || group.get("momentum_decay").is_some() {
            return None;
        }
        // Before PyTorch 2.6 nothing in the file told Adam from AdamW.
        match group.get("decoupled_weight_decay").and_then(Value::as_bool) {
            Some(true) => Some("AdamW"),
            Some(false) => Some("Adam"),
            None => Some(if expected == "AdamW" { "AdamW" } else { "Adam" }),
        }
    }

    /// m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − γ/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε).
    ///
    /// Adam adds λθ to g; AdamW multiplies θ by 1−γλ first. AMSGrad keeps the maximum of v before the bias correction.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        mut state: State<D>,
    ) -> (Tensor<D>, State<D>) {
        let [beta1, beta2] = self.betas;
        if fused::serves(&tensor, &grad) {
            return fused::adam(self, lr, tensor, grad, state);
        }
        let decoupled = self.decoupled.then_some(lr);
        let (tensor, grad) = decayed(tensor, signed(grad, self.maximize), self.weight_decay, decoupled);
        let mean = lerp(state.take(MEAN), grad.clone(), 1.0 - beta1);
        let squares = running_mean(state.take(SQUARES), grad.square(), beta2);
        let largest = if self.amsgrad {
            let largest = match state.take(LARGEST) {
                None => squares.clone(),
                Some(largest) => largest.max_pair(squares.clone()),
            };
            state.put(LARGEST, largest.clone());
            largest
        } else {
            squares.clone()
        };
        let (eps, rate) = self.corrected(lr, state.step);
        let denominator = largest.sqrt().add_scalar(eps);
        let change = mean.clone().div(denominator).mul_scalar(rate);
        state.put(MEAN, mean);
        state.put(SQUARES, squares);
        (tensor - change, state)
    }
}
