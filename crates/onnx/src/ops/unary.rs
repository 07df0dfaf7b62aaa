//! Functions of one number, element by element.

use super::{Inputs, one};
use crate::infer::Rule;
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::plain(
        Schema::new("Abs", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| signed(inputs, f64::abs, i128::abs),
    ),
    Entry::plain(
        Schema::new("Neg", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| signed(inputs, |v| -v, |v| -v),
    ),
    Entry::plain(Schema::new("Sign", &[9, 13], (1, 1)).rule(Rule::Same), |inputs| {
        signed(
            inputs,
            |v| {
                if v.is_nan() {
                    v
                } else if v == 0.0 {
                    0.0
                } else {
                    v.signum()
                }
            },
            i128::signum,
        )
    }),
    Entry::plain(Schema::new("Acos", &[7, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::acos)),
    Entry::plain(Schema::new("Acosh", &[9, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::acosh)),
    Entry::plain(Schema::new("Asin", &[7, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::asin)),
    Entry::plain(Schema::new("Asinh", &[9, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::asinh)),
    Entry::plain(Schema::new("Atan", &[7, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::atan)),
    Entry::plain(Schema::new("Atanh", &[9, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::atanh)),
    Entry::plain(
        Schema::new("Ceil", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| float(inputs, f64::ceil),
    ),
    Entry::plain(Schema::new("Cos", &[7, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::cos)),
    Entry::plain(Schema::new("Cosh", &[9, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::cosh)),
    Entry::plain(
        Schema::new("Exp", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| float(inputs, f64::exp),
    ),
    Entry::plain(
        Schema::new("Floor", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| float(inputs, f64::floor),
    ),
    Entry::plain(
        Schema::new("Log", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| float(inputs, f64::ln),
    ),
    Entry::plain(
        Schema::new("Reciprocal", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| float(inputs, |v| 1.0 / v),
    ),
    Entry::plain(Schema::new("Round", &[11, 22], (1, 1)).rule(Rule::Same), |inputs| {
        float(inputs, f64::round_ties_even)
    }),
    Entry::plain(Schema::new("Sin", &[7, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::sin)),
    Entry::plain(Schema::new("Sinh", &[9, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::sinh)),
    Entry::plain(
        Schema::new("Sqrt", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| float(inputs, f64::sqrt),
    ),
    Entry::plain(Schema::new("Tan", &[7, 22], (1, 1)).rule(Rule::Same), |inputs| float(inputs, f64::tan)),
    Entry::plain(
        Schema::new("Tanh", &[1, 6, 13], (1, 1)).attributes(&["consumed_inputs<6"]).rule(Rule::Same),
        |inputs| float(inputs, f64::tanh),
    ),
    Entry::plain(Schema::new("Not", &[1], (1, 1)).rule(Rule::Test).without_gradient(), not),
    Entry::plain(Schema::new("IsNaN", &[9, 13, 20], (1, 1)).rule(Rule::Test).without_gradient(), |inputs| {
        test(inputs, f64::is_nan)
    }),
    Entry::new(
        Schema::new("IsInf", &[10, 20], (1, 1))
            .attributes(&["detect_negative", "detect_positive"])
            .rule(Rule::Test)
            .without_gradient(),
        is_inf,
    ),
];

/// A float function of each element, in the element type.
pub(super) fn float(inputs: &Inputs<'_>, function: impl Fn(f64) -> f64) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    if !x.dtype().is_float() {
        return Err(Error::invalid(format!("expected floats, found {}", x.dtype())));
    }
    if let Some(values) = x.values::<f32>() {
        return one(Array::new(x.shape().to_vec(), values.iter().map(|&v| function(f64::from(v)) as f32).collect())?);
    }
    let values = x.floats()?.into_iter().map(function).collect();
    one(Array::of_floats(x.dtype(), x.shape().to_vec(), values)?)
}

/// A function that integers have too, exactly.
pub(super) fn signed(
    inputs: &Inputs<'_>,
    of_float: impl Fn(f64) -> f64,
    of_int: impl Fn(i128) -> i128,
) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    if x.dtype().is_int() {
        return one(Array::of_ints(x.dtype(), x.shape().to_vec(), x.ints()?.into_iter().map(of_int).collect())?);
    }
    float(inputs, of_float)
}

fn test(inputs: &Inputs<'_>, holds: impl Fn(f64) -> bool) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    one(Array::new(x.shape().to_vec(), x.floats()?.into_iter().map(holds).collect())?)
}

fn not(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    one(Array::new(x.shape().to_vec(), x.expect::<bool>()?.iter().map(|v| !v).collect())?)
}

fn is_inf(node: &RawNode) -> Parsed {
    let negative = node.attributes.flag("detect_negative", true)?;
    let positive = node.attributes.flag("detect_positive", true)?;
    eval(move |inputs| test(inputs, |v| v == f64::INFINITY && positive || v == f64::NEG_INFINITY && negative))
}
