//! Depthwise convolutions and their gradients: sixteen channels side by side, so that a vector is full whatever the size of the image.
#![allow(unsafe_code)]

use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, each};
use crate::scratch::with_scratch;
use crate::side_by_side::{CHANNELS, Run};
use crate::{Activation, Conv2d, ShapeError};

/// Pixels of output that share the loads of weights.
const PIXELS: usize = 8;
/// Parts of the batch with sums of their own for the gradient of the weights: by the sizes alone, so that the bits don't depend on
/// the threads.
const PARTS: usize = 8;
/// Values of the padded pixels of a block: larger ones don't fit the second-level cache.
const MOST: usize = 1 << 20;

/// Sizes of a block of channels in one sample.
#[derive(Clone, Copy)]
struct Sizes {
    shape: Conv2d,
    /// Height and width with padding.
    padded: [usize; 2],
    output: [usize; 2],
}

/// One block of channels in one sample, and the working memory for it.
struct Block<'a> {
    sizes: Sizes,
    channels: usize,
    /// `[taps, CHANNELS]`
    weights: &'a [f32],
    /// `[padded pixels, CHANNELS]`
    input: &'a mut [f32],
    /// `[output pixels, CHANNELS]`
    output: &'a mut [f32],
}

impl Conv2d {
    /// Whether each channel sees itself only, and the kernels for that fit.
    pub fn is_depthwise(&self) -> bool {
        let alone = self.groups > 1 && self.groups == self.in_channels && self.groups == self.out_channels;
        if !alone || self.check().is_err() {
            return false;
        }
        let sides = [0, 1].map(|axis| self.input[axis].saturating_add(self.padding[axis][0] + self.padding[axis][1]));
        sides[0].saturating_mul(sides[1]).saturating_mul(CHANNELS) <= MOST
    }

    /// The output of a depthwise convolution, with `bias` and `activation`.
    ///
    /// # Errors
    /// When the geometry is another, or a slice has another length than it says.
    pub fn depthwise(
        &self,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.depthwise_at(Isa::best(), input, weight, bias, activation, output)
    }

    pub(crate) fn depthwise_at(
        &self,
        isa: Isa,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.depthwise_lengths(input.len(), weight.len(), output.len())?;
        ShapeError::length("the bias", self.out_channels, bias.map_or(self.out_channels, <[f32]>::len))?;
        let sizes = Sizes::new(self);
        let packed = sizes.pack(weight);
        let shared = Shared::new(output);
        sizes.each(2, |first, block, scratch| {
            let (padded, out) = scratch.split_at_mut(sizes.padded_len());
            let mut biases = [0.0; CHANNELS];
            if let Some(bias) = bias {
                biases[..block.channels].copy_from_slice(&bias[first % self.in_channels..][..block.channels]);
            }
            isa.dispatch(Forward {
                block: Block { sizes, weights: sizes.weights(&packed, first), input: padded, output: out, ..block },
                biases,
                relu: activation == Activation::Relu,
                from: input[first * sizes.input_pixels()..].as_ptr(),
                to: shared.at(first * sizes.output_pixels()),
            });
        });
        Ok(())
    }

    /// The gradients of input and weights of a depthwise convolution, from `grad`, that of the output.
    ///
    /// # Errors
    /// As [`Self::depthwise`].
    pub fn depthwise_backward(
        &self,
        input: &[f32],
        weight: &[f32],
        grad: &[f32],
        to_input: &mut [f32],
        to_weight: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.depthwise_backward_at(Isa::best(), input, weight, grad, to_input, to_weight)
    }

