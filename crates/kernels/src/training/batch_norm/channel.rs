//! The gradient of one channel: a pass that sums, and a pass that needs the sums.

use super::super::activation::GROUP;
use super::super::sums::sums_beside;
use crate::pointwise::Pointwise;

/// What a channel's values are multiplied with, and so on.
#[derive(Clone, Copy)]
pub(super) struct Channel {
    pub(super) mean: f32,
    pub(super) factor: f32,
    pub(super) shift: f32,
    pub(super) function: Pointwise,
}

impl Channel {
    /// Turns the gradient of the output into that of what went into the function; sums it up, alone and times the input's distance
    /// from the mean.
    #[inline(always)]
    pub(super) fn first(self, input: &[f32], output: Option<&[f32]>, grad: &mut [f32]) -> [f64; 2] {
        let mut sums = [0.0; 2];
        let mut slopes = [0.0; GROUP];
        for (at, (grad, input)) in grad.chunks_mut(GROUP).zip(input.chunks(GROUP)).enumerate() {
            match (output, self.function) {
                (_, Pointwise::None) => {}
                (Some(output), _) => {
                    for (grad, output) in grad.iter_mut().zip(&output[at * GROUP..]) {
                        *grad = if *output > 0.0 { *grad } else { 0.0 };
                    }
                }
                (None, Pointwise::Clip(low, high)) => {
                    for (grad, input) in grad.iter_mut().zip(input) {
                        let value = (*input - self.mean) * self.factor + self.shift;
                        *grad = if value > low && value < high { *grad } else { 0.0 };
                    }
                }
                (None, function) => {
                    let slopes = &mut slopes[..input.len()];
                    for (slope, input) in slopes.iter_mut().zip(input) {
                        *slope = (*input - self.mean) * self.factor + self.shift;
                    }
                    function.slopes(slopes);
                    for (grad, slope) in grad.iter_mut().zip(slopes) {
                        *grad *= *slope;
                    }
                }
            }
            let mean = self.mean;
            let [plain, products] = sums_beside(grad, input, |x| x - mean);
            sums[0] += f64::from(plain);
            sums[1] += f64::from(products);
        }
        sums
    }

    /// The gradient of the input, `factor · (grad − mean of grad − share · (input − mean))`, as factors and a summand.
    pub(super) fn last(self, [plain, products]: [f64; 2], count: usize, variance: f64) -> Last {
        let factor = f64::from(self.factor);
        let share = products / count as f64 / variance;
        Last {
            mean: self.mean,
            grad: self.factor,
            distance: (-factor * share) as f32,
            rest: (-factor * plain / count as f64) as f32,
        }
    }
}

/// The gradient of the input from that of what went into the function.
#[derive(Clone, Copy)]
pub(super) struct Last {
    pub(super) mean: f32,
    grad: f32,
    distance: f32,
    rest: f32,
}

impl Last {
    #[inline(always)]
    pub(super) fn of(self, grad: f32, input: f32) -> f32 {
        grad * self.grad + ((input - self.mean) * self.distance + self.rest)
    }
}
