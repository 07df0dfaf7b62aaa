//! The part of an image that a block of outputs sees, copied so that each tap's values lie side by side.
//!
//! A block of outputs needs, for every channel and tap, the input pixels under that tap. Copied as they are, with the padding made
//! real zeros, and with every `stride`-th pixel moved together, the pixels under a tap for neighbouring outputs are neighbours: a tap
//! is then only an offset, and nothing is copied once per tap.

#![allow(unsafe_code)]

use crate::lanes::{Lanes, MOST_LANES, prefetch};
use std::mem::MaybeUninit;

/// Values of an input row up to which its four phases are copied at once.
const ROW: usize = 448;

/// Values of a copy that are still sensible.
const MOST: f64 = (1u32 << 26) as f64;

/// Kernels sliding over an image.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Height and width of the image.
    pub(crate) input: [usize; 2],
    /// Taps down and across.
    pub(crate) kernel: [usize; 2],
    /// Pixels from one output to the next.
    pub(crate) stride: [usize; 2],
    /// Pixels from one tap to the next.
    pub(crate) dilation: [usize; 2],
    /// Zeros above and left of the image.
    pub(crate) before: [usize; 2],
}

/// The copy for blocks of up to a given number of outputs.
#[derive(Debug)]
pub(crate) struct Strip {
    window: Window,
    channels: usize,
    /// Remainders by the stride on which taps lie, down and across: each is a plane of its own.
    phases: [Vec<usize>; 2],
    /// Height and width of a plane.
    plane: [usize; 2],
}

impl Strip {
    /// The layout for `outputs` outputs down and across, at most.
    pub(crate) fn new(window: Window, channels: usize, outputs: [usize; 2]) -> Self {
        let phases = [0, 1].map(|axis| {
            let mut used: Vec<usize> =
                (0..window.kernel[axis]).map(|tap| tap * window.dilation[axis] % window.stride[axis]).collect();
            used.sort_unstable();
            used.dedup();
            used
        });
        let plane =
            [0, 1].map(|axis| outputs[axis] + (window.kernel[axis] - 1) * window.dilation[axis] / window.stride[axis]);
        Self { window, channels, phases, plane }
    }

    /// Whether copies for `outputs` outputs, or fewer, are of a sensible size: with taps very far apart, nearly all of them is padding.
    pub(crate) fn sensible(window: &Window, channels: usize, outputs: [usize; 2]) -> bool {
        let side = |axis: usize| {
            let far = (window.kernel[axis] - 1) as f64 * window.dilation[axis] as f64;
            let phases = window.kernel[axis].min(window.stride[axis]) as f64;
            phases * (outputs[axis] as f64 + far / window.stride[axis] as f64)
        };
        channels as f64 * side(0) * side(1) < MOST
    }

    /// Values in the copy.
    pub(crate) fn len(&self) -> usize {
        self.channels * self.phases[0].len() * self.phases[1].len() * self.plane[0] * self.plane[1]
    }

    /// Values from one row of outputs to the next.
    pub(crate) fn pitch(&self) -> usize {
        self.plane[1]
    }

    /// Where the pixel of the first output lies, for each channel and tap.
    pub(crate) fn offsets(&self) -> Vec<u32> {
        let [taps_down, taps_across] = self.window.kernel;
        let part = |axis: usize, tap: usize| {
            let pixel = tap * self.window.dilation[axis];
            let phase = pixel % self.window.stride[axis];
            (self.phases[axis].iter().take_while(|p| **p < phase).count(), pixel / self.window.stride[axis])
        };
        let mut offsets = Vec::with_capacity(self.channels * taps_down * taps_across);
        for channel in 0..self.channels {
            for (phase_y, row) in (0..taps_down).map(|tap| part(0, tap)) {
                for (phase_x, column) in (0..taps_across).map(|tap| part(1, tap)) {
                    let plane = (channel * self.phases[0].len() + phase_y) * self.phases[1].len() + phase_x;
                    offsets.push(((plane * self.plane[0] + row) * self.plane[1] + column) as u32);
                }
            }
        }
        offsets
    }

    /// Rows (axis 0) or columns (axis 1) of a plane that some tap reads, for the last of its outputs.
    fn reach(&self, axis: usize, phase: usize) -> usize {
        let Window { kernel, stride, dilation, .. } = self.window;
        let last =
            (0..kernel[axis]).map(|tap| tap * dilation[axis]).filter(|pixel| pixel % stride[axis] == phase).max();
        let most = (kernel[axis] - 1) * dilation[axis] / stride[axis];
        self.plane[axis] - most + last.map_or(0, |pixel| pixel / stride[axis])
    }

