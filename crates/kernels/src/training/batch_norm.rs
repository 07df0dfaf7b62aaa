//! Batch normalization with the statistics of the batch, and what follows it, in one operation.
#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::activation::GROUP;
use super::room::Room;
use super::sums::{sum, sums_beside};
use crate::arch::Arch;
use crate::parallel::each;
use crate::pointwise::Pointwise;
use crate::scratch::with_scratch;

/// Values that a sum takes in before it goes on in 64 bits.
const BLOCK: usize = 1 << 11;
/// Planes of fewer pixels are copied side by side first.
const SMALL: usize = 96;
/// Values of a channel that are worth being copied: they stay in the second-level cache.
const COPIED: usize = 1 << 16;
/// About as many operations a value takes.
const COST: usize = 16;

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

    /// `function((x - mean) / deviation * weight + bias + residual)`.
    ///
    /// # Panics
    /// When a slice has another length than the sizes say.
    pub fn forward(&self, input: &[f32], weight: &[f32], bias: &[f32], residual: Option<&[f32]>) -> Normalised {
        let len = self.values();
        assert!(input.len() == len && residual.is_none_or(|residual| residual.len() == len), "values of all channels");
        assert!(weight.len() == self.channels && bias.len() == self.channels, "a value for each channel");
        let (output, mean, variance) = (Room::new(len), Room::new(self.channels), Room::new(self.channels));
        let arch = Arch::new();
        each(self.channels, len * (COST + self.function.cost()), |channel| {
            let found = with_scratch(self.scratch(2), |scratch| {
                arch.dispatch(Forward { norm: self, channel, input, weight, bias, residual, output: &output, scratch })
            });
            // SAFETY: each task has a channel of its own.
            unsafe {
                mean.part(channel..channel + 1)[0].write(found[0]);
                variance.part(channel..channel + 1)[0].write(found[1]);
            }
        });
        // SAFETY: the planes of all channels are all values.
        unsafe { Normalised { output: output.filled(), mean: mean.filled(), variance: variance.filled() } }
    }

    /// The gradients from `grad`, that of the output.
    ///
    /// # Panics
    /// When a slice has another length than the sizes say, or there is an output and the function is no rectifier.
    pub fn backward(&self, seen: &Seen<'_>, grad: Vec<f32>) -> BatchNormGradients {
        let (len, channels) = (self.values(), self.channels);
        assert!(seen.input.len() == len && grad.len() == len, "values of all channels");
        assert!(seen.output.is_none_or(|output| output.len() == len), "values of all channels");
        let each_channel = [seen.weight, seen.bias, seen.mean, seen.variance];
        assert!(each_channel.iter().all(|values| values.len() == channels), "a value for each channel");
        let rectified = matches!(self.function, Pointwise::None | Pointwise::Clip(0.0, f32::INFINITY));
        assert!(seen.output.is_none() || rectified, "a rectifier's slope is seen in its output");
        let (weight, bias) = (Room::new(channels), Room::new(channels));
        let grad = Room::of(grad);
        let apart = seen.output.map(|_| Room::new(len));
        let arch = Arch::new();
        each(channels, len * (COST + self.function.cost()), |channel| {
            let [shift, scale] = with_scratch(self.scratch(3), |scratch| {
                arch.dispatch(Backward { norm: self, channel, seen, grad: &grad, input: apart.as_ref(), scratch })
            });
            // SAFETY: each task has a channel of its own.
            unsafe {
                bias.part(channel..channel + 1)[0].write(shift);
                weight.part(channel..channel + 1)[0].write(scale);
            }
        });
        // SAFETY: the planes of all channels are all values.
        unsafe {
            let (weight, bias, grad) = (weight.filled(), bias.filled(), grad.filled());
            match apart {
                Some(input) => BatchNormGradients { input: input.filled(), weight, bias, residual: Some(grad) },
                None => BatchNormGradients { input: grad, weight, bias, residual: None },
            }
        }
    }

    #[inline(always)]
    fn plane(&self, sample: usize, channel: usize) -> Range<usize> {
        let start = (sample * self.channels + channel) * self.pixels;
        start..start + self.pixels
    }

    /// Whether the planes of a channel are copied side by side.
    fn gathers(&self) -> bool {
        self.pixels < SMALL && self.batch * self.pixels <= COPIED
    }

    /// Working memory for so many copies of a channel, if it is copied.
    fn scratch(&self, copies: usize) -> usize {
        if self.gathers() { copies * self.batch * self.pixels } else { 0 }
    }

    /// The planes of a channel, side by side.
    #[inline(always)]
    fn gather(&self, channel: usize, values: &[f32], to: &mut [f32]) {
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
    unsafe fn scatter(&self, channel: usize, from: &[f32], room: &Room) {
        for (sample, from) in from.chunks_exact(self.pixels).enumerate() {
            // SAFETY: the caller's.
            let to = unsafe { room.part(self.plane(sample, channel)) };
            for (to, from) in to.iter_mut().zip(from) {
                to.write(*from);
            }
        }
    }
}

