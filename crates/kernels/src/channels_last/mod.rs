//! Convolutions and pools of images whose channels are side by side: `[batch, height, width, channels]`.
//!
//! A vector is then a few channels of one pixel, whatever the size of the image, so that 1x1 convolutions are plain products, and
//! depthwise convolutions and pools need no tails but those of the channels. Rows of pixels may be parts of longer rows: a concatenation
//! of channels is written in place.

pub(crate) mod depthwise;
pub(crate) mod grouped;
mod im2col;
mod pixels;
mod pool;
mod sizes;
mod winograd;

pub(crate) use im2col::Gather;
pub use pixels::Pixels;
pub use pool::{Pool, PoolKind};
pub(crate) use sizes::{Sizes, is_direct};

use std::borrow::Cow;

use crate::gemm::{Block, Epilogue, Grid, PackedMatrix};
use crate::lanes::Isa;
use crate::parallel::{Shared, each};
use crate::scratch::with_scratch;
use crate::{Conv2d, ShapeError};

/// Values of working memory for gathered pixels that a task may use.
const GATHERED: usize = 1 << 16;

/// The weights of a convolution, in the order in which they are read.
#[derive(Debug)]
pub struct ChannelsLastWeights {
    kind: Kind,
    sizes: Sizes,
}

#[derive(Debug)]
enum Kind {
    /// One matrix `[height * width * in, out]` for each group.
    Product(Vec<PackedMatrix>),
    /// `[height * width, channels]`
    Depthwise(Isa, Vec<f32>),
    /// Of many small groups.
    Grouped(Isa, Vec<f32>),
    /// A matrix `[in, out]` for each frequency.
    Winograd(Vec<PackedMatrix>),
}

impl ChannelsLastWeights {
    /// Packs the weights `[out, in / groups, height, width]` for a convolution of this geometry.
    ///
    /// # Errors
    /// When a size is wrong or the slice has another length than it says.
    pub fn new(shape: &Conv2d, weight: &[f32]) -> Result<Self, ShapeError> {
        Self::new_at(Isa::best(), shape, weight, true)
    }

    pub(crate) fn new_at(isa: Isa, shape: &Conv2d, weight: &[f32], winograd: bool) -> Result<Self, ShapeError> {
        let sizes = Sizes::of_weights(shape, weight.len())?;
        let kind = if sizes.is_depthwise() {
            Kind::Depthwise(isa, sizes.taps_first(weight))
        } else if grouped::fits(isa, shape) {
            Kind::Grouped(isa, grouped::pack(isa, shape, weight))
        } else if winograd && winograd::pays(shape) {
            Kind::Winograd(winograd::pack(isa, shape, weight))
        } else {
            let (columns, depth) = (sizes.outputs, sizes.depth());
            let pack = |weight: &[f32]| {
                let weight = if sizes.taps() == 1 { Cow::from(weight) } else { sizes.inputs_last(weight).into() };
                PackedMatrix::new_at(isa, &weight, depth, columns, [1, depth])
            };
            Kind::Product(weight.chunks_exact(columns * depth).map(pack).collect())
        };
        Ok(Self { kind, sizes })
    }

    /// Whether weights for one of two geometries are packed as for the other.
    pub fn alike(a: &Conv2d, b: &Conv2d) -> bool {
        Sizes::of(a) == Sizes::of(b) && winograd::pays(a) == winograd::pays(b)
    }

    /// Computes the convolution. Each pixel of the output begins `out_stride` values after the one before.
    ///
    /// # Errors
    /// When a size is wrong, a slice too short for it, or the weights were packed for another convolution.
    pub fn forward(
        &self,
        shape: &Conv2d,
        input: Pixels<'_>,
        epilogue: &Epilogue<'_>,
        out: &mut [f32],
        out_stride: usize,
    ) -> Result<(), ShapeError> {
        self.sizes.serve(shape)?;
        let [height, width] = shape.output();
        let pixels = shape.batch * height * width;
        let before = shape.batch * shape.input[0] * shape.input[1];
        if pixels == 0 || before == 0 {
            return Ok(());
        }
        let reaches = |pixels: usize, stride: usize, channels: usize| (pixels - 1) * stride + channels;
        let most = reaches(before, input.stride, shape.in_channels);
        if input.values.len() < most || input.stride < shape.in_channels {
            return Err(ShapeError::Length { what: "the input", expected: most, found: input.values.len() });
        }
        let most = reaches(pixels, out_stride, shape.out_channels);
        if out.len() < most || out_stride < shape.out_channels {
            return Err(ShapeError::Length { what: "the output", expected: most, found: out.len() });
        }
        epilogue.check(pixels, shape.out_channels);
        match &self.kind {
            Kind::Depthwise(isa, weight) => depthwise::forward(*isa, shape, input, weight, epilogue, out, out_stride),
            Kind::Grouped(isa, weight) => grouped::forward(*isa, shape, input, weight, epilogue, out, out_stride),
            Kind::Winograd(weight) => winograd::forward(shape, input, weight, epilogue, out, out_stride),
            Kind::Product(groups) => {
                let direct = is_direct(shape);
                let Sizes { inputs, outputs, .. } = self.sizes;
                for (group, packed) in groups.iter().enumerate() {
                    let values = &input.values[group * inputs..];
                    let part = Epilogue {
                        bias: epilogue.bias.map(|bias| &bias[group * outputs..]),
                        residual: epilogue.residual.map(|residual| crate::Residual {
                            values: &residual.values[group * outputs..],
                            stride: residual.stride,
                        }),
                        function: epilogue.function,
                    };
                    let out = &mut out[group * outputs..];
                    if direct {
                        packed.multiply(values, input.stride, pixels, &part, out, out_stride);
                    } else {
                        gathered(shape, Pixels { values, stride: input.stride }, packed, &part, out, out_stride);
                    }
                }
            }
        }
        Ok(())
    }
}

