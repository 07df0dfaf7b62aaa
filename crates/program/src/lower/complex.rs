//! Complex tensors: two of real numbers side by side, since graphs have none. What moves elements moves both; what adds or
//! multiplies them is written out.

use rekindle_onnx::DType;

use super::{Args, Lower, Row, TensorId, Value};
use crate::{Error, Result};

/// Operators on real tensors that give complex ones, and those of complex numbers on real ones.
pub(super) const ROWS: &[Row] = &[
    ("complex", |_, a| Ok(vec![Value::Complex(a.tensor("real")?, a.tensor("imag")?)])),
    ("polar", polar),
    ("view_as_complex", view_as_complex),
    ("view_as_real", only_complex),
    ("imag", only_complex),
    ("real", whole),
    ("conj", whole),
    ("_conj", whole),
    ("conj_physical", whole),
    ("resolve_conj", whole),
    ("resolve_neg", whole),
    ("angle", angle_of_real),
];

/// Operators that do the same to both parts.
const LINEAR: &[&str] = &[
    "_reshape_alias",
    "_unsafe_view",
    "add",
    "alias",
    "as_strided",
    "broadcast_to",
    "cat",
    "chunk",
    "clone",
    "concat",
    "concatenate",
    "constant_pad_nd",
    "contiguous",
    "copy",
    "cpu",
    "cumsum",
    "detach",
    "diag_embed",
    "diagonal",
    "empty_like",
    "expand",
    "expand_as",
    "expand_copy",
    "fill",
    "flatten",
    "flip",
    "gather",
    "hstack",
    "index",
    "index_put",
    "index_select",
    "lift_fresh_copy",
    "mT",
    "masked_fill",
    "mean",
    "movedim",
    "moveaxis",
    "narrow",
    "neg",
    "new_empty",
    "new_zeros",
    "numpy_T",
    "pad",
    "permute",
    "repeat",
    "repeat_interleave",
    "reshape",
    "reshape_as",
    "roll",
    "select",
    "select_scatter",
    "slice",
    "slice_scatter",
    "split",
    "split_with_sizes",
    "squeeze",
    "stack",
    "sub",
    "sum",
    "swapaxes",
    "swapdims",
    "t",
    "tile",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unfold",
    "unsqueeze",
    "view",
    "view_as",
    "view_copy",
    "vstack",
    "where",
    "zero",
    "zeros_like",
];
/// Operators that make tensors of zeros, or of one number.
const MADE: &[&str] =
    &["zeros", "zeros_like", "new_zeros", "empty", "empty_like", "new_empty", "ones", "ones_like", "full"];
/// Arguments that hold elements, and not positions or sizes.
const ELEMENTS: &[&str] = &["self", "other", "src", "source", "values", "value", "tensors", "input", "fill_value"];

/// Whether a value is complex, or a list with one that is.
pub(super) fn is_complex(value: &Value) -> bool {
    match value {
        Value::Complex(..) | Value::ComplexType(_) => true,
        Value::List(values) => values.iter().any(is_complex),
        _ => false,
    }
}