    pub(crate) fn depthwise_backward_at(
        &self,
        isa: Isa,
        input: &[f32],
        weight: &[f32],
        grad: &[f32],
        to_input: &mut [f32],
        to_weight: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.depthwise_lengths(input.len(), weight.len(), grad.len())?;
        ShapeError::length("the input's gradient", self.input_len(), to_input.len())?;
        ShapeError::length("the weights' gradient", self.weight_len(), to_weight.len())?;
        let sizes = Sizes::new(self);
        let packed = sizes.pack(weight);
        let taps = self.kernel[0] * self.kernel[1];
        let blocks = self.in_channels.div_ceil(CHANNELS);
        let parts = self.batch.clamp(1, PARTS);
        let mut sums = vec![0.0; parts * blocks * taps * CHANNELS];
        let (shared, shared_sums) = (Shared::new(to_input), Shared::new(&mut sums));
        let operations = 8 * self.output_len() * taps;
        each(parts * blocks, operations, |task| {
            let (part, number) = (task / blocks, task % blocks);
            let channels = CHANNELS.min(self.in_channels - number * CHANNELS);
            with_scratch(2 * sizes.padded_len() + sizes.output_len(), |scratch| {
                let (padded, scratch) = scratch.split_at_mut(sizes.padded_len());
                let (to_padded, out) = scratch.split_at_mut(sizes.padded_len());
                // SAFETY: each task has sums of its own.
                let sums =
                    unsafe { std::slice::from_raw_parts_mut(shared_sums.at(task * taps * CHANNELS), taps * CHANNELS) };
                for sample in self.batch * part / parts..self.batch * (part + 1) / parts {
                    let first = sample * self.in_channels + number * CHANNELS;
                    isa.dispatch(Backward {
                        block: Block {
                            sizes,
                            channels,
                            weights: sizes.weights(&packed, first),
                            input: padded,
                            output: out,
                        },
                        to_padded,
                        sums,
                        input: input[first * sizes.input_pixels()..].as_ptr(),
                        grad: grad[first * sizes.output_pixels()..].as_ptr(),
                        to: shared.at(first * sizes.input_pixels()),
                    });
                }
            });
        });
        for (channel, to_weight) in to_weight.chunks_exact_mut(taps).enumerate() {
            for (tap, to_weight) in to_weight.iter_mut().enumerate() {
                let at = (channel / CHANNELS * taps + tap) * CHANNELS + channel % CHANNELS;
                *to_weight = (0..parts).map(|part| sums[part * blocks * taps * CHANNELS + at]).sum();
            }
        }
        Ok(())
    }

    fn depthwise_lengths(&self, input: usize, weight: usize, output: usize) -> Result<(), ShapeError> {
        self.check()?;
        if self.groups != self.in_channels || self.groups != self.out_channels {
            return Err(ShapeError::Groups { what: "depthwise", channels: self.out_channels, groups: self.groups });
        }
        ShapeError::length("the input", self.input_len(), input)?;
        ShapeError::length("the weights", self.weight_len(), weight)?;
        ShapeError::length("the output", self.output_len(), output)
    }
}

impl Sizes {
    fn new(shape: &Conv2d) -> Self {
        let padded = [0, 1].map(|axis| shape.input[axis] + shape.padding[axis][0] + shape.padding[axis][1]);
        Self { shape: *shape, padded, output: shape.output() }
    }

    fn input_pixels(&self) -> usize {
        self.shape.input[0] * self.shape.input[1]
    }

    fn output_pixels(&self) -> usize {
        self.output[0] * self.output[1]
    }

    fn padded_len(&self) -> usize {
        self.padded[0] * self.padded[1] * CHANNELS
    }

    fn output_len(&self) -> usize {
        self.output_pixels() * CHANNELS
    }

    fn taps(&self) -> usize {
        self.shape.kernel[0] * self.shape.kernel[1]
    }

    /// `[block of channels, tap, CHANNELS]`
    fn pack(&self, weight: &[f32]) -> Vec<f32> {
        let taps = self.taps();
        let mut packed = vec![0.0; self.shape.in_channels.next_multiple_of(CHANNELS) * taps];
        for (channel, weight) in weight.chunks_exact(taps).enumerate() {
            let block = &mut packed[channel / CHANNELS * taps * CHANNELS..];
            weight.iter().enumerate().for_each(|(tap, value)| block[tap * CHANNELS + channel % CHANNELS] = *value);
        }
        packed
    }

    /// The weights of the block that begins at a channel, counted over all samples.
    fn weights<'a>(&self, packed: &'a [f32], first: usize) -> &'a [f32] {
        let block = first % self.shape.in_channels / CHANNELS;
        &packed[block * self.taps() * CHANNELS..][..self.taps() * CHANNELS]
    }

    /// Calls `work` with the first channel of each block, counted over all samples, the block without its memory, and memory for padded
    /// pixels and output.
    fn each(&self, cost: usize, work: impl Fn(usize, Block<'static>, &mut [f32]) + Sync + Send) {
        let channels = self.shape.in_channels;
        let blocks = channels.div_ceil(CHANNELS);
        each(self.shape.batch * blocks, cost * self.shape.output_len() * self.taps(), |task| {
            let (sample, block) = (task / blocks, task % blocks);
            let count = CHANNELS.min(channels - block * CHANNELS);
            let empty = Block { sizes: *self, channels: count, weights: &[], input: &mut [], output: &mut [] };
            with_scratch(self.padded_len() + self.output_len(), |scratch| {
                work(sample * channels + block * CHANNELS, empty, scratch);
            });
        });
    }

    /// Where a padded pixel's values begin.
    #[inline(always)]
    fn pixel(&self, y: usize, x: usize) -> usize {
        (y * self.padded[1] + x) * CHANNELS
    }
}

