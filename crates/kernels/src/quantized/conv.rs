//! Convolutions of codes whose channels are side by side.
//!
//! A convolution is a product with the codes under the kernel's taps. One with few products for each output (each channel by itself, many
//! small groups) is done by the kernels for floats, a few lines at a time: floats hold such sums exactly.
#![allow(unsafe_code)]

use super::codes::Run;
use super::matrix::{ByteMatrix, Requantize, Rows, SharedTarget, Target};
use super::units::ByteUnit;
use super::{Codes, between, code};
use crate::arch::Arch;
use crate::channels_last::{Gather, Pixels, Sizes, depthwise, grouped, is_direct};
use crate::gemm::Epilogue;
use crate::lanes::Isa;
use crate::parallel::{Shared, each, threads};
use crate::scratch::with_scratch;
use crate::{Conv2d, ShapeError};

/// Floats hold sums of so many products of 8-bit values, less their zero points.
const EXACT: usize = 256;
/// Floats of lines that are worked on at a time: half of the second-level cache of a small core.
const LINES: usize = 1 << 16;

/// The weights of a convolution of codes, in the order in which they are read.
#[derive(Debug)]
pub struct ByteConvWeights {
    kind: Kind,
    sizes: Sizes,
}

#[derive(Debug)]
enum Kind {
    /// One matrix `[height * width * in, out]` for each group.
    Product(Vec<ByteMatrix>),
    /// Codes less their zero points as floats, `[height * width, channels]`.
    Depthwise(Isa, Vec<f32>),
    /// The same for many small groups.
    Grouped(Isa, Vec<f32>),
}

/// What the pixels of the output see, row by row.
struct Seen<'a> {
    gather: Gather<'a, u8>,
    depth: usize,
    direct: Option<(&'a [u8], usize)>,
}

impl Rows for Seen<'_> {
    fn direct(&self) -> Option<(&[u8], usize)> {
        self.direct
    }

    fn fill(&self, first: usize, rows: usize, out: &mut [u8], stride: usize) {
        if let Some((bytes, apart)) = self.direct {
            for row in 0..rows {
                let from = &bytes[(first + row) * apart..][..self.depth];
                out[row * stride..][..self.depth].copy_from_slice(from);
            }
            return;
        }
        self.gather.rows(first, &mut out[..rows * stride], stride);
    }
}

impl ByteConvWeights {
    /// Packs the codes `[out, in / groups, height, width]`, with a zero point for each output, one for all, or none.
    ///
    /// # Errors
    /// When a size is wrong or the slice has another length than it says.
    pub fn new(shape: &Conv2d, weight: Codes<'_>, zeros: &[i32]) -> Result<Self, ShapeError> {
        Self::new_at(ByteUnit::best(), shape, weight, zeros)
    }

    pub(crate) fn new_at(unit: ByteUnit, shape: &Conv2d, weight: Codes<'_>, zeros: &[i32]) -> Result<Self, ShapeError> {
        let sizes = Sizes::of_weights(shape, weight.len())?;
        if zeros.len() > 1 {
            ShapeError::length("the zero points", shape.out_channels, zeros.len())?;
        }
        let (isa, depth) = (unit.isa(), sizes.depth());
        let kind = if depth <= EXACT && (sizes.is_depthwise() || grouped::fits(isa, shape)) {
            let zero = |channel: usize| match zeros {
                [] => 0,
                [zero] => *zero,
                zeros => zeros[channel],
            };
            let floats: Vec<f32> = (0..weight.len()).map(|at| (weight.at(at) - zero(at / depth)) as f32).collect();
            if sizes.is_depthwise() {
                Kind::Depthwise(isa, sizes.taps_first(&floats))
            } else {
                Kind::Grouped(isa, grouped::pack(isa, shape, &floats))
            }
        } else {
            let columns = sizes.outputs;
            let pack = |group: usize| {
                let own = if zeros.len() > 1 { &zeros[group * columns..][..columns] } else { zeros };
                let weight = weight.from(group * columns * depth);
                if sizes.taps() == 1 {
                    return ByteMatrix::new_at(unit, weight, depth, columns, [1, depth], own);
                }
                let turned = sizes.inputs_last(&weight.bytes()[..columns * depth]);
                let signed: Vec<i8>;
                let turned = match weight {
                    Codes::Unsigned(_) => Codes::Unsigned(&turned),
                    Codes::Signed(_) => {
                        signed = turned.iter().map(|byte| *byte as i8).collect();
                        Codes::Signed(&signed)
                    }
                };
                ByteMatrix::new_at(unit, turned, depth, columns, [1, depth], own)
            };
            Kind::Product((0..sizes.groups).map(pack).collect())
        };
        Ok(Self { kind, sizes })
    }