/// Lowers an operator with a complex operand, or one that asks for a complex result.
pub(super) fn call(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let in_place = args.operator.ends_with('_') && !args.operator.ends_with("__");
    let name = if in_place { args.operator.trim_end_matches('_') } else { args.operator.as_str() };
    if args.values.iter().any(|(_, value)| matches!(value, Value::ComplexType(_))) {
        return made(l, args, name);
    }
    let first = args.values.first().map_or(&Value::None, |(_, value)| value).clone();
    let result = match name {
        "mul" | "multiply" => product(l, args, "other", in_place)?,
        "matmul" | "mm" | "bmm" => product(l, args, if name == "matmul" { "other" } else { "mat2" }, in_place)?,
        "einsum" => einsum(l, args)?,
        "div" | "divide" | "true_divide" => quotient(l, args, in_place)?,
        name if super::fourier::COMPLEX.contains(&name)
            || matches!(name, "istft" | "fft_fftshift" | "fft_ifftshift") =>
        {
            let lowering = super::rows().get(name).ok_or_else(|| Error::beyond(format!("aten.{name}")))?;
            return lowering(l, args);
        }
        name if LINEAR.contains(&name) => return linear(l, args, name, in_place),
        "real" => vec![Value::Tensor(parts(&first)?.0)],
        // A write to one part alone is not followed by what reads both.
        "imag" => {
            let im = parts(&first)?.1;
            let copy = l.one("clone", &Value::Tensor(im))?;
            l.tie(copy.tensor()?, im);
            vec![copy]
        }
        "view_as_real" => view_as_real(l, &first)?,
        "view_as_complex" => return Err(Error::invalid("it is complex already")),
        "resolve_conj" | "resolve_neg" => vec![first.clone()],
        "conj" | "_conj" | "conj_physical" => {
            let (re, im) = parts(&first)?;
            vec![Value::Complex(re, l.one("neg", &Value::Tensor(im))?.tensor()?)]
        }
        "abs" | "absolute" => vec![Value::Tensor(size(l, &first)?)],
        "angle" => {
            let (re, im) = parts(&first)?;
            vec![l.apply_one("atan2", "", &[("self", Value::Tensor(im)), ("other", Value::Tensor(re))])?]
        }
        "exp" => {
            let (re, im) = parts(&first)?;
            let size = l.one("exp", &Value::Tensor(re))?;
            polar_of(l, &size, &Value::Tensor(im))?
        }
        "square" => {
            let both = [("self".to_string(), first.clone()), ("other".to_string(), first.clone())];
            let args = Args { operator: "mul".into(), overload: "Tensor".into(), values: both.to_vec() };
            product(l, &args, "other", false)?
        }
        "pow" if exponent(args) == Some(2.0) => {
            let both = [("self".to_string(), first.clone()), ("other".to_string(), first.clone())];
            let args = Args { operator: "mul".into(), overload: "Tensor".into(), values: both.to_vec() };
            product(l, &args, "other", in_place)?
        }
        _ => return Err(Error::beyond(format!("aten.{} of complex numbers", args.operator))),
    };
    if in_place {
        return written(l, &first, result);
    }
    Ok(result)
}

fn exponent(args: &Args) -> Option<f64> {
    args.float("exponent").ok()
}

/// The real and the imaginary part.
pub(crate) fn parts(value: &Value) -> Result<(TensorId, TensorId)> {
    match value {
        Value::Complex(re, im) => Ok((*re, *im)),
        other => Err(Error::invalid(format!("expected a complex tensor, found {}", other.kind()))),
    }
}

/// Puts a result in the place of a complex tensor.
fn written(l: &mut Lower, target: &Value, result: Vec<Value>) -> Result<Vec<Value>> {
    let (re, im) = parts(target)?;
    let result = result.into_iter().next().ok_or_else(|| Error::invalid("it gives nothing"))?;
    let (new_re, new_im) = parts(&result)?;
    for (old, new) in [(re, new_re), (im, new_im)] {
        let value = l.value_as(new, l.dtype(old))?;
        l.write(old, value)?;
    }
    Ok(vec![target.clone()])
}

/// One part of an operand. Real numbers have an imaginary part of zeros.
fn part_of(l: &mut Lower, value: &Value, imaginary: bool, elements: bool) -> Result<Value> {
    Ok(match value {
        Value::Complex(re, im) => Value::Tensor(if imaginary { *im } else { *re }),
        Value::List(values) if values.iter().any(is_complex) => {
            Value::List(values.iter().map(|value| part_of(l, value, imaginary, true)).collect::<Result<_>>()?)
        }
        Value::Tensor(_) if imaginary && elements => l.one("zeros_like", value)?,
        Value::Int(_) | Value::Float(_) if imaginary && elements => Value::int(0),
        other => other.clone(),
    })
}

/// The same to both parts.
fn linear(l: &mut Lower, args: &Args, name: &str, in_place: bool) -> Result<Vec<Value>> {
    let mut halves = Vec::new();
    for imaginary in [false, true] {
        let mut values = Vec::new();
        for (own, value) in &args.values {
            values.push((own.clone(), part_of(l, value, imaginary, ELEMENTS.contains(&own.as_str()))?));
        }
        let operator = if in_place { format!("{name}_") } else { name.to_string() };
        halves.push(l.call(&Args { operator, overload: args.overload.clone(), values })?);
    }
    let (im, re) = (halves.pop().unwrap_or_default(), halves.pop().unwrap_or_default());
    re.iter().zip(&im).map(|(re, im)| joined(re, im)).collect()
}

