//! A product of matrices as dot products of the rows of both, in tiles that fill the registers.
#![allow(unsafe_code)]

use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, alone, threads};

/// Values of the left operand that are used again and again: a part of the second-level cache.
const BLOCK: usize = 1 << 16;
/// Steps of the sum that are done at a time, at least; a multiple of all vectors.
const DEPTH: usize = 1024;
/// Rows of the left operand that are done at a time, at most.
const ROWS: usize = 64;
/// Columns of the result that a task begins with: a multiple of no tile, since the last one may be narrower.
const COLUMNS: usize = 40;

/// `out = left · rightᵀ`, then a bias and a ReLU.
pub(crate) struct Inner<'a> {
    /// Rows of the result.
    pub(crate) rows: usize,
    /// Products summed up for one value.
    pub(crate) depth: usize,
    /// Columns of the result.
    pub(crate) columns: usize,
    /// `[rows, depth]`.
    pub(crate) left: &'a [f32],
    /// `[columns, depth]`.
    pub(crate) right: &'a [f32],
    /// One value for each column to add.
    pub(crate) bias: Option<&'a [f32]>,
    /// Whether negative results become zero.
    pub(crate) relu: bool,
    /// `[rows, columns]`.
    pub(crate) out: Shared,
}

/// How a product is divided into tasks.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    /// Parts that rows are divided into.
    down: usize,
    /// Parts that columns are divided into.
    across: usize,
}

impl Plan {
    /// Tasks in all.
    pub(crate) fn tasks(&self) -> usize {
        self.across * self.down
    }
}

impl Inner<'_> {
    /// Operations in all, a product and its sum as one.
    pub(crate) fn operations(&self) -> usize {
        self.rows * self.depth * self.columns
    }

    /// How to divide the work; what comes out does not depend on it.
    pub(crate) fn plan(&self) -> Plan {
        let down = self.rows.div_ceil(ROWS);
        let across = if alone(self.operations()) { 1 } else { self.columns.div_ceil(COLUMNS).min(4 * threads()) };
        Plan { down, across }
    }

    /// Does one of the plan's tasks. The operands have the lengths that the sizes say, or this panics.
    pub(crate) fn run(&self, isa: Isa, plan: &Plan, task: usize) {
        isa.dispatch(Part { product: self, plan, task });
    }
}

/// Some columns of some rows.
struct Part<'a> {
    product: &'a Inner<'a>,
    plan: &'a Plan,
    task: usize,
}

impl Work for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let Inner { rows, columns, .. } = *self.product;
        // Tiles that fill the registers, the ones with the fewest loads for a product first. Four rows and three columns are one
        // register more than AVX2 has.
        let shapes: &[[usize; 2]] =
            if L::ROWS >= 8 { &[[5, 5], [4, 6], [6, 4], [2, 8], [1, 8]] } else { &[[3, 4], [2, 6], [1, 8]] };
        let cost = |[m, n]: [usize; 2]| rows.min(ROWS).div_ceil(m) * columns.min(COLUMNS).div_ceil(n) * (m * n + m + n);
        match shapes.iter().copied().min_by_key(|shape| cost(*shape)) {
            Some([5, 5]) => lanes.run(|| self.tiles::<L, 5, 5>(lanes)),
            Some([4, 6]) => lanes.run(|| self.tiles::<L, 4, 6>(lanes)),
            Some([6, 4]) => lanes.run(|| self.tiles::<L, 6, 4>(lanes)),
            Some([2, 8]) => lanes.run(|| self.tiles::<L, 2, 8>(lanes)),
            Some([3, 4]) => lanes.run(|| self.tiles::<L, 3, 4>(lanes)),
            Some([2, 6]) => lanes.run(|| self.tiles::<L, 2, 6>(lanes)),
            _ => lanes.run(|| self.tiles::<L, 1, 8>(lanes)),
        }
    }
}

/// Fours of the widest tile's columns.
const FOURS: usize = 2;

