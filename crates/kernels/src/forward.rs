//! The output of a convolution, with weights as they are or packed once for many calls.

use crate::lanes::Isa;
use crate::trim::Trimmed;
use crate::{Activation, Conv2d, ShapeError, direct, interleaved, winograd};
use std::sync::{Arc, OnceLock};

/// How a convolution is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    /// Sums of products, one for each tap and channel.
    Direct,
    /// Winograd's F(4x4, 3x3): a quarter of the products, between transforms that round a little more.
    Winograd,
}

/// The weights of one convolution in the order in which the kernels of this processor read them.
///
/// They serve any batch and any size of input.
#[derive(Clone, Debug)]
pub struct PackedWeights {
    isa: Isa,
    algorithm: Algorithm,
    /// `[out, in / groups, height, width]`, and the groups.
    sizes: [usize; 5],
    values: Arc<[f32]>,
    /// As they were, for many samples of small images; made when they come.
    interleaved: Arc<OnceLock<Vec<f32>>>,
}

impl Conv2d {
    /// Computes the output, adds `bias` and applies `activation`.
    ///
    /// # Errors
    /// A geometry that makes no sense, or a slice of another length than it says.
    pub fn forward(
        &self,
        input: &[f32],
        weight: &[f32],
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.check()?;
        ShapeError::length("the weight", self.weight_len(), weight.len())?;
        if let Some(trimmed) = Trimmed::of(self) {
            return trimmed.shape.forward(input, &trimmed.take(weight, 1), bias, activation, output);
        }
        let isa = Isa::best();
        if interleaved::suits(self, interleaved::OF_OUTPUT) {
            self.lengths(input, bias, output)?;
            interleaved::forward(isa, self, input, weight, bias, activation, output);
            return Ok(());
        }
        let weights = self.pack_for(isa, Algorithm::Direct, weight)?;
        self.forward_packed(input, &weights, bias, activation, output)
    }

    /// Packs weights for [`Self::forward_packed`].
    ///
    /// # Errors
    /// A geometry that makes no sense, or weights of another length than it says.
    pub fn pack(&self, weight: &[f32]) -> Result<PackedWeights, ShapeError> {
        let algorithm =
            if self.check().is_ok() && winograd::pays(self) { Algorithm::Winograd } else { Algorithm::Direct };
        self.pack_for(Isa::best(), algorithm, weight)
    }

    /// Computes the output with weights packed before, adds `bias` and applies `activation`.
    ///
    /// # Errors
    /// A geometry that makes no sense, a slice of another length than it says, or weights packed for other channels or kernels.
    pub fn forward_packed(
        &self,
        input: &[f32],
        weights: &PackedWeights,
        bias: Option<&[f32]>,
        activation: Activation,
        output: &mut [f32],
    ) -> Result<(), ShapeError> {
        self.check()?;
        if weights.sizes != self.weight_sizes() {
            return Err(ShapeError::Packed { expected: self.weight_sizes(), found: weights.sizes });
        }
        self.lengths(input, bias, output)?;
        if self.batch == 0 {
            return Ok(());
        }
        match weights.algorithm {
            Algorithm::Direct => match Trimmed::of(self) {
                None if interleaved::suits(self, interleaved::OF_OUTPUT) => {
                    let isa = weights.isa;
                    let values = weights.interleaved.get_or_init(|| direct::unpack(isa, self, &weights.values));
                    interleaved::forward(isa, self, input, values, bias, activation, output);
                }
                None => direct::forward(weights.isa, self, input, &weights.values, bias, activation, output),
                Some(trimmed) => {
                    let values = direct::trim(weights.isa, self, &weights.values, &trimmed);
                    direct::forward(weights.isa, &trimmed.shape, input, &values, bias, activation, output);
                }
            },
            Algorithm::Winograd => {
                winograd::forward(weights.isa, self, input, &weights.values, bias, activation, output)
            }
        }
        Ok(())
    }

    /// [`Self::pack`] for one vector unit and algorithm.
    pub(crate) fn pack_for(&self, isa: Isa, algorithm: Algorithm, weight: &[f32]) -> Result<PackedWeights, ShapeError> {
        self.check()?;
        ShapeError::length("the weight", self.weight_len(), weight.len())?;
        let values = match algorithm {
            Algorithm::Direct => direct::pack(isa, self, weight),
            Algorithm::Winograd => winograd::pack(isa, self, weight),
        };
        Ok(PackedWeights {
            isa,
            algorithm,
            sizes: self.weight_sizes(),
            values: values.into(),
            interleaved: Arc::default(),
        })
    }

