//! Attention of a sequence with itself, without the matrix of all its weights, and its gradient.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use super::sums::{WIDTH, folded, sum};
use crate::arch::Arch;
use crate::functions::exp;
use crate::gemm::{Epilogue, PackedMatrix};
use crate::parallel::each;
use crate::room::Room;
use crate::scratch::with_scratch;

/// Queries that are worked on together.
const QUERIES: usize = 128;

/// The sizes of an attention over rows `[batch, length, 3, heads, width]` of queries, keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    /// Sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub length: usize,
    /// Attentions side by side.
    pub heads: usize,
    /// Features of a head.
    pub width: usize,
    /// What products of queries and keys are multiplied with.
    pub scale: f32,
}

/// Where a head's queries, keys or values are.
#[derive(Clone, Copy)]
enum Part {
    Queries,
    Keys,
    Values,
}

/// The packed operands of one head.
struct Head {
    /// `[width, length]`
    keys: PackedMatrix,
    values: PackedMatrix,
}

impl Attention {
    /// Values of a row that holds queries, keys and values.
    fn row(&self) -> usize {
        3 * self.heads * self.width
    }

    /// Values of what goes in; a third of them comes out.
    pub fn values(&self) -> usize {
        self.batch * self.length * self.row()
    }

    fn operations(&self) -> usize {
        4 * self.batch * self.heads * self.length * self.length * (self.width + 8)
    }

    /// Where the first position's features of a head begin.
    fn start(&self, sequence: usize, head: usize, part: Part) -> usize {
        sequence * self.length * self.row() + (part as usize * self.heads + head) * self.width
    }

    /// The weighted values, `[batch, length, heads, width]`.
    ///
    /// # Panics
    /// When there are not as many values as the sizes say.
    pub fn forward(&self, qkv: &[f32]) -> Vec<f32> {
        assert_eq!(qkv.len(), self.values(), "queries, keys and values");
        let Self { length, heads, width, .. } = *self;
        let output = Room::new(qkv.len() / 3);
        each(self.batch * heads, self.operations(), |task| {
            let (sequence, head) = (task / heads, task % heads);
            let start = |part| self.start(sequence, head, part);
            let head_of = Head {
                keys: self.packed(&qkv[start(Part::Keys)..], true),
                values: self.packed(&qkv[start(Part::Values)..], false),
            };
            with_scratch(QUERIES.min(length) * (length + width), |scratch| {
                for first in (0..length).step_by(QUERIES) {
                    let rows = QUERIES.min(length - first);
                    let (weights, made) = scratch.split_at_mut(rows * length);
                    let queries = &qkv[start(Part::Queries) + first * self.row()..];
                    head_of.keys.multiply(queries, self.row(), rows, &Epilogue::default(), weights, length);
                    Arch::new().dispatch(Softmax { scores: weights, row: length, scale: self.scale });
                    head_of.values.multiply(weights, length, rows, &Epilogue::default(), made, width);
                    for (row, made) in (first..first + rows).zip(made.chunks_exact(width)) {
                        let at = ((sequence * length + row) * heads + head) * width;
                        // SAFETY: each task has a head of its own.
                        unsafe { output.part(at..at + width) }.write_copy_of_slice(made);
                    }
                }
            });
        });
        // SAFETY: all positions of all heads were written.
        unsafe { output.filled() }
    }

    /// The gradient of queries, keys and values from `grad`, that of the weighted values.
    ///
    /// # Panics
    /// As [`Self::forward`].
    pub fn backward(&self, qkv: &[f32], grad: &[f32]) -> Vec<f32> {
        assert_eq!(qkv.len(), self.values(), "queries, keys and values");
        assert_eq!(grad.len() * 3, qkv.len(), "a gradient for each weighted value");
        let Self { length, heads, width, .. } = *self;
        let output = Room::new(qkv.len());
        each(self.batch * heads, 3 * self.operations(), |task| {
            let (sequence, head) = (task / heads, task % heads);
            let most = QUERIES.min(length);
            with_scratch(3 * most * length + (3 * length + most) * width, |scratch| {
                let (totals, scratch) = scratch.split_at_mut(2 * length * width);
                totals.fill(0.0);
                self.head_backward(qkv, grad, [sequence, head], totals, scratch, |part, row, values| {
                    let at = self.start(sequence, head, part) + row * self.row();
                    // SAFETY: each task has a head of its own.
                    unsafe { output.part(at..at + width) }.write_copy_of_slice(values);
                });
            });
        });
        // SAFETY: all positions of all heads were written, of queries, keys and values.
        unsafe { output.filled() }
    }