/// The sum over a slice in 64 bits from block to block.
#[inline(always)]
fn total(values: &[f32], function: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for block in values.chunks(BLOCK) {
        total += f64::from(sum(block, &function));
    }
    total
}

/// `function((x - mean) * factor + shift + residual)` of a run of values: where the mean is large beside the deviation, the distance
/// from it keeps digits that a product with the whole value loses.
#[inline(always)]
fn finish(run: &mut [f32], [mean, factor, shift]: [f32; 3], residual: Option<&[f32]>, function: Pointwise) {
    for value in &mut *run {
        *value = (*value - mean) * factor + shift;
    }
    if let Some(residual) = residual {
        for (value, residual) in run.iter_mut().zip(residual) {
            *value += *residual;
        }
    }
    function.apply_inline(run);
}

struct Forward<'a> {
    norm: &'a BatchNorm,
    channel: usize,
    input: &'a [f32],
    weight: &'a [f32],
    bias: &'a [f32],
    residual: Option<&'a [f32]>,
    output: &'a Room,
    scratch: &'a mut [f32],
}

impl WithSimd for Forward<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [f32; 2] {
        let Self { norm, channel, input, weight, bias, residual, output, scratch } = self;
        let count = norm.batch * norm.pixels;
        let affine = |mean: f32, variance: f64| {
            let factor = f64::from(weight[channel]) / (variance + f64::from(norm.epsilon)).sqrt();
            [mean, factor as f32, bias[channel]]
        };
        if norm.gathers() {
            let (values, beside) = scratch.split_at_mut(count);
            norm.gather(channel, input, values);
            let mean = (total(values, |x| x) / count as f64) as f32;
            let variance = total(values, |x| (x - mean) * (x - mean)) / count as f64;
            if let Some(residual) = residual {
                norm.gather(channel, residual, beside);
            }
            finish(values, affine(mean, variance), residual.map(|_| &*beside), norm.function);
            // SAFETY: this task's channel.
            unsafe { norm.scatter(channel, values, output) };
            return [mean, variance as f32];
        }
        let mut sum = 0.0;
        for sample in 0..norm.batch {
            sum += total(&input[norm.plane(sample, channel)], |x| x);
        }
        let mean = (sum / count as f64) as f32;
        let mut sum = 0.0;
        for sample in 0..norm.batch {
            sum += total(&input[norm.plane(sample, channel)], |x| (x - mean) * (x - mean));
        }
        let variance = sum / count as f64;
        let affine = affine(mean, variance);
        for sample in 0..norm.batch {
            let plane = norm.plane(sample, channel);
            for start in plane.clone().step_by(GROUP) {
                let run = start..plane.end.min(start + GROUP);
                // SAFETY: this task's channel.
                let output = unsafe { output.part(run.clone()) };
                let output = output.write_copy_of_slice(&input[run.clone()]);
                finish(output, affine, residual.map(|residual| &residual[run]), norm.function);
            }
        }
        [mean, variance as f32]
    }
}

