//! Layer normalization over the last axis, and its gradient.
#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::sums::{sum, sums_beside};
use crate::arch::Arch;
use crate::parallel::each;
use crate::room::Room;

/// Parts that rows are divided into, each with sums of its own.
const PARTS: usize = 8;
/// About as many operations a value takes.
const COST: usize = 16;

/// The sizes of a layer normalization over `[rows, features]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerNorm {
    /// Rows, each of which is made comparable by itself.
    pub rows: usize,
    /// Values of a row.
    pub features: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// The gradients of a layer normalization.
#[derive(Debug)]
pub struct LayerNormGradients {
    /// Of the input.
    pub input: Vec<f32>,
    /// Of the scale.
    pub weight: Vec<f32>,
    /// Of the shift.
    pub bias: Vec<f32>,
}

impl LayerNorm {
    /// Values of input and output.
    pub fn values(&self) -> usize {
        self.rows * self.features
    }

    /// `(x - mean) / deviation * weight + bias`; then of each row the mean and one over the deviation.
    ///
    /// # Panics
    /// When a slice has another length than the sizes say.
    pub fn forward(&self, input: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f32>, Vec<f32>) {
        assert_eq!(input.len(), self.values(), "values of all rows");
        assert!(weight.len() == self.features && bias.len() == self.features, "a value for each feature");
        let (output, statistics) = (Room::new(input.len()), Room::new(2 * self.rows));
        let arch = Arch::new();
        each(self.parts(), COST * input.len(), |part| {
            let rows = self.part(part);
            // SAFETY: each task has rows of its own.
            let (output, statistics) = unsafe { (&output, statistics.part(2 * rows.start..2 * rows.end)) };
            arch.dispatch(Forward { norm: self, rows, input, weight, bias, output, statistics });
        });
        // SAFETY: the parts are all rows.
        unsafe { (output.filled(), statistics.filled()) }
    }

    /// The gradients from `grad`, that of the output; `statistics` are those of the forward pass.
    ///
    /// # Panics
    /// When a slice has another length than the sizes say.
    pub fn backward(&self, input: &[f32], weight: &[f32], statistics: &[f32], grad: Vec<f32>) -> LayerNormGradients {
        assert!(input.len() == self.values() && grad.len() == self.values(), "values of all rows");
        assert!(
            weight.len() == self.features && statistics.len() == 2 * self.rows,
            "a value for each feature, two a row"
        );
        let features = self.features;
        let (grad, parts) = (Room::of(grad), Room::of(vec![0.0; 2 * features * self.parts()]));
        let arch = Arch::new();
        each(self.parts(), COST * input.len(), |part| {
            // SAFETY: each task has rows and sums of its own.
            let sums = unsafe { parts.written(2 * features * part..2 * features * (part + 1)) };
            arch.dispatch(Backward { norm: self, rows: self.part(part), input, weight, statistics, grad: &grad, sums });
        });
        // SAFETY: all values were there before.
        let (input, parts) = unsafe { (grad.filled(), parts.filled()) };
        let mut sums = vec![0.0f64; 2 * features];
        for part in parts.chunks_exact(2 * features) {
            sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += f64::from(*part));
        }
        let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        LayerNormGradients { input, weight: sums[..features].to_vec(), bias: sums[features..].to_vec() }
    }

    fn parts(&self) -> usize {
        self.rows.min(PARTS)
    }

    fn part(&self, part: usize) -> Range<usize> {
        self.rows * part / self.parts()..self.rows * (part + 1) / self.parts()
    }
}

struct Forward<'a> {
    norm: &'a LayerNorm,
    rows: Range<usize>,
    input: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    output: &'a Room,
    statistics: &'a mut [std::mem::MaybeUninit<f32>],
}

impl WithSimd for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let features = self.norm.features;
        for (row, statistics) in self.rows.zip(self.statistics.chunks_exact_mut(2)) {
            let place = row * features..(row + 1) * features;
            let input = &self.input[place.clone()];
            let mean = sum(input, |x| x) / features as f32;
            let variance = sum(input, |x| (x - mean) * (x - mean)) / features as f32;
            let factor = 1.0 / (variance + self.norm.epsilon).sqrt();
            statistics[0].write(mean);
            statistics[1].write(factor);
            // SAFETY: a row of this task.
            let output = unsafe { self.output.part(place) };
            for (((output, input), weight), bias) in output.iter_mut().zip(input).zip(self.weight).zip(self.bias) {
                output.write((*input - mean) * factor * *weight + *bias);
            }
        }
    }
}

