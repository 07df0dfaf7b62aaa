//! Convolutions in which each channel sees itself only.
#![allow(unsafe_code)]

use std::ops::Range;
use std::ptr;

use super::pixels::Pixels;
use crate::Conv2d;
use crate::finish::{Last, To};
use crate::gemm::Epilogue;
use crate::lanes::{Isa, Lanes, Work};
use crate::parallel::{Shared, alone, each, threads};
use crate::pointwise::Ends;

/// Pixels of output that share the loads of weights.
const PIXELS: usize = 4;

/// The taps of a kernel that are inside of the input for some place of the output.
#[inline(always)]
pub(super) fn inside(
    at: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    kernel: usize,
    input: usize,
) -> Range<usize> {
    let start = (at * stride) as isize - padding as isize;
    let dilation = dilation as isize;
    let first = if start < 0 { ((-start) + dilation - 1) / dilation } else { 0 };
    let past = input as isize - start;
    let end = if past <= 0 { 0 } else { (past + dilation - 1) / dilation };
    let end = end.min(kernel as isize).max(0) as usize;
    (first as usize).min(end)..end
}

/// The weights are `[height * width, channels]`; all slices are as long as the shape says.
pub(super) fn forward(
    isa: Isa,
    shape: &Conv2d,
    input: Pixels<'_>,
    weight: &[f32],
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let [height, _] = shape.output();
    let lines = shape.batch * height;
    let operations = 4 * shape.output_len() * shape.kernel[0] * shape.kernel[1];
    let part = if alone(operations) { lines } else { lines.div_ceil(4 * threads()).max(1) };
    let shared = Shared::new(out);
    each(lines.div_ceil(part), operations, |task| {
        for line in task * part..lines.min((task + 1) * part) {
            isa.dispatch(Line { shape, input, weight, epilogue, out: shared, out_stride, line });
        }
    });
}

/// A line of the output.
pub(crate) struct Line<'a> {
    pub shape: &'a Conv2d,
    pub input: Pixels<'a>,
    pub weight: &'a [f32],
    pub epilogue: &'a Epilogue<'a>,
    pub out: Shared,
    pub out_stride: usize,
    /// Its number, over all samples.
    pub line: usize,
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

/// Some pixels and channels of a line.
struct Part<'a> {
    /// The first tap of the first pixel, in the first of these channels.
    input: *const f32,
    /// Between taps down and across, and between pixels of the output.
    apart: [usize; 3],
    taps: [usize; 2],
    weight: *const f32,
    weight_line: usize,
    channels: usize,
    /// Channels of the last vector.
    tail: usize,
    bias: *const f32,
    last: Last,
    out: *mut f32,
    out_stride: usize,
    marker: std::marker::PhantomData<&'a f32>,
}

