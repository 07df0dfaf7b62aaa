//! Activation functions, element by element.

use super::erf::erf;
use super::mersenne::Mersenne;
use super::unary::{float, signed};
use super::{Inputs, one};
use crate::array::Broadcast;
use crate::infer::Rule;
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    // NaN stays NaN.
    Entry::plain(
        Schema::new("Relu", &[1, 6, 13, 14], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| signed(inputs, |v| if v < 0.0 { 0.0 } else { v }, |v| v.max(0)),
    ),
    Entry::plain(Schema::new("Erf", &[9, 13], (1, 1)).rule(Rule::Same), |inputs| float(inputs, erf)),
    Entry::plain(
        Schema::new("Sigmoid", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| float(inputs, sigmoid),
    ),
    Entry::plain(Schema::new("Softplus", &[1, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, softplus)),
    Entry::plain(Schema::new("Softsign", &[1, 22], (1, 1)).rule(Rule::Same), |inputs| {
        float(inputs, |v| v / (1.0 + v.abs()))
    }),
    Entry::plain(Schema::new("Mish", &[18, 22], (1, 1)).rule(Rule::Same), |inputs| {
        float(inputs, |v| v * softplus(v).tanh())
    }),
    Entry::plain(Schema::new("HardSwish", &[14, 22], (1, 1)).rule(Rule::Same), |inputs| {
        float(inputs, |v| v * (v / 6.0 + 0.5).clamp(0.0, 1.0))
    }),
    Entry::new(
        Schema::new("LeakyRelu", &[1, 6, 16], (1, 1)).attributes(&["alpha", "consumed_inputs<6"]).rule(Rule::Same),
        |node| parsed(Activation::LeakyRelu { alpha: number(node, "alpha", 0.01)? }),
    ),
    Entry::new(
        Schema::new("Elu", &[1, 6, 22], (1, 1)).attributes(&["alpha", "consumed_inputs<6"]).rule(Rule::Same),
        |node| parsed(Activation::Elu { alpha: number(node, "alpha", 1.0)? }),
    ),
    Entry::new(Schema::new("Celu", &[12, 28], (1, 1)).attributes(&["alpha"]).rule(Rule::Same), |node| {
        parsed(Activation::Celu { alpha: number(node, "alpha", 1.0)? })
    }),
    Entry::new(
        Schema::new("Selu", &[1, 6, 22], (1, 1)).attributes(&["alpha", "consumed_inputs<6", "gamma"]).rule(Rule::Same),
        |node| parsed(Activation::selu(node)?),
    ),
    Entry::new(Schema::new("ThresholdedRelu", &[10, 22], (1, 1)).attributes(&["alpha"]).rule(Rule::Same), |node| {
        parsed(Activation::ThresholdedRelu { alpha: number(node, "alpha", 1.0)? })
    }),
    Entry::new(
        Schema::new("HardSigmoid", &[1, 6, 22], (1, 1))
            .attributes(&["alpha", "beta", "consumed_inputs<6"])
            .rule(Rule::Same),
        |node| parsed(Activation::HardSigmoid { alpha: number(node, "alpha", 0.2)?, beta: number(node, "beta", 0.5)? }),
    ),
    Entry::new(Schema::new("Swish", &[24], (1, 1)).attributes(&["alpha"]).rule(Rule::Same), |node| {
        parsed(Activation::Swish { alpha: number(node, "alpha", 1.0)? })
    }),
    Entry::new(Schema::new("Gelu", &[20], (1, 1)).attributes(&["approximate"]).rule(Rule::Same), |node| {
        match node.attributes.text_or("approximate", "none")? {
            "none" => parsed(Activation::Gelu { tanh: false }),
            "tanh" => parsed(Activation::Gelu { tanh: true }),
            other => Err(Error::invalid(format!("attribute 'approximate' is '{other}', not 'none' or 'tanh'"))),
        }
    }),
    Entry::new(Schema::new("Shrink", &[9], (1, 1)).attributes(&["bias", "lambd"]).rule(Rule::Same), shrink),
    Entry::new(
        Schema::new("PRelu", &[1, 6, 7, 9, 16], (2, 2)).attributes(&["consumed_inputs<6"]).rule(Rule::Same).weights(),
        prelu,
    ),
    Entry::new(Schema::new("SwiGLU", &[28], (2, 2)).attributes(&["alpha"]), swiglu),
    Entry::new(
        Schema::new("Clip", &[1, 6, 11, 12, 13], (1, 3))
            .attributes(&["consumed_inputs<6", "max<11", "min<11"])
            .rule(Rule::Same),
        |node| parsed(Clip::parse(node)?),
    ),
    Entry::new(
        Schema::new("Dropout", &[1, 6, 7, 10, 12, 13, 22], (1, 3)).attributes(&[
            "consumed_inputs<6",
            "is_test<7",
            "ratio<12",
            "seed@12",
        ]),
        |node| parsed(Dropout { seed: node.attributes.int("seed")?, old: node.version < 10 }),
    ),
];

/// A function of single values with settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `alpha · v` below 0.
    LeakyRelu {
        /// The factor.
        alpha: f64,
    },
    /// `alpha · (eᵛ - 1)` below 0.
    Elu {
        /// How far below 0 it goes.
        alpha: f64,
    },
    /// `alpha · (eᵛᐟᵃˡᵖʰᵃ - 1)` below 0.
    Celu {
        /// How far below 0 it goes.
        alpha: f64,
    },
    /// `gamma` times ELU.
    Selu {
        /// That of ELU.
        alpha: f64,
        /// The factor of all values.
        gamma: f64,
    },
    /// 0 up to `alpha`.
    ThresholdedRelu {
        /// The greatest value that becomes 0.
        alpha: f64,
    },
    /// `alpha · v + beta`, cut to `0..=1`.
    HardSigmoid {
        /// The factor.
        alpha: f64,
        /// The summand.
        beta: f64,
    },
    /// `v · sigmoid(alpha · v)`.
    Swish {
        /// The factor within the sigmoid.
        alpha: f64,
    },
    /// `v` times the normal distribution at `v`.
    Gelu {
        /// Whether that is approximated by the hyperbolic tangent.
        tanh: bool,
    },
}

impl Activation {
    /// The first version had its constants with fewer digits.
    fn selu(node: &RawNode) -> Result<Self> {
        let (alpha, gamma) = if node.version < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
        Ok(Self::Selu { alpha: number(node, "alpha", alpha)?, gamma: number(node, "gamma", gamma)? })
    }
}

impl Operator for Activation {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        match *self {
            Self::LeakyRelu { alpha } => float(inputs, |v| if v < 0.0 { alpha * v } else { v }),
            Self::Elu { alpha } => float(inputs, |v| if v < 0.0 { alpha * v.exp_m1() } else { v }),
            Self::Celu { alpha } => float(inputs, |v| if v < 0.0 { alpha * (v / alpha).exp_m1() } else { v }),
            Self::Selu { alpha, gamma } => float(inputs, |v| gamma * if v < 0.0 { alpha * v.exp_m1() } else { v }),
            Self::ThresholdedRelu { alpha } => float(inputs, |v| if v > alpha || v.is_nan() { v } else { 0.0 }),
            Self::HardSigmoid { alpha, beta } => float(inputs, |v| (alpha * v + beta).clamp(0.0, 1.0)),
            Self::Swish { alpha } => float(inputs, |v| v * sigmoid(alpha * v)),
            Self::Gelu { tanh: false } => float(inputs, gelu),
            Self::Gelu { tanh: true } => float(inputs, gelu_tanh),
        }
    }
}

