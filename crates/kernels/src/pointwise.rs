//! Functions of single values that follow a layer while its output is still in the cache.

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::functions::{erf, exp, sigmoid, tanh};
use crate::lanes::Lanes;
use crate::parallel::{Shared, each as each_task};

/// A function of single values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Pointwise {
    /// The value itself.
    #[default]
    None,
    /// Between two bounds; not a number stays what it is.
    Clip(f32, f32),
    /// `x` where it is positive, else `x` times a factor.
    LeakyRelu(f32),
    /// `alpha * x + beta` between zero and one.
    HardSigmoid(f32, f32),
    /// `x` times that with `1 / 6` and `0.5`.
    HardSwish,
    /// `1 / (1 + e^-x)`.
    Sigmoid,
    /// `x / (1 + e^-x)`.
    Silu,
    /// The hyperbolic tangent.
    Tanh,
    /// `x` times the normal distribution's part below it.
    Gelu,
    /// The same by the hyperbolic tangent.
    GeluTanh,
    /// `x` where it is positive, else `alpha * (e^x - 1)`.
    Elu(f32),
}

/// `max(0, x)`.
pub const RELU: Pointwise = Pointwise::Clip(0.0, f32::INFINITY);

#[inline(always)]
fn between(x: f32, low: f32, high: f32) -> f32 {
    let x = if x < low { low } else { x };
    if x > high { high } else { x }
}

/// Values that are worked on together: a loop of this length becomes vectors only.
const GROUP: usize = 16;

#[inline(always)]
fn each(values: &mut [f32], function: impl Fn(f32) -> f32) {
    let (groups, rest) = values.as_chunks_mut::<GROUP>();
    for group in groups {
        for value in group {
            *value = function(*value);
        }
    }
    if !rest.is_empty() {
        let mut group = [0.0; GROUP];
        group[..rest.len()].copy_from_slice(rest);
        for value in &mut group {
            *value = function(*value);
        }
        rest.copy_from_slice(&group[..rest.len()]);
    }
}

/// Bounds of values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    low: f32,
    high: f32,
}

impl Ends {
    /// Between infinities.
    pub const NONE: Self = Self { low: f32::NEG_INFINITY, high: f32::INFINITY };

    /// Whether nothing is done at all.
    #[inline(always)]
    pub fn open(&self) -> bool {
        self.low == f32::NEG_INFINITY && self.high == f32::INFINITY
    }

    /// The bounds in all lanes.
    #[inline(always)]
    pub fn bounds<L: Lanes>(&self, lanes: L) -> (L::Vector, L::Vector) {
        (lanes.splat(self.low), lanes.splat(self.high))
    }

    /// Each lane between the bounds.
    #[inline(always)]
    pub fn apply<L: Lanes>(&self, lanes: L, x: L::Vector) -> L::Vector {
        lanes.at_most(lanes.splat(self.high), lanes.at_least(lanes.splat(self.low), x))
    }
}

impl Pointwise {
    /// About as many operations a value takes.
    pub(crate) fn cost(self) -> usize {
        match self {
            Self::None => 0,
            Self::Clip(..) | Self::LeakyRelu(_) | Self::HardSigmoid(..) | Self::HardSwish => 4,
            _ => 24,
        }
    }

    /// What a kernel does to sums before it stores them, if that is all of the function.
    pub(crate) fn ends(self) -> Option<Ends> {
        match self {
            Self::None => Some(Ends::NONE),
            Self::Clip(low, high) => Some(Ends { low, high }),
            _ => None,
        }
    }

    /// Puts the function of each value in its place, compiled for whatever vectors the caller is.
    #[inline(always)]
    pub(crate) fn apply_inline(self, values: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Clip(low, high) => each(values, |x| between(x, low, high)),
            Self::LeakyRelu(slope) => each(values, |x| if x < 0.0 { slope * x } else { x }),
            Self::HardSigmoid(alpha, beta) => each(values, |x| between(alpha * x + beta, 0.0, 1.0)),
            Self::HardSwish => each(values, |x| x * between(x * (1.0 / 6.0) + 0.5, 0.0, 1.0)),
            Self::Sigmoid => each(values, sigmoid),
            Self::Silu => each(values, |x| x / (1.0 + exp(-x))),
            Self::Tanh => each(values, tanh),
            Self::Gelu => each(values, |x| 0.5 * x * (1.0 + erf(x * std::f32::consts::FRAC_1_SQRT_2))),
            Self::GeluTanh => each(values, |x| 0.5 * x * (1.0 + tanh(0.797_884_6 * (x + 0.044_715 * x * x * x)))),
            Self::Elu(alpha) => each(values, |x| if x < 0.0 { alpha * (exp(x) - 1.0) } else { x }),
        }
    }
}

struct Apply<'a> {
    function: Pointwise,
    values: &'a mut [f32],
}

impl WithSimd for Apply<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        self.function.apply_inline(self.values);
    }
}

/// Values that one thread does at a time.
const PIECE: usize = 1 << 13;

impl Pointwise {
    /// Puts the function of each value in its place.
    pub fn apply(self, values: &mut [f32]) {
        if self == Self::None {
            return;
        }
        let arch = Arch::new();
        let (len, shared) = (values.len(), Shared::new(values));
        each_task(len.div_ceil(PIECE), len * self.cost(), |task| {
            let start = task * PIECE;
            #[allow(unsafe_code)]
            // SAFETY: each task writes a piece of its own inside of the slice.
            let values = unsafe { std::slice::from_raw_parts_mut(shared.at(start), PIECE.min(len - start)) };
            arch.dispatch(Apply { function: self, values });
        });
    }
}

