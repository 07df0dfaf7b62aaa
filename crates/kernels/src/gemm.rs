//! Products of matrices with a packed right operand, and what follows them while a tile is in registers.
//!
//! `out[i, j] = f(sum_k a[i, k] * b[k, j] + bias[j] + residual[i, j])`. Rows of the left operand are read where they are; the right one
//! is packed into panels of two vectors, which a tile of a few rows reads in order.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr;

use crate::finish::{Last, To};
use crate::lanes::{Isa, Lanes, Work};
use crate::memory::Memory;
use crate::parallel::{Shared, alone, each, threads};
use crate::pointwise::{Ends, Pointwise};

/// Vectors in a panel.
const VECTORS: usize = 2;
/// Depth of a block: a panel of it (16 KiB on AVX2) stays in the first-level cache while the rows pass by.
const DEPTH: usize = 256;
/// Rows of a block: with the depth above they stay in the second-level cache (128 KiB) while the panels pass by.
const ROWS: usize = 120;

/// The right operand of a product, in the order in which it is read.
#[derive(Debug)]
pub struct PackedMatrix {
    isa: Isa,
    depth: usize,
    columns: usize,
    values: Memory,
}

/// A value for each row and column, to be added.
#[derive(Clone, Copy, Debug)]
pub struct Residual<'a> {
    /// The values.
    pub values: &'a [f32],
    /// From one row to the next.
    pub stride: usize,
}

/// What follows a product.
#[derive(Clone, Copy, Debug, Default)]
pub struct Epilogue<'a> {
    /// One value for each column.
    pub bias: Option<&'a [f32]>,
    /// Added before the function.
    pub residual: Option<Residual<'a>>,
    /// The function of each value.
    pub function: Pointwise,
}

impl PackedMatrix {
    /// Packs `[depth, columns]`; the value at `(k, j)` is `values[k * strides[0] + j * strides[1]]`.
    ///
    /// # Panics
    /// When that reaches past `values`.
    pub fn new(values: &[f32], depth: usize, columns: usize, strides: [usize; 2]) -> Self {
        Self::new_at(Isa::best(), values, depth, columns, strides)
    }

    pub(crate) fn new_at(isa: Isa, values: &[f32], depth: usize, columns: usize, strides: [usize; 2]) -> Self {
        let mut packed = Self { isa, depth, columns, values: Memory::default() };
        packed.refill(values, strides);
        packed
    }

    /// Packs other values of the same sizes.
    ///
    /// # Panics
    /// As [`Self::new`].
    pub fn refill(&mut self, values: &[f32], strides: [usize; 2]) {
        let (depth, columns) = (self.depth, self.columns);
        assert!(
            depth == 0 || columns == 0 || (depth - 1) * strides[0] + (columns - 1) * strides[1] < values.len(),
            "values of the whole matrix"
        );
        let lanes = self.isa.lanes();
        let width = VECTORS * lanes;
        let total = depth * columns.next_multiple_of(lanes);
        self.values.reserve(total * 4);
        let packed = self.values.values_mut::<f32>(total);
        for (panel, packed) in packed.chunks_mut(depth.max(1) * width).enumerate() {
            let first = panel * width;
            let count = (columns - first).min(width);
            let across = packed.len() / depth.max(1);
            if strides[1] == 1 {
                for (k, row) in packed.chunks_exact_mut(across).enumerate() {
                    row[..count].copy_from_slice(&values[k * strides[0] + first..][..count]);
                    row[count..].fill(0.0);
                }
            } else {
                for (k, row) in packed.chunks_exact_mut(across).enumerate() {
                    for (j, value) in row.iter_mut().enumerate() {
                        *value = if j < count { values[k * strides[0] + (first + j) * strides[1]] } else { 0.0 };
                    }
                }
            }
        }
    }

    /// Rows of the matrix.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// Columns of the matrix.
    pub fn columns(&self) -> usize {
        self.columns
    }

    fn width(&self) -> usize {
        VECTORS * self.isa.lanes()
    }

    pub(crate) fn isa(&self) -> Isa {
        self.isa
    }

    pub(crate) fn panels(&self) -> usize {
        self.columns.div_ceil(self.width())
    }

