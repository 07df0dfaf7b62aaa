//! Functions of two numbers (or more, from left to right), element by element, with broadcasting.

use super::{Inputs, one};
use crate::array::Broadcast;
use crate::infer::Rule;
use crate::operator::{ANY, Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::plain(
        Schema::new("Add", &[1, 6, 7, 13, 14], (2, 2))
            .attributes(&["axis<7", "broadcast<7", "consumed_inputs<6"])
            .rule(Rule::Broadcast)
            .weights(),
        |inputs| arithmetic(inputs, |a, b| a + b, |a, b| Some(a + b)),
    ),
    Entry::plain(
        Schema::new("Sub", &[1, 6, 7, 13, 14], (2, 2))
            .attributes(&["axis<7", "broadcast<7", "consumed_inputs<6"])
            .rule(Rule::Broadcast)
            .weights(),
        |inputs| arithmetic(inputs, |a, b| a - b, |a, b| Some(a - b)),
    ),
    Entry::plain(
        Schema::new("Mul", &[1, 6, 7, 13, 14], (2, 2))
            .attributes(&["axis<7", "broadcast<7", "consumed_inputs<6"])
            .rule(Rule::Broadcast)
            .weights(),
        |inputs| arithmetic(inputs, |a, b| a * b, i128::checked_mul),
    ),
    Entry::plain(
        Schema::new("Div", &[1, 6, 7, 13, 14], (2, 2))
            .attributes(&["axis<7", "broadcast<7", "consumed_inputs<6"])
            .rule(Rule::Broadcast)
            .weights(),
        |inputs| arithmetic(inputs, |a, b| a / b, i128::checked_div),
    ),
    Entry::plain(
        Schema::new("Sum", &[1, 6, 8, 13], (1, ANY)).attributes(&["consumed_inputs<6"]).rule(Rule::Broadcast),
        |inputs| fold(inputs, |a, b| a + b, |a, b| Some(a + b)),
    ),
    Entry::plain(
        Schema::new("Max", &[1, 6, 8, 12, 13], (1, ANY)).attributes(&["consumed_inputs<6"]).rule(Rule::Broadcast),
        |inputs| fold(inputs, nan_or(f64::max), |a, b| Some(a.max(b))),
    ),
    Entry::plain(
        Schema::new("Min", &[1, 6, 8, 12, 13], (1, ANY)).attributes(&["consumed_inputs<6"]).rule(Rule::Broadcast),
        |inputs| fold(inputs, nan_or(f64::min), |a, b| Some(a.min(b))),
    ),
    Entry::plain(
        Schema::new("Mean", &[1, 6, 8, 13], (1, ANY)).attributes(&["consumed_inputs<6"]).rule(Rule::Broadcast),
        mean,
    ),
    Entry::new(Schema::new("Mod", &[10, 13, 28], (2, 2)).attributes(&["fmod"]).rule(Rule::Broadcast), modulo),
    Entry::plain(
        Schema::new("Pow", &[1, 7, 12, 13, 15], (2, 2)).attributes(&["axis<7", "broadcast<7"]).rule(Rule::Broadcast),
        pow,
    ),
    Entry::plain(
        Schema::new("And", &[1, 7], (2, 2))
            .attributes(&["axis<7", "broadcast<7"])
            .rule(Rule::Comparison)
            .without_gradient(),
        |inputs| logic(inputs, |a, b| a & b),
    ),
    Entry::plain(
        Schema::new("Or", &[1, 7], (2, 2))
            .attributes(&["axis<7", "broadcast<7"])
            .rule(Rule::Comparison)
            .without_gradient(),
        |inputs| logic(inputs, |a, b| a | b),
    ),
    Entry::plain(
        Schema::new("Xor", &[1, 7], (2, 2))
            .attributes(&["axis<7", "broadcast<7"])
            .rule(Rule::Comparison)
            .without_gradient(),
        |inputs| logic(inputs, |a, b| a ^ b),
    ),
    Entry::plain(
        Schema::new("Equal", &[1, 7, 11, 13, 19], (2, 2))
            .attributes(&["axis<7", "broadcast<7"])
            .rule(Rule::Comparison)
            .without_gradient(),
        equal,
    ),
    Entry::plain(
        Schema::new("Greater", &[1, 7, 9, 13], (2, 2))
            .attributes(&["axis<7", "broadcast<7"])
            .rule(Rule::Comparison)
            .without_gradient(),
        |inputs| compare(inputs, |a, b| a > b, |a, b| a > b),
    ),
    Entry::plain(
        Schema::new("GreaterOrEqual", &[12, 16], (2, 2)).rule(Rule::Comparison).without_gradient(),
        |inputs| compare(inputs, |a, b| a >= b, |a, b| a >= b),
    ),
    Entry::plain(
        Schema::new("Less", &[1, 7, 9, 13], (2, 2))
            .attributes(&["axis<7", "broadcast<7"])
            .rule(Rule::Comparison)
            .without_gradient(),
        |inputs| compare(inputs, |a, b| a < b, |a, b| a < b),
    ),
    Entry::plain(Schema::new("LessOrEqual", &[12, 16], (2, 2)).rule(Rule::Comparison).without_gradient(), |inputs| {
        compare(inputs, |a, b| a <= b, |a, b| a <= b)
    }),
    Entry::plain(Schema::new("BitwiseAnd", &[18], (2, 2)).rule(Rule::Broadcast).without_gradient(), |inputs| {
        arithmetic(inputs, |_, _| f64::NAN, |a, b| Some(a & b))
    }),
    Entry::plain(Schema::new("BitwiseOr", &[18], (2, 2)).rule(Rule::Broadcast).without_gradient(), |inputs| {
        arithmetic(inputs, |_, _| f64::NAN, |a, b| Some(a | b))
    }),
    Entry::plain(Schema::new("BitwiseXor", &[18], (2, 2)).rule(Rule::Broadcast).without_gradient(), |inputs| {
        arithmetic(inputs, |_, _| f64::NAN, |a, b| Some(a ^ b))
    }),
];