    /// Calls `put` with the gradients of one head: for queries, keys and values with each position's.
    fn head_backward(
        &self,
        qkv: &[f32],
        grad: &[f32],
        [sequence, head]: [usize; 2],
        totals: &mut [f32],
        scratch: &mut [f32],
        put: impl Fn(Part, usize, &[f32]),
    ) {
        let Self { length, heads, width, .. } = *self;
        let start = |part| self.start(sequence, head, part);
        let keys = self.packed(&qkv[start(Part::Keys)..], true);
        let keys_across = self.packed(&qkv[start(Part::Keys)..], false);
        let values = self.packed(&qkv[start(Part::Values)..], true);
        let (to_keys, to_values) = totals.split_at_mut(length * width);
        let grad_row = heads * width;
        let plain = Epilogue::default();
        for first in (0..length).step_by(QUERIES) {
            let rows = QUERIES.min(length - first);
            let (weights, scratch) = scratch.split_at_mut(rows * length);
            let (slopes, scratch) = scratch.split_at_mut(rows * length);
            let (turned, made) = scratch.split_at_mut(rows * length);
            let queries = &qkv[start(Part::Queries) + first * self.row()..];
            let grad = &grad[((sequence * length + first) * heads + head) * width..];
            keys.multiply(queries, self.row(), rows, &plain, weights, length);
            Arch::new().dispatch(Softmax { scores: weights, row: length, scale: self.scale });
            values.multiply(grad, grad_row, rows, &plain, slopes, length);
            Arch::new().dispatch(Slopes { weights, slopes, row: length, scale: self.scale });
            keys_across.multiply(slopes, length, rows, &plain, made, width);
            for (row, made) in (first..).zip(made[..rows * width].chunks_exact(width)) {
                put(Part::Queries, row, made);
            }
            let mut add = |left: &[f32], right: &[f32], stride: usize, to: &mut [f32]| {
                turn(left, length, turned);
                let right = PackedMatrix::new(right, rows, width, [stride, 1]);
                right.multiply(turned, rows, length, &plain, made, width);
                to.iter_mut().zip(&*made).for_each(|(to, made)| *to += *made);
            };
            add(slopes, queries, self.row(), to_keys);
            add(weights, grad, grad_row, to_values);
        }
        for (part, totals) in [(Part::Keys, to_keys), (Part::Values, to_values)] {
            totals.chunks_exact(width).enumerate().for_each(|(row, values)| put(part, row, values));
        }
    }

    /// A head's `[length, width]`, or that with its axes exchanged.
    fn packed(&self, values: &[f32], across: bool) -> PackedMatrix {
        let row = self.row();
        match across {
            true => PackedMatrix::new(values, self.width, self.length, [1, row]),
            false => PackedMatrix::new(values, self.length, self.width, [row, 1]),
        }
    }
}

/// Rows become columns.
fn turn(values: &[f32], row: usize, turned: &mut [f32]) {
    let rows = values.len() / row;
    for (at, values) in values.chunks_exact(row).enumerate() {
        turned[at..].iter_mut().step_by(rows).zip(values).for_each(|(to, from)| *to = *from);
    }
}

struct Softmax<'a> {
    scores: &'a mut [f32],
    row: usize,
    scale: f32,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.scores.chunks_exact_mut(self.row) {
            let mut most = [f32::NEG_INFINITY; WIDTH];
            for chunk in row.chunks_mut(WIDTH) {
                for (most, value) in most.iter_mut().zip(chunk) {
                    *value *= self.scale;
                    *most = if *value > *most { *value } else { *most };
                }
            }
            let most = most.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
            for value in &mut *row {
                *value = exp(*value - most);
            }
            let factor = 1.0 / sum(row, |value| value);
            for value in row {
                *value *= factor;
            }
        }
    }
}

/// Turns the gradients of weights into those of the products of queries and keys.
struct Slopes<'a> {
    weights: &'a [f32],
    slopes: &'a mut [f32],
    row: usize,
    scale: f32,
}

impl WithSimd for Slopes<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (weights, slopes) in self.weights.chunks_exact(self.row).zip(self.slopes.chunks_exact_mut(self.row)) {
            let mut sums = [0.0; WIDTH];
            for (weights, slopes) in weights.chunks(WIDTH).zip(slopes.chunks(WIDTH)) {
                for ((sum, weight), slope) in sums.iter_mut().zip(weights).zip(slopes) {
                    *sum += *weight * *slope;
                }
            }
            let mean = folded(sums);
            for (slope, weight) in slopes.iter_mut().zip(weights) {
                *slope = *weight * (*slope - mean) * self.scale;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin()).collect()
    }

    fn precise(sizes: &Attention, qkv: &[f64]) -> Vec<f64> {
        let Attention { batch, length, heads, width, scale } = *sizes;
        let mut output = vec![0.0; qkv.len() / 3];
        for (sequence, head) in (0..batch).flat_map(|sequence| (0..heads).map(move |head| (sequence, head))) {
            let at = |part: usize, row: usize, k: usize| {
                qkv[(sequence * length + row) * 3 * heads * width + (part * heads + head) * width + k]
            };
            for row in 0..length {
                let score = |other: usize| (0..width).map(|k| at(0, row, k) * at(1, other, k)).sum::<f64>();
                let weights: Vec<f64> = (0..length).map(|other| (score(other) * f64::from(scale)).exp()).collect();
                let all: f64 = weights.iter().sum();
                for k in 0..width {
                    output[((sequence * length + row) * heads + head) * width + k] =
                        (0..length).map(|other| weights[other] * at(2, other, k)).sum::<f64>() / all;
                }
            }
        }
        output
    }

    #[test]
    fn output_and_gradient_are_the_definition() {
        for [batch, length, heads, width] in [[1, 1, 1, 1], [2, 17, 3, 8], [1, 130, 2, 5], [3, 5, 1, 64]] {
            let sizes = Attention { batch, length, heads, width, scale: 0.6 };
            let qkv = values(sizes.values(), 0.7);
            let grad = values(sizes.values() / 3, 0.3);
            let wide: Vec<f64> = qkv.iter().map(|&value| value.into()).collect();
            for (found, expected) in sizes.forward(&qkv).iter().zip(precise(&sizes, &wide)) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{sizes:?}: {found} {expected}");
            }
            let found = sizes.backward(&qkv, &grad);
            for at in (0..qkv.len()).step_by(qkv.len() / 31 + 1) {
                let moved = |by: f64| -> f64 {
                    let mut qkv = wide.clone();
                    qkv[at] += by;
                    precise(&sizes, &qkv).iter().zip(&grad).map(|(value, grad)| value * f64::from(*grad)).sum()
                };
                let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                assert!((f64::from(found[at]) - expected).abs() < 1e-4, "{sizes:?} {at}: {} {expected}", found[at]);
            }
        }
    }
}