struct Backward<'a> {
    norm: &'a LayerNorm,
    rows: Range<usize>,
    input: &'a [f32],
    weight: &'a [f32],
    statistics: &'a [f32],
    grad: &'a Room,
    /// Of weight and bias, zero at first.
    sums: &'a mut [f32],
}

impl WithSimd for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let features = self.norm.features;
        let (to_weight, to_bias) = self.sums.split_at_mut(features);
        for row in self.rows {
            let place = row * features..(row + 1) * features;
            let input = &self.input[place.clone()];
            let [mean, factor] = [self.statistics[2 * row], self.statistics[2 * row + 1]];
            // SAFETY: a row of this task, whose values were there.
            let grad = unsafe { self.grad.written(place) };
            for (((grad, input), to_weight), to_bias) in grad.iter().zip(input).zip(&mut *to_weight).zip(&mut *to_bias)
            {
                *to_weight += *grad * ((*input - mean) * factor);
                *to_bias += *grad;
            }
            for (grad, weight) in grad.iter_mut().zip(self.weight) {
                *grad *= *weight;
            }
            let [plain, products] = sums_beside(grad, input, |x| (x - mean) * factor).map(|sum| sum / features as f32);
            for (grad, input) in grad.iter_mut().zip(input) {
                *grad = factor * (*grad - plain - (*input - mean) * factor * products);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin() * 2.0 + 0.3).collect()
    }

    fn precise(norm: &LayerNorm, x: &[f64], weight: &[f32], bias: &[f32]) -> Vec<f64> {
        x.chunks(norm.features)
            .flat_map(|row| {
                let count = row.len() as f64;
                let mean = row.iter().sum::<f64>() / count;
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
                let factor = 1.0 / (variance + f64::from(norm.epsilon)).sqrt();
                let each = row.iter().zip(weight).zip(bias);
                each.map(move |((x, w), b)| (x - mean) * factor * f64::from(*w) + f64::from(*b)).collect::<Vec<_>>()
            })
            .collect()
    }

    #[test]
    fn output_and_gradients_are_the_definition() {
        for (rows, features) in [(1, 2), (3, 7), (8, 32), (17, 33), (300, 192)] {
            let norm = LayerNorm { rows, features, epsilon: 1e-4 };
            let (x, weight, bias) = (values(norm.values(), 0.7), values(features, 1.3), values(features, 2.1));
            let grad = values(norm.values(), 0.37);
            let wide: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            let (output, statistics) = norm.forward(&x, &weight, &bias);
            for (found, expected) in output.iter().zip(precise(&norm, &wide, &weight, &bias)) {
                assert!((f64::from(*found) - expected).abs() < 1e-4, "{norm:?}: {found} {expected}");
            }
            let found = norm.backward(&x, &weight, &statistics, grad.clone());
            let loss = |x: &[f64], weight: &[f32], bias: &[f32]| -> f64 {
                precise(&norm, x, weight, bias).iter().zip(&grad).map(|(y, grad)| y * f64::from(*grad)).sum()
            };
            let near = |found: f32, expected: f64| {
                assert!(
                    (f64::from(found) - expected).abs() < 2e-3 * (1.0 + expected.abs()),
                    "{norm:?}: {found} {expected}"
                );
            };
            for at in (0..norm.values()).step_by(norm.values() / 37 + 1) {
                let moved = |by: f64| {
                    let mut x = wide.clone();
                    x[at] += by;
                    loss(&x, &weight, &bias)
                };
                near(found.input[at], (moved(1e-4) - moved(-1e-4)) / 2e-4);
            }
            for at in (0..features).step_by(features / 7 + 1) {
                let moved = |values: &[f32], by: f32| {
                    let mut values = values.to_vec();
                    values[at] += by;
                    values
                };
                let by_weight = |by| loss(&wide, &moved(&weight, by), &bias);
                let by_bias = |by| loss(&wide, &weight, &moved(&bias, by));
                near(found.weight[at], (by_weight(0.25) - by_weight(-0.25)) / 0.5);
                near(found.bias[at], (by_bias(0.25) - by_bias(-0.25)) / 0.5);
            }
        }
    }
}