fn joined(re: &Value, im: &Value) -> Result<Value> {
    match (re, im) {
        (Value::Tensor(re), Value::Tensor(im)) => Ok(Value::Complex(*re, *im)),
        (Value::List(re), Value::List(im)) => {
            Ok(Value::List(re.iter().zip(im).map(|(re, im)| joined(re, im)).collect::<Result<_>>()?))
        }
        (re, _) => Err(Error::invalid(format!("expected two tensors, found {}", re.kind()))),
    }
}

/// What is multiplied with what, and how the products add up to the two parts.
fn multiplied(
    l: &mut Lower,
    a: &Value,
    b: &Value,
    multiply: &dyn Fn(&mut Lower, &Value, &Value) -> Result<Value>,
) -> Result<Vec<Value>> {
    let both = |value: &Value| parts(value).ok().map(|(re, im)| (Value::Tensor(re), Value::Tensor(im)));
    let (re, im) = match (both(a), both(b)) {
        (Some((a, b)), Some((c, d))) => {
            let (ac, bd) = (multiply(l, &a, &c)?, multiply(l, &b, &d)?);
            let (ad, bc) = (multiply(l, &a, &d)?, multiply(l, &b, &c)?);
            (l.two("sub", &ac, &bd)?, l.two("add", &ad, &bc)?)
        }
        (Some((re, im)), None) => (multiply(l, &re, b)?, multiply(l, &im, b)?),
        (None, Some((re, im))) => (multiply(l, a, &re)?, multiply(l, a, &im)?),
        (None, None) => return Err(Error::invalid("neither operand is complex")),
    };
    Ok(vec![joined(&re, &im)?])
}

fn product(l: &mut Lower, args: &Args, second: &str, in_place: bool) -> Result<Vec<Value>> {
    let name = if in_place { args.operator.trim_end_matches('_') } else { args.operator.as_str() };
    let (name, second) = (name.to_string(), second.to_string());
    let overload = if matches!(name.as_str(), "mul" | "multiply") { "Tensor" } else { "" };
    multiplied(l, args.get("self"), args.get(&second), &|l, a, b| {
        let values = vec![("self".to_string(), a.clone()), (second.clone(), b.clone())];
        let args = Args { operator: name.clone(), overload: overload.to_string(), values };
        l.call(&args)?.into_iter().next().ok_or_else(|| Error::invalid("a product of nothing"))
    })
}

fn einsum(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let [a, b] = args.get("tensors").list()? else {
        return Err(Error::beyond("einsum of more than two complex tensors"));
    };
    let (a, b, equation) = (a.clone(), b.clone(), args.get("equation").clone());
    multiplied(l, &a, &b, &|l, a, b| {
        let tensors = Value::List(vec![a.clone(), b.clone()]);
        l.apply_one("einsum", "", &[("equation", equation.clone()), ("tensors", tensors)])
    })
}

fn quotient(l: &mut Lower, args: &Args, _: bool) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    if !is_complex(&b) {
        let (re, im) = parts(&a)?;
        let (re, im) = (l.two("div", &Value::Tensor(re), &b)?, l.two("div", &Value::Tensor(im), &b)?);
        return Ok(vec![joined(&re, &im)?]);
    }
    // a / b = a × conj b / |b|²
    let (re, im) = parts(&b)?;
    let (squares, turned) = (squared(l, re, im)?, l.one("neg", &Value::Tensor(im))?.tensor()?);
    let product = multiplied(l, &a, &Value::Complex(re, turned), &|l, a, b| l.two("mul", a, b))?;
    let (re, im) = parts(&product[0])?;
    let (re, im) = (l.two("div", &Value::Tensor(re), &squares)?, l.two("div", &Value::Tensor(im), &squares)?);
    Ok(vec![joined(&re, &im)?])
}