/// A factor and a summand for each channel, and a function after them.
#[derive(Clone, Debug)]
pub struct ChannelAffine {
    /// One for each channel.
    pub factors: Vec<f32>,
    /// As many.
    pub summands: Vec<f32>,
    /// What follows.
    pub function: Pointwise,
}

struct AffineRow<'a> {
    channels: &'a ChannelAffine,
    input: Option<&'a [f32]>,
    out: &'a mut [f32],
    /// The channel of all values; without one, a row is all channels.
    channel: Option<usize>,
}

impl WithSimd for AffineRow<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { channels: ChannelAffine { factors, summands, function }, input, out, channel } = self;
        match (channel, input) {
            (Some(channel), input) => {
                let (factor, summand) = (factors[channel], summands[channel]);
                if let Some(input) = input {
                    out.copy_from_slice(input);
                }
                for value in &mut *out {
                    *value = *value * factor + summand;
                }
            }
            // A row at a time: all that is read and written does not fit the first-level cache.
            (None, Some(input)) => {
                for (row, input) in out.chunks_exact_mut(factors.len()).zip(input.chunks_exact(factors.len())) {
                    for (((value, x), factor), summand) in row.iter_mut().zip(input).zip(factors).zip(summands) {
                        *value = *x * factor + summand;
                    }
                    function.apply_inline(row);
                }
                return;
            }
            (None, None) => {
                for row in out.chunks_exact_mut(factors.len()) {
                    for ((value, factor), summand) in row.iter_mut().zip(factors).zip(summands) {
                        *value = *value * factor + summand;
                    }
                }
            }
        }
        function.apply_inline(out);
    }
}

impl ChannelAffine {
    /// Computes all values of `out` from those of `input`, or in place without one: `[rows, channels, inner]`, `sizes` being the rows and
    /// the inner size.
    ///
    /// # Panics
    /// When the slices have other lengths than that.
    pub fn apply(&self, input: Option<&[f32]>, out: &mut [f32], [rows, inner]: [usize; 2]) {
        let channels = self.factors.len();
        assert!(self.summands.len() == channels && out.len() == rows * channels * inner, "values for all channels");
        assert!(input.is_none_or(|input| input.len() == out.len()), "as many values before as after");
        if out.is_empty() {
            return;
        }
        let (piece, last) = if inner == 1 { ((PIECE / channels).max(1) * channels, true) } else { (inner, false) };
        let arch = Arch::new();
        let (len, shared) = (out.len(), Shared::new(out));
        each_task(len.div_ceil(piece), len * (4 + self.function.cost()), |task| {
            let start = task * piece;
            let count = piece.min(len - start);
            #[allow(unsafe_code)]
            // SAFETY: each task writes a piece of its own inside of the slice.
            let out = unsafe { std::slice::from_raw_parts_mut(shared.at(start), count) };
            let input = input.map(|input| &input[start..][..count]);
            let channel = (!last).then_some(task % channels);
            arch.dispatch(AffineRow { channels: self, input, out, channel });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affine_functions_are_those_of_the_channels() {
        let channels = ChannelAffine { factors: vec![2.0, -1.0, 0.5], summands: vec![1.0, 0.0, -3.0], function: RELU };
        for (rows, inner) in [(1, 1), (4, 1), (2, 5), (3000, 7), (40_000, 1)] {
            let input: Vec<f32> = (0..rows * 3 * inner).map(|i| (i as f32 * 0.7).sin() * 5.0).collect();
            let (mut found, mut in_place) = (vec![0.0; input.len()], input.clone());
            channels.apply(Some(&input), &mut found, [rows, inner]);
            channels.apply(None, &mut in_place, [rows, inner]);
            for (at, (x, found)) in input.iter().zip(&found).enumerate() {
                let channel = at / inner % 3;
                let expected = (x * channels.factors[channel] + channels.summands[channel]).max(0.0);
                assert!((found - expected).abs() < 1e-5 && in_place[at] == *found);
            }
        }
    }

    #[test]
    fn long_and_short_slices_give_the_same() {
        for function in [
            RELU,
            Pointwise::LeakyRelu(0.1),
            Pointwise::HardSigmoid(0.2, 0.5),
            Pointwise::HardSwish,
            Pointwise::Sigmoid,
            Pointwise::Silu,
            Pointwise::Tanh,
            Pointwise::Gelu,
            Pointwise::GeluTanh,
            Pointwise::Elu(1.5),
        ] {
            let values: Vec<f32> = (0..100_003).map(|i| (i as f32 * 0.37).sin() * 6.0).collect();
            let (mut whole, mut single) = (values.clone(), values);
            function.apply(&mut whole);
            single.chunks_mut(1).for_each(|value| function.apply(value));
            assert!(whole.iter().zip(&single).all(|(a, b)| (a - b).abs() <= 1e-6), "{function:?}");
        }
        let silu = |x: f32| x / (1.0 + (-x).exp());
        let mut values = [-3.0, 0.0, 2.5];
        Pointwise::Silu.apply(&mut values);
        assert!(values.iter().zip([-3.0, 0.0, 2.5]).all(|(found, x)| (found - silu(x)).abs() < 1e-6));
    }
}
