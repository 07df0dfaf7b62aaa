//! The backward pass.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use super::channel::Channel;
use super::sizes::{BatchNorm, BatchNormGradients, COST, Seen};
use crate::arch::Arch;
use crate::parallel::each;
use crate::pointwise::Pointwise;
use crate::room::Room;
use crate::scratch::with_scratch;

impl BatchNorm {
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
