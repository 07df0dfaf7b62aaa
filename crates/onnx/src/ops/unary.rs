//! Functions of one number, element by element.

use super::{HostOp, Inputs, one};
use crate::{Array, Error, Node, Result, Value};

pub(super) fn find(operator: &str) -> Option<HostOp> {
    Some(match operator {
        "Abs" => |_, inputs| signed(inputs, f64::abs, i128::abs),
        "Neg" => |_, inputs| signed(inputs, |v| -v, |v| -v),
        "Sign" => |_, inputs| {
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
        },
        "Acos" => |_, inputs| float(inputs, f64::acos),
        "Acosh" => |_, inputs| float(inputs, f64::acosh),
        "Asin" => |_, inputs| float(inputs, f64::asin),
        "Asinh" => |_, inputs| float(inputs, f64::asinh),
        "Atan" => |_, inputs| float(inputs, f64::atan),
        "Atanh" => |_, inputs| float(inputs, f64::atanh),
        "Ceil" => |_, inputs| float(inputs, f64::ceil),
        "Cos" => |_, inputs| float(inputs, f64::cos),
        "Cosh" => |_, inputs| float(inputs, f64::cosh),
        "Exp" => |_, inputs| float(inputs, f64::exp),
        "Floor" => |_, inputs| float(inputs, f64::floor),
        "Log" => |_, inputs| float(inputs, f64::ln),
        "Reciprocal" => |_, inputs| float(inputs, |v| 1.0 / v),
        "Round" => |_, inputs| float(inputs, f64::round_ties_even),
        "Sin" => |_, inputs| float(inputs, f64::sin),
        "Sinh" => |_, inputs| float(inputs, f64::sinh),
        "Sqrt" => |_, inputs| float(inputs, f64::sqrt),
        "Tan" => |_, inputs| float(inputs, f64::tan),
        "Tanh" => |_, inputs| float(inputs, f64::tanh),
        "Not" => not,
        "IsNaN" => |_, inputs| test(inputs, f64::is_nan),
        "IsInf" => is_inf,
        _ => return None,
    })
}

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

fn not(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    one(Array::new(x.shape().to_vec(), x.expect::<bool>()?.iter().map(|v| !v).collect())?)
}

fn is_inf(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let negative = node.attributes.flag("detect_negative", true)?;
    let positive = node.attributes.flag("detect_positive", true)?;
    test(inputs, |v| v == f64::INFINITY && positive || v == f64::NEG_INFINITY && negative)
}