impl Block<'_> {
    /// Puts planes among zeros.
    ///
    /// # Safety
    /// The planes of all channels can be read.
    #[inline(always)]
    unsafe fn pad<L: Lanes>(&mut self, lanes: L, from: *const f32) {
        let sizes = self.sizes;
        let [height, width] = sizes.shape.input;
        let [top, left] = [0, 1].map(|axis| sizes.shape.padding[axis][0]);
        let run = Run { channels: self.channels, plane: height * width, pixels: width };
        if sizes.padded == sizes.shape.input {
            // SAFETY: the caller's, and the padded pixels are as many.
            unsafe { Run { pixels: height * width, ..run }.join(lanes, from, self.input.as_mut_ptr()) };
            return;
        }
        self.input.fill(0.0);
        if width >= L::LANES || self.output.len() < height * width * CHANNELS {
            for y in 0..height {
                let to = &mut self.input[sizes.pixel(y + top, left)..][..width * CHANNELS];
                // SAFETY: the caller's, and a row of the padded pixels.
                unsafe { run.join(lanes, from.wrapping_add(y * width), to.as_mut_ptr()) };
            }
        } else {
            // Short rows: all at once, in the memory for the output, then each to its place.
            let all = &mut self.output[..height * width * CHANNELS];
            // SAFETY: the caller's, and as many pixels.
            unsafe { Run { pixels: height * width, ..run }.join(lanes, from, all.as_mut_ptr()) };
            for (y, row) in all.chunks_exact(width * CHANNELS).enumerate() {
                self.input[sizes.pixel(y + top, left)..][..row.len()].copy_from_slice(row);
            }
        }
    }
}

struct Forward<'a> {
    block: Block<'a>,
    biases: [f32; CHANNELS],
    relu: bool,
    from: *const f32,
    to: *mut f32,
}

impl Work for Forward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.run(
            #[inline(always)]
            || self.compute(lanes),
        );
    }
}

impl Forward<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(mut self, lanes: L) {
        // SAFETY: planes of all channels of the block are there.
        unsafe { self.block.pad(lanes, self.from) };
        let Block { sizes, channels, weights, input, output } = self.block;
        let [height, width] = sizes.output;
        assert!(input.len() >= sizes.padded_len() && output.len() >= sizes.output_len());
        assert!(weights.len() == sizes.taps() * CHANNELS);
        for y in 0..height {
            let mut x = 0;
            while x < width {
                let count = if x + PIXELS <= width { PIXELS } else { 1 };
                for first in (0..CHANNELS).step_by(L::LANES) {
                    // SAFETY: the pixels under the taps of these outputs are inside of the padded ones.
                    unsafe {
                        let bias = lanes.load(self.biases.as_ptr().add(first));
                        let at = (y * width + x) * CHANNELS + first;
                        let to = output.as_mut_ptr().add(at);
                        if count == PIXELS {
                            pixels::<L, PIXELS>(lanes, &sizes, input, weights, [y, x, first], bias, self.relu, to);
                        } else {
                            pixels::<L, 1>(lanes, &sizes, input, weights, [y, x, first], bias, self.relu, to);
                        }
                    }
                }
                x += count;
            }
        }
        let run = Run { channels, plane: height * width, pixels: height * width };
        // SAFETY: each task has planes of its own.
        unsafe { run.deal(lanes, output.as_ptr(), self.to) };
    }
}

