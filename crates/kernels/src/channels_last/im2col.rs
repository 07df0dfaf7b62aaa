//! The pixels under the taps of a kernel, side by side.

use super::Pixels;
use crate::Conv2d;

/// Copies what each pixel of the output sees.
pub(super) struct Gather<'a> {
    shape: &'a Conv2d,
    input: Pixels<'a>,
    output: [usize; 2],
    /// Channels that are copied.
    channels: usize,
}

impl<'a> Gather<'a> {
    /// `input` begins at the first channel of the group.
    pub fn new(shape: &'a Conv2d, input: Pixels<'a>) -> Self {
        Self { shape, input, output: shape.output(), channels: shape.in_channels / shape.groups }
    }

    /// Fills `rows` with those of pixels of the output from `first` on: `[height * width * channels]` each.
    pub fn rows(&self, first: usize, rows: &mut [f32]) {
        let Conv2d { input, kernel, stride, padding, dilation, .. } = *self.shape;
        let channels = self.channels;
        let [height, width] = self.output;
        let line = kernel[1] * channels;
        // Taps side by side, each with all channels of its pixel.
        let whole = dilation[1] == 1 && self.input.stride == channels;
        let (mut x, mut y, mut sample) = (first % width, first / width % height, first / (width * height));
        for row in rows.chunks_exact_mut(kernel[0] * line) {
            let left = (x * stride[1]) as isize - padding[1][0] as isize;
            for (down, line) in row.chunks_exact_mut(line).enumerate() {
                let at = (y * stride[0] + down * dilation[0]) as isize - padding[0][0] as isize;
                if at < 0 || at >= input[0] as isize {
                    line.fill(0.0);
                    continue;
                }
                let start = (sample * input[0] + at as usize) * input[1];
                if whole {
                    let before = (-left).clamp(0, kernel[1] as isize) as usize;
                    let inside = (input[1] as isize - left).clamp(before as isize, kernel[1] as isize) as usize;
                    line[..before * channels].fill(0.0);
                    if inside > before {
                        let from = (start + (left + before as isize) as usize) * channels;
                        let count = (inside - before) * channels;
                        line[before * channels..][..count].copy_from_slice(&self.input.values[from..][..count]);
                    }
                    line[inside * channels..].fill(0.0);
                    continue;
                }
                for (across, pixel) in line.chunks_exact_mut(channels).enumerate() {
                    let at = left + (across * dilation[1]) as isize;
                    if at < 0 || at >= input[1] as isize {
                        pixel.fill(0.0);
                    } else {
                        let from = (start + at as usize) * self.input.stride;
                        pixel.copy_from_slice(&self.input.values[from..][..channels]);
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