    /// Copies what the outputs from `first` on see of `image`, `[channels, height, width]`.
    ///
    /// # Safety
    /// `copy` has [`Self::len`] values.
    #[inline(always)]
    pub(crate) unsafe fn fill<L: Lanes>(&self, lanes: L, image: &[f32], first: [usize; 2], copy: &mut [f32]) {
        let [height, width] = self.window.input;
        let (phases_down, phases_across) = (self.phases[0].len(), self.phases[1].len());
        let plane = self.plane[0] * self.plane[1];
        assert!(copy.len() >= self.len());
        for (c, channel) in image.chunks_exact(height * width).take(self.channels).enumerate() {
            for (p, phase_y) in self.phases[0].iter().enumerate() {
                for q in 0..self.reach(0, *phase_y) {
                    let y = (first[0] + q)
                        .saturating_mul(self.window.stride[0])
                        .saturating_add(*phase_y)
                        .checked_sub(self.window.before[0]);
                    let pixels = y.filter(|y| *y < height).map(|y| &channel[y * width..]);
                    let at = (c * phases_down + p) * phases_across * plane + q * self.plane[1];
                    match pixels {
                        // SAFETY: the four rows lie inside `copy`.
                        Some(pixels)
                            if self.window.stride[1] == 4 && phases_across == 4 && self.plane[1] * 4 <= ROW =>
                        unsafe {
                            self.deal(lanes, pixels, first[1], &mut copy[at..]);
                        },
                        Some(pixels) => self.pick(pixels, first[1], &mut copy[at..]),
                        None => (0..phases_across).for_each(|i| copy[at + i * plane..][..self.plane[1]].fill(0.0)),
                    }
                }
            }
        }
    }

    /// How the row of a phase lies over the pixels: zeros before them, the first pixel, and how many pixels.
    #[inline(always)]
    fn over(&self, first: usize, phase: usize, step: usize, len: usize) -> (usize, usize, usize) {
        let (before, width) = (self.window.before[1], self.window.input[1]);
        // Positions are counted from the first zero of the padding.
        let left = first * self.window.stride[1] + phase;
        let zeros = before.saturating_sub(left).div_ceil(step).min(len);
        let from = left.saturating_add(zeros.saturating_mul(step)).saturating_sub(before);
        (zeros, from, width.saturating_sub(from).div_ceil(step).min(len - zeros))
    }

    /// Asks for the pixels that [`Self::fill`] will read, while something else is done.
    #[inline(always)]
    pub(crate) fn prefetch(&self, image: &[f32], first: [usize; 2]) {
        let range = |axis: usize| {
            let from = first[axis] * self.window.stride[axis];
            let to = from + (self.plane[axis] - 1) * self.window.stride[axis] + 2;
            let inside = |at: usize| at.saturating_sub(self.window.before[axis]).min(self.window.input[axis]);
            inside(from)..inside(to)
        };
        for y in range(0) {
            for x in range(1).step_by(16) {
                prefetch(&image[y * self.window.input[1] + x]);
            }
        }
    }

    /// Copies one row, which begins `pixels`, every phase by itself.
    #[inline(always)]
    fn pick(&self, pixels: &[f32], first: usize, copy: &mut [f32]) {
        let step = self.window.stride[1];
        for (i, phase) in self.phases[1].iter().enumerate() {
            let row = &mut copy[i * self.plane[0] * self.plane[1]..][..self.plane[1]];
            let (zeros, from, inside) = self.over(first, *phase, step, self.plane[1]);
            row[..zeros].fill(0.0);
            row[zeros + inside..].fill(0.0);
            if inside > 0 {
                let row = &mut row[zeros..zeros + inside];
                match step {
                    1 => row.copy_from_slice(&pixels[from..from + inside]),
                    _ => row.iter_mut().zip(pixels[from..].iter().step_by(step)).for_each(|(to, pixel)| *to = *pixel),
                }
            }
        }
    }

    /// Copies one row, which begins `pixels`, to four phases at once.
    ///
    /// # Safety
    /// In `copy`, four rows of `plane[1]` values begin a plane apart.
    #[inline(always)]
    unsafe fn deal<L: Lanes>(&self, lanes: L, pixels: &[f32], first: usize, copy: &mut [f32]) {
        let (len, plane) = (self.plane[1] * 4, self.plane[0] * self.plane[1]);
        let (zeros, from, inside) = self.over(first, 0, 1, len);
        let mut row = MaybeUninit::<[f32; ROW + 4 * MOST_LANES]>::uninit();
        let whole = inside == len && from + self.plane[1].next_multiple_of(L::LANES) * 4 <= pixels.len();
        let from = if whole {
            pixels[from..].as_ptr()
        } else {
            let row = row.as_mut_ptr().cast::<f32>();
            // SAFETY: `row` has room for `len` values and four vectors, and `pixels` has the ones inside.
            unsafe {
                row.write_bytes(0, zeros);
                row.add(zeros).copy_from_nonoverlapping(pixels[from..from + inside].as_ptr(), inside);
                row.add(zeros + inside).write_bytes(0, len - zeros - inside + 4 * L::LANES);
            }
            row.cast_const()
        };
        for at in (0..self.plane[1]).step_by(L::LANES) {
            let count = L::LANES.min(self.plane[1] - at);
            // SAFETY: four vectors can be read at each step; only lanes inside the rows are written.
            unsafe {
                let from = from.add(4 * at);
                let four = [0, 1, 2, 3].map(|i: usize| lanes.load(from.add(i * L::LANES)));
                let dealt = lanes.deal(four);
                for (i, x) in dealt.into_iter().enumerate() {
                    lanes.store_first(copy.as_mut_ptr().add(i * plane + at), x, count);
                }
            }
        }
    }
}