struct Backward<'a> {
    norm: &'a BatchNorm,
    channel: usize,
    seen: &'a Seen<'a>,
    /// Becomes the gradient of what went into the function.
    grad: &'a Room,
    /// Where the gradient of the input goes, if not there too.
    input: Option<&'a Room>,
    scratch: &'a mut [f32],
}

/// What a channel's values are multiplied with, and so on.
#[derive(Clone, Copy)]
struct Channel {
    mean: f32,
    factor: f32,
    shift: f32,
    function: Pointwise,
}

impl Channel {
    /// Turns the gradient of the output into that of what went into the function; sums it up, alone and times the input's distance
    /// from the mean.
    #[inline(always)]
    fn first(self, input: &[f32], output: Option<&[f32]>, grad: &mut [f32]) -> [f64; 2] {
        let mut sums = [0.0; 2];
        let mut slopes = [0.0; GROUP];
        for (at, (grad, input)) in grad.chunks_mut(GROUP).zip(input.chunks(GROUP)).enumerate() {
            match (output, self.function) {
                (_, Pointwise::None) => {}
                (Some(output), _) => {
                    for (grad, output) in grad.iter_mut().zip(&output[at * GROUP..]) {
                        *grad = if *output > 0.0 { *grad } else { 0.0 };
                    }
                }
                (None, Pointwise::Clip(low, high)) => {
                    for (grad, input) in grad.iter_mut().zip(input) {
                        let value = (*input - self.mean) * self.factor + self.shift;
                        *grad = if value > low && value < high { *grad } else { 0.0 };
                    }
                }
                (None, function) => {
                    let slopes = &mut slopes[..input.len()];
                    for (slope, input) in slopes.iter_mut().zip(input) {
                        *slope = (*input - self.mean) * self.factor + self.shift;
                    }
                    function.slopes(slopes);
                    for (grad, slope) in grad.iter_mut().zip(slopes) {
                        *grad *= *slope;
                    }
                }
            }
            let mean = self.mean;
            let [plain, products] = sums_beside(grad, input, |x| x - mean);
            sums[0] += f64::from(plain);
            sums[1] += f64::from(products);
        }
        sums
    }

    /// The gradient of the input, `factor · (grad − mean of grad − share · (input − mean))`, as factors and a summand.
    fn last(self, [plain, products]: [f64; 2], count: usize, variance: f64) -> Last {
        let factor = f64::from(self.factor);
        let share = products / count as f64 / variance;
        Last {
            mean: self.mean,
            grad: self.factor,
            distance: (-factor * share) as f32,
            rest: (-factor * plain / count as f64) as f32,
        }
    }
}

/// The gradient of the input from that of what went into the function.
#[derive(Clone, Copy)]
struct Last {
    mean: f32,
    grad: f32,
    distance: f32,
    rest: f32,
}

impl Last {
    #[inline(always)]
    fn of(self, grad: f32, input: f32) -> f32 {
        grad * self.grad + ((input - self.mean) * self.distance + self.rest)
    }
}

