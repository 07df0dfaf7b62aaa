//! Functions of two numbers (or more, from left to right), element by element, with broadcasting.

use super::{HostOp, Inputs, one};
use crate::array::Broadcast;
use crate::{Array, Error, Node, Result, Value};

pub(super) fn find(operator: &str) -> Option<HostOp> {
    Some(match operator {
        "Add" => |_, inputs| arithmetic(inputs, |a, b| a + b, |a, b| Some(a + b)),
        "Sub" => |_, inputs| arithmetic(inputs, |a, b| a - b, |a, b| Some(a - b)),
        "Mul" => |_, inputs| arithmetic(inputs, |a, b| a * b, i128::checked_mul),
        "Div" => |_, inputs| arithmetic(inputs, |a, b| a / b, i128::checked_div),
        "Sum" => |_, inputs| fold(inputs, |a, b| a + b, |a, b| Some(a + b)),
        "Max" => |_, inputs| fold(inputs, nan_or(f64::max), |a, b| Some(a.max(b))),
        "Min" => |_, inputs| fold(inputs, nan_or(f64::min), |a, b| Some(a.min(b))),
        "Mean" => mean,
        "Mod" => modulo,
        "Pow" => pow,
        "And" => |_, inputs| logic(inputs, |a, b| a & b),
        "Or" => |_, inputs| logic(inputs, |a, b| a | b),
        "Xor" => |_, inputs| logic(inputs, |a, b| a ^ b),
        "Equal" => equal,
        "Greater" => |_, inputs| compare(inputs, |a, b| a > b, |a, b| a > b),
        "GreaterOrEqual" => |_, inputs| compare(inputs, |a, b| a >= b, |a, b| a >= b),
        "Less" => |_, inputs| compare(inputs, |a, b| a < b, |a, b| a < b),
        "LessOrEqual" => |_, inputs| compare(inputs, |a, b| a <= b, |a, b| a <= b),
        "BitwiseAnd" => |_, inputs| arithmetic(inputs, |_, _| f64::NAN, |a, b| Some(a & b)),
        "BitwiseOr" => |_, inputs| arithmetic(inputs, |_, _| f64::NAN, |a, b| Some(a | b)),
        "BitwiseXor" => |_, inputs| arithmetic(inputs, |_, _| f64::NAN, |a, b| Some(a ^ b)),
        _ => return None,
    })
}

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

fn mean(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let total = fold(inputs, |a, b| a + b, |a, b| Some(a + b))?;
    let sum = total[0].array()?;
    let values = sum.floats()?.into_iter().map(|v| v / inputs.len() as f64).collect();
    one(Array::of_floats(sum.dtype(), sum.shape().to_vec(), values)?)
}

/// With `fmod` the sign is that of the dividend (as in C), without it that of the divisor (as in Python).
fn modulo(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    if node.attributes.flag("fmod", false)? {
        return arithmetic(inputs, |a, b| a % b, i128::checked_rem);
    }
    let floored = |a: f64, b: f64| {
        let rest = a % b;
        if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
    };
    arithmetic(inputs, floored, |a, b| {
        a.checked_rem(b).map(|rest| if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
    })
}

/// The result has the type of the base; the exponent may have another.
fn pow(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
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
fn equal(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (a, b) = (inputs.array(0)?, inputs.array(1)?);
    if let (Some(x), Some(y)) = (a.values::<String>(), b.values::<String>()) {
        let both = Broadcast::new(&[a.shape(), b.shape()])?;
        let values = (0..crate::array::count(&both.shape)?).map(|i| x[both.at(0, i)] == y[both.at(1, i)]).collect();
        return one(Array::new(both.shape, values)?);
    }
    compare(inputs, |a, b| a == b, |a, b| a == b)
}
