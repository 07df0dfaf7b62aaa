//! The updates themselves, as `torch.optim` computes them for one tensor at a time.
//!
//! Scalars are float64 and enter each kernel once. Divisions by a bias correction are folded into the neighbouring scalar, which
//! saves passes over memory and changes a result by rounding only. On the CPU backends SGD and Adam go over memory once ([`fused`]).

use burn::Tensor;
use burn::optim::{LearningRate, Optimizer};
use burn::tensor::Device;

use super::state::Buffer;
use super::{Adam, RmsProp, Rule, Sgd, State, fused};

impl Optimizer for Rule {
    type State<const D: usize> = State<D>;

    fn step<const D: usize>(
        &self,
        lr: LearningRate,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        match self {
            Self::Sgd(sgd) => sgd.step(lr, tensor, grad, state),
            Self::Adam(adam) => adam.step(lr, tensor, grad, state),
            Self::RmsProp(rms) => rms.step(lr, tensor, grad, state),
        }
    }

    fn to_device<const D: usize>(state: State<D>, device: &Device) -> State<D> {
        state.on_device(device)
    }
}

impl Sgd {
    /// g ← ±∇ + λθ; v ← g at first, then μv + (1−τ)g; g ← g + μv with Nesterov, else v; θ ← θ − γg.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        if fused::serves(&tensor, &grad) {
            return fused::sgd(self, lr, tensor, grad, state);
        }
        let grad = penalised(signed(grad, self.maximize), &tensor, self.weight_decay);
        if self.momentum == 0.0 {
            return (tensor - grad.mul_scalar(lr), state);
        }
        let mut state = state.unwrap_or_default();
        // The gradient is given away as early as can be, so that its memory serves again.
        let look_ahead = self.nesterov.then(|| grad.clone());
        let velocity = match state.take(Buffer::Momentum) {
            None => grad,
            Some(velocity) => scaled(grad, 1.0 - self.dampening) + velocity.mul_scalar(self.momentum),
        };
        let direction = match look_ahead {
            Some(grad) => grad + velocity.clone().mul_scalar(self.momentum),
            None => velocity.clone(),
        };
        state.put(Buffer::Momentum, velocity);
        (tensor - direction.mul_scalar(lr), Some(state))
    }
}

impl Adam {
    /// m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; θ ← θ − γ/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε).
    ///
    /// Adam adds λθ to g; AdamW multiplies θ by 1−γλ first. AMSGrad keeps the maximum of v before the bias correction.
    fn step<const D: usize>(
        &self,
        lr: f64,
        mut tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        let [beta1, beta2] = self.betas;
        let mut state = state.unwrap_or_default();
        state.step += 1;
        if fused::serves(&tensor, &grad) {
            return fused::adam(self, lr, tensor, grad, state);
        }
        let mut grad = signed(grad, self.maximize);
        if self.decoupled {
            tensor = scaled(tensor, 1.0 - lr * self.weight_decay);
        } else {
            grad = penalised(grad, &tensor, self.weight_decay);
        }
        let mean = lerp(state.take(Buffer::ExpAvg), grad.clone(), 1.0 - beta1);
        let squares = running_mean(state.take(Buffer::ExpAvgSq), grad.square(), beta2);
        let largest = if self.amsgrad {
            let largest = match state.take(Buffer::MaxExpAvgSq) {
                None => squares.clone(),
                Some(largest) => largest.max_pair(squares.clone()),
            };
            state.put(Buffer::MaxExpAvgSq, largest.clone());
            largest
        } else {
            squares.clone()
        };
        let (eps, rate) = self.corrected(lr, state.step);
        let denominator = largest.sqrt().add_scalar(eps);
        let change = mean.clone().div(denominator).mul_scalar(rate);
        state.put(Buffer::ExpAvg, mean);
        state.put(Buffer::ExpAvgSq, squares);
        (tensor - change, Some(state))
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

impl RmsProp {
    /// v ← αv + (1−α)g²; d ← √v + ε, centered √(v − ḡ²) + ε; θ ← θ − γg/d, with momentum b ← μb + g/d and θ ← θ − γb.
    fn step<const D: usize>(
        &self,
        lr: f64,
        tensor: Tensor<D>,
        grad: Tensor<D>,
        state: Option<State<D>>,
    ) -> (Tensor<D>, Option<State<D>>) {
        let mut state = state.unwrap_or_default();
        state.step += 1;
        let grad = penalised(signed(grad, self.maximize), &tensor, self.weight_decay);
        let squares = running_mean(state.take(Buffer::SquareAvg), grad.clone().square(), self.alpha);
        let spread = if self.centered {
            let mean = lerp(state.take(Buffer::GradAvg), grad.clone(), 1.0 - self.alpha);
            let variance = squares.clone() - mean.clone().square();
            state.put(Buffer::GradAvg, mean);
            variance
        } else {
            squares.clone()
        };
        state.put(Buffer::SquareAvg, squares);
        let direction = grad.div(spread.sqrt().add_scalar(self.eps));
        if self.momentum > 0.0 {
            let velocity = match state.take(Buffer::Momentum) {
                None => direction,
                Some(velocity) => velocity.mul_scalar(self.momentum) + direction,
            };
            state.put(Buffer::Momentum, velocity.clone());
            return (tensor - velocity.mul_scalar(lr), Some(state));
        }
        (tensor - direction.mul_scalar(lr), Some(state))
    }
}

/// The gradient, turned round to ascend.
fn signed<const D: usize>(grad: Tensor<D>, maximize: bool) -> Tensor<D> {
    if maximize { grad.neg() } else { grad }
}

/// The gradient with that of an L2 penalty.
fn penalised<const D: usize>(grad: Tensor<D>, tensor: &Tensor<D>, weight_decay: f64) -> Tensor<D> {
    if weight_decay == 0.0 { grad } else { grad + tensor.clone().mul_scalar(weight_decay) }
}

/// A product, without a pass over memory for a factor of one.
fn scaled<const D: usize>(tensor: Tensor<D>, factor: f64) -> Tensor<D> {
    if factor == 1.0 { tensor } else { tensor.mul_scalar(factor) }
}

/// `torch.lerp` from a mean that starts at zero: exact at both ends, as PyTorch's two formulas are.
fn lerp<const D: usize>(mean: Option<Tensor<D>>, value: Tensor<D>, weight: f64) -> Tensor<D> {
    match mean {
        None => value.mul_scalar(weight),
        Some(mean) if weight < 0.5 => {
            let change = (value - mean.clone()).mul_scalar(weight);
            mean + change
        }
        Some(mean) => {
            let change = (value.clone() - mean).mul_scalar(1.0 - weight);
            value - change
        }
    }
}

/// A running mean that starts at zero, as products and a sum.
fn running_mean<const D: usize>(mean: Option<Tensor<D>>, value: Tensor<D>, decay: f64) -> Tensor<D> {
    let value = value.mul_scalar(1.0 - decay);
    match mean {
        None => value,
        Some(mean) => mean.mul_scalar(decay) + value,
    }
}