/// # Safety
/// All taps of these outputs are inside of the padded pixels.
#[allow(clippy::too_many_arguments)]
#[inline(always)]
unsafe fn pixels<L: Lanes, const N: usize>(
    lanes: L,
    sizes: &Sizes,
    input: &[f32],
    weights: &[f32],
    [y, x, first]: [usize; 3],
    bias: L::Vector,
    relu: bool,
    to: *mut f32,
) {
    let Conv2d { kernel, stride, dilation, .. } = sizes.shape;
    let mut sums = [bias; N];
    let mut weight = weights.as_ptr().wrapping_add(first);
    for down in 0..kernel[0] {
        let row = sizes.pixel(y * stride[0] + down * dilation[0], x * stride[1]) + first;
        for across in 0..kernel[1] {
            let from = input.as_ptr().wrapping_add(row + across * dilation[1] * CHANNELS);
            // SAFETY: the caller's.
            unsafe {
                let value = lanes.load(weight);
                for (n, sum) in sums.iter_mut().enumerate() {
                    *sum = lanes.mul_add(value, lanes.load(from.add(n * stride[1] * CHANNELS)), *sum);
                }
            }
            weight = weight.wrapping_add(CHANNELS);
        }
    }
    for (n, sum) in sums.into_iter().enumerate() {
        let sum = if relu { lanes.relu(sum) } else { sum };
        // SAFETY: the caller's.
        unsafe { lanes.store(to.add(n * CHANNELS), sum) };
    }
}

struct Backward<'a> {
    block: Block<'a>,
    /// As large as the padded pixels.
    to_padded: &'a mut [f32],
    /// `[taps, CHANNELS]`: the sums go on.
    sums: &'a mut [f32],
    input: *const f32,
    grad: *const f32,
    to: *mut f32,
}

impl Work for Backward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        lanes.run(
            #[inline(always)]
            || self.compute(lanes),
        );
    }
}

