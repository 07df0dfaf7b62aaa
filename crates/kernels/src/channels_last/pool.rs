//! Pools of images whose channels are side by side.
#![allow(unsafe_code)]

use std::ops::Range;

use super::depthwise::inside;
use super::pixels::Pixels;
use crate::ShapeError;
use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, alone, each, threads};

/// What a pool makes of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    /// The greatest value.
    Max,
    /// The mean of what is inside of the input.
    Average,
    /// The sum over the number of places that the window has inside of the input and its padding.
    AverageWithPadding,
}

/// Geometry of a pool over `[batch, height, width, channels]`.
#[derive(Clone, Copy, Debug)]
pub struct Pool {
    /// What it makes of a window.
    pub kind: PoolKind,
    /// Samples.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Height and width of the input, in pixels.
    pub input: [usize; 2],
    /// Height and width of the output, in pixels.
    pub output: [usize; 2],
    /// Height and width of a window, in taps.
    pub kernel: [usize; 2],
    /// Pixels from one window to the next, down and across.
    pub stride: [usize; 2],
    /// `[before, after]` down, then across, in pixels.
    pub padding: [[usize; 2]; 2],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 2],
}

impl Pool {
    /// The taps inside of the input along an axis: the place of the first, and how many.
    #[inline(always)]
    pub(crate) fn taps(&self, axis: usize, at: usize) -> [usize; 2] {
        let (stride, padding) = (self.stride[axis], self.padding[axis][0]);
        let taps = inside(at, stride, padding, self.dilation[axis], self.kernel[axis], self.input[axis]);
        [(at * stride + taps.start * self.dilation[axis]).saturating_sub(padding), taps.len()]
    }

    /// Places of a window along an axis that are inside of the input and its padding.
    fn padded(&self, axis: usize, at: usize) -> usize {
        let start = (at * self.stride[axis]) as isize - self.padding[axis][0] as isize;
        let end = (self.input[axis] + self.padding[axis][1]) as isize;
        (0..self.kernel[axis] as isize).filter(|tap| start + tap * (self.dilation[axis] as isize) < end).count()
    }

    /// Whether no size is zero that must not be.
    pub(crate) fn check(&self) -> Result<(), ShapeError> {
        let zero = [("a window's side", self.kernel), ("a stride", self.stride), ("a dilation", self.dilation)];
        match zero.into_iter().find(|(_, sizes)| sizes.contains(&0)) {
            Some((what, _)) => Err(ShapeError::Zero { what }),
            None => Ok(()),
        }
    }

    /// Computes the pool. Each pixel of the output begins `out_stride` values after the one before.
    ///
    /// # Errors
    /// When a slice is too short, or a size is zero.
    pub fn forward(&self, input: Pixels<'_>, out: &mut [f32], out_stride: usize) -> Result<(), ShapeError> {
        self.check()?;
        let before = self.batch * self.input[0] * self.input[1];
        let pixels = self.batch * self.output[0] * self.output[1];
        if before == 0 || pixels == 0 || self.channels == 0 {
            return Ok(());
        }
        let check = |what, pixels: usize, stride: usize, found: usize| {
            let expected = (pixels - 1) * stride + self.channels;
            if found < expected { Err(ShapeError::Length { what, expected, found }) } else { Ok(()) }
        };
        check("the input", before, input.stride, input.values.len())?;
        check("the output", pixels, out_stride, out.len())?;
        let lines = self.batch * self.output[0];
        let operations = pixels * self.channels * (self.kernel[0] * self.kernel[1] + 2);
        // One window alone is divided by channels.
        let (down, across) = if alone(operations) {
            (lines, self.channels)
        } else if lines >= threads() {
            (lines.div_ceil(4 * threads()), self.channels)
        } else {
            (1, self.channels.div_ceil(threads()).next_multiple_of(64))
        };
        let columns = self.channels.div_ceil(across);
        let shared = Shared::new(out);
        let isa = Isa::best();
        each(lines.div_ceil(down) * columns, operations, |task| {
            let start = task % columns * across;
            let channels = start..self.channels.min(start + across);
            let first = task / columns * down;
            for line in first..lines.min(first + down) {
                isa.dispatch(Line { pool: self, input, out: shared, out_stride, line, channels: channels.clone() });
            }
        });
        Ok(())
    }
}

struct Line<'a> {
    pool: &'a Pool,
    input: Pixels<'a>,
    out: Shared,
    out_stride: usize,
    line: usize,
    channels: Range<usize>,
}

impl Work for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.run(
            #[inline(always)]
            || self.compute(lanes),
        );
    }
}

/// Vectors of channels that are worked on at once.
const VECTORS: usize = 4;

/// The pixels that a window sees.
struct Seen {
    /// The first.
    input: *const f32,
    taps: [usize; 2],
    /// Between taps down and across.
    apart: [usize; 2],
    /// What a sum is multiplied by.
    factor: f32,
}

