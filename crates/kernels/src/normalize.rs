//! Rows made comparable: softmax and layer normalization, in place.

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::functions::exp;
use crate::parallel::{Shared, alone, each};

/// Sums that run side by side: the order in which a row is summed up.
const LANES: usize = 32;
/// About as many operations a value takes.
const COST: usize = 32;

/// What is done to every row.
#[derive(Clone, Copy, Debug)]
pub enum RowFunction<'a> {
    /// `e^x` over the sum of these.
    Softmax,
    /// The logarithm of that.
    LogSoftmax,
    /// Less the mean, over the deviation, times a scale, plus a shift.
    LayerNorm {
        /// Added to the variance.
        epsilon: f32,
        /// One for each value of a row.
        scale: &'a [f32],
        /// One for each value of a row.
        shift: Option<&'a [f32]>,
    },
}

impl RowFunction<'_> {
    /// Puts the function of each row in its place.
    ///
    /// # Panics
    /// When `values` are no whole rows of `row` values, or scale or shift have another length.
    pub fn apply(self, values: &mut [f32], row: usize) {
        assert!(row > 0 && values.len().is_multiple_of(row), "whole rows");
        if let Self::LayerNorm { scale, shift, .. } = self {
            assert!(
                scale.len() == row && shift.is_none_or(|shift| shift.len() == row),
                "a scale and a shift for each value of a row"
            );
        }
        let arch = Arch::new();
        let (len, operations) = (values.len(), values.len() * COST);
        let part = if alone(operations) { len } else { ((1 << 13) / row).max(1) * row };
        let shared = Shared::new(values);
        each(len.div_ceil(part.max(1)), operations, |task| {
            let start = task * part;
            #[allow(unsafe_code)]
            // SAFETY: rows of its own, inside of the slice.
            let values = unsafe { std::slice::from_raw_parts_mut(shared.at(start), part.min(len - start)) };
            arch.dispatch(Rows { function: self, values, row });
        });
    }
}

struct Rows<'a> {
    function: RowFunction<'a>,
    values: &'a mut [f32],
    row: usize,
}

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for row in self.values.chunks_exact_mut(self.row) {
            match self.function {
                RowFunction::Softmax => softmax(row),
                RowFunction::LogSoftmax => log_softmax(row),
                RowFunction::LayerNorm { epsilon, scale, shift } => layer_norm(row, epsilon, scale, shift),
            }
        }
    }
}

// Loops, here and below: what a closure is passed to may not be compiled for the same vectors.

#[inline(always)]
fn softmax(row: &mut [f32]) {
    let most = greatest(row);
    for value in &mut *row {
        *value = exp(*value - most);
    }
    let factor = 1.0 / sum(row, |value| value);
    for value in row {
        *value *= factor;
    }
}

#[inline(always)]
fn log_softmax(row: &mut [f32]) {
    let most = greatest(row);
    let size = sum(row, |value| exp(value - most)).ln();
    for value in row {
        *value = *value - most - size;
    }
}

#[inline(always)]
fn layer_norm(row: &mut [f32], epsilon: f32, scale: &[f32], shift: Option<&[f32]>) {
    let count = row.len() as f32;
    let mean = sum(row, |value| value) / count;
    let variance = sum(row, |value| (value - mean) * (value - mean)) / count;
    let factor = 1.0 / (variance + epsilon).sqrt();
    for (value, scale) in row.iter_mut().zip(scale) {
        *value = (*value - mean) * factor * scale;
    }
    for (value, shift) in row.iter_mut().zip(shift.unwrap_or_default()) {
        *value += shift;
    }
}

#[inline(always)]
fn sum(row: &[f32], function: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += function(*value);
        }
    }
    let mut width = LANES;
    while width > 1 {
        width /= 2;
        let (first, second) = sums.split_at_mut(width);
        for (a, b) in first.iter_mut().zip(&*second) {
            *a += *b;
        }
    }
    let mut sum = sums[0];
    for value in rest {
        sum += function(*value);
    }
    sum
}

/// The greatest number of a row.
#[inline(always)]
fn greatest(row: &[f32]) -> f32 {
    let more = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for chunk in chunks {
        for (most, value) in most.iter_mut().zip(chunk) {
            *most = more(*most, *value);
        }
    }
    most.iter().chain(rest).fold(f32::NEG_INFINITY, |most, value| more(most, *value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_the_definition() {
        for (rows, row) in [(1, 1), (3, 2), (5, 31), (4, 32), (7, 100), (300, 257), (2, 70_000)] {
            let values: Vec<f32> = (0..rows * row).map(|i| (i as f32 * 0.61).sin() * 6.0 + 1.0).collect();
            let scale: Vec<f32> = (0..row).map(|i| 1.0 + (i % 7) as f32).collect();
            let shift: Vec<f32> = (0..row).map(|i| (i % 5) as f32 - 2.0).collect();
            let functions = [
                RowFunction::Softmax,
                RowFunction::LogSoftmax,
                RowFunction::LayerNorm { epsilon: 1e-5, scale: &scale, shift: Some(&shift) },
                RowFunction::LayerNorm { epsilon: 1e-2, scale: &scale, shift: None },
            ];
            for function in functions {
                let mut found = values.clone();
                function.apply(&mut found, row);
                for (found, values) in found.chunks(row).zip(values.chunks(row)) {
                    let expected = expected(function, values);
                    let near = |a: f32, b: f64| (f64::from(a) - b).abs() <= 2e-6 + 2e-5 * b.abs();
                    assert!(
                        found.iter().zip(expected).all(|(a, b)| near(*a, b)),
                        "{function:?} of {rows} rows of {row}"
                    );
                }
            }
        }
    }

    fn expected(function: RowFunction<'_>, row: &[f32]) -> Vec<f64> {
        let row: Vec<f64> = row.iter().map(|&value| value.into()).collect();
        let count = row.len() as f64;
        let sum: f64 = row.iter().map(|value| value.exp()).sum();
        match function {
            RowFunction::Softmax => row.iter().map(|value| value.exp() / sum).collect(),
            RowFunction::LogSoftmax => row.iter().map(|value| value - sum.ln()).collect(),
            RowFunction::LayerNorm { epsilon, scale, shift } => {
                let mean = row.iter().sum::<f64>() / count;
                let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
                let factor = 1.0 / (variance + f64::from(epsilon)).sqrt();
                let shift = |at: usize| shift.map_or(0.0, |shift| f64::from(shift[at]));
                row.iter()
                    .enumerate()
                    .map(|(at, value)| (value - mean) * factor * f64::from(scale[at]) + shift(at))
                    .collect()
            }
        }
    }

    #[test]
    fn what_is_no_number_stays_visible() {
        let mut row = [1.0, f32::NAN, 2.0];
        RowFunction::Softmax.apply(&mut row, 3);
        assert!(row.iter().all(|value| value.is_nan()));
        let mut row = [f32::NEG_INFINITY, 0.0, 0.0];
        RowFunction::Softmax.apply(&mut row, 3);
        assert_eq!(row, [0.0, 0.5, 0.5]);
    }
}