impl WithSimd for Backward<'_> {
    type Output = [f32; 2];

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> [f32; 2] {
        let Self { norm, channel, seen, .. } = self;
        let count = norm.batch * norm.pixels;
        let variance = f64::from(seen.variance[channel]) + f64::from(norm.epsilon);
        let mean = seen.mean[channel];
        let factor = f64::from(seen.weight[channel]) / variance.sqrt();
        let of = Channel { mean, factor: factor as f32, shift: seen.bias[channel], function: norm.function };
        let mut sums = [0.0; 2];
        if norm.gathers() {
            let (input, scratch) = self.scratch.split_at_mut(count);
            let (grad, output) = scratch.split_at_mut(count);
            norm.gather(channel, seen.input, input);
            for (sample, to) in grad.chunks_exact_mut(norm.pixels).enumerate() {
                // SAFETY: this task's channel, whose values were there.
                let from = unsafe { self.grad.written(norm.plane(sample, channel)) };
                for (to, from) in to.iter_mut().zip(from) {
                    *to = *from;
                }
            }
            if let Some(from) = seen.output {
                norm.gather(channel, from, output);
            }
            sums = of.first(input, seen.output.map(|_| &*output), grad);
            let last = of.last(sums, count, variance);
            // SAFETY: this task's channel.
            unsafe {
                if self.input.is_some() {
                    norm.scatter(channel, grad, self.grad);
                }
                for (grad, input) in grad.iter_mut().zip(&*input) {
                    *grad = last.of(*grad, *input);
                }
                norm.scatter(channel, grad, self.input.unwrap_or(self.grad));
            }
        } else {
            for sample in 0..norm.batch {
                let plane = norm.plane(sample, channel);
                // SAFETY: this task's channel, whose values were there.
                let grad = unsafe { self.grad.written(plane.clone()) };
                let found = of.first(&seen.input[plane.clone()], seen.output.map(|output| &output[plane]), grad);
                sums[0] += found[0];
                sums[1] += found[1];
            }
            let last = of.last(sums, count, variance);
            for sample in 0..norm.batch {
                let plane = norm.plane(sample, channel);
                let input = &seen.input[plane.clone()];
                // SAFETY: as above.
                let grad = unsafe { self.grad.written(plane.clone()) };
                match self.input {
                    None => {
                        for (grad, input) in grad.iter_mut().zip(input) {
                            *grad = last.of(*grad, *input);
                        }
                    }
                    Some(room) => {
                        // SAFETY: as above.
                        let to = unsafe { room.part(plane) };
                        for ((to, grad), input) in to.iter_mut().zip(grad).zip(input) {
                            to.write(last.of(*grad, *input));
                        }
                    }
                }
            }
        }
        [sums[0] as f32, (sums[1] / variance.sqrt()) as f32]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pointwise::RELU;

    fn values(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin() * 2.0 + 0.3).collect()
    }

    fn sizes() -> impl Iterator<Item = BatchNorm> {
        let all = [[1, 1, 2], [3, 2, 1], [16, 5, 4], [4, 3, 49], [2, 7, 95], [3, 4, 96], [2, 3, 700], [40, 2, 3000]];
        all.into_iter().map(|[batch, channels, pixels]| BatchNorm {
            batch,
            channels,
            pixels,
            epsilon: 1e-3,
            function: Pointwise::None,
        })
    }

    /// Output, mean and variance by the definition, in 64 bits.
    fn precise(norm: &BatchNorm, x: &[f64], weight: &[f32], bias: &[f32], residual: Option<&[f32]>) -> Vec<f64> {
        let channel = |at: usize| at / norm.pixels % norm.channels;
        let count = (norm.batch * norm.pixels) as f64;
        let mut mean = vec![0.0; norm.channels];
        x.iter().enumerate().for_each(|(at, x)| mean[channel(at)] += x / count);
        let mut variance = vec![0.0; norm.channels];
        x.iter().enumerate().for_each(|(at, x)| variance[channel(at)] += (x - mean[channel(at)]).powi(2) / count);
        let normed = x.iter().enumerate().map(|(at, x)| {
            let c = channel(at);
            let y = (x - mean[c]) / (variance[c] + f64::from(norm.epsilon)).sqrt();
            y * f64::from(weight[c]) + f64::from(bias[c]) + residual.map_or(0.0, |residual| residual[at].into())
        });
        normed.collect()
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|&value| value.into()).collect()
    }

    #[test]
    fn forward_is_the_definition() {
        for norm in sizes() {
            let (x, weight, bias) =
                (values(norm.values(), 0.7), values(norm.channels, 1.3), values(norm.channels, 2.1));
            let residual = values(norm.values(), 0.11);
            for (function, residual) in
                [(Pointwise::None, None), (RELU, None), (RELU, Some(&residual[..])), (Pointwise::HardSwish, None)]
            {
                let norm = BatchNorm { function, ..norm };
                let found = norm.forward(&x, &weight, &bias, residual);
                let expected = precise(&norm, &wide(&x), &weight, &bias, residual);
                let mut expected: Vec<f32> = expected.into_iter().map(|value| value as f32).collect();
                function.apply(&mut expected);
                for (found, expected) in found.output.iter().zip(&expected) {
                    assert!((found - expected).abs() < 2e-4, "{norm:?}: {found} {expected}");
                }
                let first: Vec<f32> = (0..norm.batch).flat_map(|sample| x[norm.plane(sample, 0)].to_vec()).collect();
                let mean = first.iter().sum::<f32>() / first.len() as f32;
                let variance = first.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / first.len() as f32;
                assert!((found.mean[0] - mean).abs() < 1e-4 && (found.variance[0] - variance).abs() < 1e-3, "{norm:?}");
            }
        }
    }

    #[test]
    fn gradients_are_differences_of_the_definition() {
        for norm in sizes().filter(|norm| norm.values() < 3000) {
            let (x, weight, bias) =
                (values(norm.values(), 0.7), values(norm.channels, 1.3), values(norm.channels, 2.1));
            let (residual, grad) = (values(norm.values(), 0.11), values(norm.values(), 0.37));
            for (function, residual) in [
                (Pointwise::None, None),
                (RELU, None),
                (RELU, Some(&residual[..])),
                (Pointwise::None, Some(&residual[..])),
                (Pointwise::Silu, None),
            ] {
                let norm = BatchNorm { function, ..norm };
                let made = norm.forward(&x, &weight, &bias, residual);
                let seen = Seen {
                    input: &x,
                    weight: &weight,
                    bias: &bias,
                    mean: &made.mean,
                    variance: &made.variance,
                    output: residual.map(|_| &made.output[..]),
                };
                let found = norm.backward(&seen, grad.clone());
                // What goes into the function, weighted by its slope there, so that a bend is not crossed.
                let before = precise(&norm, &wide(&x), &weight, &bias, residual);
                let mut inner: Vec<f32> = before.iter().map(|&value| value as f32).collect();
                function.slopes(&mut inner);
                inner.iter_mut().zip(&grad).for_each(|(slope, grad)| *slope *= grad);
                let loss = |x: &[f64], weight: &[f32], bias: &[f32]| -> f64 {
                    let made = precise(&norm, x, weight, bias, residual);
                    made.iter().zip(&inner).map(|(value, inner)| value * f64::from(*inner)).sum()
                };
                let near = |found: f32, expected: f64, what: &str| {
                    let bound = 2e-3 * (1.0 + expected.abs());
                    assert!((f64::from(found) - expected).abs() < bound, "{norm:?} {what}: {found} {expected}");
                };
                for at in (0..norm.values()).step_by(norm.values() / 23 + 1) {
                    let moved = |by: f64| {
                        let mut x = wide(&x);
                        x[at] += by;
                        loss(&x, &weight, &bias)
                    };
                    near(found.input[at], (moved(1e-4) - moved(-1e-4)) / 2e-4, "input");
                }
                for channel in 0..norm.channels {
                    let moved = |values: &[f32], by: f32| {
                        let mut values = values.to_vec();
                        values[channel] += by;
                        values
                    };
                    let by_weight = |by| loss(&wide(&x), &moved(&weight, by), &bias);
                    let by_bias = |by| loss(&wide(&x), &weight, &moved(&bias, by));
                    near(found.weight[channel], (by_weight(0.25) - by_weight(-0.25)) / 0.5, "weight");
                    near(found.bias[channel], (by_bias(0.25) - by_bias(-0.25)) / 0.5, "bias");
                }
                match (residual, found.residual) {
                    (Some(_), Some(found)) => {
                        found.iter().zip(&inner).for_each(|(a, b)| near(*a, (*b).into(), "residual"))
                    }
                    (None, None) => {}
                    _ => panic!("a gradient for what was added, and for nothing else"),
                }
            }
        }
    }
}
