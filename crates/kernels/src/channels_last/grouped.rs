//! Convolutions of many small groups: each group has a few outputs only, so that a product would copy more than it computes.
#![allow(unsafe_code)]

use std::ptr;

use super::pixels::Pixels;
use crate::Conv2d;
use crate::finish::{Last, To};
use crate::gemm::Epilogue;
use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, alone, each, threads};
use crate::pointwise::Ends;
use crate::scratch::with_scratch;

/// The most pixels of output whose sums are in registers, where a group is one vector wide.
const NARROW: usize = 8;
/// The same for groups of two vectors.
const WIDE: usize = 6;

/// Whether these kernels are for a convolution: several groups, each of at most two vectors, and kernels of more than one tap.
pub(crate) fn fits(isa: Isa, shape: &Conv2d) -> bool {
    shape.groups > 1
        && shape.kernel != [1; 2]
        && shape.out_channels / shape.groups <= 2 * isa.lanes()
        && shape.in_channels / shape.groups <= 64
}

/// The weights `[out, in / groups, height, width]` as `[groups, height * width, in / groups, whole vectors]`.
pub(crate) fn pack(isa: Isa, shape: &Conv2d, weight: &[f32]) -> Vec<f32> {
    let (inputs, outputs) = (shape.in_channels / shape.groups, shape.out_channels / shape.groups);
    let taps = shape.kernel[0] * shape.kernel[1];
    let width = outputs.next_multiple_of(isa.lanes());
    let mut packed = vec![0.0; shape.groups * taps * inputs * width];
    for (channel, kernels) in weight.chunks_exact(inputs * taps).enumerate() {
        let (group, column) = (channel / outputs, channel % outputs);
        for (input, kernel) in kernels.chunks_exact(taps).enumerate() {
            for (tap, value) in kernel.iter().enumerate() {
                packed[((group * taps + tap) * inputs + input) * width + column] = *value;
            }
        }
    }
    packed
}

/// All slices are as long as the shape says.
pub(super) fn forward(
    isa: Isa,
    shape: &Conv2d,
    input: Pixels<'_>,
    weight: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    if shape.padding == [[0; 2]; 2] {
        return inside(isa, shape, input, weight, epilogue, out, out_stride);
    }
    // With zeros around it, every window is inside of the image.
    let [[top, bottom], [left, right]] = shape.padding;
    let [height, width] = shape.input;
    let channels = shape.in_channels;
    let around = [height + top + bottom, width + left + right];
    let line = around[1] * channels;
    with_scratch(shape.batch * around[0] * line, |padded| {
        for (at, line) in padded.chunks_exact_mut(line).enumerate() {
            let (sample, y) = (at / around[0], (at % around[0]).wrapping_sub(top));
            if y >= height {
                line.fill(0.0);
                continue;
            }
            let (before, rest) = line.split_at_mut(left * channels);
            let (values, after) = rest.split_at_mut(width * channels);
            before.fill(0.0);
            after.fill(0.0);
            let from = &input.values[(sample * height + y) * width * input.stride..];
            if input.stride == channels {
                values.copy_from_slice(&from[..values.len()]);
            } else {
                for (to, from) in values.chunks_exact_mut(channels).zip(from.chunks(input.stride)) {
                    to.copy_from_slice(&from[..channels]);
                }
            }
        }
        let shape = Conv2d { input: around, padding: [[0; 2]; 2], ..*shape };
        inside(isa, &shape, Pixels { values: padded, stride: channels }, weight, epilogue, out, out_stride);
    });
}

/// Without padding.
fn inside(
    isa: Isa,
    shape: &Conv2d,
    input: Pixels<'_>,
    weight: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let lines = shape.batch * shape.output()[0];
    let operations = 2 * shape.output_len() * (shape.in_channels / shape.groups) * shape.kernel[0] * shape.kernel[1];
    let parts = if alone(operations) { 1 } else { (4 * threads()).div_ceil(shape.groups).min(lines) };
    let part = lines.div_ceil(parts);
    let shared = Shared::new(out);
    // Lines of one group one after another: its weights stay in the first-level cache.
    each(shape.groups * parts, operations, |task| {
        let (group, first) = (task / parts, task % parts * part);
        for line in first..lines.min(first + part) {
            isa.dispatch(Line { shape, input, weight, epilogue, out: shared, out_stride, line, group });
        }
    });
}

/// A line of one group's output, without padding.
pub(crate) struct Line<'a> {
    pub shape: &'a Conv2d,
    pub input: Pixels<'a>,
    pub weight: &'a [f32],
    pub epilogue: &'a Epilogue<'a>,
    pub out: Shared,
    pub out_stride: usize,
    /// Its number, over all samples.
    pub line: usize,
    pub group: usize,
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

