//! The register tile: a few rows of weights times a few vectors of pixels, all sums kept in registers.
#![allow(unsafe_code)]

use crate::lanes::Lanes;

/// Vectors across a full tile.
pub(crate) const VECTORS: usize = 3;

/// One product `rows x depth` times `depth x vectors`, and where it goes.
pub(crate) struct Tile {
    /// Rows of the left operand side by side: for each step of the depth, one value of each row.
    pub(crate) left: *const f32,
    /// Steps to add up.
    pub(crate) depth: usize,
    /// How far from `right` each step's vectors lie.
    pub(crate) offsets: *const u32,
    /// Where each vector of the right operand begins.
    pub(crate) right: [*const f32; VECTORS],
    /// Where each vector of the first row of the result goes.
    pub(crate) out: [*mut f32; VECTORS],
    /// Lanes of each vector that are written.
    pub(crate) count: [usize; VECTORS],
    /// Values from one row of the result to the next.
    pub(crate) out_stride: usize,
    /// Whether to add to what the result holds.
    pub(crate) accumulate: bool,
    /// One value for each row to add, or null.
    pub(crate) bias: *const f32,
    /// Whether negative results become zero.
    pub(crate) relu: bool,
}

impl Tile {
    /// Computes the first `rows` rows and `vectors` vectors.
    ///
    /// # Safety
    /// `rows` is 1 to `L::ROWS` and `vectors` 1 to [`VECTORS`]; `left` holds `rows * depth` values, `offsets` `depth` of them;
    /// a whole vector can be read at each offset from each of `right`; `count` lanes, at most a whole vector, at each of `out` and at each row's stride
    /// from it can be written (and read to accumulate) and nobody else uses them; `bias` is null or holds `rows` values.
    pub(crate) unsafe fn compute<L: Lanes>(&self, lanes: L, rows: usize, vectors: usize) {
        // SAFETY: the caller's; each arm computes what it was asked for.
        unsafe {
            match rows {
                1 => self.rows::<L, 1>(lanes, vectors),
                2 => self.rows::<L, 2>(lanes, vectors),
                3 => self.rows::<L, 3>(lanes, vectors),
                4 => self.rows::<L, 4>(lanes, vectors),
                5 if L::ROWS > 4 => self.rows::<L, 5>(lanes, vectors),
                6 if L::ROWS > 4 => self.rows::<L, 6>(lanes, vectors),
                7 if L::ROWS > 4 => self.rows::<L, 7>(lanes, vectors),
                8 if L::ROWS > 4 => self.rows::<L, 8>(lanes, vectors),
                _ => unreachable!("a tile has 1 to {} rows", L::ROWS),
            }
        }
    }

    /// # Safety
    /// As [`Self::compute`].
    #[inline(always)]
    unsafe fn rows<L: Lanes, const ROWS: usize>(&self, lanes: L, vectors: usize) {
        // SAFETY: the caller's; each arm computes what it was asked for.
        unsafe {
            match vectors {
                1 => lanes.run(|| self.product::<L, ROWS, 1>(lanes)),
                2 => lanes.run(|| self.product::<L, ROWS, 2>(lanes)),
                _ => lanes.run(|| self.product::<L, ROWS, 3>(lanes)),
            }
        }
    }

    /// # Safety
    /// As [`Self::compute`], for `ROWS` and `ACROSS`.
    #[inline(always)]
    unsafe fn product<L: Lanes, const ROWS: usize, const ACROSS: usize>(&self, lanes: L) {
        let mut sums = [[lanes.splat(0.0); ACROSS]; ROWS];
        let mut left = self.left;
        for step in 0..self.depth {
            // SAFETY: the caller's: `depth` offsets, a vector at each, `ROWS` values of `left` for each step.
            unsafe {
                let offset = *self.offsets.add(step) as usize;
                let mut right = [lanes.splat(0.0); ACROSS];
                for (v, right) in right.iter_mut().enumerate() {
                    *right = lanes.load(self.right[v].add(offset));
                }
                for (r, sums) in sums.iter_mut().enumerate() {
                    let weight = lanes.splat(*left.add(r));
                    for (sum, right) in sums.iter_mut().zip(right) {
                        *sum = lanes.mul_add(weight, right, *sum);
                    }
                }
                left = left.add(ROWS);
            }
        }
        for (r, sums) in sums.into_iter().enumerate() {
            for (v, mut sum) in sums.into_iter().enumerate() {
                // SAFETY: the caller's: `count` lanes at each row of the result, `ROWS` biases.
                unsafe {
                    let out = self.out[v].add(r * self.out_stride);
                    let whole = self.count[v] == L::LANES;
                    if self.accumulate {
                        sum =
                            lanes.add(sum, if whole { lanes.load(out) } else { lanes.load_first(out, self.count[v]) });
                    }
                    if !self.bias.is_null() {
                        sum = lanes.add(sum, lanes.splat(*self.bias.add(r)));
                    }
                    if self.relu {
                        sum = lanes.relu(sum);
                    }
                    if whole {
                        lanes.store(out, sum);
                    } else {
                        lanes.store_first(out, sum, self.count[v]);
                    }
                }
            }
        }
    }
}