impl Backward<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(mut self, lanes: L) {
        let sizes = self.block.sizes;
        let [height, width] = sizes.output;
        let pixels = height * width;
        // SAFETY: planes of all channels of the block are there.
        unsafe { self.block.pad(lanes, self.input) };
        assert!(self.block.input.len() >= sizes.padded_len() && self.to_padded.len() >= sizes.padded_len());
        assert!(self.block.output.len() >= sizes.output_len() && self.sums.len() == sizes.taps() * CHANNELS);
        let run = Run { channels: self.block.channels, plane: pixels, pixels };
        // SAFETY: as above, and there is room for all pixels.
        unsafe { run.join(lanes, self.grad, self.block.output.as_mut_ptr()) };
        self.to_padded.fill(0.0);
        for down in 0..sizes.shape.kernel[0] {
            let mut across = 0;
            while across < sizes.shape.kernel[1] {
                for first in (0..CHANNELS).step_by(L::LANES) {
                    // SAFETY: the pixels under the taps of all outputs are inside of the padded ones.
                    unsafe {
                        match sizes.shape.kernel[1] - across {
                            1 => self.taps::<L, 1>(lanes, down, across, first),
                            2 => self.taps::<L, 2>(lanes, down, across, first),
                            4 => self.taps::<L, 4>(lanes, down, across, first),
                            5 => self.taps::<L, 5>(lanes, down, across, first),
                            _ => self.taps::<L, 3>(lanes, down, across, first),
                        }
                    }
                }
                across += match sizes.shape.kernel[1] - across {
                    count @ (1 | 2 | 4 | 5) => count,
                    _ => 3,
                };
            }
        }
        let [input_height, input_width] = sizes.shape.input;
        let [top, left] = [0, 1].map(|axis| sizes.shape.padding[axis][0]);
        let run = Run { channels: self.block.channels, plane: input_height * input_width, pixels: input_width };
        if sizes.padded == sizes.shape.input {
            // SAFETY: each task has planes of its own.
            unsafe { Run { pixels: input_height * input_width, ..run }.deal(lanes, self.to_padded.as_ptr(), self.to) };
        } else {
            // The rows without the padding move together.
            for y in 0..input_height {
                let from = sizes.pixel(y + top, left);
                self.to_padded.copy_within(from..from + input_width * CHANNELS, y * input_width * CHANNELS);
            }
            // SAFETY: as above.
            unsafe { Run { pixels: input_height * input_width, ..run }.deal(lanes, self.to_padded.as_ptr(), self.to) };
        }
    }

    /// Both gradients by `N` taps side by side.
    ///
    /// # Safety
    /// All pixels under these taps are inside of the padded ones.
    #[inline(always)]
    unsafe fn taps<L: Lanes, const N: usize>(&mut self, lanes: L, down: usize, across: usize, first: usize) {
        let sizes = self.block.sizes;
        let Conv2d { kernel, stride, dilation, .. } = sizes.shape;
        let [height, width] = sizes.output;
        let tap = (down * kernel[1] + across) * CHANNELS + first;
        let apart = dilation[1] * CHANNELS;
        // SAFETY: the caller's.
        unsafe {
            let mut weights = [lanes.splat(0.0); N];
            for (n, weight) in weights.iter_mut().enumerate() {
                *weight = lanes.load(self.block.weights.as_ptr().add(tap + n * CHANNELS));
            }
            let mut sums = [lanes.splat(0.0); N];
            for y in 0..height {
                let row = sizes.pixel(y * stride[0] + down * dilation[0], 0) + across * apart + first;
                let input = self.block.input.as_ptr().add(row);
                let to = self.to_padded.as_mut_ptr().add(row);
                let grad = self.block.output.as_ptr().add(y * width * CHANNELS + first);
                for x in 0..width {
                    let grad = lanes.load(grad.add(x * CHANNELS));
                    let at = x * stride[1] * CHANNELS;
                    for (n, sum) in sums.iter_mut().enumerate() {
                        *sum = lanes.mul_add(grad, lanes.load(input.add(at + n * apart)), *sum);
                    }
                    for (n, weight) in weights.iter().enumerate() {
                        let to = to.add(at + n * apart);
                        lanes.store(to, lanes.mul_add(grad, *weight, lanes.load(to)));
                    }
                }
            }
            for (n, sum) in sums.into_iter().enumerate() {
                let to = self.sums.as_mut_ptr().add(tap + n * CHANNELS);
                lanes.store(to, lanes.add(lanes.load(to), sum));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use proptest::prelude::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn all_is_the_definition(
            (batch, channels) in (1usize..11, 2usize..40),
            input in [1usize..20, 1usize..20],
            kernel in [1usize..8, 1usize..8],
            stride in [1usize..4, 1usize..4],
            dilation in [1usize..3, 1usize..3],
            padding in [[0usize..4, 0usize..4], [0usize..4, 0usize..4]],
            (biased, relu) in (any::<bool>(), any::<bool>()),
        ) {
            let shape = Conv2d {
                batch, in_channels: channels, out_channels: channels, input, kernel, stride, padding, dilation, groups: channels,
            };
            prop_assume!(shape.is_depthwise());
            let (x, weight) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
            let (bias, grad) = (values(channels, 3), values(shape.output_len(), 4));
            let bias = biased.then_some(&bias[..]);
            let mut expected = naive::forward(&shape, &x, &weight, bias);
            if relu {
                expected.iter_mut().for_each(|value| *value = value.max(0.0));
            }
            let activation = if relu { Activation::Relu } else { Activation::None };
            let expected_input = naive::grad_input(&shape, &grad, &weight);
            let expected_weight = naive::grad_weight(&shape, &x, &grad);
            for isa in Isa::available() {
                let mut output = vec![f32::NAN; shape.output_len()];
                shape.depthwise_at(isa, &x, &weight, bias, activation, &mut output).unwrap();
                let (mut to_input, mut to_weight) = (vec![f32::NAN; x.len()], vec![f32::NAN; weight.len()]);
                shape.depthwise_backward_at(isa, &x, &weight, &grad, &mut to_input, &mut to_weight).unwrap();
                for (what, found, expected) in [
                    ("output", &output, &expected),
                    ("input's gradient", &to_input, &expected_input),
                    ("weights' gradient", &to_weight, &expected_weight),
                ] {
                    for (found, expected) in found.iter().zip(expected) {
                        let near = (f64::from(*found) - expected).abs() < 1e-4 * (10.0 + expected.abs());
                        prop_assert!(near, "{isa:?} {shape:?}: {what} {found} {expected}");
                    }
                }
            }
        }
    }

    #[test]
    fn others_are_refused() {
        let shape = Conv2d {
            batch: 1,
            in_channels: 4,
            out_channels: 8,
            input: [5; 2],
            kernel: [3; 2],
            stride: [1; 2],
            padding: [[1; 2]; 2],
            dilation: [1; 2],
            groups: 4,
        };
        assert!(!shape.is_depthwise() && Conv2d { out_channels: 4, ..shape }.is_depthwise());
        let error = shape.depthwise(&[0.0; 100], &[0.0; 72], None, Activation::None, &mut [0.0; 200]).unwrap_err();
        assert_eq!(error.to_string(), "8 depthwise channels can't be divided into 4 groups");
    }
}
