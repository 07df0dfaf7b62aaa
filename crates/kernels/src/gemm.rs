//! General matrix product of strided operands, in the calling thread.
#![allow(unsafe_code)]

use crate::lanes::{Isa, Lanes, Work};
use crate::rows::Panels;
use crate::scratch::with_scratch;
use crate::tile::{Tile, VECTORS};
use std::ptr;

/// A matrix inside a slice: row `r`, column `c` is `values[r * strides[0] + c * strides[1]]`.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a> {
    /// The slice.
    pub(crate) values: &'a [f32],
    /// Distance from row to row and from column to column.
    pub(crate) strides: [usize; 2],
}

/// Rows of the left operand that are packed at a time: with [`DEPTH`], what stays in the second-level cache.
const ROWS: usize = 384;
/// Steps of the sum that are packed at a time.
const DEPTH: usize = 256;

/// `out = left * right`, or `out += left * right` to `accumulate`: `left` has `rows` rows and `depth` columns, `right` has `depth`
/// rows and `columns` columns; row `r` of the result begins at `out[r * out_stride]`, its columns lie side by side.
///
/// # Panics
/// If a slice is shorter than that.
pub(crate) fn gemm(
    isa: Isa,
    [rows, columns, depth]: [usize; 3],
    left: Matrix<'_>,
    right: Matrix<'_>,
    out: &mut [f32],
    out_stride: usize,
    accumulate: bool,
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(out.len() >= (rows - 1) * out_stride + columns, "result of a product");
    if depth == 0 {
        if !accumulate {
            (0..rows).for_each(|r| out[r * out_stride..][..columns].fill(0.0));
        }
        return;
    }
    isa.dispatch(Gemm { rows, columns, depth, left, right, out, out_stride, accumulate });
}

/// [`gemm`] for one vector unit.
struct Gemm<'a> {
    rows: usize,
    columns: usize,
    depth: usize,
    left: Matrix<'a>,
    right: Matrix<'a>,
    out: &'a mut [f32],
    out_stride: usize,
    accumulate: bool,
}

impl Work for Gemm<'_> {
    type Output = ();

    fn run<L: Lanes>(self, lanes: L) {
        let width = VECTORS * L::LANES;
        let mut offsets = [0u32; DEPTH];
        offsets.iter_mut().enumerate().for_each(|(k, offset)| *offset = (k * width) as u32);
        let deepest = self.depth.min(DEPTH);
        with_scratch(self.rows.min(ROWS) * deepest + width * deepest, |scratch| {
            let (left, right) = scratch.split_at_mut(self.rows.min(ROWS) * deepest);
            for step in (0..self.depth).step_by(DEPTH) {
                let depth = (self.depth - step).min(DEPTH);
                for row in (0..self.rows).step_by(ROWS) {
                    let panels = Panels::new((self.rows - row).min(ROWS), L::ROWS);
                    let from = &self.left.values[row * self.left.strides[0] + step * self.left.strides[1]..];
                    panels.pack(from, self.left.strides, depth, left);
                    for column in (0..self.columns).step_by(width) {
                        let across = (self.columns - column).min(width);
                        let from = &self.right.values[step * self.right.strides[0] + column * self.right.strides[1]..];
                        pack_columns(from, self.right.strides, depth, across, width, right);
                        let vectors = across.div_ceil(L::LANES);
                        for panel in 0..panels.count {
                            let range = panels.range(panel);
                            let first = (row + range.start) * self.out_stride + column;
                            let last = (row + range.end - 1) * self.out_stride + column + across;
                            let out = self.out[first..last].as_mut_ptr();
                            let vector = [0, 1, 2].map(|v: usize| v.min(vectors - 1) * L::LANES);
                            let tile = Tile {
                                left: left[range.start * depth..range.end * depth].as_ptr(),
                                depth,
                                offsets: offsets.as_ptr(),
                                right: vector.map(|at| right[at..].as_ptr()),
                                out: vector.map(|at| out.wrapping_add(at)),
                                count: vector.map(|at| (across - at).min(L::LANES)),
                                out_stride: self.out_stride,
                                accumulate: self.accumulate || step > 0,
                                bias: ptr::null(),
                                relu: false,
                            };
                            // SAFETY: the panel has `range.len()` rows of `depth` values; `right` has `depth` steps of `width`
                            // values, which is what `offsets` and the three vectors reach; the rows of the result lie between
                            // `first` and `last`, inside `out`, which is borrowed mutably here.
                            unsafe { tile.compute(lanes, range.len(), vectors) };
                        }
                    }
                }
            }
        });
    }
}

/// Writes `across` columns of `depth` rows to `packed`, `width` values a row; what lies between is left as it is.
fn pack_columns(values: &[f32], strides: [usize; 2], depth: usize, across: usize, width: usize, packed: &mut [f32]) {
    for (k, packed) in packed.chunks_exact_mut(width).take(depth).enumerate() {
        let row = &values[k * strides[0]..];
        if strides[1] == 1 {
            packed[..across].copy_from_slice(&row[..across]);
        } else {
            packed[..across].iter_mut().enumerate().for_each(|(c, packed)| *packed = row[c * strides[1]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn is_the_product(
            rows in 0usize..40, columns in 0usize..70, depth in prop_oneof![0usize..20, 250..300usize],
            turned in any::<[bool; 2]>(), accumulate in any::<bool>(), gap in 0usize..3, seed in any::<u32>(),
        ) {
            let mut state = seed | 1;
            let mut values = |count: usize| -> Vec<f32> {
                (0..count).map(|_| { state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223); (state >> 8) as f32 / 8_388_608.0 - 1.0 }).collect()
            };
            let (a, b) = (values(rows * depth), values(depth * columns));
            let stride = columns + gap;
            let before = values(rows * stride);
            let left = Matrix { values: &a, strides: if turned[0] { [1, rows] } else { [depth, 1] } };
            let right = Matrix { values: &b, strides: if turned[1] { [1, depth] } else { [columns, 1] } };
            for isa in Isa::available() {
                let mut out = before.clone();
                gemm(isa, [rows, columns, depth], left, right, &mut out, stride, accumulate);
                for (i, (out, before)) in out.iter().zip(&before).enumerate() {
                    let (r, c) = (i / stride, i % stride);
                    if c >= columns {
                        prop_assert_eq!(out, before);
                        continue;
                    }
                    let at = |m: Matrix<'_>, r: usize, c: usize| f64::from(m.values[r * m.strides[0] + c * m.strides[1]]);
                    let sum: f64 = (0..depth).map(|k| at(left, r, k) * at(right, k, c)).sum();
                    let expected = sum + if accumulate { f64::from(*before) } else { 0.0 };
                    prop_assert!((f64::from(*out) - expected).abs() < 2e-5 * (1.0 + (depth as f64).sqrt()), "{isa:?} {i}: {out} for {expected}");
                }
            }
        }
    }
}
