//! Some rows of the left operand times some panels of the right one, in tiles that fill the registers.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr;

use super::epilogue::Epilogue;
use super::packed::{PackedMatrix, VECTORS};
use crate::finish::{Last, To};
use crate::lanes::{Isa, Lanes, Work};
use crate::pointwise::Ends;

/// Depth of a block: a panel of it (16 KiB on AVX2) stays in the first-level cache while the rows pass by.
const DEPTH: usize = 256;

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
        let (depth, columns) = (self.packed.depth(), self.packed.columns());
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
