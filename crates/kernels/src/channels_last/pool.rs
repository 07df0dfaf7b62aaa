//! Pools of images whose channels are side by side.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::Pixels;
use crate::ShapeError;
use crate::arch::Arch;
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
    /// The places of taps inside of the input along an axis.
    fn taps(&self, axis: usize, at: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let start = (at * self.stride[axis]) as isize - self.padding[axis][0] as isize;
        let (size, dilation) = (self.input[axis] as isize, self.dilation[axis] as isize);
        (0..self.kernel[axis] as isize)
            .map(move |tap| start + tap * dilation)
            .filter(move |at| (0..size).contains(at))
            .map(|at| at as usize)
    }

    /// Places of a window along an axis that are inside of the input and its padding.
    fn padded(&self, axis: usize, at: usize) -> usize {
        let start = (at * self.stride[axis]) as isize - self.padding[axis][0] as isize;
        let end = (self.input[axis] + self.padding[axis][1]) as isize;
        (0..self.kernel[axis] as isize).filter(|tap| start + tap * (self.dilation[axis] as isize) < end).count()
    }

    /// Computes the pool. Each pixel of the output begins `out_stride` values after the one before.
    ///
    /// # Errors
    /// When a slice is too short, or a size is zero.
    pub fn forward(&self, input: Pixels<'_>, out: &mut [f32], out_stride: usize) -> Result<(), ShapeError> {
        let zero = [("a window's side", self.kernel), ("a stride", self.stride), ("a dilation", self.dilation)];
        if let Some((what, _)) = zero.into_iter().find(|(_, sizes)| sizes.contains(&0)) {
            return Err(ShapeError::Zero { what });
        }
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
        let arch = Arch::new();
        each(lines.div_ceil(down) * columns, operations, |task| {
            let start = task % columns * across;
            let channels = start..self.channels.min(start + across);
            let first = task / columns * down;
            for line in first..lines.min(first + down) {
                arch.dispatch(Line { pool: self, input, out: shared, out_stride, line, channels: channels.clone() });
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

impl WithSimd for Line<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { pool, input, channels, .. } = self;
        let (sample, y) = (self.line / pool.output[0], self.line % pool.output[0]);
        for x in 0..pool.output[1] {
            let at = (self.line * pool.output[1] + x) * self.out_stride + channels.start;
            #[allow(unsafe_code)]
            // SAFETY: the output is as long as was checked, and no other task writes these channels of this line.
            let out = unsafe { std::slice::from_raw_parts_mut(self.out.at(at), channels.len()) };
            out.fill(if pool.kind == PoolKind::Max { f32::NEG_INFINITY } else { 0.0 });
            let mut count = 0;
            for down in pool.taps(0, y) {
                for across in pool.taps(1, x) {
                    let pixel = (sample * pool.input[0] + down) * pool.input[1] + across;
                    let values = &input.values[pixel * input.stride + channels.start..][..channels.len()];
                    count += 1;
                    if pool.kind == PoolKind::Max {
                        for (out, value) in out.iter_mut().zip(values) {
                            // Not a number stays what it is.
                            *out = if *out >= *value { *out } else { *value };
                        }
                    } else {
                        for (out, value) in out.iter_mut().zip(values) {
                            *out += *value;
                        }
                    }
                }
            }
            if pool.kind == PoolKind::AverageWithPadding {
                count = pool.padded(0, y) * pool.padded(1, x);
            }
            if pool.kind != PoolKind::Max {
                let factor = 1.0 / count as f32;
                for out in out {
                    *out *= factor;
                }
            }
        }
    }
}
