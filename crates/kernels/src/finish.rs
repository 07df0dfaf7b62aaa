//! What follows the sums of a tile before they leave the registers.
#![allow(unsafe_code)]

use crate::lanes::Lanes;
use crate::pointwise::Ends;

/// What follows the last products: a bias for each column, a value for each row and column, and bounds.
#[derive(Clone, Copy)]
pub(crate) struct Last {
    /// For the first column; may be null.
    pub bias: *const f32,
    /// For the first row and column; may be null.
    pub residual: *const f32,
    /// From one row to the next.
    pub residual_stride: usize,
    pub ends: Ends,
}

/// Where the sums of a tile go.
#[derive(Clone, Copy)]
pub(crate) struct To {
    pub out: *mut f32,
    /// From one row to the next.
    pub stride: usize,
    /// Columns of the last vector.
    pub tail: usize,
    /// Whether sums of smaller depths are there already.
    pub more: bool,
}

/// Loops over a constant number of rows and vectors, simple enough to be unrolled: sums that stay in registers.
macro_rules! each {
    ($sums:ident, |$r:ident, $v:ident, $sum:ident| $value:expr) => {
        for ($r, sums) in $sums.iter_mut().enumerate() {
            for ($v, sum) in sums.iter_mut().enumerate() {
                let $sum = *sum;
                *sum = $value;
            }
        }
    };
}

impl To {
    /// Finishes the sums of a tile and stores them.
    ///
    /// # Safety
    /// Rows of `V` vectors, the last of `tail` values, are inside of the output, as they are of what `last` points to.
    #[inline(always)]
    pub unsafe fn store<L: Lanes, const R: usize, const V: usize>(
        &self,
        lanes: L,
        sums: [[L::Vector; V]; R],
        last: Option<&Last>,
    ) {
        // SAFETY: the caller's.
        unsafe { if self.tail == L::LANES { self.whole(lanes, sums, last) } else { self.ragged(lanes, sums, last) } }
    }

    /// # Safety
    /// As above, and the last vector is whole.
    #[inline(always)]
    unsafe fn whole<L: Lanes, const R: usize, const V: usize>(
        &self,
        lanes: L,
        mut sums: [[L::Vector; V]; R],
        last: Option<&Last>,
    ) {
        // SAFETY: the caller's.
        unsafe {
            if self.more {
                each!(sums, |r, v, sum| lanes.add(sum, lanes.load(self.out.add(r * self.stride + v * L::LANES))));
            }
            if let Some(last) = last {
                if !last.bias.is_null() {
                    each!(sums, |_r, v, sum| lanes.add(sum, lanes.load(last.bias.add(v * L::LANES))));
                }
                if !last.residual.is_null() {
                    let from = |r: usize, v: usize| last.residual.add(r * last.residual_stride + v * L::LANES);
                    each!(sums, |r, v, sum| lanes.add(sum, lanes.load(from(r, v))));
                }
                if !last.ends.open() {
                    let (low, high) = last.ends.bounds(lanes);
                    each!(sums, |_r, _v, sum| lanes.at_most(high, lanes.at_least(low, sum)));
                }
            }
            for (r, sums) in sums.into_iter().enumerate() {
                for (v, sum) in sums.into_iter().enumerate() {
                    lanes.store(self.out.add(r * self.stride + v * L::LANES), sum);
                }
            }
        }
    }

    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn ragged<L: Lanes, const R: usize, const V: usize>(
        &self,
        lanes: L,
        sums: [[L::Vector; V]; R],
        last: Option<&Last>,
    ) {
        // SAFETY: the caller's.
        unsafe {
            for (r, sums) in sums.into_iter().enumerate() {
                for (v, mut sum) in sums.into_iter().enumerate() {
                    let count = if v + 1 < V { L::LANES } else { self.tail };
                    let out = self.out.add(r * self.stride + v * L::LANES);
                    if self.more {
                        sum = lanes.add(sum, lanes.load_first(out, count));
                    }
                    if let Some(last) = last {
                        if !last.bias.is_null() {
                            sum = lanes.add(sum, lanes.load_first(last.bias.add(v * L::LANES), count));
                        }
                        if !last.residual.is_null() {
                            let from = last.residual.add(r * last.residual_stride + v * L::LANES);
                            sum = lanes.add(sum, lanes.load_first(from, count));
                        }
                        sum = last.ends.apply(lanes, sum);
                    }
                    lanes.store_first(out, sum, count);
                }
            }
        }
    }
}
