//! SGD and Adam on the CPU backends: one pass over a parameter, its gradient and its running averages, on all threads.
//!
//! The new parameter takes the memory of the gradient, and running averages change in place.

use burn::Tensor;
use rekindle_kernels::{AdamStep, Gradient, SgdStep};

use super::adam::{LARGEST, MEAN, SQUARES};
use super::sgd::VELOCITY;
use super::state::Buffer;
use super::{Adam, Sgd, State};
use crate::kernels::{Held, Host};

/// Whether the updates of this module can take these tensors.
pub(super) fn serves<const D: usize>(tensor: &Tensor<D>, grad: &Tensor<D>) -> bool {
    let floats = |tensor: &Tensor<D>| tensor.dtype() == burn::tensor::DType::F32 && !tensor.device().is_autodiff();
    floats(tensor) && floats(grad) && Host::of(&tensor.device()).is_some() && tensor.device() == grad.device()
}

/// A parameter and what its gradient becomes.
struct Operands<const D: usize> {
    host: Host,
    shape: burn::tensor::Shape,
    parameter: Held,
    grad: Vec<f32>,
}

impl<const D: usize> Operands<D> {
    fn new(tensor: Tensor<D>, grad: Tensor<D>) -> Self {
        let (host, shape) = (Host::of(&tensor.device()), tensor.shape());
        let (parameter, grad) = (Held::of(tensor), Held::of(grad).map(Held::into_values));
        let operands = host.zip(parameter).zip(grad);
        let ((host, parameter), grad) = operands.expect("the caller asked whether tensors are served");
        Self { host, shape, parameter, grad }
    }

    /// A running average, zero before the first update.
    fn average(&self, state: &mut State<D>, buffer: Buffer) -> Vec<f32> {
        let average = state.take(buffer).and_then(Held::of).map(Held::into_values);
        average.unwrap_or_else(|| vec![0.0; self.grad.len()])
    }

    fn tensor(&self, values: Vec<f32>) -> Tensor<D> {
        self.host.tensor(values, self.shape.clone())
    }

    fn updated(mut self) -> Tensor<D> {
        let values = std::mem::take(&mut self.grad);
        self.tensor(values)
    }
}

/// [`Sgd`]'s update.
pub(super) fn sgd<const D: usize>(
    rule: &Sgd,
    lr: f64,
    tensor: Tensor<D>,
    grad: Tensor<D>,
    mut state: State<D>,
) -> (Tensor<D>, State<D>) {
    let gradient = Gradient { maximize: rule.maximize, penalty: rule.weight_decay as f32 };
    let mut step = SgdStep {
        gradient,
        lr: lr as f32,
        momentum: rule.momentum as f32,
        taken: (1.0 - rule.dampening) as f32,
        nesterov: rule.nesterov,
    };
    let mut operands = Operands::new(tensor, grad);
    if rule.momentum == 0.0 {
        step.run(&operands.parameter.values(), &mut operands.grad, None);
        return (operands.updated(), state);
    }
    if !state.has(VELOCITY) {
        // The first velocity is the gradient, undamped.
        step.taken = 1.0;
    }
    let mut velocity = operands.average(&mut state, VELOCITY);
    step.run(&operands.parameter.values(), &mut operands.grad, Some(&mut velocity));
    state.put(VELOCITY, operands.tensor(velocity));
    (operands.updated(), state)
}

/// [`Adam`]'s update, with the state's count moved on before.
pub(super) fn adam<const D: usize>(
    rule: &Adam,
    lr: f64,
    tensor: Tensor<D>,
    grad: Tensor<D>,
    mut state: State<D>,
) -> (Tensor<D>, State<D>) {
    let [beta1, beta2] = rule.betas;
    let (eps, rate) = rule.corrected(lr, state.step);
    let (kept, penalty) = if rule.decoupled { (1.0 - lr * rule.weight_decay, 0.0) } else { (1.0, rule.weight_decay) };
    let step = AdamStep {
        gradient: Gradient { maximize: rule.maximize, penalty: penalty as f32 },
        kept: kept as f32,
        mean_weight: (1.0 - beta1) as f32,
        mean_kept: (1.0 - (1.0 - beta1)) as f32,
        square_kept: beta2 as f32,
        square_weight: (1.0 - beta2) as f32,
        eps: eps as f32,
        rate: rate as f32,
    };
    let mut operands = Operands::new(tensor, grad);
    let mut mean = operands.average(&mut state, MEAN);
    let mut squares = operands.average(&mut state, SQUARES);
    let mut largest = rule.amsgrad.then(|| operands.average(&mut state, LARGEST));
    step.run(&operands.parameter.values(), &mut operands.grad, &mut mean, &mut squares, largest.as_deref_mut());
    state.put(MEAN, operands.tensor(mean));
    state.put(SQUARES, operands.tensor(squares));
    if let Some(largest) = largest {
        state.put(LARGEST, operands.tensor(largest));
    }
    (operands.updated(), state)
}
