//! Products of 8-bit codes with a packed matrix of 8-bit weights.
//!
//! `sum_k (a[i, k] - za) * (b[k, j] - zb[j])` is the sum of the codes' products, less what the zero points add to it: a constant for each
//! column, and the row's sum of codes where weights have zero points. Weights are stored as signed bytes, or as 16-bit integers where
//! these are multiplied.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr;

use super::Codes;
use super::units::{ByteUnit, ByteWork, Bytes};
use crate::finish::{Last, To};
use crate::gemm::{Grid, Residual};
use crate::lanes::Lanes;
use crate::memory::Memory;
use crate::parallel::{Shared, each};
use crate::pointwise::{Ends, Pointwise};
use crate::scratch::with_scratch_of;

/// Vectors in a panel.
const VECTORS: usize = 2;
/// Bytes of rows that are gathered at a time.
const GATHERED: usize = 1 << 17;

/// The right operand of a product of codes, in the order in which it is read.
#[derive(Debug)]
pub struct ByteMatrix {
    unit: ByteUnit,
    depth: usize,
    columns: usize,
    values: Memory,
    /// Of each column: the sum of the stored values.
    sums: Vec<i32>,
    /// Of each column: the zero point of the stored values; none where all are zero.
    zeros: Vec<i32>,
}

/// What follows sums of products of codes.
#[derive(Clone, Copy, Debug)]
pub struct Requantize<'a> {
    /// The zero point of the codes on the left.
    pub zero: i32,
    /// Added to the sum of each column.
    pub addends: Option<&'a [i32]>,
    /// What a sum counts: one for all columns, or one for each.
    pub scales: &'a [f32],
    /// Added to each column after that.
    pub bias: Option<&'a [f32]>,
}

/// Codes made of what sums count: rounded to the nearest, of two the even one.
#[derive(Clone, Copy, Debug)]
pub struct Rounded {
    /// The code of zero.
    pub zero: i32,
    /// The least code, less the zero point.
    pub least: f32,
    /// The greatest.
    pub greatest: f32,
}

/// Where results go.
#[derive(Debug)]
pub enum Target<'a> {
    /// Floats, after a residual is added and a function applied.
    Floats {
        /// Rows of all columns.
        out: &'a mut [f32],
        /// One for each row and column, to be added.
        residual: Option<Residual<'a>>,
        /// The function of each value.
        function: Pointwise,
    },
    /// Codes, as bytes. What sums count is in steps of their scale.
    Codes {
        /// Rows of all columns.
        out: &'a mut [u8],
        /// How they are rounded.
        rounded: Rounded,
    },
}

/// A target that tasks share.
#[derive(Clone, Copy)]
pub(super) enum SharedTarget<'a> {
    Floats { out: Shared, residual: Option<Residual<'a>>, function: Pointwise },
    Codes { out: Shared<u8>, rounded: Rounded },
}

impl<'a> SharedTarget<'a> {
    pub fn new(target: Target<'a>) -> Self {
        match target {
            Target::Floats { out, residual, function } => Self::Floats { out: Shared::new(out), residual, function },
            Target::Codes { out, rounded } => Self::Codes { out: Shared::new(out), rounded },
        }
    }

    /// From a column on.
    pub fn from(self, column: usize) -> Self {
        match self {
            Self::Floats { out, residual, function } => Self::Floats {
                out: out.from(column),
                residual: residual.map(|own| Residual { values: &own.values[column..], stride: own.stride }),
                function,
            },
            Self::Codes { out, rounded } => Self::Codes { out: out.from(column), rounded },
        }
    }
}

/// Rows of codes on the left.
pub(super) trait Rows: Sync {
    /// The rows where they are and how far apart, if they are somewhere.
    fn direct(&self) -> Option<(&[u8], usize)>;
    /// Writes the rows from one on, each `stride` bytes after the one before.
    fn fill(&self, first: usize, rows: usize, out: &mut [u8], stride: usize);
}

/// Rows of a matrix.
struct Matrix<'a> {
    bytes: &'a [u8],
    stride: usize,
    depth: usize,
}

impl Rows for Matrix<'_> {
    fn direct(&self) -> Option<(&[u8], usize)> {
        Some((self.bytes, self.stride))
    }

    fn fill(&self, first: usize, rows: usize, out: &mut [u8], stride: usize) {
        for row in 0..rows {
            out[row * stride..][..self.depth].copy_from_slice(&self.bytes[(first + row) * self.stride..][..self.depth]);
        }
    }
}

