//! The forward pass.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use super::super::activation::GROUP;
use super::super::sums::sum;
use super::sizes::{BatchNorm, COST, Normalised};
use crate::arch::Arch;
use crate::parallel::each;
use crate::pointwise::Pointwise;
use crate::room::Room;
use crate::scratch::with_scratch;

/// Values that a sum takes in before it goes on in 64 bits.
const BLOCK: usize = 1 << 11;

impl BatchNorm {
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
