//! Dropout, which inference leaves out.

use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

use super::alias::View;
use super::{Args, Lower, Mode, Row, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("dropout", dropout),
    ("feature_dropout", feature_dropout),
    ("alpha_dropout", only_eval),
    ("feature_alpha_dropout", only_eval),
    ("native_dropout", native_dropout),
];

/// Whether a layer that the program has in one mode is in training here.
pub(super) fn in_training(l: &Lower, exported: bool) -> bool {
    match l.mode {
        Mode::AsExported => exported,
        Mode::Eval => false,
        Mode::Train | Mode::TrainFrozenStatistics => true,
    }
}

/// Dropout of a value in training mode.
pub(super) fn drop_out(l: &mut Lower, value: &str, p: f64, outputs: usize) -> Result<Vec<ValueName>> {
    let ratio = l.number(p, DType::F32)?;
    let training = l.number(1.0, DType::Bool)?;
    l.nodes("Dropout", &[value, &ratio, &training], outputs, &[])
}

fn dropout(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let p = args.float("p")?;
    if !in_training(l, args.bool("train")?) || p == 0.0 {
        return Ok(vec![Value::Tensor(l.view(x, View::Whole)?)]);
    }
    let value = l.value(x)?;
    let value = drop_out(l, &value, p, 1)?.swap_remove(0);
    l.answer(value)
}

/// Drops whole channels: a mask for each channel, spread over what follows.
fn feature_dropout(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let p = args.float("p")?;
    if !in_training(l, args.bool("train")?) || p == 0.0 {
        return Ok(vec![Value::Tensor(l.view(x, View::Whole)?)]);
    }
    let (value, dtype, rank) = (l.value(x)?, l.dtype(x), l.rank(x));
    if rank < 2 {
        return Err(Error::invalid("channels are dropped from inputs of at least two axes"));
    }
    let shape = l.shape_of(&value)?;
    let [zero, two, axis] = [l.ints(&[0])?, l.ints(&[2])?, l.ints(&[0])?];
    let head = l.node("Slice", &[&shape, &zero, &two, &axis], &[])?;
    let ones = l.ints(&vec![1; rank - 2])?;
    let mask_shape = l.node("Concat", &[&head, &ones], &[("axis", int(0))])?;
    let one = l.number(1.0, dtype)?;
    let ones = l.node("Expand", &[&one, &mask_shape], &[])?;
    let mask = drop_out(l, &ones, p, 1)?.swap_remove(0);
    let value = l.node("Mul", &[&value, &mask], &[])?;
    l.answer(value)
}

fn only_eval(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    if in_training(l, args.bool("train")?) && args.float("p")? != 0.0 {
        return Err(Error::beyond(format!("{} in training", args.operator)));
    }
    Ok(vec![Value::Tensor(l.view(x, View::Whole)?)])
}

fn native_dropout(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let p = args.float("p")?;
    let exported = matches!(args.get("train"), Value::Bool(true) | Value::None);
    let value = l.value(x)?;
    if !in_training(l, exported) || p == 0.0 {
        let kept = l.node("Equal", &[&value, &value], &[])?;
        let value = l.node("Identity", &[&value], &[])?;
        return Ok(vec![Value::Tensor(l.tensor_or_unknown(value)), Value::Tensor(l.tensor_or_unknown(kept))]);
    }
    let values = drop_out(l, &value, p, 2)?;
    Ok(values.into_iter().map(|value| Value::Tensor(l.tensor_or_unknown(value))).collect())
}