impl Part<'_> {
    /// All tiles of `M` rows and `N` columns; the last ones repeat a row or a column.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "the sums stay in registers only when every index is a constant")]
    fn tiles<L: Lanes, const M: usize, const N: usize>(self, lanes: L) {
        let Self { product, plan, task } = self;
        let Inner { depth, left, right, .. } = *product;
        assert!(left.len() == product.rows * depth && right.len() == product.columns * depth);
        assert!(product.bias.is_none_or(|bias| bias.len() == product.columns));
        let share = |all: usize, parts: usize, part: usize| part * all / parts..(part + 1) * all / parts;
        let columns = share(product.columns, plan.across, task % plan.across);
        let rows = share(product.rows, plan.down, task / plan.across);
        let block = (BLOCK / product.rows.min(ROWS)).next_multiple_of(DEPTH);
        for first in (0..depth).step_by(block) {
            let len = block.min(depth - first);
            let (vectors, rest) = (len / L::LANES, len % L::LANES);
            for column in columns.clone().step_by(N) {
                let b: [&[f32]; N] =
                    std::array::from_fn(|n| &right[(column + n).min(columns.end - 1) * depth + first..][..len]);
                for row in rows.clone().step_by(M) {
                    let a: [&[f32]; M] =
                        std::array::from_fn(|m| &left[(row + m).min(rows.end - 1) * depth + first..][..len]);
                    let mut sums = [[lanes.splat(0.0); N]; M];
                    for vector in 0..vectors {
                        let at = vector * L::LANES;
                        // SAFETY: all slices have `len` values, and so many whole vectors fit.
                        let rows: [L::Vector; M] =
                            std::array::from_fn(|m| unsafe { lanes.load(a[m].as_ptr().add(at)) });
                        for n in 0..N {
                            // SAFETY: as above.
                            let value = unsafe { lanes.load(b[n].as_ptr().add(at)) };
                            for m in 0..M {
                                sums[m][n] = lanes.mul_add(rows[m], value, sums[m][n]);
                            }
                        }
                    }
                    if rest > 0 {
                        let at = vectors * L::LANES;
                        // SAFETY: all slices have `len` values, of which `rest` are after the whole vectors.
                        let rows: [L::Vector; M] =
                            std::array::from_fn(|m| unsafe { lanes.load_first(a[m].as_ptr().add(at), rest) });
                        for n in 0..N {
                            // SAFETY: as above.
                            let value = unsafe { lanes.load_first(b[n].as_ptr().add(at), rest) };
                            for m in 0..M {
                                sums[m][n] = lanes.mul_add(rows[m], value, sums[m][n]);
                            }
                        }
                    }
                    // Constant indices only, and no closures: else the sums are kept in memory all along.
                    let mut fours = [[[0.0; 4]; FOURS]; M];
                    for m in 0..M {
                        for four in 0..N.div_ceil(4) {
                            let n = four * 4;
                            let vectors = [
                                sums[m][n],
                                sums[m][(n + 1).min(N - 1)],
                                sums[m][(n + 2).min(N - 1)],
                                sums[m][(n + 3).min(N - 1)],
                            ];
                            fours[m][four] = lanes.sums(vectors);
                        }
                    }
                    let last = first + len == depth;
                    for (sums, row) in fours.iter().zip(row..rows.end) {
                        for (sum, column) in sums.as_flattened()[..N].iter().zip(column..columns.end) {
                            let mut sum = *sum;
                            // SAFETY: the task's own row and column of the result.
                            let out = product.out.at(row * product.columns + column);
                            if first > 0 {
                                // SAFETY: as above; an earlier block wrote it.
                                sum += unsafe { out.read() };
                            }
                            if let Some(bias) = product.bias.filter(|_| last) {
                                sum += bias[column];
                            }
                            if product.relu && last && sum < 0.0 {
                                sum = 0.0;
                            }
                            // SAFETY: as above.
                            unsafe { out.write(sum) };
                        }
                    }
                }
            }
        }
    }
}
