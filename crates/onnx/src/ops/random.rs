//! Random values: the same ones for the same `seed`, others at each run without it.

use crate::infer::Rule;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

use super::{dtype_attribute, one, sizes};
use crate::array::count;
use crate::{Array, DType, Error, Result, Value};
pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("RandomUniform", &[1, 22], (0, 0)).attributes(&["dtype", "high", "low", "seed", "!shape"]).draws(),
        |node| of_shape(node, Draw::uniform(node)?),
    ),
    Entry::new(
        Schema::new("RandomNormal", &[1, 22], (0, 0)).attributes(&["dtype", "mean", "scale", "seed", "!shape"]).draws(),
        |node| of_shape(node, Draw::normal(node)?),
    ),
    Entry::new(
        Schema::new("RandomUniformLike", &[1, 22], (1, 1))
            .attributes(&["dtype", "high", "low", "seed"])
            .without_gradient()
            .draws(),
        |node| like(node, Draw::uniform(node)?),
    ),
    Entry::new(
        Schema::new("RandomNormalLike", &[1, 22], (1, 1))
            .attributes(&["dtype", "mean", "scale", "seed"])
            .without_gradient()
            .draws(),
        |node| like(node, Draw::normal(node)?),
    ),
    Entry::new(
        Schema::new("Bernoulli", &[15, 22], (1, 1)).attributes(&["dtype", "seed"]).rule(Rule::Same).draws(),
        bernoulli,
    ),
    Entry::new(
        Schema::new("Multinomial", &[7, 22], (1, 1))
            .attributes(&["dtype", "sample_size", "seed"])
            .without_gradient()
            .draws(),
        multinomial,
    ),
];

/// SplitMix64.
pub(super) struct Generator(u64);

impl Generator {
    /// Seeded by the attribute `seed` of a node, else anew.
    pub fn new(seed: Option<f32>) -> Self {
        thread_local! {
            static NEXT: Cell<u64> = Cell::new(RandomState::new().hash_one(0));
        }
        Self(match seed {
            Some(seed) => u64::from(seed.to_bits()),
            None => NEXT.replace(NEXT.get().wrapping_add(0xd1b5_4a32_d192_ed03)),
        })
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// At least 0, less than 1.
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }
}

/// A distribution: what it is scaled by and moved by.
#[derive(Clone, Copy)]
enum Draw {
    /// Between two bounds: the lower one, and how far the other is.
    Uniform(f64, f64),
    /// Mean and standard deviation.
    Normal(f64, f64),
}

impl Draw {
    fn uniform(node: &RawNode) -> Result<Self> {
        let (low, high) =
            (f64::from(node.attributes.float_or("low", 0.0)?), f64::from(node.attributes.float_or("high", 1.0)?));
        Ok(Self::Uniform(low, high - low))
    }

    fn normal(node: &RawNode) -> Result<Self> {
        let (mean, scale) = (node.attributes.float_or("mean", 0.0)?, node.attributes.float_or("scale", 1.0)?);
        Ok(Self::Normal(mean.into(), scale.into()))
    }

    fn next(self, generator: &mut Generator) -> f64 {
        match self {
            Self::Uniform(low, range) => low + generator.unit() * range,
            Self::Normal(mean, scale) => mean + scale * generator.normal(),
        }
    }
}

/// What all random operators say: the type of the result, and the seed.
struct Settings {
    dtype: Option<DType>,
    seed: Option<f32>,
}

impl Settings {
    fn parse(node: &RawNode) -> Result<Self> {
        Ok(Self { dtype: dtype_attribute(node, "dtype")?, seed: node.attributes.float("seed")? })
    }

    /// Floats of the type that the node asks for, else of another.
    fn floats(
        &self,
        shape: Vec<usize>,
        otherwise: DType,
        mut next: impl FnMut(&mut Generator) -> f64,
    ) -> Result<Vec<Value>> {
        let mut generator = Generator::new(self.seed);
        let values = (0..count(&shape)?).map(|_| next(&mut generator)).collect();
        one(Array::of_floats(self.dtype.unwrap_or(otherwise), shape, values)?)
    }
}

/// Random floats in a shape that the node says.
fn of_shape(node: &RawNode, draw: Draw) -> Parsed {
    let shape = sizes(node.attributes.ints("shape")?.ok_or_else(|| Error::invalid("attribute 'shape' is missing"))?)?;
    let settings = Settings::parse(node)?;
    eval(move |_| settings.floats(shape.clone(), DType::F32, |generator| draw.next(generator)))
}

/// Random floats in the shape of the input.
fn like(node: &RawNode, draw: Draw) -> Parsed {
    let settings = Settings::parse(node)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        settings.floats(x.shape().to_vec(), x.dtype(), |generator| draw.next(generator))
    })
}

/// 1 with the probability that the input says, else 0.
fn bernoulli(node: &RawNode) -> Parsed {
    let settings = Settings::parse(node)?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let mut chances = x.floats()?.into_iter();
        settings.floats(x.shape().to_vec(), x.dtype(), |generator| {
            f64::from(generator.unit() < chances.next().unwrap_or(0.0))
        })
    })
}

/// Classes drawn by the logarithms of their chances.
fn multinomial(node: &RawNode) -> Parsed {
    let samples = sizes(&[node.attributes.int_or("sample_size", 1)?])?[0];
    let dtype = dtype_attribute(node, "dtype")?.unwrap_or(DType::I32);
    let seed = node.attributes.float("seed")?;
    eval(move |inputs| {
        let mut generator = Generator::new(seed);
        let x = inputs.array(0)?;
        let &[batch, classes] = x.shape() else {
            return Err(Error::invalid(format!("expected [N, classes], found shape {:?}", x.shape())));
        };
        if classes == 0 {
            return Err(Error::invalid("there are no classes to draw from"));
        }
        let mut drawn = Vec::with_capacity(count(&[batch, samples])?);
        for row in x.floats()?.chunks(classes) {
            let greatest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut sum = 0.0;
            let sums: Vec<f64> = row
                .iter()
                .map(|value| {
                    sum += (value - greatest).exp();
                    sum
                })
                .collect();
            drawn.extend((0..samples).map(|_| {
                let at = generator.unit() * sum;
                sums.partition_point(|&below| below <= at).min(classes - 1) as i128
            }));
        }
        one(Array::of_ints(dtype, vec![batch, samples], drawn)?)
    })
}