/// Neighbouring pixels of a line.
struct Part<'a> {
    /// The first tap of the first pixel.
    input: *const f32,
    /// Between taps down and across, and between pixels of the output.
    apart: [usize; 3],
    taps: [usize; 2],
    inputs: usize,
    weight: *const f32,
    /// Outputs of the last vector.
    tail: usize,
    last: Last,
    out: *mut f32,
    out_stride: usize,
    marker: std::marker::PhantomData<&'a f32>,
}

impl Line<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(&self, lanes: L) {
        let Conv2d { input, kernel, stride, dilation, groups, .. } = *self.shape;
        let (inputs, outputs) = (self.shape.in_channels / groups, self.shape.out_channels / groups);
        let [height, width] = self.shape.output();
        let (sample, y) = (self.line / height, self.line % height);
        let wide = outputs > L::LANES;
        let vectors = 1 + usize::from(wide);
        let first = self.group * outputs;
        let taps = kernel[0] * kernel[1] * inputs * vectors * L::LANES;
        let weight = self.weight[self.group * taps..][..taps].as_ptr();
        let start = (sample * input[0] + y * stride[0]) * input[1] * self.input.stride + self.group * inputs;
        let ends = self.epilogue.function.ends();
        let row = self.line * width;
        let most = if wide { WIDE } else { NARROW };
        let mut tiles = width.div_ceil(most);
        let mut x = 0;
        while x < width {
            // Of about the same width.
            let count = (width - x).div_ceil(tiles);
            tiles -= 1;
            let part = Part {
                input: self.input.values.as_ptr().wrapping_add(start + x * stride[1] * self.input.stride),
                apart: [
                    dilation[0] * input[1] * self.input.stride,
                    dilation[1] * self.input.stride,
                    stride[1] * self.input.stride,
                ],
                taps: kernel,
                inputs,
                weight,
                tail: outputs - (vectors - 1) * L::LANES,
                last: Last {
                    bias: self.epilogue.bias.map_or(ptr::null(), |bias| bias[first..].as_ptr()),
                    residual: self.epilogue.residual.map_or(ptr::null(), |residual| {
                        residual.values[(row + x) * residual.stride + first..].as_ptr()
                    }),
                    residual_stride: self.epilogue.residual.map_or(0, |residual| residual.stride),
                    ends: ends.unwrap_or(Ends::NONE),
                },
                out: self.out.at((row + x) * self.out_stride + first),
                out_stride: self.out_stride,
                marker: std::marker::PhantomData,
            };
            // SAFETY: all windows are inside of the image, and whoever made the line has checked the slices; no other task writes
            // these outputs of this line.
            unsafe { part.dispatch(lanes, count, wide) };
            if ends.is_none() {
                for pixel in x..x + count {
                    let out = self.out.at((row + pixel) * self.out_stride + first);
                    // SAFETY: just written.
                    let values = unsafe { std::slice::from_raw_parts_mut(out, outputs) };
                    self.epilogue.function.apply_inline(values);
                }
            }
            x += count;
        }
    }
}

impl Part<'_> {
    /// # Safety
    /// All that the addresses and counts reach is inside of their slices.
    #[inline(always)]
    unsafe fn dispatch<L: Lanes>(&self, lanes: L, count: usize, wide: bool) {
        macro_rules! counts {
            ($($count:literal)*; $vectors:literal) => {
                match count {
                    // SAFETY: the caller's.
                    $($count => unsafe { self.run::<L, $count, $vectors>(lanes) },)*
                    _ => unreachable!("a part has at most as many pixels as registers"),
                }
            };
        }
        if wide { counts!(1 2 3 4 5 6; 2) } else { counts!(1 2 3 4 5 6 7 8; 1) }
    }

    /// # Safety
    /// As above.
    #[inline(always)]
    unsafe fn run<L: Lanes, const P: usize, const V: usize>(&self, lanes: L) {
        let mut sums = [[lanes.splat(0.0); V]; P];
        let mut weight = self.weight;
        // SAFETY: the caller's.
        unsafe {
            for down in 0..self.taps[0] {
                for across in 0..self.taps[1] {
                    let mut input = self.input.add(down * self.apart[0] + across * self.apart[1]);
                    for _ in 0..self.inputs {
                        let mut values = [lanes.splat(0.0); V];
                        for (v, value) in values.iter_mut().enumerate() {
                            *value = lanes.load(weight.add(v * L::LANES));
                        }
                        for (p, sums) in sums.iter_mut().enumerate() {
                            let x = lanes.splat(*input.add(p * self.apart[2]));
                            for (sum, value) in sums.iter_mut().zip(values) {
                                *sum = lanes.mul_add(x, value, *sum);
                            }
                        }
                        input = input.add(1);
                        weight = weight.add(V * L::LANES);
                    }
                }
            }
            let to = To { out: self.out, stride: self.out_stride, tail: self.tail, more: false };
            to.store(lanes, sums, Some(&self.last));
        }
    }
}
