//! Some rows of the left operand times some panels of the right one, in tiles that fill the registers.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::ops::Range;
use std::ptr;

use super::accumulate::accumulate;
use super::epilogue::Epilogue;
use super::packed::{PackedMatrix, VECTORS};
use crate::finish::{Last, To};
use crate::lanes::{Isa, Lanes, Work};
use crate::memory::Memory;
use crate::pointwise::Ends;

/// Depth of a block: a panel of it (16 KiB on AVX2) stays in the first-level cache while the rows pass by.
const DEPTH: usize = 256;

/// Columns of a block: the sums of 120 rows (240 KiB) stay in the second-level cache until the next depth adds to them.
const COLUMNS: usize = 512;

/// Rows that begin so many values apart (2 KiB) are copied before many panels read them: each would begin on a page of its own, where
/// nothing is fetched ahead. Measured with AVX2: 197 x 768 x 768 on one thread, 70 billion operations a second, and 90 from a copy.
const FAR: usize = 512;

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

/// Some depth of the left operand.
struct Left {
    values: *const f32,
    /// From one row to the next.
    stride: usize,
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

/// Depth of the next block: the last two are of about the same depth.
fn next_depth(left: usize) -> usize {
    if left > 2 * DEPTH {
        DEPTH
    } else if left > DEPTH + DEPTH / 2 {
        left.div_ceil(2)
    } else {
        left
    }
}

thread_local! {
    /// Copies of rows, kept so that a product allocates nothing.
    static COPIES: Cell<Memory> = const { Cell::new(Memory::empty()) };
}

impl Block<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(&self, lanes: L) {
        let whole = self.packed.depth();
        let mut copies = COPIES.take();
        let at_once = COLUMNS / (VECTORS * L::LANES);
        for first in self.panels.clone().step_by(at_once) {
            let panels = first..self.panels.end.min(first + at_once);
            let mut start = 0;
            loop {
                let depth = start..start + next_depth(whole - start);
                let left = if self.stride >= FAR && panels.len() >= 8 && self.rows > L::PAIR_ROWS {
                    self.near(&depth, &mut copies)
                } else {
                    Left { values: self.left.wrapping_add(depth.start), stride: self.stride }
                };
                self.part(lanes, &left, &panels, &depth);
                start = depth.end;
                if start == whole {
                    break;
                }
            }
        }
        COPIES.set(copies);
    }

    /// All rows times some panels, over some depth.
    #[inline(always)]
    fn part<L: Lanes>(&self, lanes: L, left: &Left, panels: &Range<usize>, depth: &Range<usize>) {
        // Not `for_each`: its closure would not be compiled for the vector unit.
        for panel in panels.clone() {
            let mut row = 0;
            while row < self.rows {
                let rows = row..row + height(L::PAIR_ROWS.min(self.rows - row));
                row = rows.end;
                self.tile(lanes, left, rows, panel, depth.clone());
            }
        }
    }

    /// A part of all rows, copied to where they follow each other.
    fn near(&self, depth: &Range<usize>, copies: &mut Memory) -> Left {
        let part = depth.len();
        copies.reserve(self.rows * part * size_of::<f32>());
        let values = copies.values_mut::<f32>(self.rows * part);
        for (row, copy) in values.chunks_exact_mut(part).enumerate() {
            // SAFETY: whoever made the block answers for its rows being inside of their slices.
            copy.copy_from_slice(unsafe {
                std::slice::from_raw_parts(self.left.add(row * self.stride + depth.start), part)
            });
        }
        Left { values: values.as_ptr(), stride: part }
    }

    #[inline(always)]
    fn tile<L: Lanes>(&self, lanes: L, left: &Left, rows: Range<usize>, panel: usize, depth: Range<usize>) {
        let (whole_depth, columns) = (self.packed.depth(), self.packed.columns());
        let width = VECTORS * L::LANES;
        let first = panel * width;
        let count = (columns - first).min(width);
        let whole = self.epilogue.function.ends();
        let ends = depth.end == whole_depth;
        let out = self.out.wrapping_add(rows.start * self.out_stride + first);
        let last = ends.then(|| {
            let (residual, residual_stride) = self.epilogue.residual.map_or((ptr::null(), 0), |residual| {
                let at = (self.first_row + rows.start) * residual.stride + first;
                (residual.values.as_ptr().wrapping_add(at), residual.stride)
            });
            let bias = self.epilogue.bias.map_or(ptr::null(), |bias| bias[first..].as_ptr());
            Last { bias, residual, residual_stride, ends: whole.unwrap_or(Ends::NONE) }
        });
        let tile = Tile {
            left: left.values.wrapping_add(rows.start * left.stride),
            stride: left.stride,
            right: self.packed.panel::<L>(panel, &depth).as_ptr(),
            depth: depth.len(),
            out,
            out_stride: self.out_stride,
            count,
            more: depth.start > 0,
            last,
        };
        // SAFETY: whoever made the block answers for its rows being inside of their slices; the packed values are as
        // long as was just checked.
        unsafe { tile.dispatch(lanes, rows.len()) };
        if ends && whole.is_none() {
            for r in 0..rows.len() {
                // SAFETY: this row of the tile was just written.
                let row = unsafe { std::slice::from_raw_parts_mut(out.add(r * self.out_stride), count) };
                self.epilogue.function.apply_inline(row);
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
        let left = std::array::from_fn(|r| self.left.wrapping_add(r * self.stride));
        // SAFETY: the caller of `dispatch`'s.
        unsafe {
            accumulate(lanes, &mut sums, self.depth, (left, 1), (self.right, V * L::LANES));
            self.to(L::LANES * (V - 1)).store(lanes, sums, self.last.as_ref());
        }
    }
}
