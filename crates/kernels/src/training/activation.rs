//! Functions of single values and their gradients.
#![allow(unsafe_code)]

use std::f32::consts::FRAC_1_SQRT_2;
use std::mem::MaybeUninit;

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::functions::{erf, exp, sigmoid, tanh};
use crate::parallel::each as each_task;
use crate::pointwise::Pointwise;
use crate::room::Room;

/// Values that one thread does at a time.
const PIECE: usize = 1 << 13;
/// Values that are worked on together, in the first-level cache.
pub(super) const GROUP: usize = 512;

#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    // Loops, here and below: what a closure is passed to may not be compiled for the same vectors.
    for value in values {
        *value = function(*value);
    }
}

#[inline(always)]
fn inside(x: f32, low: f32, high: f32) -> f32 {
    if x > low && x < high { 1.0 } else { 0.0 }
}

impl Pointwise {
    /// Puts the derivative at each value in its place. At a bend it is what PyTorch takes: zero, but for hard-swish.
    #[inline(always)]
    pub(super) fn slopes(self, values: &mut [f32]) {
        match self {
            Self::None => values.fill(1.0),
            Self::Clip(low, high) => each(values, |x| inside(x, low, high)),
            Self::LeakyRelu(slope) => each(values, |x| if x > 0.0 { 1.0 } else { slope }),
            Self::HardSigmoid(alpha, beta) => each(values, |x| inside(alpha * x + beta, 0.0, 1.0) * alpha),
            Self::HardSwish => each(values, |x| {
                let middle = if x > -3.0 { x * (1.0 / 3.0) + 0.5 } else { 0.0 };
                if x < 3.0 { middle } else { 1.0 }
            }),
            Self::Sigmoid => each(values, |x| {
                let y = sigmoid(x);
                y * (1.0 - y)
            }),
            Self::Silu => each(values, |x| {
                let y = sigmoid(x);
                y * (1.0 + x * (1.0 - y))
            }),
            Self::Tanh => each(values, |x| {
                let y = tanh(x);
                1.0 - y * y
            }),
            Self::Gelu => each(values, |x| {
                const DENSITY: f32 = 0.398_942_3;
                0.5 * (1.0 + erf(x * FRAC_1_SQRT_2)) + x * DENSITY * exp(-0.5 * x * x)
            }),
            Self::GeluTanh => each(values, |x| {
                const SCALE: f32 = 0.797_884_6;
                let y = tanh(SCALE * (x + 0.044_715 * x * x * x));
                0.5 * (1.0 + y) + 0.5 * x * (1.0 - y * y) * SCALE * (1.0 + 0.134_145 * x * x)
            }),
            Self::Elu(alpha) => each(values, |x| if x < 0.0 { alpha * exp(x) } else { 1.0 }),
        }
    }

    /// The function of each value.
    pub fn forward(self, input: &[f32]) -> Vec<f32> {
        let room = Room::new(input.len());
        let arch = Arch::new();
        each_task(input.len().div_ceil(PIECE), input.len() * (4 + self.cost()), |task| {
            let part = task * PIECE..input.len().min((task + 1) * PIECE);
            // SAFETY: each task has a piece of its own.
            let output = unsafe { room.part(part.clone()) };
            arch.dispatch(Forward { function: self, input: &input[part], output });
        });
        // SAFETY: the pieces are all of it.
        unsafe { room.filled() }
    }

    /// Turns the gradient of what comes out into that of the input.
    ///
    /// # Panics
    /// When the lengths differ.
    pub fn backward(self, input: &[f32], grad: Vec<f32>) -> Vec<f32> {
        assert_eq!(input.len(), grad.len(), "a gradient for each input");
        let room = Room::of(grad);
        let arch = Arch::new();
        each_task(input.len().div_ceil(PIECE), input.len() * (4 + self.cost()), |task| {
            let part = task * PIECE..input.len().min((task + 1) * PIECE);
            // SAFETY: each task has a piece of its own, and the values were there.
            let grad = unsafe { room.written(part.clone()) };
            arch.dispatch(Backward { function: self, input: &input[part], grad });
        });
        // SAFETY: as above.
        unsafe { room.filled() }
    }
}

struct Forward<'a> {
    function: Pointwise,
    input: &'a [f32],
    output: &'a mut [MaybeUninit<f32>],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.function.apply_inline(self.output.write_copy_of_slice(self.input));
    }
}

struct Backward<'a> {
    function: Pointwise,
    input: &'a [f32],
    grad: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let mut slopes = [0.0; GROUP];
        for (grad, input) in self.grad.chunks_mut(GROUP).zip(self.input.chunks(GROUP)) {
            let slopes = &mut slopes[..input.len()];
            slopes.copy_from_slice(input);
            self.function.slopes(slopes);
            for (grad, slope) in grad.iter_mut().zip(slopes) {
                *grad *= *slope;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pointwise::RELU;

    const FUNCTIONS: [Pointwise; 12] = [
        Pointwise::None,
        RELU,
        Pointwise::Clip(0.0, 6.0),
        Pointwise::LeakyRelu(0.1),
        Pointwise::HardSigmoid(1.0 / 6.0, 0.5),
        Pointwise::HardSwish,
        Pointwise::Sigmoid,
        Pointwise::Silu,
        Pointwise::Tanh,
        Pointwise::Gelu,
        Pointwise::GeluTanh,
        Pointwise::Elu(1.5),
    ];

    #[test]
    fn slopes_are_those_of_the_functions() {
        for function in FUNCTIONS {
            // Between the points where a function bends.
            let input: Vec<f32> = (0..20_001).map(|i| (i as f32 * 0.37).sin() * 7.0 + 0.001).collect();
            let input: Vec<f32> = input
                .into_iter()
                .filter(|x| [-3.0, 0.0, 3.0, 6.0].iter().all(|bend| (x - bend).abs() > 0.02))
                .collect();
            let found = function.backward(&input, vec![2.0; input.len()]);
            let shifted = |by: f32| function.forward(&input.iter().map(|x| x + by).collect::<Vec<_>>());
            let (less, more) = (shifted(-0.01), shifted(0.01));
            for (i, x) in input.iter().enumerate() {
                let expected = 2.0 * (more[i] - less[i]) / 0.02;
                assert!((found[i] - expected).abs() < 2e-3, "{function:?} at {x}: {} {expected}", found[i]);
            }
        }
    }

    #[test]
    fn the_output_is_that_of_the_function_in_place() {
        for function in FUNCTIONS {
            let input: Vec<f32> = (0..20_001).map(|i| (i as f32 * 0.37).sin() * 7.0).collect();
            let mut expected = input.clone();
            function.apply(&mut expected);
            assert_eq!(function.forward(&input), expected, "{function:?}");
        }
    }

    #[test]
    fn bends_have_the_slopes_that_pytorch_gives_them() {
        assert_eq!(RELU.backward(&[0.0, -0.0, 1.0], vec![1.0; 3]), [0.0, 0.0, 1.0]);
        assert_eq!(Pointwise::Clip(0.0, 6.0).backward(&[0.0, 6.0], vec![1.0; 2]), [0.0; 2]);
        assert_eq!(Pointwise::HardSwish.backward(&[-3.0, 3.0, 0.0], vec![1.0; 3]), [0.0, 1.0, 0.5]);
    }
}
