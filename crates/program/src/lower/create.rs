//! Tensors that are made: filled, counted, random; and those that are filled in place.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, DType};

use super::{Args, Float, Int, Lower, Row, Value, array_from, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("zeros", |l, a| filled(l, a, 0)),
    ("new_zeros", |l, a| filled(l, a, 0)),
    ("empty", |l, a| filled(l, a, 0)),
    ("new_empty", |l, a| filled(l, a, 0)),
    ("empty_strided", |l, a| filled(l, a, 0)),
    ("empty_permuted", |l, a| filled(l, a, 0)),
    ("ones", |l, a| filled(l, a, 1)),
    ("new_ones", |l, a| filled(l, a, 1)),
    ("full", full),
    ("new_full", full),
    ("zeros_like", |l, a| like(l, a, Some(0))),
    ("empty_like", |l, a| like(l, a, Some(0))),
    ("ones_like", |l, a| like(l, a, Some(1))),
    ("full_like", |l, a| like(l, a, None)),
    ("fill", fill),
    ("zero", fill),
    ("copy", copy),
    ("scalar_tensor", scalar_tensor),
    ("arange", arange),
    ("linspace", linspace),
    ("eye", eye),
    ("triu", |l, a| triangle(l, a, 1)),
    ("tril", |l, a| triangle(l, a, 0)),
    ("randn_like", |l, a| random_like(l, a, "RandomNormalLike")),
    ("rand_like", |l, a| random_like(l, a, "RandomUniformLike")),
    ("randn", |l, a| random(l, a, "RandomNormalLike")),
    ("rand", |l, a| random(l, a, "RandomUniformLike")),
    ("bernoulli", bernoulli),
];

/// The type of a new tensor: as asked, as its model's, or float32.
fn wanted(l: &Lower, args: &Args, other: DType) -> Result<DType> {
    if let Some(dtype) = args.dtype("dtype")? {
        return Ok(dtype);
    }
    Ok(match args.get("self") {
        Value::Tensor(model) => l.dtype(*model),
        _ => other,
    })
}

fn spread(l: &mut Lower, fill: &str, shape: &str) -> Result<Vec<Value>> {
    let value = l.node("Expand", &[fill, shape], &[])?;
    l.answer(value)
}

fn filled(l: &mut Lower, args: &Args, number: i64) -> Result<Vec<Value>> {
    let dtype = wanted(l, args, DType::F32)?;
    let sizes = args.syms("size")?;
    let shape = l.vector(&sizes)?;
    let fill = l.number(number as f64, dtype)?;
    spread(l, &fill, &shape)
}

/// The type that PyTorch gives a number.
fn type_of(number: &Value) -> DType {
    match number {
        Value::Bool(_) => DType::Bool,
        Value::Int(_) => DType::I64,
        _ => DType::F32,
    }
}

fn full(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let number = args.get("fill_value").clone();
    let dtype = wanted(l, args, type_of(&number))?;
    let sizes = args.syms("size")?;
    let shape = l.vector(&sizes)?;
    let fill = l.scalar(&number, dtype)?;
    spread(l, &fill, &shape)
}

fn like(l: &mut Lower, args: &Args, number: Option<i64>) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = args.dtype("dtype")?.unwrap_or(l.dtype(x));
    let number = number.map_or_else(|| args.get("fill_value").clone(), Value::int);
    let value = l.value(x)?;
    let shape = l.shape_of(&value)?;
    let fill = l.scalar(&number, dtype)?;
    spread(l, &fill, &shape)
}

/// Another number everywhere, in the tensor's own type.
fn fill(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let number = if args.operator == "zero" { Value::int(0) } else { args.get("value").clone() };
    let value = l.value(x)?;
    let shape = l.shape_of(&value)?;
    let fill = l.scalar(&number, dtype)?;
    spread(l, &fill, &shape)
}

fn copy(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, source) = (args.tensor("self")?, args.tensor("src")?);
    let dtype = l.dtype(x);
    let (value, source) = (l.value(x)?, l.value_as(source, dtype)?);
    let shape = l.shape_of(&value)?;
    spread(l, &source, &shape)
}

fn scalar_tensor(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let number = args.get("s").clone();
    let dtype = args.dtype("dtype")?.unwrap_or(DType::F32);
    let value = l.scalar(&number, dtype)?;
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}

fn arange(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let or = |name: &str, other: i64| if args.get(name).is_none() { Value::int(other) } else { args.get(name).clone() };
    let (start, end, step) = (or("start", 0), args.get("end").clone(), or("step", 1));
    let floats = [&start, &end, &step].iter().any(|value| matches!(value, Value::Float(_)));
    let dtype = args.dtype("dtype")?.unwrap_or(if floats { DType::F32 } else { DType::I64 });
    // Steps are counted in the widest type, so that a small or rounded one does not change how many there are.
    let counted = if floats { DType::F64 } else { DType::I64 };
    let mut inputs = Vec::new();
    for value in [&start, &end, &step] {
        inputs.push(l.scalar(value, counted)?);
    }
    let value = l.node("Range", &[&inputs[0], &inputs[1], &inputs[2]], &[])?;
    let value = l.cast(&value, counted, dtype)?;
    l.answer(value)
}