    /// Computes the convolution of pixels whose channels are side by side, as are those of the output. Padding is the zero point.
    ///
    /// # Errors
    /// When a size is wrong, a slice too short for it, or the weights were packed for another convolution.
    ///
    /// # Panics
    /// When there are fewer scales, addends or biases than outputs.
    pub fn forward(
        &self,
        shape: &Conv2d,
        input: Codes<'_>,
        then: &Requantize<'_>,
        target: Target<'_>,
    ) -> Result<(), ShapeError> {
        self.sizes.serve(shape)?;
        ShapeError::length("the input", shape.input_len(), input.len())?;
        let [height, width] = shape.output();
        let pixels = shape.batch * height * width;
        if pixels == 0 || input.is_empty() {
            return Ok(());
        }
        let columns = shape.out_channels;
        target.check(pixels, columns, columns);
        let target = SharedTarget::new(target);
        match &self.kind {
            Kind::Product(groups) => {
                let direct = is_direct(shape);
                let Sizes { inputs, outputs, .. } = self.sizes;
                for (group, packed) in groups.iter().enumerate() {
                    let first = group * outputs;
                    let bytes = &input.bytes()[group * inputs..];
                    let seen = Seen {
                        gather: Gather::new(shape, bytes, shape.in_channels, then.zero as u8),
                        depth: packed.depth(),
                        direct: direct.then_some((bytes, shape.in_channels)),
                    };
                    let part = Requantize {
                        addends: then.addends.map(|own| &own[first..]),
                        scales: if then.scales.len() == 1 { then.scales } else { &then.scales[first..] },
                        bias: then.bias.map(|own| &own[first..]),
                        ..*then
                    };
                    packed.product(&seen, input.flip(), pixels, &part, target.from(first), columns);
                }
            }
            Kind::Depthwise(isa, weight) => self.in_floats(*isa, shape, input, weight, then, target),
            Kind::Grouped(isa, weight) => self.in_floats(*isa, shape, input, weight, then, target),
        }
        Ok(())
    }

    /// A few lines at a time: codes less the zero point as floats with zeros around them, the kernel for floats, and what follows.
    fn in_floats(
        &self,
        isa: Isa,
        shape: &Conv2d,
        input: Codes<'_>,
        weight: &[f32],
        then: &Requantize<'_>,
        target: SharedTarget<'_>,
    ) {
        let [height, width] = shape.output();
        let [[top, _], [left, right]] = shape.padding;
        let (channels, columns) = (shape.in_channels, shape.out_channels);
        let across = shape.input[1] + left + right;
        let span = (shape.kernel[0] - 1) * shape.dilation[0] + 1;
        let line = across * channels;
        let operations = 3 * shape.output_len() * self.sizes.depth() + 4 * shape.input_len();
        // As many lines as fit the cache with what they see, and a few tasks for each thread.
        let fitting = (LINES / line.max(1)).saturating_sub(span) / shape.stride[0] + 1;
        let part = fitting.min(height.div_ceil(2 * threads())).max(1);
        let tasks = height.div_ceil(part);
        let (flip, zero) = (input.flip(), (then.zero + i32::from(input.flip())) as f32);
        let bytes = input.bytes();
        let arch = Arch::new();
        each(shape.batch * tasks, operations, |task| {
            let (sample, first) = (task / tasks, task % tasks * part);
            let count = part.min(height - first);
            let lines = (count - 1) * shape.stride[0] + span;
            let own = Conv2d { batch: 1, input: [lines, across], padding: [[0; 2]; 2], ..*shape };
            with_scratch(lines * line + count * width * columns, |floats| {
                let (image, out) = floats.split_at_mut(lines * line);
                arch.dispatch(Run(
                    #[inline(always)]
                    || {
                        for (at, to) in image.chunks_exact_mut(line).enumerate() {
                            let y = (first * shape.stride[0] + at).wrapping_sub(top);
                            if y >= shape.input[0] {
                                to.fill(0.0);
                                continue;
                            }
                            to[..left * channels].fill(0.0);
                            let len = shape.input[1] * channels;
                            let from = &bytes[(sample * shape.input[0] + y) * len..][..len];
                            for (to, byte) in to[left * channels..].iter_mut().zip(from) {
                                *to = f32::from(byte ^ flip) - zero;
                            }
                            to[left * channels + len..].fill(0.0);
                        }
                    },
                ));
                let (input, epilogue) = (Pixels { values: image, stride: channels }, Epilogue::default());
                let (out_stride, shared) = (columns, Shared::new(out));
                let (shape, epilogue) = (&own, &epilogue);
                for line in 0..count {
                    match self.kind {
                        Kind::Grouped(..) => {
                            for group in 0..own.groups {
                                let out = shared;
                                let line =
                                    grouped::Line { shape, input, weight, epilogue, out, out_stride, line, group };
                                isa.dispatch(line);
                            }
                        }
                        _ => isa.dispatch(depthwise::Line {
                            shape,
                            input,
                            weight,
                            epilogue,
                            out: shared,
                            out_stride,
                            line,
                        }),
                    }
                }
                let row = (sample * height + first) * width;
                arch.dispatch(Run(
                    #[inline(always)]
                    || finish(out, columns, row, then, target),
                ));
            });
        });
    }
}

