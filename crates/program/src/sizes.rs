//! Numbers of a program: Python's operators on sizes, and the arguments that a call leaves out.

use crate::lower::{Float, Int, Lower, Value};
use crate::schema::{Argument, Default, Kind};
use crate::{Error, Result};
use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

/// The default of an argument; `None` if it has none.
pub(crate) fn default_value(argument: &Argument) -> Option<Value> {
    Some(match argument.default.as_ref()? {
        Default::None => Value::None,
        Default::Bool(bool) => Value::Bool(*bool),
        Default::Int(int) if argument.kind == Kind::Float => Value::Float(Float::Known(*int as f64)),
        Default::Int(int) => Value::int(*int),
        Default::Float(float) => Value::Float(Float::Known(*float)),
        Default::Str(text) => Value::Str((*text).to_string()),
        Default::Ints(ints) => Value::List(ints.iter().map(|&int| Value::int(int)).collect()),
    })
}

/// An argument as its operator wants it: an integer where a float stands becomes one.
pub(crate) fn shaped(argument: &Argument, value: Value) -> Value {
    match (argument.kind, argument.list, value) {
        (Kind::Float, false, Value::Int(Int::Known(int))) => Value::Float(Float::Known(int as f64)),
        (_, _, value) => value,
    }
}

fn float_of(l: &mut Lower, value: &Value) -> Result<Float> {
    match value {
        Value::Int(int) => l.float_of(int),
        Value::Float(float) => Ok(float.clone()),
        Value::Bool(bool) => Ok(Float::Known(f64::from(u8::from(*bool)))),
        other => Err(Error::invalid(format!("expected a number, found {}", other.kind()))),
    }
}

fn int_of(value: &Value) -> Option<Int> {
    match value {
        Value::Int(int) => Some(int.clone()),
        Value::Bool(bool) => Some(Int::Known(i64::from(*bool))),
        _ => None,
    }
}

fn pair(values: &[Value]) -> Result<(&Value, &Value)> {
    match values {
        [a, b] => Ok((a, b)),
        _ => Err(Error::invalid(format!("{} operands instead of two", values.len()))),
    }
}