    /// Whether the slices of a forward pass have the lengths that the geometry says.
    fn lengths(&self, input: &[f32], bias: Option<&[f32]>, output: &[f32]) -> Result<(), ShapeError> {
        ShapeError::length("the input", self.input_len(), input.len())?;
        ShapeError::length("the output", self.output_len(), output.len())?;
        ShapeError::length("the bias", self.out_channels, bias.map_or(self.out_channels, <[f32]>::len))
    }

    /// What weights must be packed for.
    fn weight_sizes(&self) -> [usize; 5] {
        [self.out_channels, self.in_channels / self.groups, self.kernel[0], self.kernel[1], self.groups]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::naive;
    use proptest::prelude::*;

    /// Values in `-1..1` that differ from seed to seed.
    fn values(seed: u32, count: usize) -> Vec<f32> {
        let mut state = seed | 1;
        let next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 8_388_608.0 - 1.0
        };
        std::iter::repeat_with(next).take(count).collect()
    }

    /// Compares all that can compute `shape` with the plain loops; `bound` is relative to the greatest output there could be.
    fn compare(shape: &Conv2d, algorithm: Algorithm, bound: f64, seed: u32) -> Result<(), TestCaseError> {
        let (input, weight) = (values(seed, shape.input_len()), values(seed + 2, shape.weight_len()));
        let bias = values(seed + 4, shape.out_channels);
        let (bias, activation) = match seed % 3 {
            0 => (None, Activation::None),
            1 => (Some(&bias[..]), Activation::Relu),
            _ => (Some(&bias[..]), Activation::None),
        };
        let mut expected = naive::forward(shape, &input, &weight, bias);
        let scale = expected.iter().fold(1.0f64, |most, v| most.max(v.abs()));
        if activation == Activation::Relu {
            expected.iter_mut().for_each(|v| *v = v.max(0.0));
        }
        let packed = Isa::available().map(|isa| (isa, Some(shape.pack_for(isa, algorithm, &weight).unwrap())));
        for (isa, weights) in packed.chain([(Isa::best(), None)]) {
            let mut output = vec![f32::NAN; shape.output_len()];
            match weights {
                Some(weights) => shape.forward_packed(&input, &weights, bias, activation, &mut output).unwrap(),
                None => shape.forward(&input, &weight, bias, activation, &mut output).unwrap(),
            }
            for (i, (found, expected)) in output.iter().zip(&expected).enumerate() {
                let error = (f64::from(*found) - expected).abs() / scale;
                prop_assert!(error < bound, "{isa:?} {shape:?}: output {i} is {found}, expected {expected}");
            }
        }
        Ok(())
    }

    /// Any small convolution.
    fn any_shape() -> impl Strategy<Value = Conv2d> {
        let axis = || (1usize..4, 1usize..4, 1usize..4, 0usize..4, 0usize..4, 0usize..20);
        (prop::sample::select(vec![0usize, 1, 3, 14, 35]), (1usize..4, 1usize..5, 1usize..12), axis(), axis()).prop_map(
            |(batch, (groups, group_in, group_out), down, across)| {
                let side = |(kernel, _, dilation, before, after, extra): (usize, usize, usize, usize, usize, usize)| {
                    (((kernel - 1) * dilation + 1).saturating_sub(before + after) + extra).max(1)
                };
                Conv2d {
                    batch,
                    in_channels: groups * group_in,
                    out_channels: groups * group_out,
                    input: [side(down), side(across)],
                    kernel: [down.0, across.0],
                    stride: [down.1, across.1],
                    padding: [[down.3, down.4], [across.3, across.4]],
                    dilation: [down.2, across.2],
                    groups,
                }
            },
        )
    }

    /// A square convolution as models have it.
    fn square(batch: usize, channels: [usize; 2], side: usize, kernel: usize, padding: usize) -> Conv2d {
        Conv2d {
            batch,
            in_channels: channels[0],
            out_channels: channels[1],
            input: [side; 2],
            kernel: [kernel; 2],
            stride: [1; 2],
            padding: [[padding; 2]; 2],
            dilation: [1; 2],
            groups: 1,
        }
    }

    proptest! {
        #[test]
        fn direct_is_the_definition(shape in any_shape(), seed in any::<u16>()) {
            compare(&shape, Algorithm::Direct, 2e-5, seed.into())?;
        }

        #[test]
        fn winograd_is_the_definition(shape in any_shape(), seed in any::<u16>()) {
            let both = shape.kernel;
            let [down, across] = [0, 1].map(|axis| shape.input[axis] + 3 - both[axis].min(shape.input[axis]));
            let shape = Conv2d {
                in_channels: shape.in_channels / shape.groups,
                out_channels: shape.out_channels / shape.groups,
                input: [down, across],
                kernel: [3; 2],
                stride: [1; 2],
                dilation: [1; 2],
                groups: 1,
                ..shape
            };
            compare(&shape, Algorithm::Winograd, 1e-4, seed.into())?;
        }
    }