    /// Computes the product with `rows` rows that begin every `stride` values, into rows that begin every `out_stride` values.
    ///
    /// # Panics
    /// When a slice is too short for that.
    pub fn multiply(
        &self,
        left: &[f32],
        stride: usize,
        rows: usize,
        epilogue: &Epilogue<'_>,
        out: &mut [f32],
        out_stride: usize,
    ) {
        if rows == 0 || self.columns == 0 {
            return;
        }
        assert!(self.depth == 0 || (rows - 1) * stride + self.depth <= left.len(), "rows inside of the left operand");
        assert!((rows - 1) * out_stride + self.columns <= out.len(), "rows inside of the output");
        epilogue.check(rows, self.columns);
        let operations = 2 * rows * self.depth.max(8) * self.columns + rows * self.columns * epilogue.function.cost();
        let shared = Shared::new(out);
        let grid = Grid::new(rows, self.panels(), self.isa, operations);
        each(grid.count(), operations, |task| {
            let (rows, panels) = grid.part(task);
            let block = Block {
                packed: self,
                left: left.as_ptr().wrapping_add(rows.start * stride),
                stride,
                rows: rows.len(),
                panels,
                out: shared.at(rows.start * out_stride),
                out_stride,
                first_row: rows.start,
                epilogue,
            };
            // SAFETY: by the assertions all rows are inside of their slices; each task writes other rows or columns.
            block.run(self.isa);
        });
    }
}

impl Epilogue<'_> {
    /// # Panics
    /// When a slice is too short for so many rows and columns.
    pub(crate) fn check(&self, rows: usize, columns: usize) {
        assert!(self.bias.is_none_or(|bias| bias.len() >= columns), "a bias for each column");
        assert!(
            self.residual.is_none_or(|residual| (rows - 1) * residual.stride + columns <= residual.values.len()),
            "rows inside of the residual"
        );
    }
}

/// Rows and panels, divided into tasks.
pub(crate) struct Grid {
    rows: usize,
    panels: usize,
    /// Rows and panels of a task.
    part: [usize; 2],
    /// Tasks across.
    across: usize,
}

impl Grid {
    pub(crate) fn new(rows: usize, panels: usize, isa: Isa, operations: usize) -> Self {
        let tile = isa.pair_rows();
        if alone(operations) {
            return Self { rows, panels, part: [rows, panels.max(1)], across: 1 };
        }
        // A few tasks for each thread, so that none waits long for the last one; each at least a few microseconds.
        let wanted = (3 * threads()).min(operations >> 15).max(threads());
        let most = ROWS / tile * tile;
        let down = rows.div_ceil(most);
        let (down, across) = if down >= wanted {
            (down, 1)
        } else {
            // Rows are divided first: every part of the columns reads all rows again, and the other way round.
            let down = wanted.min(rows.div_ceil(2 * tile)).max(down);
            (down, (wanted / down).clamp(1, panels.max(1)))
        };
        let part = [rows.div_ceil(down).next_multiple_of(tile).min(rows.max(1)), panels.div_ceil(across).max(1)];
        Self { rows, panels, part, across: panels.div_ceil(part[1]).max(1) }
    }

    pub(crate) fn count(&self) -> usize {
        self.rows.div_ceil(self.part[0]) * self.across
    }

    pub(crate) fn part(&self, task: usize) -> (Range<usize>, Range<usize>) {
        let (down, across) = (task / self.across * self.part[0], task % self.across * self.part[1]);
        (down..self.rows.min(down + self.part[0]), across..self.panels.min(across + self.part[1]))
    }
}

/// Some rows times some panels.
pub(crate) struct Block<'a> {
    pub packed: &'a PackedMatrix,
    /// `rows` rows of the packed matrix's depth, every `stride` values.
    pub left: *const f32,
    pub stride: usize,
    pub rows: usize,
    pub panels: Range<usize>,
    /// As many rows of all columns, every `out_stride` values.
    pub out: *mut f32,
    pub out_stride: usize,
    /// The number of the first row, for the residual.
    pub first_row: usize,
    pub epilogue: &'a Epilogue<'a>,
}

impl Block<'_> {
    /// Computes the block. Not inlined: it is compiled for every vector unit and number of rows.
    ///
    /// The rows are inside of their slices, and nobody else writes to those of the output.
    #[inline(never)]
    pub(crate) fn run(self, isa: Isa) {
        isa.dispatch(self);
    }
}

impl Work for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.run(
            #[inline(always)]
            || self.compute(lanes),
        );
    }
}

/// The height of the tile for so many rows that are left: few heights are compiled.
fn height(left: usize) -> usize {
    [12, 8, 6, 4, 2].into_iter().find(|&height| height <= left).unwrap_or(1)
}

/// A tile of the output.
struct Tile {
    left: *const f32,
    stride: usize,
    right: *const f32,
    depth: usize,
    out: *mut f32,
    out_stride: usize,
    /// Columns.
    count: usize,
    /// Whether sums of smaller depths are in the output already.
    more: bool,
    last: Option<Last>,
}