fn number(node: &RawNode, name: &str, default: f32) -> Result<f64> {
    Ok(f64::from(node.attributes.float_or(name, default)?))
}

pub(super) fn sigmoid(v: f64) -> f64 {
    1.0 / (1.0 + (-v).exp())
}

/// `ln(1 + eᵛ)` without overflow.
fn softplus(v: f64) -> f64 {
    v.max(0.0) + (-v.abs()).exp().ln_1p()
}

pub(super) fn gelu(v: f64) -> f64 {
    0.5 * v * (1.0 + erf(v * std::f64::consts::FRAC_1_SQRT_2))
}

pub(super) fn gelu_tanh(v: f64) -> f64 {
    0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v * v * v)).tanh())
}

fn shrink(node: &RawNode) -> Parsed {
    let (lambda, bias) = (number(node, "lambd", 0.5)?, number(node, "bias", 0.0)?);
    eval(move |inputs| {
        let shrunk = |v: f64| {
            if v < -lambda {
                v + bias
            } else if v > lambda {
                v - bias
            } else {
                0.0
            }
        };
        let x = inputs.array(0)?;
        one(Array::of_floats(x.dtype(), x.shape().to_vec(), x.floats()?.into_iter().map(shrunk).collect())?)
    })
}

fn prelu(node: &RawNode) -> Parsed {
    let version = node.version;
    eval(move |inputs| {
        let (x, slope) = (inputs.array(0)?, inputs.array(1)?);
        // Before version 7, a vector of slopes had one for each channel.
        let channel = version < 7 && slope.rank() == 1 && x.rank() > 1 && slope.len() == x.shape()[1];
        let slope =
            if channel { slope.reshaped([vec![slope.len()], vec![1; x.rank() - 2]].concat())? } else { slope.clone() };
        let both = Broadcast::new(&[x.shape(), slope.shape()])?;
        if both.shape != x.shape() {
            return Err(Error::invalid(format!(
                "a slope of shape {:?} does not fit an input of shape {:?}",
                slope.shape(),
                x.shape()
            )));
        }
        if x.dtype().is_int() {
            let slopes = slope.ints()?;
            let apply = |(i, v): (usize, i128)| if v < 0 { v.wrapping_mul(slopes[both.at(1, i)]) } else { v };
            return one(Array::of_ints(
                x.dtype(),
                both.shape.clone(),
                x.ints()?.into_iter().enumerate().map(apply).collect(),
            )?);
        }
        let slopes = slope.floats()?;
        let apply = |(i, v): (usize, f64)| if v < 0.0 { v * slopes[both.at(1, i)] } else { v };
        one(Array::of_floats(x.dtype(), both.shape.clone(), x.floats()?.into_iter().enumerate().map(apply).collect())?)
    })
}