impl ByteMatrix {
    /// Packs `[depth, columns]`; the code at `(k, j)` is `values[k * strides[0] + j * strides[1]]`, its zero point that of the column, or the
    /// only one; zero without any.
    ///
    /// # Panics
    /// When that reaches past a slice.
    pub fn new(values: Codes<'_>, depth: usize, columns: usize, strides: [usize; 2], zeros: &[i32]) -> Self {
        Self::new_at(ByteUnit::best(), values, depth, columns, strides, zeros)
    }

    pub(crate) fn new_at(
        unit: ByteUnit,
        values: Codes<'_>,
        depth: usize,
        columns: usize,
        strides: [usize; 2],
        zeros: &[i32],
    ) -> Self {
        let sizes = unit.sizes();
        let shift = if values.flip() == 0 { 128 } else { 0 };
        let mut own: Vec<i32> = (0..columns)
            .map(|column| match zeros {
                [] => -shift,
                [zero] => zero - shift,
                zeros => zeros[column] - shift,
            })
            .collect();
        if own.iter().all(|zero| *zero == 0) {
            own.clear();
        }
        let groups = depth.div_ceil(sizes.group);
        let width = VECTORS * sizes.lanes;
        let mut packed = Memory::new(groups * columns.next_multiple_of(sizes.lanes) * 4);
        let mut sums = vec![0; columns];
        let total = packed.bytes();
        let bytes = packed.values_mut::<u8>(total);
        for (column, sum) in sums.iter_mut().enumerate() {
            let (panel, first) = (column / width, column / width * width);
            let across = (columns - first).min(width).next_multiple_of(sizes.lanes);
            for k in 0..depth {
                let value = values.at(k * strides[0] + column * strides[1]) - shift;
                *sum += value;
                let group = panel * width * groups + k / sizes.group * across + (column - first);
                let at = group * 4 + k % sizes.group * (4 / sizes.group);
                if sizes.group == 4 {
                    bytes[at] = value as i8 as u8;
                } else {
                    bytes[at..at + 2].copy_from_slice(&(value as i16).to_ne_bytes());
                }
            }
        }
        Self { unit, depth, columns, values: packed, sums, zeros: own }
    }

    /// Rows of the matrix.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Computes the product with `rows` rows of codes that begin every `stride` codes, into rows that begin every `out_stride` values.
    ///
    /// # Panics
    /// When a slice is too short for that.
    pub fn multiply(
        &self,
        left: Codes<'_>,
        stride: usize,
        rows: usize,
        then: &Requantize<'_>,
        target: Target<'_>,
        out_stride: usize,
    ) {
        if rows == 0 || self.columns == 0 {
            return;
        }
        assert!((rows - 1) * stride + self.depth <= left.len(), "rows inside of the left operand");
        target.check(rows, self.columns, out_stride);
        let matrix = Matrix { bytes: left.bytes(), stride, depth: self.depth };
        self.product(&matrix, left.flip(), rows, then, SharedTarget::new(target), out_stride);
    }

