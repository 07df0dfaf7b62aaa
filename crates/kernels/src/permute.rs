//! Axes in another order.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::memory::Plain;
use crate::parallel::{Shared, alone, each, threads};

/// Columns and rows of what is turned at once.
const TILE: [usize; 2] = [64, 16];

/// Writes the values of `input`, an array of `shape`, with its axes in another order: `order` says which comes where.
///
/// # Panics
/// When `order` does not name each axis once, or a slice has another length than the shape says.
pub fn permute<T: Plain>(input: &[T], shape: &[usize], order: &[usize], output: &mut [T]) {
    let count: usize = shape.iter().product();
    assert!(input.len() == count && output.len() == count, "as many values as the shape has");
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(0..shape.len()), "each axis once");
    if count == 0 {
        return;
    }
    let mut strides = vec![1; shape.len()];
    (1..shape.len()).rev().for_each(|axis| strides[axis - 1] = strides[axis] * shape[axis]);
    let sizes: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let strides: Vec<usize> = order.iter().map(|&axis| strides[axis]).collect();
    let Some(&first) = sizes.first() else {
        output.copy_from_slice(input);
        return;
    };
    let arch = Arch::new();
    let (operations, rows) = (count * 4, count / first);
    let part = if alone(operations) { first } else { first.div_ceil(threads() * 2) };
    let shared = Shared::new(output);
    each(first.div_ceil(part), operations, |at| {
        let part = at * part..first.min((at + 1) * part);
        #[allow(unsafe_code)]
        // SAFETY: rows of its own, inside of the output.
        let output = unsafe { std::slice::from_raw_parts_mut(shared.at(part.start * rows), part.len() * rows) };
        arch.dispatch(Part { input, sizes: &sizes, strides: &strides, part, output });
    });
}

/// A range of the first axis of what comes out.
struct Part<'a, T> {
    input: &'a [T],
    /// Of what comes out.
    sizes: &'a [usize],
    /// Between values of the input, for the axes of what comes out.
    strides: &'a [usize],
    part: Range<usize>,
    output: &'a mut [T],
}

impl<T: Plain> WithSimd for Part<'_, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { input, strides, part, output, .. } = self;
        let input = &input[part.start * strides[0]..];
        let mut sizes = self.sizes.to_vec();
        sizes[0] = part.len();
        let last = sizes.len() - 1;
        let (row, apart) = (sizes[last], strides[last]);
        // The axis along which the input's values lie side by side, unless that is the last one here too.
        let side = if apart == 1 { None } else { (0..last).find(|&axis| strides[axis] == 1 && sizes[axis] > 1) };
        let mut out_strides = vec![1; sizes.len()];
        (1..sizes.len()).rev().for_each(|axis| out_strides[axis - 1] = out_strides[axis] * sizes[axis]);
        let others: Vec<usize> = (0..last).filter(|axis| Some(*axis) != side).collect();
        let mut counts = vec![0; others.len()];
        let (mut from, mut to) = (0, 0);
        loop {
            match side {
                None if apart == 1 => output[to..][..row].copy_from_slice(&input[from..][..row]),
                None => {
                    let values = input[from..].iter().step_by(apart);
                    for (out, value) in output[to..][..row].iter_mut().zip(values) {
                        *out = *value;
                    }
                }
                Some(side) => turn([sizes[side], row], &input[from..], apart, &mut output[to..], out_strides[side]),
            }
            // The next place, the last axis first.
            let mut at = others.len();
            loop {
                if at == 0 {
                    return;
                }
                at -= 1;
                let axis = others[at];
                counts[at] += 1;
                from += strides[axis];
                to += out_strides[axis];
                if counts[at] < sizes[axis] {
                    break;
                }
                from -= strides[axis] * sizes[axis];
                to -= out_strides[axis] * sizes[axis];
                counts[at] = 0;
            }
        }
    }
}

/// Rows that are `apart` become columns: `output[across * out_apart + row] = input[row * apart + across]`.
#[inline(always)]
fn turn<T: Plain>([width, rows]: [usize; 2], input: &[T], apart: usize, output: &mut [T], out_apart: usize) {
    match rows {
        2 if out_apart == 2 => return interleave::<T, 2>(width, input, apart, output),
        3 if out_apart == 3 => return interleave::<T, 3>(width, input, apart, output),
        4 if out_apart == 4 => return interleave::<T, 4>(width, input, apart, output),
        _ => {}
    }
    for first in (0..rows).step_by(TILE[1]) {
        for start in (0..width).step_by(TILE[0]) {
            let columns = TILE[0].min(width - start);
            for row in first..rows.min(first + TILE[1]) {
                let values = &input[row * apart + start..][..columns];
                for (out, value) in output[start * out_apart + row..].iter_mut().step_by(out_apart).zip(values) {
                    *out = *value;
                }
            }
        }
    }
}

/// A few rows, value by value in turns.
#[inline(always)]
fn interleave<T: Plain, const ROWS: usize>(width: usize, input: &[T], apart: usize, output: &mut [T]) {
    let rows: [&[T]; ROWS] = std::array::from_fn(|row| &input[row * apart..][..width]);
    let (groups, _) = output.as_chunks_mut::<ROWS>();
    for (at, group) in groups[..width].iter_mut().enumerate() {
        *group = std::array::from_fn(|row| rows[row][at]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn compare(shape: &[usize], order: &[usize]) {
        let input: Vec<f32> = (0..shape.iter().product::<usize>()).map(|i| i as f32).collect();
        let mut found = vec![f32::NAN; input.len()];
        permute(&input, shape, order, &mut found);
        let sizes: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        for (at, found) in found.iter().enumerate() {
            let (mut rest, mut place) = (at, vec![0; shape.len()]);
            for axis in (0..sizes.len()).rev() {
                place[order[axis]] = rest % sizes[axis];
                rest /= sizes[axis];
            }
            let from = place.iter().zip(shape).fold(0, |from, (place, size)| from * size + place);
            assert_eq!(*found, from as f32, "{shape:?} as {order:?}, place {at}");
        }
    }

    proptest! {
        #[test]
        fn every_value_gets_to_its_place(
            (shape, order) in prop::collection::vec(1usize..9, 0..6)
                .prop_flat_map(|shape| (Just((0..shape.len()).collect::<Vec<_>>()).prop_shuffle(), Just(shape)))
                .prop_map(|(order, shape)| (shape, order)),
        ) {
            compare(&shape, &order);
        }
    }

    #[test]
    fn large_arrays_are_divided() {
        compare(&[700, 900], &[1, 0]);
        compare(&[8, 130, 300], &[1, 2, 0]);
        compare(&[3, 3, 224, 224], &[2, 0, 3, 1]);
        compare(&[2, 4, 4, 100, 130], &[0, 3, 1, 4, 2]);
        compare(&[128, 16, 64], &[1, 0, 2]);
        compare(&[0, 3], &[1, 0]);
    }
}
