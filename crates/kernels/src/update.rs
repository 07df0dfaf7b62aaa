//! The updates of optimizers, each in one pass over a parameter, its gradient and its running averages.
//!
//! All arithmetic is that of 32-bit floats in the order in which the formulas stand, without fused products: the same bits come out
//! on every processor and with any number of threads.

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::parallel::each_chunk_of;

/// Values that one thread does at a time.
const PIECE: usize = 1 << 13;
/// About as many operations as reading and writing a value takes.
const COST: usize = 16;

/// What all updates do to a gradient first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gradient {
    /// Whether to ascend.
    pub maximize: bool,
    /// Factor of the L2 penalty.
    pub penalty: f32,
}

impl Gradient {
    #[inline(always)]
    fn of<const PLAIN: bool>(&self, grad: f32, parameter: f32) -> f32 {
        if PLAIN {
            return grad;
        }
        let grad = if self.maximize { -grad } else { grad };
        if self.penalty == 0.0 { grad } else { grad + parameter * self.penalty }
    }

    fn is_plain(&self) -> bool {
        !self.maximize && self.penalty == 0.0
    }
}

/// Stochastic gradient descent: `v ← μv + (1−τ)g`, the direction is `g + μv` with Nesterov, else `v`; `θ ← θ − γ·direction`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdStep {
    /// The gradient.
    pub gradient: Gradient,
    /// γ.
    pub lr: f32,
    /// μ.
    pub momentum: f32,
    /// 1 − τ.
    pub taken: f32,
    /// Nesterov's look-ahead.
    pub nesterov: bool,
}

/// Adam: `m ← m + w₁(g − m)`, `v ← β₂v + w₂g²`, `θ ← λθ − s·m / (√v + ε)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// The gradient.
    pub gradient: Gradient,
    /// λ: what is left of a parameter after its decay.
    pub kept: f32,
    /// w₁ = 1 − β₁.
    pub mean_weight: f32,
    /// 1 − w₁ = β₁.
    pub mean_kept: f32,
    /// β₂.
    pub square_kept: f32,
    /// w₂ = 1 − β₂.
    pub square_weight: f32,
    /// ε, times the bias correction of the root.
    pub eps: f32,
    /// s: the learning rate with both bias corrections.
    pub rate: f32,
}

/// A parameter, and its gradient that becomes the parameter after the update.
struct Plain<'a> {
    step: SgdStep,
    parameter: &'a [f32],
    grad: &'a mut [f32],
}

impl Plain<'_> {
    #[inline(always)]
    fn run<const PLAIN: bool>(self) {
        for (grad, &parameter) in self.grad.iter_mut().zip(self.parameter) {
            *grad = parameter - self.step.gradient.of::<PLAIN>(*grad, parameter) * self.step.lr;
        }
    }
}

impl WithSimd for Plain<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if self.step.gradient.is_plain() { self.run::<true>() } else { self.run::<false>() }
    }
}

struct Momentum<'a> {
    step: SgdStep,
    parameter: &'a [f32],
    grad: &'a mut [f32],
    velocity: &'a mut [f32],
}

impl Momentum<'_> {
    #[inline(always)]
    fn run<const NESTEROV: bool, const PLAIN: bool>(self) {
        let Self { step, parameter, grad, velocity } = self;
        for ((slot, &parameter), velocity) in grad.iter_mut().zip(parameter).zip(velocity) {
            let grad = step.gradient.of::<PLAIN>(*slot, parameter);
            *velocity = grad * step.taken + *velocity * step.momentum;
            let direction = if NESTEROV { grad + *velocity * step.momentum } else { *velocity };
            *slot = parameter - direction * step.lr;
        }
    }
}

impl WithSimd for Momentum<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        match (self.step.nesterov, self.step.gradient.is_plain()) {
            (false, true) => self.run::<false, true>(),
            (false, false) => self.run::<false, false>(),
            (true, true) => self.run::<true, true>(),
            (true, false) => self.run::<true, false>(),
        }
    }
}

struct Averages<'a> {
    step: AdamStep,
    parameter: &'a [f32],
    grad: &'a mut [f32],
    mean: &'a mut [f32],
    squares: &'a mut [f32],
}

impl Averages<'_> {
    #[inline(always)]
    fn run<const PLAIN: bool>(self) {
        let Self { step, parameter, grad, mean, squares } = self;
        for (((slot, &parameter), mean), squares) in grad.iter_mut().zip(parameter).zip(mean).zip(squares) {
            let parameter = parameter * step.kept;
            let grad = step.gradient.of::<PLAIN>(*slot, parameter);
            *mean = step.mean(*mean, grad);
            *squares = *squares * step.square_kept + grad * grad * step.square_weight;
            *slot = parameter - *mean / (squares.sqrt() + step.eps) * step.rate;
        }
    }
}

impl WithSimd for Averages<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        if self.step.gradient.is_plain() { self.run::<true>() } else { self.run::<false>() }
    }
}

struct Largest<'a> {
    averages: Averages<'a>,
    largest: &'a mut [f32],
}

impl WithSimd for Largest<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Averages { step, parameter, grad, mean, squares } = self.averages;
        let averages = mean.iter_mut().zip(squares).zip(self.largest);
        for ((slot, &parameter), ((mean, squares), largest)) in grad.iter_mut().zip(parameter).zip(averages) {
            let parameter = parameter * step.kept;
            let grad = step.gradient.of::<false>(*slot, parameter);
            *mean = step.mean(*mean, grad);
            *squares = *squares * step.square_kept + grad * grad * step.square_weight;
            *largest = if *largest < *squares { *squares } else { *largest };
            *slot = parameter - *mean / (largest.sqrt() + step.eps) * step.rate;
        }
    }
}

