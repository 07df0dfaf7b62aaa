//! Dot products of many rows with many shifted rows, in tiles that fill the registers.

#![allow(unsafe_code)]

use crate::lanes::{Lanes, Work};

/// Filters that a tile may have, as a common multiple: chunks of filters are cut at it.
pub(crate) const FILTERS: usize = 8;

/// One weight's products.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    /// Where its pixels begin in the packed input.
    pub start: usize,
    /// Where its gradient is in a filter.
    pub weight: usize,
}

/// Dot products of all packed gradients with all shifted inputs.
pub(crate) struct Dots<'a> {
    pub grad: &'a [f32],
    /// Values from one channel of the gradient to the next.
    pub grad_channel: usize,
    pub input: &'a [f32],
    pub columns: &'a [Column],
    /// Where the runs that are multiplied begin, in a channel of the gradient and after a column's start.
    pub runs: &'a [[usize; 2]],
    /// Values of a run; up to the next vector, those of the gradient are zero.
    pub len: usize,
    pub filters: usize,
    /// `[filters, weights of a filter]`, added to.
    pub sums: &'a mut [f32],
}

impl Work for Dots<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let filters = self.filters;
        // Tiles that fill the registers, the ones with the fewest loads for a product first. Four rows and three columns are one
        // register more than AVX2 has.
        let shapes: &[[usize; 2]] =
            if L::ROWS >= 8 { &[[5, 5], [4, 6], [6, 4], [8, 3], [2, 8], [1, 8]] } else { &[[3, 4], [2, 6], [1, 8]] };
        let cost = |[m, n]: [usize; 2]| filters.div_ceil(m) * self.columns.len().div_ceil(n) * (m * n + m + n);
        match shapes.iter().copied().min_by_key(|shape| cost(*shape)) {
            Some([5, 5]) => lanes.run(|| self.tiles::<L, 5, 5>(lanes)),
            Some([4, 6]) => lanes.run(|| self.tiles::<L, 4, 6>(lanes)),
            Some([6, 4]) => lanes.run(|| self.tiles::<L, 6, 4>(lanes)),
            Some([8, 3]) => lanes.run(|| self.tiles::<L, 8, 3>(lanes)),
            Some([2, 8]) => lanes.run(|| self.tiles::<L, 2, 8>(lanes)),
            Some([3, 4]) => lanes.run(|| self.tiles::<L, 3, 4>(lanes)),
            Some([2, 6]) => lanes.run(|| self.tiles::<L, 2, 6>(lanes)),
            _ => lanes.run(|| self.tiles::<L, 1, 8>(lanes)),
        }
    }
}

impl Dots<'_> {
    /// All tiles of `M` filters and `N` columns; the last ones repeat a filter or a column.
    #[inline(always)]
    #[expect(clippy::needless_range_loop, reason = "the sums stay in registers only when every index is a constant")]
    fn tiles<L: Lanes, const M: usize, const N: usize>(self, lanes: L) {
        let (count, filters) = (self.columns.len(), self.filters);
        let filter_len = self.sums.len() / filters;
        let vectors = self.len.div_ceil(L::LANES);
        let end = vectors * L::LANES;
        let furthest = self.columns.iter().map(|column| column.start).max().unwrap_or(0);
        let last = [0, 1].map(|side| self.runs.iter().map(|run| run[side]).max().unwrap_or(0));
        assert!((filters - 1) * self.grad_channel + last[0] + end <= self.grad.len());
        assert!(furthest + last[1] + end <= self.input.len());
        for filter in (0..filters).step_by(M) {
            let rows: [&[f32]; M] =
                std::array::from_fn(|m| &self.grad[(filter + m).min(filters - 1) * self.grad_channel..]);
            for column in (0..count).step_by(N) {
                let shifted: [&[f32]; N] =
                    std::array::from_fn(|n| &self.input[self.columns[(column + n).min(count - 1)].start..]);
                let mut sums = [[lanes.splat(0.0); N]; M];
                for [grad_start, input_start] in self.runs {
                    for vector in 0..vectors {
                        let at = vector * L::LANES;
                        // SAFETY: every row begins at or before the last filter's, where the last run and
                        // all its vectors are inside, as asserted above.
                        let grads: [L::Vector; M] =
                            std::array::from_fn(|m| unsafe { lanes.load(rows[m].as_ptr().add(grad_start + at)) });
                        for n in 0..N {
                            // SAFETY: the same for the input, whose furthest column was asserted above.
                            let value = unsafe { lanes.load(shifted[n].as_ptr().add(input_start + at)) };
                            for m in 0..M {
                                sums[m][n] = lanes.mul_add(grads[m], value, sums[m][n]);
                            }
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
                for (sums, filter) in fours.iter().zip(filter..filters) {
                    let place = &mut self.sums[filter * filter_len..][..filter_len];
                    for (sum, column) in sums.as_flattened()[..N].iter().zip(&self.columns[column..]) {
                        place[column.weight] += sum;
                    }
                }
            }
        }
    }
}

/// Fours of the widest tile's columns.
const FOURS: usize = 2;