/// Two arrays of one type through a function of floats or one of integers (`None`: it has no result, as with division by 0).
fn pair(
    a: &Array,
    b: &Array,
    of_floats: impl Fn(f64, f64) -> f64,
    of_ints: impl Fn(i128, i128) -> Option<i128>,
) -> Result<Array> {
    same_type(a, b)?;
    let both = Broadcast::new(&[a.shape(), b.shape()])?;
    let total = crate::array::count(&both.shape)?;
    if a.dtype().is_int() {
        let (x, y) = (a.ints()?, b.ints()?);
        let values = (0..total).map(|i| of_ints(x[both.at(0, i)], y[both.at(1, i)]));
        let values = values.collect::<Option<_>>().ok_or_else(|| Error::invalid("an integer division by zero"))?;
        return Array::of_ints(a.dtype(), both.shape, values);
    }
    let (x, y) = (a.floats()?, b.floats()?);
    let values = (0..total).map(|i| of_floats(x[both.at(0, i)], y[both.at(1, i)])).collect();
    Array::of_floats(a.dtype(), both.shape, values)
}

/// The sum of two tensors of one type.
pub(super) fn add(a: &Array, b: &Array) -> Result<Array> {
    pair(a, b, |a, b| a + b, |a, b| Some(a + b))
}

fn same_type(a: &Array, b: &Array) -> Result<()> {
    if a.dtype() == b.dtype() {
        return Ok(());
    }
    Err(Error::invalid(format!("its inputs are of different types, {} and {}", a.dtype(), b.dtype())))
}

fn arithmetic(
    inputs: &Inputs<'_>,
    of_floats: impl Fn(f64, f64) -> f64,
    of_ints: impl Fn(i128, i128) -> Option<i128>,
) -> Result<Vec<Value>> {
    one(pair(inputs.array(0)?, inputs.array(1)?, of_floats, of_ints)?)
}

fn fold(
    inputs: &Inputs<'_>,
    of_floats: impl Fn(f64, f64) -> f64,
    of_ints: impl Fn(i128, i128) -> Option<i128>,
) -> Result<Vec<Value>> {
    let mut result = inputs.array(0)?.clone();
    for array in inputs.arrays()?.into_iter().skip(1) {
        result = pair(&result, array, &of_floats, &of_ints)?;
    }
    one(result)
}

