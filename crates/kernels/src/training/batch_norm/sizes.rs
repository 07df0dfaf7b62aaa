//! What goes into a batch normalization and comes out of it, and where the values of a channel are.
#![allow(unsafe_code)]

use std::ops::Range;

use crate::pointwise::Pointwise;
use crate::room::Room;

/// Planes of fewer pixels are copied side by side first.
const SMALL: usize = 96;
/// Values of a channel that are worth being copied: they stay in the second-level cache.
const COPIED: usize = 1 << 16;
/// About as many operations a value takes.
pub(super) const COST: usize = 16;

/// The sizes of a batch normalization over `[batch, channels, pixels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchNorm {
    /// Samples.
    pub batch: usize,
    /// Channels, each of which is made comparable by itself.
    pub channels: usize,
    /// Values of a channel in a sample.
    pub pixels: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// What follows.
    pub function: Pointwise,
}

/// What a batch normalization gives.
#[derive(Debug)]
pub struct Normalised {
    /// As many values as went in.
    pub output: Vec<f32>,
    /// Of each channel.
    pub mean: Vec<f32>,
    /// Of each channel, by the number of values.
    pub variance: Vec<f32>,
}

/// The gradients of a batch normalization.
#[derive(Debug)]
pub struct BatchNormGradients {
    /// Of the input.
    pub input: Vec<f32>,
    /// Of each channel's scale.
    pub weight: Vec<f32>,
    /// Of each channel's shift.
    pub bias: Vec<f32>,
    /// Of what was added before the function, where something was.
    pub residual: Option<Vec<f32>>,
}

/// What the backward pass knows of the forward pass.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// What went in.
    pub input: &'a [f32],
    /// Scale of each channel.
    pub weight: &'a [f32],
    /// Shift of each channel.
    pub bias: &'a [f32],
    /// As the forward pass gave it.
    pub mean: &'a [f32],
    /// As the forward pass gave it.
    pub variance: &'a [f32],
    /// What came out, where something was added before the function.
    pub output: Option<&'a [f32]>,
}

impl BatchNorm {
    /// Values of input and output.
    pub fn values(&self) -> usize {
        self.batch * self.channels * self.pixels
    }

    #[inline(always)]
    pub(super) fn plane(&self, sample: usize, channel: usize) -> Range<usize> {
        let start = (sample * self.channels + channel) * self.pixels;
        start..start + self.pixels
    }

    /// Whether the planes of a channel are copied side by side.
    pub(super) fn gathers(&self) -> bool {
        self.pixels < SMALL && self.batch * self.pixels <= COPIED
    }

    /// Working memory for so many copies of a channel, if it is copied.
    pub(super) fn scratch(&self, copies: usize) -> usize {
        if self.gathers() { copies * self.batch * self.pixels } else { 0 }
    }

    /// The planes of a channel, side by side.
    #[inline(always)]
    pub(super) fn gather(&self, channel: usize, values: &[f32], to: &mut [f32]) {
        for (sample, to) in to.chunks_exact_mut(self.pixels).enumerate() {
            let from = &values[self.plane(sample, channel)];
            for (to, from) in to.iter_mut().zip(from) {
                *to = *from;
            }
        }
    }

    /// The inverse of [`Self::gather`].
    ///
    /// # Safety
    /// Nobody else uses the channel's planes.
    #[inline(always)]
    pub(super) unsafe fn scatter(&self, channel: usize, from: &[f32], room: &Room) {
        for (sample, from) in from.chunks_exact(self.pixels).enumerate() {
            // SAFETY: the caller's.
            let to = unsafe { room.part(self.plane(sample, channel)) };
            for (to, from) in to.iter_mut().zip(from) {
                to.write(*from);
            }
        }
    }
}
