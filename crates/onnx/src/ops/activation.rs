//! Activation functions, element by element.

use super::erf::erf;
use super::mersenne::Mersenne;
use super::one;
use super::unary::{float, signed};
use crate::array::Broadcast;
use crate::infer::Rule;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result};

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
        |node| {
            let alpha = number(node, "alpha", 0.01)?;
            eval(move |inputs| float(inputs, |v| if v < 0.0 { alpha * v } else { v }))
        },
    ),
    Entry::new(
        Schema::new("Elu", &[1, 6, 22], (1, 1)).attributes(&["alpha", "consumed_inputs<6"]).rule(Rule::Same),
        |node| {
            let alpha = number(node, "alpha", 1.0)?;
            eval(move |inputs| float(inputs, |v| if v < 0.0 { alpha * v.exp_m1() } else { v }))
        },
    ),
    Entry::new(Schema::new("Celu", &[12, 28], (1, 1)).attributes(&["alpha"]).rule(Rule::Same), |node| {
        let alpha = number(node, "alpha", 1.0)?;
        eval(move |inputs| float(inputs, |v| if v < 0.0 { alpha * (v / alpha).exp_m1() } else { v }))
    }),
    Entry::new(
        Schema::new("Selu", &[1, 6, 22], (1, 1)).attributes(&["alpha", "consumed_inputs<6", "gamma"]).rule(Rule::Same),
        selu,
    ),
    Entry::new(Schema::new("ThresholdedRelu", &[10, 22], (1, 1)).attributes(&["alpha"]).rule(Rule::Same), |node| {
        let alpha = number(node, "alpha", 1.0)?;
        eval(move |inputs| float(inputs, |v| if v > alpha || v.is_nan() { v } else { 0.0 }))
    }),
    Entry::new(
        Schema::new("HardSigmoid", &[1, 6, 22], (1, 1))
            .attributes(&["alpha", "beta", "consumed_inputs<6"])
            .rule(Rule::Same),
        |node| {
            let (alpha, beta) = (number(node, "alpha", 0.2)?, number(node, "beta", 0.5)?);
            eval(move |inputs| float(inputs, |v| (alpha * v + beta).clamp(0.0, 1.0)))
        },
    ),
    Entry::new(Schema::new("Swish", &[24], (1, 1)).attributes(&["alpha"]).rule(Rule::Same), |node| {
        let alpha = number(node, "alpha", 1.0)?;
        eval(move |inputs| float(inputs, |v| v * sigmoid(alpha * v)))
    }),
    Entry::new(Schema::new("Gelu", &[20], (1, 1)).attributes(&["approximate"]).rule(Rule::Same), |node| {
        match node.attributes.text_or("approximate", "none")? {
            "none" => eval(|inputs| float(inputs, gelu)),
            "tanh" => eval(|inputs| float(inputs, gelu_tanh)),
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
        clip,
    ),
    Entry::new(
        Schema::new("Dropout", &[1, 6, 7, 10, 12, 13, 22], (1, 3)).attributes(&[
            "consumed_inputs<6",
            "is_test<7",
            "ratio<12",
            "seed@12",
        ]),
        dropout,
    ),
];

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

/// The first version had its constants with fewer digits.
fn selu(node: &RawNode) -> Parsed {
    let (alpha, gamma) = if node.version < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (number(node, "alpha", alpha)?, number(node, "gamma", gamma)?);
    eval(move |inputs| float(inputs, |v| gamma * if v < 0.0 { alpha * v.exp_m1() } else { v }))
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

/// Bounds are attributes before version 11, inputs from there on. Where they cross, the upper one wins.
fn clip(node: &RawNode) -> Parsed {
    let [least, most] =
        [node.attributes.float("min")?, node.attributes.float("max")?].map(|bound| bound.map(f64::from));
    eval(move |inputs| {
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
        let bound = |position: usize, attribute: Option<f64>| -> Result<Option<f64>> {
            match inputs.optional(position)? {
                Some(bound) => bound.float().map(Some),
                None => Ok(attribute),
            }
        };
        let (low, high) = (bound(1, least)?.unwrap_or(f64::NEG_INFINITY), bound(2, most)?.unwrap_or(f64::INFINITY));
        // `max` and `min` would turn NaN into a bound.
        float(inputs, |v| if v.is_nan() { v } else { v.max(low).min(high) })
    })
}

/// Drops only when an input says that it is training (version 12 on); the mask is true where a value is kept.
fn dropout(node: &RawNode) -> Parsed {
    let version = node.version;
    let seed = node.attributes.int("seed")?;
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let ratio = inputs.optional(1)?.map_or(Ok(0.5), Array::float)?;
        let training = inputs.optional(2)?.map_or(Ok(false), Array::bool)?;
        let kept = |mask: Vec<bool>| Array::new(x.shape().to_vec(), mask);
        if !training || ratio == 0.0 {
            // The mask of the oldest versions has the type of the input.
            let mask =
                if version < 10 { Array::filled(x.dtype(), x.shape(), 1.0)? } else { kept(vec![true; x.len()])? };
            return Ok(vec![x.clone().into(), mask.into()]);
        }
        if !(0.0..1.0).contains(&ratio) {
            return Err(Error::invalid(format!("a ratio of {ratio} is not from 0 up to 1")));
        }
        let mut random = seed.map_or_else(Mersenne::unseeded, |seed| Mersenne::new(seed as u32));
        let mask: Vec<bool> = (0..x.len()).map(|_| random.uniform() >= ratio).collect();
        let values = x.floats()?.into_iter().zip(&mask).map(|(v, &kept)| if kept { v / (1.0 - ratio) } else { 0.0 });
        Ok(vec![Array::of_floats(x.dtype(), x.shape().to_vec(), values.collect())?.into(), kept(mask)?.into()])
    })
}