impl AdamStep {
    /// `torch.lerp`, exact at both ends.
    #[inline(always)]
    fn mean(&self, mean: f32, grad: f32) -> f32 {
        let change = grad - mean;
        if self.mean_weight < 0.5 { mean + change * self.mean_weight } else { grad - change * self.mean_kept }
    }

    /// Updates both averages, and turns the gradient into the parameter after the update.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn run(
        &self,
        parameter: &[f32],
        grad: &mut [f32],
        mean: &mut [f32],
        squares: &mut [f32],
        largest: Option<&mut [f32]>,
    ) {
        same_length(parameter, grad);
        let (arch, step, cost) = (Arch::new(), *self, COST * grad.len());
        match largest {
            None => each_chunk_of([grad, mean, squares], PIECE, cost, |range, [grad, mean, squares]| {
                arch.dispatch(Averages { step, parameter: &parameter[range], grad, mean, squares });
            }),
            Some(largest) => {
                each_chunk_of([grad, mean, squares, largest], PIECE, cost, |range, [grad, mean, squares, largest]| {
                    let averages = Averages { step, parameter: &parameter[range], grad, mean, squares };
                    arch.dispatch(Largest { averages, largest });
                });
            }
        }
    }
}

impl SgdStep {
    /// Updates the velocity, if there is one, and turns the gradient into the parameter after the update.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn run(&self, parameter: &[f32], grad: &mut [f32], velocity: Option<&mut [f32]>) {
        same_length(parameter, grad);
        let (arch, step, cost) = (Arch::new(), *self, COST * grad.len());
        match velocity {
            None => each_chunk_of([grad], PIECE, cost, |range, [grad]| {
                arch.dispatch(Plain { step, parameter: &parameter[range], grad });
            }),
            Some(velocity) => each_chunk_of([grad, velocity], PIECE, cost, |range, [grad, velocity]| {
                arch.dispatch(Momentum { step, parameter: &parameter[range], grad, velocity });
            }),
        }
    }
}

fn same_length(parameter: &[f32], grad: &[f32]) {
    assert_eq!(grad.len(), parameter.len(), "an update needs a value for each of the parameter");
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNT: usize = 3 * PIECE + 17;

    fn values(seed: usize) -> Vec<f32> {
        (0..COUNT).map(|i| ((i * 2_654_435 + seed * 97) % 10_007) as f32 / 5_003.0 - 1.0).collect()
    }

    #[test]
    fn plain_descent() {
        let step = SgdStep {
            gradient: Gradient { maximize: true, penalty: 0.25 },
            lr: 0.1,
            momentum: 0.0,
            taken: 1.0,
            nesterov: false,
        };
        let (parameter, grad) = (values(1), values(2));
        let mut after = grad.clone();
        step.run(&parameter, &mut after, None);
        for i in 0..COUNT {
            assert_eq!(after[i], parameter[i] - (-grad[i] + parameter[i] * 0.25) * 0.1);
        }
    }

    #[test]
    fn momentum_with_and_without_looking_ahead() {
        for nesterov in [false, true] {
            let gradient = Gradient { maximize: false, penalty: 0.0 };
            let step = SgdStep { gradient, lr: 0.1, momentum: 0.9, taken: 0.75, nesterov };
            let (parameter, grad, velocity) = (values(1), values(2), values(3));
            let (mut after, mut moved) = (grad.clone(), velocity.clone());
            step.run(&parameter, &mut after, Some(&mut moved));
            for i in 0..COUNT {
                let expected = grad[i] * 0.75 + velocity[i] * 0.9;
                assert_eq!(moved[i], expected);
                let direction = if nesterov { grad[i] + expected * 0.9 } else { expected };
                assert_eq!(after[i], parameter[i] - direction * 0.1);
            }
        }
    }

    #[test]
    fn adam_with_and_without_the_largest() {
        for (amsgrad, mean_weight) in [(false, 0.1), (true, 0.1), (false, 0.75)] {
            let step = AdamStep {
                gradient: Gradient { maximize: false, penalty: 0.5 },
                kept: 0.875,
                mean_weight,
                mean_kept: 1.0 - mean_weight,
                square_kept: 0.99,
                square_weight: 0.01,
                eps: 1e-3,
                rate: 0.01,
            };
            let (parameter, grad, mean) = (values(1), values(2), values(3));
            let square = |seed| values(seed).iter().map(|value| value * value).collect::<Vec<f32>>();
            let (squares, largest) = (square(4), square(5));
            let (mut after, mut new_mean, mut new_squares, mut new_largest) =
                (grad.clone(), mean.clone(), squares.clone(), largest.clone());
            step.run(&parameter, &mut after, &mut new_mean, &mut new_squares, amsgrad.then_some(&mut new_largest));
            for i in 0..COUNT {
                let kept = parameter[i] * 0.875;
                let grad = grad[i] + kept * 0.5;
                let change = grad - mean[i];
                let m = if mean_weight < 0.5 {
                    mean[i] + change * mean_weight
                } else {
                    grad - change * (1.0 - mean_weight)
                };
                let v = squares[i] * 0.99 + grad * grad * 0.01;
                let most = if amsgrad { v.max(largest[i]) } else { v };
                assert_eq!((new_mean[i], new_squares[i]), (m, v));
                assert_eq!(new_largest[i], if amsgrad { most } else { largest[i] });
                assert_eq!(after[i], kept - m / (most.sqrt() + 1e-3) * 0.01);
            }
        }
    }
}