impl Line<'_> {
    #[inline(always)]
    fn compute<L: Lanes>(&self, lanes: L) {
        let Conv2d { input, kernel, stride, padding, dilation, in_channels: channels, .. } = *self.shape;
        let [height, width] = self.shape.output();
        let (sample, y) = (self.line / height, self.line % height);
        let down = inside(y, stride[0], padding[0][0], dilation[0], kernel[0], input[0]);
        let from = (y * stride[0] + down.start * dilation[0]) as isize - padding[0][0] as isize;
        let from = (sample * input[0]) as isize + from;
        // Places whose taps across are all inside.
        let first = padding[1][0].div_ceil(stride[1]).min(width);
        let span = (kernel[1] - 1) * dilation[1] + 1;
        let last =
            (input[1] + padding[1][0]).checked_sub(span).map_or(0, |most| most / stride[1] + 1).clamp(first, width);
        let ends = self.epilogue.function.ends();
        let row = self.line * width;
        let mut x = 0;
        while x < width {
            let whole = x >= first && x < last;
            let count = if whole && x + PIXELS <= last { PIXELS } else { 1 };
            let across = if whole {
                0..kernel[1]
            } else {
                inside(x, stride[1], padding[1][0], dilation[1], kernel[1], input[1])
            };
            let left = (x * stride[1] + across.start * dilation[1]) as isize - padding[1][0] as isize;
            let at = (from * input[1] as isize + left) * self.input.stride as isize;
            let mut channel = 0;
            while channel < channels {
                let vectors = if channels - channel > L::LANES { 2 } else { 1 };
                let tail = (channels - channel - (vectors - 1) * L::LANES).min(L::LANES);
                let part = Part {
                    input: self.input.values.as_ptr().wrapping_offset(at + channel as isize),
                    apart: [
                        dilation[0] * input[1] * self.input.stride,
                        dilation[1] * self.input.stride,
                        stride[1] * self.input.stride,
                    ],
                    taps: [down.len(), across.len()],
                    weight: self
                        .weight
                        .as_ptr()
                        .wrapping_add((down.start * kernel[1] + across.start) * channels + channel),
                    weight_line: kernel[1] * channels,
                    channels,
                    tail,
                    bias: self.epilogue.bias.map_or(ptr::null(), |bias| bias[channel..].as_ptr()),
                    last: Last {
                        // The sums begin with it.
                        bias: ptr::null(),
                        residual: self.epilogue.residual.map_or(ptr::null(), |residual| {
                            residual.values[(row + x) * residual.stride + channel..].as_ptr()
                        }),
                        residual_stride: self.epilogue.residual.map_or(0, |residual| residual.stride),
                        ends: ends.unwrap_or(Ends::NONE),
                    },
                    out: self.out.at((row + x) * self.out_stride + channel),
                    out_stride: self.out_stride,
                    marker: std::marker::PhantomData,
                };
                // SAFETY: the taps are inside of the input, `vectors` vectors but for the tail are inside of the channels, the pixels
                // inside of the line, and whoever made the line has checked the slices.
                unsafe {
                    match (count, vectors) {
                        (PIXELS, 2) => part.run::<L, PIXELS, 2>(lanes),
                        (PIXELS, _) => part.run::<L, PIXELS, 1>(lanes),
                        (_, 2) => part.run::<L, 1, 2>(lanes),
                        _ => part.run::<L, 1, 1>(lanes),
                    }
                }
                channel += vectors * L::LANES;
            }
            x += count;
        }
        if ends.is_none() {
            for x in 0..width {
                let out = self.out.at((row + x) * self.out_stride);
                // SAFETY: this pixel was just written, and no other task does.
                let pixel = unsafe { std::slice::from_raw_parts_mut(out, channels) };
                self.epilogue.function.apply_inline(pixel);
            }
        }
    }
}

impl Part<'_> {
    /// # Safety
    /// All that the addresses and counts reach is inside of their slices.
    #[inline(always)]
    unsafe fn run<L: Lanes, const P: usize, const V: usize>(&self, lanes: L) {
        // SAFETY: the caller's.
        unsafe {
            let whole = self.tail == L::LANES;
            let mut sums = [[lanes.splat(0.0); V]; P];
            if !self.bias.is_null() {
                for v in 0..V {
                    let from = self.bias.add(v * L::LANES);
                    let bias = if whole || v + 1 < V { lanes.load(from) } else { lanes.load_first(from, self.tail) };
                    sums.iter_mut().for_each(|sums| sums[v] = bias);
                }
            }
            for down in 0..self.taps[0] {
                let mut input = self.input.add(down * self.apart[0]);
                let mut weight = self.weight.add(down * self.weight_line);
                for _ in 0..self.taps[1] {
                    if whole {
                        let mut values = [lanes.splat(0.0); V];
                        for (v, value) in values.iter_mut().enumerate() {
                            *value = lanes.load(weight.add(v * L::LANES));
                        }
                        for (p, sums) in sums.iter_mut().enumerate() {
                            for (v, sum) in sums.iter_mut().enumerate() {
                                let x = lanes.load(input.add(p * self.apart[2] + v * L::LANES));
                                *sum = lanes.mul_add(x, values[v], *sum);
                            }
                        }
                    } else {
                        for (p, sums) in sums.iter_mut().enumerate() {
                            for (v, sum) in sums.iter_mut().enumerate() {
                                let count = if v + 1 < V { L::LANES } else { self.tail };
                                let x = lanes.load_first(input.add(p * self.apart[2] + v * L::LANES), count);
                                let value = lanes.load_first(weight.add(v * L::LANES), count);
                                *sum = lanes.mul_add(x, value, *sum);
                            }
                        }
                    }
                    input = input.wrapping_add(self.apart[1]);
                    weight = weight.wrapping_add(self.channels);
                }
            }
            let to = To { out: self.out, stride: self.out_stride, tail: self.tail, more: false };
            to.store(lanes, sums, Some(&self.last));
        }
    }
}