impl Block<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(&self, lanes: L) {
        let PackedMatrix { depth, columns, .. } = *self.packed;
        let width = VECTORS * L::LANES;
        let values = self.packed.values.values::<f32>(depth * columns.next_multiple_of(L::LANES));
        let tile_rows = L::PAIR_ROWS;
        let whole = self.epilogue.function.ends();
        let mut start = 0;
        loop {
            // The last two blocks are of about the same depth.
            let left = depth - start;
            let part = if left > 2 * DEPTH {
                DEPTH
            } else if left > DEPTH + DEPTH / 2 {
                left.div_ceil(2)
            } else {
                left
            };
            let ends = start + part == depth;
            for panel in self.panels.clone() {
                let first = panel * width;
                let count = (columns - first).min(width);
                let across = if count > L::LANES { width } else { L::LANES };
                let right = values[panel * width * depth..].as_ptr().wrapping_add(start * across);
                let bias = self.epilogue.bias.map_or(ptr::null(), |bias| bias[first..].as_ptr());
                let mut row = 0;
                while row < self.rows {
                    let rows = height(tile_rows.min(self.rows - row));
                    let out = self.out.wrapping_add(row * self.out_stride + first);
                    let last = ends.then(|| {
                        let (residual, residual_stride) = self.epilogue.residual.map_or((ptr::null(), 0), |residual| {
                            let at = (self.first_row + row) * residual.stride + first;
                            (residual.values.as_ptr().wrapping_add(at), residual.stride)
                        });
                        let ends = whole.unwrap_or(Ends::NONE);
                        Last { bias, residual, residual_stride, ends }
                    });
                    let tile = Tile {
                        left: self.left.wrapping_add(row * self.stride + start),
                        stride: self.stride,
                        right,
                        depth: part,
                        out,
                        out_stride: self.out_stride,
                        count,
                        more: start > 0,
                        last,
                    };
                    // SAFETY: whoever made the block answers for its rows being inside of their slices; the packed values are as
                    // long as was just checked.
                    unsafe { tile.dispatch(lanes, rows) };
                    if ends && whole.is_none() {
                        for r in 0..rows {
                            // SAFETY: this row of the tile was just written.
                            let row = unsafe { std::slice::from_raw_parts_mut(out.add(r * self.out_stride), count) };
                            self.epilogue.function.apply_inline(row);
                        }
                    }
                    row += rows;
                }
            }
            start += part;
            if ends {
                return;
            }
        }
    }
}

impl Tile {
    /// Where sums go, with so many columns before the last vector.
    #[inline(always)]
    fn to(&self, before: usize) -> To {
        To { out: self.out, stride: self.out_stride, tail: self.count - before, more: self.more }
    }

    /// # Safety
    /// `rows` rows of `left` and of the output are inside of their slices, as are bias, residual and the packed values.
    #[inline(always)]
    unsafe fn dispatch<L: Lanes>(&self, lanes: L, rows: usize) {
        let wide = self.count > L::LANES;
        macro_rules! rows {
            ($($rows:literal)*) => {
                match rows {
                    // SAFETY: the caller's.
                    $($rows if L::PAIR_ROWS >= $rows => unsafe {
                        if wide { self.run::<L, $rows, 2>(lanes) } else { self.run::<L, $rows, 1>(lanes) }
                    },)*
                    _ => unreachable!("a tile has one of the heights, and at most `PAIR_ROWS` rows"),
                }
            };
        }
        match rows {
            // One row alone would wait for every sum: its depth is divided.
            // SAFETY: the caller's.
            1 => unsafe { if wide { self.single::<L, 2>(lanes) } else { self.single::<L, 1>(lanes) } },
            _ => rows!(2 4 6 8 12),
        }
    }

    #[inline(always)]
    unsafe fn single<L: Lanes, const V: usize>(&self, lanes: L) {
        const PARTS: usize = 4;
        let mut sums = [[lanes.splat(0.0); V]; PARTS];
        let (mut left, mut right) = (self.left, self.right);
        // SAFETY: the caller of `dispatch`'s.
        unsafe {
            for _ in 0..self.depth / PARTS {
                for (part, sums) in sums.iter_mut().enumerate() {
                    let value = lanes.splat(*left.add(part));
                    for (v, sum) in sums.iter_mut().enumerate() {
                        *sum = lanes.mul_add(value, lanes.load(right.add((part * V + v) * L::LANES)), *sum);
                    }
                }
                left = left.add(PARTS);
                right = right.add(PARTS * V * L::LANES);
            }
            for _ in 0..self.depth % PARTS {
                let value = lanes.splat(*left);
                for (v, sum) in sums[0].iter_mut().enumerate() {
                    *sum = lanes.mul_add(value, lanes.load(right.add(v * L::LANES)), *sum);
                }
                left = left.add(1);
                right = right.add(V * L::LANES);
            }
            let [a, b, c, d] = sums;
            let mut sums = a;
            for v in 0..V {
                sums[v] = lanes.add(lanes.add(sums[v], b[v]), lanes.add(c[v], d[v]));
            }
            self.to(L::LANES * (V - 1)).store(lanes, [sums], self.last.as_ref());
        }
    }

