//! The part of an image that a block of outputs sees, copied so that each tap's values lie side by side.
//!
//! A block of outputs needs, for every channel and tap, the input pixels under that tap. Copied as they are, with the padding made
//! real zeros, and with every `stride`-th pixel moved together, the pixels under a tap for neighbouring outputs are neighbours: a tap
//! is then only an offset, and nothing is copied once per tap.

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
            let mut used: Vec<usize> = (0..window.kernel[axis]).map(|tap| tap * window.dilation[axis] % window.stride[axis]).collect();
            used.sort_unstable();
            used.dedup();
            used
        });
        let plane = [0, 1].map(|axis| outputs[axis] + (window.kernel[axis] - 1) * window.dilation[axis] / window.stride[axis]);
        Self { window, channels, phases, plane }
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

    /// Copies what the outputs from `first` on see of `image`, `[channels, height, width]`.
    pub(crate) fn fill(&self, image: &[f32], first: [usize; 2], copy: &mut [f32]) {
        let [height, width] = self.window.input;
        let [step_down, step] = self.window.stride;
        let mut rows = copy.chunks_exact_mut(self.plane[1]);
        for channel in image.chunks_exact(height * width).take(self.channels) {
            for phase_y in &self.phases[0] {
                for phase_x in &self.phases[1] {
                    // Positions counted from the first zero of the padding.
                    let left = first[1] * step + phase_x;
                    let zeros = self.window.before[1].saturating_sub(left).div_ceil(step).min(self.plane[1]);
                    let from = (left + zeros * step).saturating_sub(self.window.before[1]);
                    let inside = width.saturating_sub(from).div_ceil(step).min(self.plane[1] - zeros);
                    for (q, row) in rows.by_ref().take(self.plane[0]).enumerate() {
                        let y = ((first[0] + q) * step_down + phase_y).checked_sub(self.window.before[0]).filter(|y| *y < height);
                        let Some(y) = y else {
                            row.fill(0.0);
                            continue;
                        };
                        row[..zeros].fill(0.0);
                        row[zeros + inside..].fill(0.0);
                        let row = &mut row[zeros..zeros + inside];
                        if inside == 0 {
                            continue;
                        }
                        let pixels = &channel[y * width + from..(y + 1) * width];
                        match step {
                            1 => row.copy_from_slice(&pixels[..inside]),
                            _ => row.iter_mut().zip(pixels.iter().step_by(step)).for_each(|(to, pixel)| *to = *pixel),
                        }
                    }
                }
            }
        }
    }
}
