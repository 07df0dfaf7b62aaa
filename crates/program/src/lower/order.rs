//! Order: greatest elements and sorting.

use rekindle_onnx::builder::ValueName;

use super::{Args, Lower, Row, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[("topk", topk), ("sort", sort), ("argsort", argsort)];

fn ordered(l: &mut Lower, args: &Args, count: ValueName, largest: bool) -> Result<(ValueName, ValueName)> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let value = l.value(x)?;
    let attributes = [("axis", int(axis as i64)), ("largest", int(i64::from(largest))), ("sorted", int(1))];
    let mut outputs = l.nodes("TopK", &[&value, &count], 2, &attributes)?;
    let (at, values) = (outputs.pop(), outputs.pop());
    values.zip(at).ok_or_else(|| Error::invalid("TopK gives two outputs"))
}

fn topk(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let count = args.sym("k")?;
    let count = l.vector(&[count])?;
    let (values, at) = ordered(l, args, count, args.bool("largest")?)?;
    Ok(vec![Value::Tensor(l.tensor_or_unknown(values)), Value::Tensor(l.tensor_or_unknown(at))])
}

fn sort_values(l: &mut Lower, args: &Args) -> Result<(ValueName, ValueName)> {
    let x = args.tensor("self")?;
    if l.rank(x) == 0 {
        return Err(Error::beyond("a scalar sorted"));
    }
    let axis = l.axis(x, args.int("dim")?)?;
    let size = l.size_int(x, axis)?;
    let count = l.vector(&[size])?;
    ordered(l, args, count, args.bool("descending")?)
}

fn sort(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (values, at) = sort_values(l, args)?;
    Ok(vec![Value::Tensor(l.tensor_or_unknown(values)), Value::Tensor(l.tensor_or_unknown(at))])
}

fn argsort(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (_, at) = sort_values(l, args)?;
    l.answer(at)
}