    /// The same with rows from anywhere. The target was checked.
    pub(super) fn product(
        &self,
        left: &impl Rows,
        flip: u8,
        rows: usize,
        then: &Requantize<'_>,
        target: SharedTarget<'_>,
        out_stride: usize,
    ) {
        let columns = self.columns;
        assert!(
            then.addends.is_none_or(|own| own.len() >= columns)
                && then.bias.is_none_or(|own| own.len() >= columns)
                && (then.scales.len() == 1 || then.scales.len() >= columns),
            "values for each column"
        );
        let zero = then.zero + i32::from(flip);
        let sizes = self.unit.sizes();
        let panels = columns.div_ceil(VECTORS * sizes.lanes);
        // A quarter of the time of floats.
        let operations = rows * self.depth.max(16) * columns / 2 + 4 * rows * columns;
        let grid = Grid::new(rows, panels, self.unit.isa(), operations);
        let padded = self.depth.next_multiple_of(4);
        let most = (GATHERED / padded.max(1)).next_multiple_of(sizes.rows).max(2 * sizes.rows);
        // Rows that are read where they are.
        let read = left.direct().filter(|_| sizes.group == 4 && flip == 0 && padded == self.depth);
        with_scratch_of::<i32, _>(columns, |constants| {
            for (column, constant) in constants.iter_mut().enumerate() {
                let own =
                    self.zeros.get(column).map_or(0, |own| own.wrapping_mul(zero).wrapping_mul(self.depth as i32));
                let sum = self.sums[column].wrapping_mul(zero);
                *constant = then.addends.map_or(0, |own| own[column]).wrapping_sub(sum).wrapping_add(own);
            }
            let constants = &*constants;
            each(grid.count(), operations, |task| {
                let (rows, panels) = grid.part(task);
                let run = |first: usize, count: usize, from: *const u8, stride: usize, sums: &[i32]| {
                    let block = Block {
                        matrix: self,
                        left: from,
                        stride,
                        rows: first..first + count,
                        panels: panels.clone(),
                        sums,
                        constants,
                        then,
                        target,
                        out_stride,
                    };
                    self.unit.dispatch(block);
                };
                for first in rows.clone().step_by(most) {
                    let count = most.min(rows.end - first);
                    let summed = if self.zeros.is_empty() { 0 } else { count };
                    with_scratch_of::<i32, _>(summed, |sums| {
                        if let Some((bytes, stride)) = read {
                            let from = bytes[first * stride..].as_ptr();
                            for (row, sum) in sums.iter_mut().enumerate() {
                                *sum = total(&bytes[(first + row) * stride..][..self.depth]);
                            }
                            return run(first, count, from, stride, sums);
                        }
                        with_scratch_of::<u8, _>(count * padded, |gathered| {
                            left.fill(first, count, gathered, padded);
                            for (row, bytes) in gathered.chunks_exact_mut(padded.max(1)).enumerate() {
                                if flip != 0 {
                                    bytes.iter_mut().for_each(|byte| *byte ^= flip);
                                }
                                bytes[self.depth..].fill(0);
                                if let Some(sum) = sums.get_mut(row) {
                                    *sum = total(bytes);
                                }
                            }
                            if sizes.group == 4 {
                                return run(first, count, gathered.as_ptr(), padded, sums);
                            }
                            with_scratch_of::<u16, _>(gathered.len(), |wide| {
                                wide.iter_mut().zip(&*gathered).for_each(|(wide, byte)| *wide = u16::from(*byte));
                                run(first, count, wide.as_ptr().cast(), 2 * padded, sums);
                            });
                        });
                    });
                }
            });
        });
    }
}

/// The sum of bytes.
fn total(bytes: &[u8]) -> i32 {
    bytes.iter().map(|byte| i32::from(*byte)).sum()
}

impl Target<'_> {
    /// # Panics
    /// When a slice is too short for so many rows and columns.
    pub(super) fn check(&self, rows: usize, columns: usize, out_stride: usize) {
        let (len, residual) = match self {
            Self::Floats { out, residual, .. } => (out.len(), *residual),
            Self::Codes { out, .. } => (out.len(), None),
        };
        assert!(columns <= out_stride && (rows - 1) * out_stride + columns <= len, "rows inside of the output");
        assert!(
            residual.is_none_or(|own| (rows - 1) * own.stride + columns <= own.values.len()),
            "rows inside of the residual"
        );
    }
}

/// Some rows times some panels.
struct Block<'a> {
    matrix: &'a ByteMatrix,
    /// As the unit reads them.
    left: *const u8,
    /// Bytes from one row to the next.
    stride: usize,
    rows: Range<usize>,
    panels: Range<usize>,
    /// The sums of the rows' codes, where weights have zero points.
    sums: &'a [i32],
    /// For each column.
    constants: &'a [i32],
    then: &'a Requantize<'a>,
    target: SharedTarget<'a>,
    out_stride: usize,
}

impl ByteWork for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<B: Bytes>(self, unit: B) {
        unit.run(
            #[inline(always)]
            || self.compute(unit),
        );
    }
}

/// The height of the tile for so many rows that are left: few heights are compiled.
#[inline(always)]
fn height(left: usize) -> usize {
    [12, 8, 6, 4, 2].into_iter().find(|&height| height <= left).unwrap_or(1)
}