fn linspace(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (start, end, steps) = (args.float("start")?, args.float("end")?, args.int("steps")?);
    let dtype = args.dtype("dtype")?.unwrap_or(DType::F32);
    if !(0..=1 << 24).contains(&steps) || !dtype.is_float() {
        return Err(Error::beyond(format!("linspace of {steps} steps as {dtype}")));
    }
    // PyTorch computes the second half from the end.
    let step = if steps > 1 { (end - start) / (steps - 1) as f64 } else { 0.0 };
    let at = |i: i64| {
        if i < steps / 2 || steps == 1 { start + step * i as f64 } else { end - step * (steps - 1 - i) as f64 }
    };
    let array = Array::of_floats(dtype, vec![steps as usize], (0..steps).map(at).collect())?;
    let value = l.constant(&array)?;
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}

fn eye(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let dtype = args.dtype("dtype")?.unwrap_or(DType::F32);
    let n = args.sym("n")?;
    let m = if args.get("m").is_none() { n.clone() } else { args.sym("m")? };
    let shape = l.vector(&[n, m])?;
    let zero = l.number(0.0, dtype)?;
    let zeros = l.node("Expand", &[&zero, &shape], &[])?;
    let value = l.node("EyeLike", &[&zeros], &[("dtype", int(i64::from(dtype.number())))])?;
    l.answer(value)
}

fn triangle(l: &mut Lower, args: &Args, upper: i64) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let diagonal = args.int("diagonal")?;
    let (value, diagonal) = (l.value(x)?, l.constant(&Array::scalar(diagonal))?);
    let value = l.node("Trilu", &[&value, &diagonal], &[("upper", int(upper))])?;
    l.answer(value)
}

fn drawn(l: &mut Lower, model: &str, dtype: DType, operator: &str) -> Result<Vec<Value>> {
    let value = l.node(operator, &[model], &[("dtype", int(i64::from(dtype.number())))])?;
    l.answer(value)
}

fn random_like(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = args.dtype("dtype")?.unwrap_or(l.dtype(x));
    let value = l.value(x)?;
    drawn(l, &value, dtype, operator)
}

fn random(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let dtype = args.dtype("dtype")?.unwrap_or(DType::F32);
    let sizes = args.syms("size")?;
    let shape = l.vector(&sizes)?;
    let zero = l.number(0.0, dtype)?;
    let model: ValueName = l.node("Expand", &[&zero, &shape], &[])?;
    drawn(l, &model, dtype, operator)
}

fn bernoulli(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let mut value = l.value(x)?;
    if let Some(p) = args.optional_float("p")? {
        let (shape, p) = (l.shape_of(&value)?, l.number(p, l.dtype(x))?);
        value = l.node("Expand", &[&p, &shape], &[])?;
    }
    let value = l.node("Bernoulli", &[&value], &[])?;
    l.answer(value)
}

/// A tensor of numbers in nested lists, as `torch.tensor` makes it.
pub(crate) fn tensor_of(l: &mut Lower, data: &Value, dtype: Option<DType>) -> Result<Value> {
    fn flat<'v>(value: &'v Value, depth: usize, shape: &mut Vec<usize>, out: &mut Vec<&'v Value>) -> Result<()> {
        let Value::List(values) = value else {
            out.push(value);
            return if depth == shape.len() { Ok(()) } else { Err(Error::invalid("lists of different depth")) };
        };
        if shape.len() == depth {
            shape.push(values.len());
        }
        if shape.get(depth) != Some(&values.len()) {
            return Err(Error::invalid("lists of different length"));
        }
        values.iter().try_for_each(|value| flat(value, depth + 1, shape, out))
    }
    // A tensor or number that follows from sizes stands alone.
    if let Value::Int(Int::Open(_)) | Value::Float(Float::Open(_)) | Value::Tensor(_) = data {
        let own = if let Value::Tensor(tensor) = data { l.dtype(*tensor) } else { type_of(data) };
        let value = l.scalar(data, dtype.unwrap_or(own))?;
        let value = l.node("Identity", &[&value], &[])?;
        return Ok(Value::Tensor(l.tensor(value)?));
    }
    let (mut shape, mut numbers) = (Vec::new(), Vec::new());
    let mut depth = data;
    while let Value::List(values) = depth {
        shape.push(values.len());
        match values.first() {
            Some(first) => depth = first,
            None => break,
        }
    }
    flat(data, 0, &mut shape, &mut numbers)?;
    let mut kind = if numbers.is_empty() { DType::F32 } else { DType::Bool };
    for number in &numbers {
        kind = super::promote(kind, type_of(number))?;
    }
    let dtype = dtype.unwrap_or(kind);
    let known: Option<Vec<f64>> = numbers
        .iter()
        .map(|number| match number {
            Value::Int(Int::Known(int)) => Some(*int as f64),
            Value::Float(Float::Known(float)) => Some(*float),
            Value::Bool(bool) => Some(f64::from(u8::from(*bool))),
            _ => None,
        })
        .collect();
    let value = match known {
        Some(known) => {
            let array = array_from(dtype, shape, &known)?;
            l.constant(&array)?
        }
        None => {
            let one = l.ints(&[1])?;
            let mut parts = Vec::new();
            for number in numbers {
                let part = l.scalar(number, dtype)?;
                parts.push(l.reshape(&part, &one)?);
            }
            let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
            let all = l.node("Concat", &parts, &[("axis", Attr::Int(0))])?;
            let sizes: Vec<i64> = shape.iter().map(|&size| size as i64).collect();
            let shape = l.ints(&sizes)?;
            l.reshape(&all, &shape)?
        }
    };
    let value = l.node("Identity", &[&value], &[])?;
    Ok(Value::Tensor(l.tensor(value)?))
}
