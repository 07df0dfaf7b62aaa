//! Activations.

use rekindle_onnx::builder::Attr;

use super::functions::float_of;
use super::{Args, Lower, Row, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("silu", silu),
    ("gelu", gelu),
    ("softplus", softplus),
    ("logsigmoid", log_sigmoid),
    ("log_sigmoid", log_sigmoid),
    ("hardtanh", hardtanh),
    ("relu6", |l, a| clip_known(l, a, 0.0, 6.0)),
    ("hardsigmoid", hardsigmoid),
    ("hardshrink", hardshrink),
    ("softshrink", softshrink),
    ("tanhshrink", tanhshrink),
    ("threshold", threshold),
    ("leaky_relu", leaky_relu),
    ("rrelu", random_relu),
    ("elu", elu),
    ("celu", celu),
    ("prelu", prelu),
    ("glu", glu),
];

fn silu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let gate = l.node("Sigmoid", &[&x], &[])?;
    let value = l.node("Mul", &[&x, &gate], &[])?;
    l.answer(value)
}

fn gelu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let value = l.value(x)?;
    let kind = match args.text("approximate")? {
        None | Some("none") => "none",
        Some("tanh") => "tanh",
        Some(other) => return Err(Error::beyond(format!("gelu approximated by '{other}'"))),
    };
    let value = l.node("Gelu", &[&value], &[("approximate", Attr::Text(kind))])?;
    l.answer(value)
}

fn softplus(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (beta, limit) = (args.float("beta")?, args.float("threshold")?);
    let (value, dtype) = float_of(l, x)?;
    let scale = l.number(beta, dtype)?;
    let scaled = if beta == 1.0 { value.clone() } else { l.node("Mul", &[&value, &scale], &[])? };
    let soft = l.node("Softplus", &[&scaled], &[])?;
    let soft = if beta == 1.0 { soft } else { l.node("Div", &[&soft, &scale], &[])? };
    let limit = l.number(limit, dtype)?;
    let straight = l.node("Greater", &[&scaled, &limit], &[])?;
    let value = l.node("Where", &[&straight, &value, &soft], &[])?;
    l.answer(value)
}

fn log_sigmoid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let minus = l.node("Neg", &[&x], &[])?;
    let soft = l.node("Softplus", &[&minus], &[])?;
    let value = l.node("Neg", &[&soft], &[])?;
    l.answer(value)
}

fn clip_known(l: &mut Lower, args: &Args, low: f64, high: f64) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (value, dtype) = (l.value(x)?, l.dtype(x));
    let (low, high) = (l.number(low, dtype)?, l.number(high, dtype)?);
    let value = l.node("Clip", &[&value, &low, &high], &[])?;
    l.answer(value)
}

fn hardtanh(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    clip_known(l, args, args.float("min_val")?, args.float("max_val")?)
}

fn hardsigmoid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node("HardSigmoid", &[&x], &[("alpha", Attr::Float(1.0 / 6.0)), ("beta", Attr::Float(0.5))])?;
    l.answer(value)
}

fn hardshrink(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let (size, limit, zero) =
        (l.node("Abs", &[&x], &[])?, l.number(args.float("lambd")?, dtype)?, l.number(0.0, dtype)?);
    let small = l.node("LessOrEqual", &[&size, &limit], &[])?;
    let value = l.node("Where", &[&small, &zero, &x], &[])?;
    l.answer(value)
}

fn softshrink(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, dtype) = float_of(l, args.tensor("self")?)?;
    let limit = args.float("lambd")?;
    let (low, high) = (l.number(-limit, dtype)?, l.number(limit, dtype)?);
    let inside = l.node("Clip", &[&x, &low, &high], &[])?;
    let value = l.node("Sub", &[&x, &inside], &[])?;
    l.answer(value)
}

fn tanhshrink(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let soft = l.node("Tanh", &[&x], &[])?;
    let value = l.node("Sub", &[&x, &soft], &[])?;
    l.answer(value)
}

fn threshold(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let value = l.value(x)?;
    let (limit, other) = (l.scalar(args.get("threshold"), dtype)?, l.scalar(args.get("value"), dtype)?);
    let above = l.node("Greater", &[&value, &limit], &[])?;
    let value = l.node("Where", &[&above, &value, &other], &[])?;
    l.answer(value)
}

fn leaky_relu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node("LeakyRelu", &[&x], &[("alpha", Attr::Float(args.float("negative_slope")? as f32))])?;
    l.answer(value)
}

fn elu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (alpha, scale, inner) = (args.float("alpha")?, args.float("scale")?, args.float("input_scale")?);
    if inner != 1.0 || scale != 1.0 {
        // The only other use is selu, taken apart.
        let (x, dtype) = float_of(l, args.tensor("self")?)?;
        if inner != 1.0 {
            return Err(Error::beyond("elu with an input scale"));
        }
        let value = l.node("Elu", &[&x], &[("alpha", Attr::Float(alpha as f32))])?;
        let scale = l.number(scale, dtype)?;
        let value = l.node("Mul", &[&value, &scale], &[])?;
        return l.answer(value);
    }
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node("Elu", &[&x], &[("alpha", Attr::Float(alpha as f32))])?;
    l.answer(value)
}

fn celu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let value = l.node("Celu", &[&x], &[("alpha", Attr::Float(args.float("alpha")? as f32))])?;
    l.answer(value)
}

fn prelu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, weight) = (args.tensor("self")?, args.tensor("weight")?);
    let (value, rank) = (l.value(x)?, l.rank(x));
    let mut slope = l.value(weight)?;
    // One slope for each channel, which is axis 1.
    if rank > 2 && l.rank(weight) == 1 && l.size(weight, 0)? != 1 {
        let mut shape = vec![1; rank - 1];
        shape[0] = -1;
        let shape = l.ints(&shape)?;
        slope = l.reshape(&slope, &shape)?;
    }
    let value = l.node("PRelu", &[&value, &slope], &[])?;
    l.answer(value)
}

fn glu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let value = l.value(x)?;
    let halves = l.nodes("Split", &[&value], 2, &[("axis", int(axis as i64)), ("num_outputs", int(2))])?;
    let gate = l.node("Sigmoid", &[&halves[1]], &[])?;
    let value = l.node("Mul", &[&halves[0], &gate], &[])?;
    l.answer(value)
}

/// In inference the slope is the middle of those that training draws.
fn random_relu(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    if super::dropout::in_training(l, args.bool("training")?) {
        return Err(Error::beyond("rrelu in training"));
    }
    let (x, _) = float_of(l, args.tensor("self")?)?;
    let slope = (args.float("lower")? + args.float("upper")?) / 2.0;
    let value = l.node("LeakyRelu", &[&x], &[("alpha", Attr::Float(slope as f32))])?;
    l.answer(value)
}