impl Block<'_> {
    #[inline(always)]
    fn compute<B: Bytes>(&self, unit: B) {
        let lanes = <B::Floats as Lanes>::LANES;
        let width = VECTORS * lanes;
        for panel in self.panels.clone() {
            let first = panel * width;
            let count = (self.matrix.columns - first).min(width);
            let mut row = 0;
            while row < self.rows.len() {
                let rows = height(B::ROWS.min(self.rows.len() - row));
                macro_rules! rows {
                    ($($rows:literal)*) => {
                        match rows {
                            // SAFETY: whoever made the block has checked its slices; these rows and columns are inside of it.
                            $($rows if B::ROWS >= $rows => unsafe {
                                if count > lanes {
                                    self.tile::<B, $rows, 2>(unit, row, panel, count);
                                } else {
                                    self.tile::<B, $rows, 1>(unit, row, panel, count);
                                }
                            },)*
                            _ => unreachable!("a tile has one of the heights, and at most `ROWS` rows"),
                        }
                    };
                }
                rows!(1 2 4 6 8 12);
                row += rows;
            }
        }
    }

    /// # Safety
    /// The rows from `row` on, and `count` columns of the panel, are inside of all slices.
    #[inline(always)]
    unsafe fn tile<B: Bytes, const R: usize, const V: usize>(&self, unit: B, row: usize, panel: usize, count: usize) {
        let lanes = <B::Floats as Lanes>::LANES;
        let floats = unit.floats();
        let groups = self.matrix.depth.div_ceil(B::GROUP);
        let first = panel * VECTORS * lanes;
        let mut sums = [[unit.splat(0); V]; R];
        let left: [*const u8; R] = std::array::from_fn(|r| self.left.wrapping_add((row + r) * self.stride));
        // SAFETY: the caller's; packed values are whole vectors.
        unsafe {
            let packed = self.matrix.values.values::<i32>(self.matrix.values.bytes() / 4);
            let mut right = packed.as_ptr().add(first * groups);
            for group in 0..groups {
                let mut columns = [unit.splat(0); V];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = unit.load(right.add(v * lanes));
                }
                for (left, sums) in left.iter().zip(&mut sums) {
                    let value = unit.splat(left.add(4 * group).cast::<i32>().read_unaligned());
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = unit.dot(*sum, value, column);
                    }
                }
                right = right.add(V * lanes);
            }
            let tail = |v: usize| if v + 1 < V { lanes } else { count - (V - 1) * lanes };
            let mut values = [[floats.splat(0.0); V]; R];
            let single = self.then.scales.len() == 1;
            for v in 0..V {
                let (column, tail) = (first + v * lanes, tail(v));
                let constant = unit.load_first(self.constants.as_ptr().add(column), tail);
                let scale = if single {
                    floats.splat(self.then.scales[0])
                } else {
                    floats.load_first(self.then.scales.as_ptr().add(column), tail)
                };
                let bias = match self.then.bias {
                    Some(bias) => floats.load_first(bias.as_ptr().add(column), tail),
                    None => floats.splat(0.0),
                };
                let zeros = &self.matrix.zeros;
                let zero =
                    if zeros.is_empty() { unit.splat(0) } else { unit.load_first(zeros.as_ptr().add(column), tail) };
                for (r, (sums, values)) in sums.iter().zip(&mut values).enumerate() {
                    let mut sum = unit.add(sums[v], constant);
                    if !zeros.is_empty() {
                        sum = unit.add(sum, unit.mul(zero, unit.splat(-self.sums[row + r])));
                    }
                    values[v] = floats.mul_add(unit.to_floats(sum), scale, bias);
                }
            }
            let at = (self.rows.start + row) * self.out_stride + first;
            match self.target {
                SharedTarget::Codes { out, rounded } => {
                    let (low, high) = (floats.splat(rounded.least), floats.splat(rounded.greatest));
                    for (r, values) in values.into_iter().enumerate() {
                        for (v, value) in values.into_iter().enumerate() {
                            let to = out.at(at + r * self.out_stride + v * lanes);
                            let value = floats.at_most(high, floats.at_least(low, value));
                            unit.store_codes(to, value, rounded.zero, tail(v));
                        }
                    }
                }
                SharedTarget::Floats { out, residual, function } => {
                    let whole = function.ends();
                    let (residual, residual_stride) = residual.map_or((ptr::null(), 0), |own| {
                        let at = (self.rows.start + row) * own.stride + first;
                        (own.values.as_ptr().wrapping_add(at), own.stride)
                    });
                    let last = Last { bias: ptr::null(), residual, residual_stride, ends: whole.unwrap_or(Ends::NONE) };
                    let to = To { out: out.at(at), stride: self.out_stride, tail: tail(V - 1), more: false };
                    to.store(floats, values, Some(&last));
                    if whole.is_none() {
                        for r in 0..R {
                            let row = std::slice::from_raw_parts_mut(out.at(at + r * self.out_stride), count);
                            function.apply_inline(row);
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pointwise::RELU;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(
            (rows, depth, columns) in (1usize..40, 1usize..300, 1usize..70),
            (pad, out_pad) in (0usize..4, 0usize..4),
            (left_signed, right_signed, turned) in (any::<bool>(), any::<bool>(), any::<bool>()),
            zero in 0i32..256,
            zeros in prop::sample::select(vec![0usize, 1, 2]),
            (each_scale, biased, added) in (any::<bool>(), any::<bool>(), any::<bool>()),
            extreme in any::<bool>(),
        ) {
            let (stride, out_stride) = (depth + pad, columns + out_pad);
            let byte = |i: usize, seed: usize| {
                let byte = ((i + seed) as u32).wrapping_mul(2_654_435_761) >> 24;
                if extreme { if byte < 128 { 255 } else { 128 } } else { byte as u8 }
            };
            let left: Vec<u8> = (0..rows * stride).map(|i| byte(i, 1)).collect();
            let right: Vec<u8> = (0..depth * columns).map(|i| byte(i, 77)).collect();
            let number = |byte: u8, signed: bool| if signed { i64::from(byte as i8) } else { i64::from(byte) };
            let codes = |bytes: &[u8], signed: bool| -> (Vec<u8>, Vec<i8>) {
                if signed { (Vec::new(), bytes.iter().map(|b| *b as i8).collect()) } else { (bytes.to_vec(), Vec::new()) }
            };
            let (l, r) = (codes(&left, left_signed), codes(&right, right_signed));
            let l = if left_signed { Codes::Signed(&l.1) } else { Codes::Unsigned(&l.0) };
            let r = if right_signed { Codes::Signed(&r.1) } else { Codes::Unsigned(&r.0) };
            let zero = if left_signed { zero - 128 } else { zero };
            let zeros: Vec<i32> = match zeros {
                0 => Vec::new(),
                1 => vec![if right_signed { 3 } else { 128 }],
                _ => (0..columns).map(|j| (j as i32 * 7) % 100).collect(),
            };
            let strides = if turned { [1, depth] } else { [columns, 1] };
            let scales: Vec<f32> = (0..if each_scale { columns } else { 1 }).map(|j| 1e-3 * (1.0 + j as f32)).collect();
            let addends: Vec<i32> = (0..columns).map(|j| j as i32 * 100 - 500).collect();
            let bias: Vec<f32> = (0..columns).map(|j| j as f32 * 0.25).collect();
            let then = Requantize {
                zero, addends: added.then_some(&addends[..]), scales: &scales, bias: biased.then_some(&bias[..]),
            };
            let residual: Vec<f32> = (0..rows * out_stride).map(|i| (i % 13) as f32).collect();
            let rounded = Rounded { zero: 7, least: -7.0, greatest: 200.0 };
            for unit in ByteUnit::available() {
                let packed = ByteMatrix::new_at(unit, r, depth, columns, strides, &zeros);
                let mut out = vec![f32::NAN; rows * out_stride];
                let function = RELU;
                let residual = added.then_some(Residual { values: &residual, stride: out_stride });
                packed.multiply(l, stride, rows, &then, Target::Floats { out: &mut out, residual, function }, out_stride);
                let mut bytes = vec![99; rows * out_stride];
                packed.multiply(l, stride, rows, &then, Target::Codes { out: &mut bytes, rounded }, out_stride);
                for row in 0..rows {
                    for column in 0..columns {
                        let zb = match &zeros[..] { [] => 0, [one] => *one, all => all[column] };
                        let mut sum: i64 = (0..depth).map(|k| {
                            (number(left[row * stride + k], left_signed) - i64::from(zero))
                                * (number(right[k * strides[0] + column * strides[1]], right_signed) - i64::from(zb))
                        }).sum();
                        if added { sum += i64::from(addends[column]); }
                        let scale = scales[if each_scale { column } else { 0 }];
                        let value = (sum as f32).mul_add(scale, if biased { bias[column] } else { 0.0 });
                        let code = value.clamp(rounded.least, rounded.greatest).round_ties_even() as i32 + rounded.zero;
                        let found = bytes[row * out_stride + column];
                        // Without fused products, the last bit may be another.
                        prop_assert!((i32::from(found) - code).abs() <= 1, "{unit:?} {row} {column}: {found} {code}");
                        let near = (value - value.floor() - 0.5).abs() < 1e-3;
                        prop_assert!(near || i32::from(found) == code, "{unit:?} {row} {column}: {found} {code} {value}");
                        let expected = (value + residual.map_or(0.0, |own| own.values[row * out_stride + column])).max(0.0);
                        let found = out[row * out_stride + column];
                        prop_assert!((found - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{unit:?}: {found} {expected}");
                    }
                    prop_assert!(out[row * out_stride + columns..].iter().take(out_pad).all(|value| value.is_nan()));
                    prop_assert!(bytes[row * out_stride + columns..].iter().take(out_pad).all(|byte| *byte == 99));
                }
            }
        }
    }
}