/// What follows sums of some pixels, of which `row` is the number of the first.
#[inline(always)]
fn finish(sums: &mut [f32], columns: usize, row: usize, then: &Requantize<'_>, target: SharedTarget<'_>) {
    let count = sums.len() / columns;
    for sums in sums.chunks_exact_mut(columns) {
        if let Some(addends) = then.addends {
            sums.iter_mut().zip(addends).for_each(|(sum, addend)| *sum += *addend as f32);
        }
        match (then.scales, then.bias) {
            ([scale], None) => sums.iter_mut().for_each(|sum| *sum *= scale),
            ([scale], Some(bias)) => sums.iter_mut().zip(bias).for_each(|(sum, bias)| *sum = *sum * scale + bias),
            (scales, None) => sums.iter_mut().zip(scales).for_each(|(sum, scale)| *sum *= scale),
            (scales, Some(bias)) => {
                sums.iter_mut().zip(scales).zip(bias).for_each(|((sum, scale), bias)| *sum = *sum * scale + bias);
            }
        }
    }
    match target {
        SharedTarget::Codes { out, rounded } => {
            // SAFETY: whoever called has checked the output; no other task writes these pixels.
            let out = unsafe { std::slice::from_raw_parts_mut(out.at(row * columns), count * columns) };
            for (out, value) in out.iter_mut().zip(sums) {
                *out = code(between(*value, rounded.least, rounded.greatest), rounded.zero);
            }
        }
        SharedTarget::Floats { out, residual, function } => {
            // SAFETY: as above.
            let out = unsafe { std::slice::from_raw_parts_mut(out.at(row * columns), count * columns) };
            out.copy_from_slice(sums);
            if let Some(residual) = residual {
                for (at, out) in out.chunks_exact_mut(columns).enumerate() {
                    let own = &residual.values[(row + at) * residual.stride..][..columns];
                    out.iter_mut().zip(own).for_each(|(out, own)| *out += own);
                }
            }
            function.apply_inline(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Rounded;
    use super::*;
    use crate::Pointwise;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn convolutions_are_those_of_the_definition(
            (batch, groups, inputs, outputs) in (1usize..3, 1usize..4, 1usize..20, 1usize..20),
            depthwise in any::<bool>(),
            input in [1usize..14, 1usize..14],
            kernel in [1usize..6, 1usize..6],
            stride in [1usize..4, 1usize..4],
            dilation in [1usize..3, 1usize..3],
            padding in [[0usize..3, 0usize..3], [0usize..3, 0usize..3]],
            (pointwise, left_signed, right_signed, zero, zeros) in (
                any::<bool>(), any::<bool>(), any::<bool>(), 0i32..256, 0usize..3,
            ),
        ) {
            let (kernel, stride, padding) =
                if pointwise { ([1; 2], [1; 2], [[0; 2]; 2]) } else { (kernel, stride, padding) };
            let (in_channels, out_channels, groups) =
                if depthwise { (inputs * 3, inputs * 3, inputs * 3) } else { (inputs * groups, outputs * groups, groups) };
            let shape = Conv2d { batch, in_channels, out_channels, input, kernel, stride, padding, dilation, groups };
            prop_assume!(shape.check().is_ok());
            let byte = |i: usize, seed: usize| (((i + seed) as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
            let x: Vec<u8> = (0..shape.input_len()).map(|i| byte(i, 3)).collect();
            let weight: Vec<u8> = (0..shape.weight_len()).map(|i| byte(i, 99)).collect();
            let number = |byte: u8, signed: bool| if signed { i32::from(byte as i8) } else { i32::from(byte) };
            let zero = if left_signed { zero - 128 } else { zero };
            let zeros: Vec<i32> = match zeros {
                0 => Vec::new(),
                1 => vec![if right_signed { -5 } else { 128 }],
                _ => (0..out_channels).map(|j| (j as i32 * 7) % 100).collect(),
            };
            let own_zero = |channel: usize| match &zeros[..] { [] => 0, [one] => *one, all => all[channel] };
            // Channels first, as the definition has them; sums are exact in doubles.
            let [h, w] = input;
            let first = |at: usize| {
                let (sample, channel, pixel) = (at / (in_channels * h * w), at / (h * w) % in_channels, at % (h * w));
                (number(x[(sample * h * w + pixel) * in_channels + channel], left_signed) - zero) as f32
            };
            let floats: Vec<f32> = (0..x.len()).map(first).collect();
            let depth = shape.weight_len() / out_channels;
            let weights: Vec<f32> = weight.iter().enumerate()
                .map(|(at, byte)| (number(*byte, right_signed) - own_zero(at / depth)) as f32).collect();
            let sums = crate::naive::forward(&shape, &floats, &weights, None);
            let scales: Vec<f32> = (0..out_channels).map(|j| 1e-3 * (1.0 + (j % 5) as f32)).collect();
            let addends: Vec<i32> = (0..out_channels).map(|j| j as i32 * 100 - 500).collect();
            let then = Requantize { zero, addends: Some(&addends), scales: &scales, bias: None };
            let rounded = Rounded { zero: -3, least: -125.0, greatest: 130.0 };
            let signed: Vec<i8> = x.iter().map(|byte| *byte as i8).collect();
            let signed_weight: Vec<i8> = weight.iter().map(|byte| *byte as i8).collect();
            let left = if left_signed { Codes::Signed(&signed) } else { Codes::Unsigned(&x) };
            let right = if right_signed { Codes::Signed(&signed_weight) } else { Codes::Unsigned(&weight) };
            let [height, width] = shape.output();
            for unit in ByteUnit::available() {
                let packed = ByteConvWeights::new_at(unit, &shape, right, &zeros).unwrap();
                let mut out = vec![f32::NAN; shape.output_len()];
                let function = Pointwise::None;
                packed.forward(&shape, left, &then, Target::Floats { out: &mut out, residual: None, function }).unwrap();
                let mut bytes = vec![99; shape.output_len()];
                packed.forward(&shape, left, &then, Target::Codes { out: &mut bytes, rounded }).unwrap();
                for (at, sum) in sums.iter().enumerate() {
                    let pixels = height * width;
                    let (sample, channel, pixel) = (at / (out_channels * pixels), at / pixels % out_channels, at % pixels);
                    let place = (sample * pixels + pixel) * out_channels + channel;
                    let value = (sum + f64::from(addends[channel])) as f32 * scales[channel];
                    prop_assert!((out[place] - value).abs() <= 1e-5 * value.abs().max(1.0), "{unit:?}: {} {value}", out[place]);
                    let code = value.clamp(rounded.least, rounded.greatest).round_ties_even() as i32 + rounded.zero;
                    let found = i32::from(bytes[place] as i8);
                    let near = (value - value.floor() - 0.5).abs() < 1e-3;
                    prop_assert!(found == code || near && (found - code).abs() == 1, "{unit:?}: {found} {code}");
                }
            }
        }
    }
}