fn swiglu(node: &RawNode) -> Parsed {
    let alpha = number(node, "alpha", 1.0)?;
    eval(move |inputs| {
        let (gate, linear) = (inputs.array(0)?, inputs.array(1)?);
        if gate.shape() != linear.shape() || gate.dtype() != linear.dtype() {
            let message =
                format!("its inputs have shapes {:?} and {:?}, which must be the same", gate.shape(), linear.shape());
            return Err(Error::invalid(message));
        }
        let values =
            gate.floats()?.into_iter().zip(linear.floats()?).map(|(a, b)| a * sigmoid(alpha * a) * b).collect();
        one(Array::of_floats(gate.dtype(), gate.shape().to_vec(), values)?)
    })
}

/// `Clip`. Where the bounds cross, the upper one wins.
#[derive(Debug, Clone, Copy)]
pub struct Clip {
    /// The least value, where it is an attribute (before version 11).
    least: Option<f64>,
    /// The greatest.
    most: Option<f64>,
}

impl Clip {
    fn parse(node: &RawNode) -> Result<Self> {
        let bound = |name: &str| Ok::<_, Error>(node.attributes.float(name)?.map(f64::from));
        Ok(Self { least: bound("min")?, most: bound("max")? })
    }

    /// The least and the greatest value: those of inputs 1 and 2, or else of the node.
    ///
    /// # Errors
    /// When an input is no number.
    pub fn bounds(&self, input: impl Fn(usize) -> Result<Option<f64>>) -> Result<[Option<f64>; 2]> {
        Ok([input(1)?.or(self.least), input(2)?.or(self.most)])
    }
}

impl Operator for Clip {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        if x.dtype().is_int() {
            let bound = |position: usize| -> Result<Option<i128>> {
                let bound = inputs.optional(position)?.map(Array::ints).transpose()?;
                bound
                    .map(|values| values.first().copied().ok_or_else(|| Error::invalid("a bound is empty")))
                    .transpose()
            };
            let (low, high) = (bound(1)?.unwrap_or(i128::MIN), bound(2)?.unwrap_or(i128::MAX));
            return one(Array::of_ints(
                x.dtype(),
                x.shape().to_vec(),
                x.ints()?.into_iter().map(|v| v.max(low).min(high)).collect(),
            )?);
        }
        let [least, most] = self.bounds(|position| inputs.optional(position)?.map(Array::float).transpose())?;
        let (low, high) = (least.unwrap_or(f64::NEG_INFINITY), most.unwrap_or(f64::INFINITY));
        // `max` and `min` would turn NaN into a bound.
        float(inputs, |v| if v.is_nan() { v } else { v.max(low).min(high) })
    }
}

/// `Dropout`. Drops only when an input says that it is training (version 12 on); the mask is true where a value is kept.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    /// Where its random numbers begin, if the node says so.
    pub seed: Option<i64>,
    /// Whether the mask has the type of the input, as before version 10.
    old: bool,
}

impl Operator for Dropout {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let x = inputs.array(0)?;
        let ratio = inputs.optional(1)?.map_or(Ok(0.5), Array::float)?;
        let training = inputs.optional(2)?.map_or(Ok(false), Array::bool)?;
        let kept = |mask: Vec<bool>| Array::new(x.shape().to_vec(), mask);
        if !training || ratio == 0.0 {
            let mask = if self.old { Array::filled(x.dtype(), x.shape(), 1.0)? } else { kept(vec![true; x.len()])? };
            return Ok(vec![x.clone().into(), mask.into()]);
        }
        if !(0.0..1.0).contains(&ratio) {
            return Err(Error::invalid(format!("a ratio of {ratio} is not from 0 up to 1")));
        }
        let mut random = self.seed.map_or_else(Mersenne::unseeded, |seed| Mersenne::new(seed as u32));
        let mask: Vec<bool> = (0..x.len()).map(|_| random.uniform() >= ratio).collect();
        let values = x.floats()?.into_iter().zip(&mask).map(|(v, &kept)| if kept { v / (1.0 - ratio) } else { 0.0 });
        Ok(vec![Array::of_floats(x.dtype(), x.shape().to_vec(), values.collect())?.into(), kept(mask)?.into()])
    }
}