    #[inline(always)]
    unsafe fn run<L: Lanes, const R: usize, const V: usize>(&self, lanes: L) {
        let mut sums = [[lanes.splat(0.0); V]; R];
        let mut left: [*const f32; R] = std::array::from_fn(|r| self.left.wrapping_add(r * self.stride));
        let mut right = self.right;
        // SAFETY: the caller of `dispatch`'s.
        unsafe {
            for _ in 0..self.depth {
                let mut columns = [lanes.splat(0.0); V];
                for (v, column) in columns.iter_mut().enumerate() {
                    *column = lanes.load(right.add(v * L::LANES));
                }
                for (left, sums) in left.iter_mut().zip(&mut sums) {
                    let value = lanes.splat(**left);
                    for (sum, column) in sums.iter_mut().zip(columns) {
                        *sum = lanes.mul_add(value, column, *sum);
                    }
                    *left = left.add(1);
                }
                right = right.add(V * L::LANES);
            }
            self.to(L::LANES * (V - 1)).store(lanes, sums, self.last.as_ref());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pointwise::RELU;
    use proptest::prelude::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    proptest! {
        #[test]
        fn products_are_those_of_the_definition(
            (rows, depth, columns) in (1usize..40, 0usize..700, 1usize..70),
            (pad, out_pad) in (0usize..4, 0usize..4),
            (biased, added, turned) in (any::<bool>(), any::<bool>(), any::<bool>()),
            function in prop::sample::select(vec![Pointwise::None, RELU, Pointwise::Clip(-0.5, 6.0), Pointwise::Silu, Pointwise::HardSwish]),
        ) {
            let (stride, out_stride) = (depth + pad, columns + out_pad);
            let left = values(rows * stride, 1);
            let right = values(depth * columns, 2);
            let bias = values(columns, 3);
            let residual = values(rows * out_stride, 4);
            let strides = if turned { [1, depth] } else { [columns, 1] };
            let epilogue = Epilogue {
                bias: biased.then_some(&bias[..]),
                residual: added.then_some(Residual { values: &residual, stride: out_stride }),
                function,
            };
            for isa in Isa::available() {
                let packed = PackedMatrix::new_at(isa, &right, depth, columns, strides);
                let mut out = vec![f32::NAN; rows * out_stride];
                packed.multiply(&left, stride, rows, &epilogue, &mut out, out_stride);
                for row in 0..rows {
                    for column in 0..columns {
                        let products = (0..depth).map(|k| {
                            f64::from(left[row * stride + k]) * f64::from(right[k * strides[0] + column * strides[1]])
                        });
                        let mut sum = products.sum::<f64>();
                        if biased { sum += f64::from(bias[column]); }
                        if added { sum += f64::from(residual[row * out_stride + column]); }
                        let mut expected = [sum as f32];
                        function.apply_inline(&mut expected);
                        let found = out[row * out_stride + column];
                        prop_assert!((found - expected[0]).abs() < 2e-3, "{isa:?} {row} {column}: {found} {expected:?}");
                    }
                    prop_assert!(out[row * out_stride + columns..].iter().take(out_pad).all(|value| value.is_nan()));
                }
            }
        }
    }

    #[test]
    fn large_products_are_divided() {
        let (rows, depth, columns) = (331, 300, 130);
        let (left, right) = (values(rows * depth, 5), values(depth * columns, 6));
        let packed = PackedMatrix::new(&right, depth, columns, [columns, 1]);
        let mut whole = vec![0.0; rows * columns];
        packed.multiply(&left, depth, rows, &Epilogue::default(), &mut whole, columns);
        for row in 0..rows {
            let mut single = vec![0.0; columns];
            packed.multiply(&left[row * depth..], depth, 1, &Epilogue::default(), &mut single, columns);
            assert!(single.iter().zip(&whole[row * columns..]).all(|(a, b)| (a - b).abs() < 1e-3));
        }
    }
}