/// NaN wins, as in NumPy.
fn nan_or(choose: fn(f64, f64) -> f64) -> impl Fn(f64, f64) -> f64 {
    move |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { choose(a, b) }
}

fn mean(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let total = fold(inputs, |a, b| a + b, |a, b| Some(a + b))?;
    let sum = total[0].array()?;
    let values = sum.floats()?.into_iter().map(|v| v / inputs.len() as f64).collect();
    one(Array::of_floats(sum.dtype(), sum.shape().to_vec(), values)?)
}

/// With `fmod` the sign is that of the dividend (as in C), without it that of the divisor (as in Python).
fn modulo(node: &RawNode) -> Parsed {
    let fmod = node.attributes.flag("fmod", false)?;
    eval(move |inputs| {
        if fmod {
            return arithmetic(inputs, |a, b| a % b, i128::checked_rem);
        }
        let floored = |a: f64, b: f64| {
            let rest = a % b;
            if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
        };
        arithmetic(inputs, floored, |a, b| {
            a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
        })
    })
}

/// The result has the type of the base; the exponent may have another.
fn pow(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (base, exponent) = (inputs.array(0)?, inputs.array(1)?);
    let both = Broadcast::new(&[base.shape(), exponent.shape()])?;
    let total = crate::array::count(&both.shape)?;
    if base.dtype().is_int() && exponent.dtype().is_int() {
        let (x, y) = (base.ints()?, exponent.ints()?);
        let power = |base: i128, exponent: i128| match u32::try_from(exponent) {
            // Wrapping: the low bits are those of the exact result.
            Ok(exponent) => base.wrapping_pow(exponent),
            Err(_) => (base as f64).powf(exponent as f64) as i128,
        };
        let values = (0..total).map(|i| power(x[both.at(0, i)], y[both.at(1, i)])).collect();
        return one(Array::of_ints(base.dtype(), both.shape, values)?);
    }
    let (x, y) = (base.floats()?, exponent.floats()?);
    let values = (0..total).map(|i| x[both.at(0, i)].powf(y[both.at(1, i)])).collect();
    one(Array::of_floats(base.dtype(), both.shape, values)?)
}

fn logic(inputs: &Inputs<'_>, function: impl Fn(bool, bool) -> bool) -> Result<Vec<Value>> {
    let (a, b) = (inputs.array(0)?, inputs.array(1)?);
    let both = Broadcast::new(&[a.shape(), b.shape()])?;
    let (x, y) = (a.expect::<bool>()?, b.expect::<bool>()?);
    let values = (0..crate::array::count(&both.shape)?).map(|i| function(x[both.at(0, i)], y[both.at(1, i)])).collect();
    one(Array::new(both.shape, values)?)
}

fn compare(
    inputs: &Inputs<'_>,
    of_floats: impl Fn(f64, f64) -> bool,
    of_ints: impl Fn(i128, i128) -> bool,
) -> Result<Vec<Value>> {
    let (a, b) = (inputs.array(0)?, inputs.array(1)?);
    same_type(a, b)?;
    let both = Broadcast::new(&[a.shape(), b.shape()])?;
    let total = crate::array::count(&both.shape)?;
    let values = if a.dtype().is_float() {
        let (x, y) = (a.floats()?, b.floats()?);
        (0..total).map(|i| of_floats(x[both.at(0, i)], y[both.at(1, i)])).collect()
    } else {
        let (x, y) = (a.ints()?, b.ints()?);
        (0..total).map(|i| of_ints(x[both.at(0, i)], y[both.at(1, i)])).collect()
    };
    one(Array::new(both.shape, values)?)
}

/// Texts can be equal too.
fn equal(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (a, b) = (inputs.array(0)?, inputs.array(1)?);
    if let (Some(x), Some(y)) = (a.values::<String>(), b.values::<String>()) {
        let both = Broadcast::new(&[a.shape(), b.shape()])?;
        let values = (0..crate::array::count(&both.shape)?).map(|i| x[both.at(0, i)] == y[both.at(1, i)]).collect();
        return one(Array::new(both.shape, values)?);
    }
    compare(inputs, |a, b| a == b, |a, b| a == b)
}