/// An operator of Python on numbers that follow from sizes.
pub(crate) fn python(l: &mut Lower, name: &str, values: &[Value]) -> Result<Value> {
    match name {
        "add" | "sub" | "mul" | "floordiv" | "mod" | "pow" | "min" | "max" | "sym_max" | "sym_min" => {
            let (a, b) = pair(values)?;
            let name = name.trim_start_matches("sym_");
            if let (Some(a), Some(b)) = (int_of(a), int_of(b)) {
                // A negative power of an integer is a float.
                if !(name == "pow" && matches!(b, Int::Known(b) if b < 0)) {
                    return l.int_op(name, &a, &b).map(Value::Int);
                }
            }
            let (a, b) = (float_of(l, a)?, float_of(l, b)?);
            float_op(l, name, &a, &b).map(Value::Float)
        }
        "truediv" => {
            let (a, b) = pair(values)?;
            let (a, b) = (float_of(l, a)?, float_of(l, b)?);
            float_op(l, "truediv", &a, &b).map(Value::Float)
        }
        "neg" => match values {
            [Value::Int(int)] => l.int_op("sub", &Int::Known(0), int).map(Value::Int),
            [Value::Float(float)] => float_op(l, "sub", &Float::Known(0.0), float).map(Value::Float),
            _ => Err(Error::invalid("neg of no number")),
        },
        "sym_sum" => {
            let [Value::List(values)] = values else { return Err(Error::invalid("a sum of no list")) };
            let mut total = Int::Known(0);
            for value in values {
                let int = int_of(value).ok_or_else(|| Error::invalid("a sum of other things than integers"))?;
                total = l.int_op("add", &total, &int)?;
            }
            Ok(Value::Int(total))
        }
        "sym_float" => match values {
            [value] => float_of(l, value).map(Value::Float),
            _ => Err(Error::invalid("float of no number")),
        },
        "trunc" | "floor" | "ceil" | "sym_int" => match values {
            [Value::Int(int)] => Ok(Value::Int(int.clone())),
            [Value::Float(Float::Known(float))] => {
                let whole = match name {
                    "floor" => float.floor(),
                    "ceil" => float.ceil(),
                    _ => float.trunc(),
                };
                Ok(Value::int(whole as i64))
            }
            [Value::Float(Float::Open(value))] => {
                let whole = match name {
                    "floor" => l.node("Floor", &[value], &[])?,
                    "ceil" => l.node("Ceil", &[value], &[])?,
                    _ => value.clone(),
                };
                Ok(Value::Int(Int::Open(l.cast(&whole, DType::F64, DType::I64)?)))
            }
            _ => Err(Error::invalid(format!("{name} of no number"))),
        },
        "ge" | "le" | "gt" | "lt" | "eq" | "ne" => {
            let (a, b) = pair(values)?;
            let known = |value: &Value| match value {
                Value::Int(Int::Known(int)) => Some(*int as f64),
                Value::Float(Float::Known(float)) => Some(*float),
                Value::Bool(bool) => Some(f64::from(u8::from(*bool))),
                _ => None,
            };
            Ok(match (known(a), known(b)) {
                (Some(a), Some(b)) => Value::Bool(match name {
                    "ge" => a >= b,
                    "le" => a <= b,
                    "gt" => a > b,
                    "lt" => a < b,
                    "eq" => a == b,
                    _ => a != b,
                }),
                _ => Value::OpenBool(compared(l, name, a, b)?),
            })
        }
        "and_" | "or_" | "not_" | "sym_not" => Ok(match (name, values) {
            ("and_", [Value::Bool(a), Value::Bool(b)]) => Value::Bool(*a && *b),
            ("or_", [Value::Bool(a), Value::Bool(b)]) => Value::Bool(*a || *b),
            ("not_" | "sym_not", [Value::Bool(a)]) => Value::Bool(!a),
            (_, [a]) => {
                let a = l.scalar(a, DType::Bool)?;
                Value::OpenBool(l.node("Not", &[&a], &[])?)
            }
            (_, [a, b]) => {
                let (a, b) = (l.scalar(a, DType::Bool)?, l.scalar(b, DType::Bool)?);
                Value::OpenBool(l.node(if name == "and_" { "And" } else { "Or" }, &[&a, &b], &[])?)
            }
            _ => return Err(Error::invalid(format!("{name} takes one or two truth values"))),
        }),
        other => Err(Error::beyond(format!("the operator {other} of sizes"))),
    }
}

/// A comparison of numbers of which one follows from sizes or data.
fn compared(l: &mut Lower, name: &str, a: &Value, b: &Value) -> Result<ValueName> {
    let floats = [a, b].iter().any(|value| matches!(value, Value::Float(_)));
    let dtype = if floats { DType::F64 } else { DType::I64 };
    let (a, b) = (l.scalar(a, dtype)?, l.scalar(b, dtype)?);
    let operator = match name {
        "ge" => "GreaterOrEqual",
        "le" => "LessOrEqual",
        "gt" => "Greater",
        "lt" => "Less",
        _ => "Equal",
    };
    let value = l.node(operator, &[&a, &b], &[])?;
    if name == "ne" { l.node("Not", &[&value], &[]) } else { Ok(value) }
}

/// An operation on floats.
pub(crate) fn float_op(l: &mut Lower, name: &str, a: &Float, b: &Float) -> Result<Float> {
    if let (Float::Known(a), Float::Known(b)) = (a, b) {
        return Ok(Float::Known(match name {
            "add" => a + b,
            "sub" => a - b,
            "mul" => a * b,
            "truediv" if *b != 0.0 => a / b,
            "floordiv" if *b != 0.0 => (a / b).floor(),
            "mod" if *b != 0.0 => a - b * (a / b).floor(),
            "pow" => a.powf(*b),
            "max" => a.max(*b),
            "min" => a.min(*b),
            _ => return Err(Error::invalid(format!("{name} of {a} and {b} has no answer"))),
        }));
    }
    let (a, b) = (l.float_value(a)?, l.float_value(b)?);
    let operator = match name {
        "add" => "Add",
        "sub" => "Sub",
        "mul" => "Mul",
        "truediv" | "floordiv" => "Div",
        "pow" => "Pow",
        "max" => "Max",
        "min" => "Min",
        other => return Err(Error::beyond(format!("{other} of floats that follow from sizes"))),
    };
    let value = l.node(operator, &[&a, &b], &[])?;
    Ok(Float::Open(if name == "floordiv" { l.node("Floor", &[&value], &[])? } else { value }))
}