/// A product with the pixels under each tap, which are copied side by side for a few pixels of output at a time.
fn gathered(
    shape: &Conv2d,
    input: Pixels<'_>,
    packed: &PackedMatrix,
    epilogue: &Epilogue<'_>,
    out: &mut [f32],
    out_stride: usize,
) {
    let [height, width] = shape.output();
    let rows = shape.batch * height * width;
    let operations = 2 * rows * packed.depth() * packed.columns();
    let grid = Grid::new(rows, packed.panels(), packed.isa(), operations);
    let shared = Shared::new(out);
    let tile = packed.isa().pair_rows();
    let most = (GATHERED / packed.depth()).next_multiple_of(tile).max(4 * tile);
    let gather = Gather::new(shape, input.values, input.stride, 0.0);
    each(grid.count(), operations, |task| {
        let (rows, panels) = grid.part(task);
        for start in rows.clone().step_by(most) {
            let count = most.min(rows.end - start);
            with_scratch(count * packed.depth(), |left| {
                gather.rows(start, left, packed.depth());
                let block = Block {
                    packed,
                    left: left.as_ptr(),
                    stride: packed.depth(),
                    rows: count,
                    panels: panels.clone(),
                    out: shared.at(start * out_stride),
                    out_stride,
                    first_row: start,
                    epilogue,
                };
                block.run(packed.isa());
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Residual;
    use crate::naive;
    use crate::pointwise::{Pointwise, RELU};
    use proptest::prelude::*;

    /// `[batch, channels, pixels]` as `[batch, pixels, stride]`.
    pub(super) fn last(values: &[f32], batch: usize, channels: usize, stride: usize) -> Vec<f32> {
        let pixels = values.len() / batch.max(1) / channels;
        let mut turned = vec![f32::NAN; batch * pixels * stride];
        for (at, value) in values.iter().enumerate() {
            let (sample, rest) = (at / (channels * pixels), at % (channels * pixels));
            turned[(sample * pixels + rest % pixels) * stride + rest / pixels] = *value;
        }
        turned
    }

    pub(super) fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(120))]
        #[test]
        fn convolutions_are_those_of_the_definition(
            (batch, groups, inputs, outputs) in (1usize..3, 1usize..4, 1usize..20, 1usize..20),
            depthwise in any::<bool>(),
            input in [1usize..14, 1usize..14],
            kernel in [1usize..6, 1usize..6],
            stride in [1usize..4, 1usize..4],
            dilation in [1usize..3, 1usize..3],
            padding in [[0usize..3, 0usize..3], [0usize..3, 0usize..3]],
            square in any::<bool>(),
            (in_pad, out_pad, biased, added, function) in (
                0usize..3, 0usize..3, any::<bool>(), any::<bool>(),
                prop::sample::select(vec![Pointwise::None, RELU, Pointwise::Clip(-0.5, 0.5), Pointwise::Sigmoid]),
            ),
        ) {
            let (kernel, stride, dilation) = if square { ([3; 2], [1; 2], [1; 2]) } else { (kernel, stride, dilation) };
            let (in_channels, out_channels, groups) =
                if depthwise { (inputs * 3, inputs * 3, inputs * 3) } else { (inputs * groups, outputs * groups, groups) };
            let shape = Conv2d { batch, in_channels, out_channels, input, kernel, stride, padding, dilation, groups };
            prop_assume!(shape.check().is_ok());
            let (x, weight) = (values(shape.input_len(), 1), values(shape.weight_len(), 2));
            let bias = values(out_channels, 3);
            let expected = naive::forward(&shape, &x, &weight, biased.then_some(&bias[..]));
            let mut expected: Vec<f32> = expected.into_iter().map(|value| value as f32).collect();
            let residual = values(expected.len(), 4);
            if added {
                expected.iter_mut().zip(&residual).for_each(|(value, other)| *value += other);
            }
            function.apply_inline(&mut expected);
            let [height, width] = shape.output();
            let stride = out_channels + out_pad;
            let expected = last(&expected, batch, out_channels, stride);
            let x = last(&x, batch, in_channels, in_channels + in_pad);
            let x: Vec<f32> = x.into_iter().map(|x| if x.is_nan() { 1e9 } else { x }).collect();
            let residual = last(&residual, batch, out_channels, stride);
            let epilogue = Epilogue {
                bias: biased.then_some(&bias[..]),
                residual: added.then_some(Residual { values: &residual, stride }),
                function,
            };
            for isa in Isa::available() {
                for winograd in [false, true] {
                    let packed = if winograd && winograd::fits(&shape) {
                        ChannelsLastWeights { kind: Kind::Winograd(winograd::pack(isa, &shape, &weight)), sizes: Sizes::of(&shape) }
                    } else {
                        ChannelsLastWeights::new_at(isa, &shape, &weight, false).unwrap()
                    };
                    let mut out = vec![f32::NAN; batch * height * width * stride];
                    let pixels = Pixels { values: &x, stride: in_channels + in_pad };
                    packed.forward(&shape, pixels, &epilogue, &mut out, stride).unwrap();
                    for (at, (found, expected)) in out.iter().zip(&expected).enumerate() {
                        let same = found.is_nan() && expected.is_nan() || (found - expected).abs() < 2e-3;
                        prop_assert!(same, "{isa:?} {shape:?} winograd {winograd} at {at}: {found} {expected}");
                    }
                }
            }
        }
    }
}