impl Line<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(&self, lanes: L) {
        let Self { pool, input, .. } = self;
        let (sample, y) = (self.line / pool.output[0], self.line % pool.output[0]);
        let [top, down] = pool.taps(0, y);
        for x in 0..pool.output[1] {
            let [left, across] = pool.taps(1, x);
            let count = match pool.kind {
                PoolKind::AverageWithPadding => pool.padded(0, y) * pool.padded(1, x),
                _ => down * across,
            };
            let pixel = (sample * pool.input[0] + top) * pool.input[1] + left;
            let seen = Seen {
                input: input.values.as_ptr().wrapping_add(pixel * input.stride),
                taps: [down, across],
                apart: [pool.dilation[0] * pool.input[1] * input.stride, pool.dilation[1] * input.stride],
                factor: 1.0 / count as f32,
            };
            let out = self.out.at((self.line * pool.output[1] + x) * self.out_stride);
            let mut channel = self.channels.start;
            while channel < self.channels.end {
                let left = self.channels.end - channel;
                // SAFETY: the taps are inside of the input, and these channels inside of their pixels, as was checked; no other task
                // writes them in this line.
                unsafe {
                    if left >= VECTORS * L::LANES {
                        self.channels_at::<L, VECTORS>(lanes, &seen, channel, L::LANES, out);
                        channel += VECTORS * L::LANES;
                    } else {
                        let count = left.min(L::LANES);
                        self.channels_at::<L, 1>(lanes, &seen, channel, count, out);
                        channel += count;
                    }
                }
            }
        }
    }

    /// # Safety
    /// The taps of all channels are inside of the input, and the channels inside of the output: `V` vectors, the last of `count` values.
    #[inline(always)]
    unsafe fn channels_at<L: Lanes, const V: usize>(
        &self,
        lanes: L,
        seen: &Seen,
        channel: usize,
        count: usize,
        out: *mut f32,
    ) {
        let max = self.pool.kind == PoolKind::Max;
        let whole = count == L::LANES;
        let mut results = [lanes.splat(if max { f32::NEG_INFINITY } else { 0.0 }); V];
        for down in 0..seen.taps[0] {
            let mut from = seen.input.wrapping_add(down * seen.apart[0] + channel);
            for _ in 0..seen.taps[1] {
                for (v, result) in results.iter_mut().enumerate() {
                    let from = from.wrapping_add(v * L::LANES);
                    // SAFETY: the caller's.
                    let value = unsafe { if whole { lanes.load(from) } else { lanes.load_first(from, count) } };
                    *result = if max { lanes.at_least(*result, value) } else { lanes.add(*result, value) };
                }
                from = from.wrapping_add(seen.apart[1]);
            }
        }
        for (v, result) in results.into_iter().enumerate() {
            let to = out.wrapping_add(channel + v * L::LANES);
            let scaled = lanes.mul_add(result, lanes.splat(seen.factor), lanes.splat(0.0));
            let result = if max { result } else { scaled };
            // SAFETY: the caller's.
            unsafe { if whole { lanes.store(to, result) } else { lanes.store_first(to, result, count) } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The values of one channel that a window sees.
    fn seen(pool: &Pool, x: &[f32], stride: usize, [sample, y, x_at, channel]: [usize; 4]) -> Vec<f32> {
        let at = |axis: usize, out: usize, tap: usize| {
            let at = (out * pool.stride[axis] + tap * pool.dilation[axis]).checked_sub(pool.padding[axis][0])?;
            (at < pool.input[axis]).then_some(at)
        };
        let mut values = Vec::new();
        for down in (0..pool.kernel[0]).filter_map(|tap| at(0, y, tap)) {
            for across in (0..pool.kernel[1]).filter_map(|tap| at(1, x_at, tap)) {
                values.push(x[((sample * pool.input[0] + down) * pool.input[1] + across) * stride + channel]);
            }
        }
        values
    }

    proptest! {
        #[test]
        fn pools_are_those_of_the_definition(
            kind in prop::sample::select(vec![PoolKind::Max, PoolKind::Average, PoolKind::AverageWithPadding]),
            (batch, channels) in (1usize..3, 1usize..70),
            input in [1usize..12, 1usize..12],
            kernel in [1usize..5, 1usize..5],
            stride in [1usize..4, 1usize..4],
            dilation in [1usize..3, 1usize..3],
            padding in [[0usize..2, 0usize..2], [0usize..2, 0usize..2]],
            (in_pad, out_pad) in (0usize..3, 0usize..3),
        ) {
            let side = |axis: usize| {
                let span = (kernel[axis] - 1) * dilation[axis] + 1;
                (input[axis] + padding[axis][0] + padding[axis][1]).checked_sub(span).map(|rest| rest / stride[axis] + 1)
            };
            let (Some(height), Some(width)) = (side(0), side(1)) else { return Ok(()) };
            let pool = Pool { kind, batch, channels, input, output: [height, width], kernel, stride, padding, dilation };
            let (in_stride, out_stride) = (channels + in_pad, channels + out_pad);
            let x: Vec<f32> = (0..batch * input[0] * input[1] * in_stride).map(|i| (i * 37 % 101) as f32 - 50.0).collect();
            let mut out = vec![f32::NAN; batch * height * width * out_stride];
            pool.forward(Pixels { values: &x, stride: in_stride }, &mut out, out_stride).unwrap();
            for (at, found) in out.iter().enumerate() {
                let (pixel, channel) = (at / out_stride, at % out_stride);
                if channel >= channels {
                    prop_assert!(found.is_nan());
                    continue;
                }
                let place = [pixel / (height * width), pixel / width % height, pixel % width, channel];
                let values = seen(&pool, &x, in_stride, place);
                if values.is_empty() {
                    continue;
                }
                let sum: f32 = values.iter().sum();
                let expected = match kind {
                    PoolKind::Max => values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                    PoolKind::Average => sum / values.len() as f32,
                    PoolKind::AverageWithPadding => sum / (kernel[0] * kernel[1]) as f32,
                };
                prop_assert!((found - expected).abs() < 1e-3, "{pool:?} at {at}: {found} {expected}");
            }
        }
    }
}