    #[test]
    fn winograd_sums_many_channels() {
        for (shape, seed) in [
            (square(2, [70, 17], 9, 3, 1), 0),
            (square(1, [130, 40], 33, 3, 1), 1),
            (square(20, [12, 9], 7, 3, 1), 2),
            (square(1, [300, 70], 14, 3, 0), 3),
            (square(1, [20, 64], 90, 3, 1), 4),
        ] {
            compare(&shape, Algorithm::Winograd, 5e-5, seed).unwrap();
        }
    }

    #[test]
    fn direct_sums_many_channels() {
        for (shape, seed) in [
            (square(2, [70, 17], 9, 3, 1), 0),
            (square(1, [130, 40], 33, 3, 1), 1),
            (square(1, [3, 9], 130, 5, 2), 2),
            (square(1, [600, 33], 7, 1, 0), 3),
            (square(1, [20, 64], 1, 1, 0), 4),
            (square(1, [640, 8], 64, 1, 0), 5),
            (square(40, [70, 66], 6, 7, 3), 6),
            (square(6, [33, 17], 4, 5, 2), 7),
        ] {
            compare(&shape, Algorithm::Direct, 2e-5, seed).unwrap();
        }
    }

    #[test]
    fn extreme_geometries_need_no_extreme_memory() {
        const FAR: usize = 1_000_000_000;
        let base = square(2, [2, 3], 1, 3, 0);
        for shape in [
            Conv2d { padding: [[FAR; 2]; 2], dilation: [FAR; 2], ..base },
            Conv2d { padding: [[FAR; 2]; 2], stride: [FAR; 2], ..base },
            Conv2d { input: [5, 4], kernel: [1, 1], padding: [[0, FAR]; 2], stride: [usize::MAX; 2], ..base },
            Conv2d { padding: [[3 * FAR, 0], [0, 3 * FAR]], stride: [FAR + 7; 2], dilation: [FAR; 2], ..base },
            Conv2d { in_channels: 4, out_channels: 20, groups: 2, padding: [[FAR; 2]; 2], dilation: [FAR; 2], ..base },
        ] {
            (0..3).for_each(|seed| compare(&shape, Algorithm::Direct, 2e-5, seed).unwrap());
        }
    }

    #[test]
    fn threads_do_not_change_a_bit() {
        for shape in [
            square(3, [40, 30], 20, 3, 1),
            square(1, [200, 64], 14, 3, 1),
            square(1, [8, 20], 100, 5, 2),
            square(40, [20, 30], 6, 7, 3),
        ] {
            let (input, weight) = (values(1, shape.input_len()), values(3, shape.weight_len()));
            let algorithm = if winograd::fits(&shape) { Algorithm::Winograd } else { Algorithm::Direct };
            let both = [Algorithm::Direct, algorithm]
                .map(|algorithm| shape.pack_for(Isa::best(), algorithm, &weight).unwrap());
            let run = |weights: &PackedWeights, threads: usize| {
                let mut output = vec![0.0; shape.output_len()];
                let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
                pool.install(|| shape.forward_packed(&input, weights, None, Activation::None, &mut output)).unwrap();
                output
            };
            for weights in &both {
                let one = run(weights, 1);
                assert!([2, 3, 7].into_iter().all(|threads| run(weights, threads) == one), "{shape:?}");
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        let shape = square(1, [2, 3], 5, 3, 1);
        let (input, weight) = (vec![0.0; shape.input_len()], vec![0.0; shape.weight_len()]);
        let mut output = vec![0.0; shape.output_len()];
        let error = shape.forward(&input[1..], &weight, None, Activation::None, &mut output).unwrap_err();
        assert_eq!(error.to_string(), "the input has 49 values, expected 50");
        let error = shape.forward(&input, &weight, Some(&[0.0]), Activation::None, &mut output).unwrap_err();
        assert_eq!(error.to_string(), "the bias has 1 values, expected 3");
        let other = square(1, [2, 4], 5, 3, 1).pack(&vec![0.0; 72]).unwrap();
        let error = shape.forward_packed(&input, &other, None, Activation::None, &mut output).unwrap_err();
        assert_eq!(
            error.to_string(),
            "weights were packed for [4, 2, 3, 3] in 1 groups, but the convolution has [3, 2, 3, 3] in 1 groups"
        );
    }
}