fn squared(l: &mut Lower, re: TensorId, im: TensorId) -> Result<Value> {
    let (a, b) = (Value::Tensor(re), Value::Tensor(im));
    let (a, b) = (l.two("mul", &a, &a)?, l.two("mul", &b, &b)?);
    l.two("add", &a, &b)
}

/// `|z|`
fn size(l: &mut Lower, value: &Value) -> Result<TensorId> {
    let (re, im) = parts(value)?;
    let squares = squared(l, re, im)?;
    l.one("sqrt", &squares)?.tensor()
}

fn polar_of(l: &mut Lower, size: &Value, angle: &Value) -> Result<Vec<Value>> {
    let (cos, sin) = (l.one("cos", angle)?, l.one("sin", angle)?);
    let (re, im) = (l.two("mul", size, &cos)?, l.two("mul", size, &sin)?);
    Ok(vec![joined(&re, &im)?])
}

fn polar(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (size, angle) = (args.get("abs").clone(), args.get("angle").clone());
    polar_of(l, &size, &angle)
}

/// The last axis, of two, as real and imaginary part.
fn view_as_complex(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.get("self").clone();
    let mut halves = Vec::new();
    for at in 0..2 {
        let given = [("self", x.clone()), ("dim", Value::int(-1)), ("index", Value::int(at))];
        halves.push(l.apply_one("select", "int", &given)?);
    }
    Ok(vec![joined(&halves[0], &halves[1])?])
}

fn view_as_real(l: &mut Lower, value: &Value) -> Result<Vec<Value>> {
    let (re, im) = parts(value)?;
    let both = Value::List(vec![Value::Tensor(re), Value::Tensor(im)]);
    let result = l.apply_one("stack", "", &[("tensors", both), ("dim", Value::int(-1))])?;
    // A write to it would have to reach both parts.
    l.tie(result.tensor()?, re);
    Ok(vec![result])
}

fn only_complex(_: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    Err(Error::invalid(format!("{} of a real tensor", args.operator)))
}

fn whole(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    l.apply("alias", "", &[("self", args.get("self").clone())])
}

/// 0 of what is positive, π of what is negative.
fn angle_of_real(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = super::functions::float_of(l, args.tensor("self")?)?;
    let (zero, pi) = (l.number(0.0, dtype)?, l.number(std::f64::consts::PI, dtype)?);
    let below = l.node("Less", &[&x, &zero], &[])?;
    let value = l.node("Where", &[&below, &pi, &zero], &[])?;
    let none = l.node("IsNaN", &[&x], &[])?;
    let value = l.node("Where", &[&none, &x, &value], &[])?;
    l.answer(value)
}

/// New tensors of a complex type, and real ones as complex.
fn made(l: &mut Lower, args: &Args, name: &str) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    let mut real = DType::F32;
    for (own, value) in &args.values {
        if let Value::ComplexType(dtype) = value {
            real = *dtype;
        }
        values.push((
            own.clone(),
            if let Value::ComplexType(dtype) = value { Value::DType(*dtype) } else { value.clone() },
        ));
    }
    if matches!(name, "to" | "_to_copy") {
        return Ok(vec![match args.get("self") {
            Value::Complex(re, im) => {
                let as_type = |l: &mut Lower, part: TensorId| {
                    l.apply_one("to", "dtype", &[("self", Value::Tensor(part)), ("dtype", Value::DType(real))])
                };
                let (re, im) = (as_type(l, *re)?, as_type(l, *im)?);
                joined(&re, &im)?
            }
            x => {
                let re = l.apply_one("to", "dtype", &[("self", x.clone()), ("dtype", Value::DType(real))])?;
                let im = l.one("zeros_like", &re)?;
                joined(&re, &im)?
            }
        }]);
    }
    if !MADE.contains(&name) {
        return Err(Error::beyond(format!("aten.{} of a complex type", args.operator)));
    }
    for (_, value) in &mut values {
        if let Value::Complex(re, _) = value {
            *value = Value::Tensor(*re);
        }
    }
    let re = l.call(&Args { operator: name.to_string(), overload: args.overload.clone(), values })?.swap_remove(0);
    let im = l.one("zeros_like", &re)?;
    Ok(vec![joined(&re, &im)?])
}
