//! The pixels under the taps of a kernel, side by side.

use crate::Conv2d;

/// Values of a short copy, which is as long whatever is asked for.
const SHORT: usize = 32;

/// Copies what each pixel of the output sees.
pub(crate) struct Gather<'a, T> {
    shape: &'a Conv2d,
    /// From the first channel of the group on.
    values: &'a [T],
    /// From one pixel to the next.
    stride: usize,
    /// What padding is.
    outside: T,
    output: [usize; 2],
    /// Channels that are copied.
    channels: usize,
}

impl<'a, T: Copy> Gather<'a, T> {
    /// `values` begin at the first channel of the group.
    pub fn new(shape: &'a Conv2d, values: &'a [T], stride: usize, outside: T) -> Self {
        Self { shape, values, stride, outside, output: shape.output(), channels: shape.in_channels / shape.groups }
    }

    /// Copies `count` values to `rows[to..]`; values after them may be overwritten, which are copied later.
    #[inline(always)]
    fn copy(&self, from: usize, rows: &mut [T], to: usize, count: usize) {
        if count <= SHORT
            && let (Some(values), Some(out)) = (self.values.get(from..from + SHORT), rows.get_mut(to..to + SHORT))
        {
            out.copy_from_slice(values);
        } else {
            rows[to..][..count].copy_from_slice(&self.values[from..][..count]);
        }
    }

    /// Fills `rows` with those of pixels of the output from `first` on: `[height * width * channels]` each, every `apart` values. What is
    /// between them may be overwritten.
    pub fn rows(&self, first: usize, rows: &mut [T], apart: usize) {
        let Conv2d { input, kernel, stride, padding, dilation, .. } = *self.shape;
        let channels = self.channels;
        let [height, width] = self.output;
        let line = kernel[1] * channels;
        // Taps side by side, each with all channels of its pixel.
        let whole = dilation[1] == 1 && self.stride == channels;
        let (mut x, mut y, mut sample) = (first % width, first / width % height, first / (width * height));
        for row in 0..rows.len().div_ceil(apart) {
            let left = (x * stride[1]) as isize - padding[1][0] as isize;
            for down in 0..kernel[0] {
                let to = row * apart + down * line;
                let at = (y * stride[0] + down * dilation[0]) as isize - padding[0][0] as isize;
                if at < 0 || at >= input[0] as isize {
                    rows[to..][..line].fill(self.outside);
                    continue;
                }
                let start = (sample * input[0] + at as usize) * input[1];
                if whole {
                    let before = (-left).clamp(0, kernel[1] as isize) as usize;
                    let inside = (input[1] as isize - left).clamp(before as isize, kernel[1] as isize) as usize;
                    rows[to..][..before * channels].fill(self.outside);
                    if inside > before {
                        let from = (start + (left + before as isize) as usize) * channels;
                        self.copy(from, rows, to + before * channels, (inside - before) * channels);
                    }
                    rows[to..][inside * channels..line].fill(self.outside);
                    continue;
                }
                for across in 0..kernel[1] {
                    let at = left + (across * dilation[1]) as isize;
                    let to = to + across * channels;
                    if at < 0 || at >= input[1] as isize {
                        rows[to..][..channels].fill(self.outside);
                    } else {
                        self.copy((start + at as usize) * self.stride, rows, to, channels);
                    }
                }
            }
            x += 1;
            if x == width {
                (x, y) = (0, y + 1);
                if y == height {
                    (y, sample) = (0, sample + 1);
                }
            }
        }
    }
}
