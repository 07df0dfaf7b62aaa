//! Picking elements by position.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, DType};

use super::{Args, Float, Int, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("index", index),
    ("_unsafe_index", index),
    ("index_select", index_select),
    ("gather", gather),
    ("take", take),
    ("masked_select", masked_select),
    ("nonzero", nonzero),
    ("nonzero_numpy", nonzero_numpy),
    ("argwhere", nonzero),
    ("item", item),
    ("_local_scalar_dense", item),
    ("one_hot", one_hot),
];

/// An index: positions along one axis of the operand.
pub(super) struct Picked {
    axis: usize,
    value: ValueName,
    rank: usize,
}

/// The indices of a call; masks become positions.
pub(super) fn picked(l: &mut Lower, args: &Args, x: TensorId) -> Result<Vec<Picked>> {
    let mut picked = Vec::new();
    let mut axis = 0;
    for index in args.get("indices").list()? {
        if index.is_none() {
            axis += 1;
            continue;
        }
        let index = index.tensor()?;
        let (value, rank) = (l.value(index)?, l.rank(index));
        match l.dtype(index) {
            DType::Bool | DType::U8 if rank > 0 => {
                let mask = l.value_as(index, DType::Bool)?;
                let positions = l.node("NonZero", &[&mask], &[])?;
                for row in 0..rank {
                    let at = l.constant(&Array::scalar(row as i64))?;
                    let value = l.node("Gather", &[&positions, &at], &[("axis", int(0))])?;
                    picked.push(Picked { axis, value, rank: 1 });
                    axis += 1;
                }
            }
            dtype if dtype.is_int() => {
                let value = l.cast(&value, dtype, DType::I64)?;
                picked.push(Picked { axis, value, rank });
                axis += 1;
            }
            dtype => return Err(Error::invalid(format!("an index of type {dtype} and {rank} axes"))),
        }
    }
    if axis > l.rank(x) {
        return Err(Error::invalid(format!("{axis} indices for {} axes", l.rank(x))));
    }
    Ok(picked)
}

/// Positions of several axes as one tensor of coordinates, its rank without the last axis, and the order that brings
/// the axes to the front.
pub(super) fn coordinates(l: &mut Lower, picked: &[Picked], rank: usize) -> Result<(ValueName, usize, Vec<usize>)> {
    let mut all = picked[0].value.clone();
    for index in &picked[1..] {
        all = l.node("Add", &[&all, &index.value], &[])?;
    }
    let shape = l.shape_of(&all)?;
    let last = l.ints(&[-1])?;
    let mut columns = Vec::new();
    for index in picked {
        let wide =
            if picked.len() == 1 { index.value.clone() } else { l.node("Expand", &[&index.value, &shape], &[])? };
        columns.push(l.node("Unsqueeze", &[&wide, &last], &[])?);
    }
    let columns: Vec<&str> = columns.iter().map(AsRef::as_ref).collect();
    let joined = l.node("Concat", &columns, &[("axis", int(-1))])?;
    let mut order: Vec<usize> = picked.iter().map(|index| index.axis).collect();
    order.extend((0..rank).filter(|axis| !picked.iter().any(|index| index.axis == *axis)));
    let of_index = picked.iter().map(|index| index.rank).max().unwrap_or(0);
    Ok((joined, of_index, order))
}

/// Where the axes of the index stand in the result: at the first indexed axis if those are together, else in front.
pub(super) fn place(picked: &[Picked]) -> usize {
    let together = picked.windows(2).all(|pair| pair[0].axis + 1 == pair[1].axis);
    if together { picked[0].axis } else { 0 }
}

fn index(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let picked = picked(l, args, x)?;
    let value = l.value(x)?;
    let (dtype, rank) = (l.dtype(x), l.rank(x));
    let result = match picked.as_slice() {
        [] => return Ok(vec![Value::Tensor(x)]),
        [one] => l.node("Gather", &[&value, &one.value], &[("axis", int(one.axis as i64))])?,
        several => {
            let (at, of_index, order) = coordinates(l, several, rank)?;
            let turned = l.transpose(&value, &order)?;
            let result = l.node("GatherND", &[&turned, &at], &[])?;
            let place = place(several);
            let result_rank = of_index + rank - several.len();
            // The index's axes come first here; PyTorch has them at the place of the axes that they pick.
            let back: Vec<usize> =
                (of_index..of_index + place).chain(0..of_index).chain(of_index + place..result_rank).collect();
            l.transpose(&result, &back)?
        }
    };
    let tensor = l.tensor_or_unknown(result);
    if l.fact(&l.state(tensor).value_name()).is_none() {
        let result_rank = picked.iter().map(|index| index.rank).max().unwrap_or(0) + rank - picked.len();
        l.assume(tensor, dtype, result_rank);
    }
    Ok(vec![Value::Tensor(tensor)])
}

fn index_select(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, at) = (args.tensor("self")?, args.tensor("index")?);
    let axis = l.axis(x, args.int("dim")?)?;
    let value = l.value(x)?;
    let mut at_value = l.value_as(at, DType::I64)?;
    if l.rank(at) == 0 {
        let one = l.ints(&[1])?;
        at_value = l.reshape(&at_value, &one)?;
    }
    let value = l.node("Gather", &[&value, &at_value], &[("axis", int(axis as i64))])?;
    l.answer(value)
}

fn gather(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, at) = (args.tensor("self")?, args.any(&["index", "indices"]).tensor()?);
    if l.rank(x) == 0 || l.rank(at) == 0 {
        return Err(Error::beyond("gather of a scalar"));
    }
    let axis = l.axis(x, args.int("dim")?)?;
    let (value, at) = (l.value(x)?, l.value(at)?);
    let value = l.node("GatherElements", &[&value, &at], &[("axis", int(axis as i64))])?;
    l.answer(value)
}

fn take(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, at) = (args.tensor("self")?, args.tensor("index")?);
    let (value, at, flat) = (l.value(x)?, l.value(at)?, l.ints(&[-1])?);
    let value = l.reshape(&value, &flat)?;
    let value = l.node("Gather", &[&value, &at], &[("axis", int(0))])?;
    l.answer(value)
}

fn masked_select(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, mask) = (args.tensor("self")?, args.tensor("mask")?);
    let (dtype, flat) = (l.dtype(x), l.ints(&[-1])?);
    let (value, mask) = (l.value(x)?, l.value(mask)?);
    let (shape_x, shape_mask) = (l.shape_of(&value)?, l.shape_of(&mask)?);
    let value = l.node("Expand", &[&value, &shape_mask], &[])?;
    let mask = l.node("Expand", &[&mask, &shape_x], &[])?;
    let (value, mask) = (l.reshape(&value, &flat)?, l.reshape(&mask, &flat)?);
    let value = l.node("Compress", &[&value, &mask], &[])?;
    let tensor = l.tensor_or_unknown(value);
    l.assume(tensor, dtype, 1);
    Ok(vec![Value::Tensor(tensor)])
}

fn positions(l: &mut Lower, x: TensorId) -> Result<ValueName> {
    let value = l.value(x)?;
    l.node("NonZero", &[&value], &[])
}

fn nonzero(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let at = positions(l, args.tensor("self")?)?;
    let value = l.node("Transpose", &[&at], &[("perm", Attr::Ints(vec![1, 0]))])?;
    let tensor = l.tensor_or_unknown(value);
    l.assume(tensor, DType::I64, 2);
    Ok(vec![Value::Tensor(tensor)])
}

pub(super) fn nonzero_numpy(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.any(&["self", "condition"]).tensor()?;
    let at = positions(l, x)?;
    let mut results = Vec::new();
    for row in 0..l.rank(x) {
        let row = l.constant(&Array::scalar(row as i64))?;
        let value = l.node("Gather", &[&at, &row], &[("axis", int(0))])?;
        let tensor = l.tensor_or_unknown(value);
        l.assume(tensor, DType::I64, 1);
        results.push(Value::Tensor(tensor));
    }
    Ok(vec![Value::List(results)])
}

/// The only element as a number of the program.
fn item(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let mut value = l.value(x)?;
    if l.rank(x) > 0 {
        let shape = l.ints(&[])?;
        value = l.reshape(&value, &shape)?;
    }
    Ok(vec![if dtype.is_float() {
        Value::Float(Float::Open(l.cast(&value, dtype, DType::F64)?))
    } else if dtype == DType::Bool {
        Value::OpenBool(value)
    } else {
        Value::Int(Int::Open(l.cast(&value, dtype, DType::I64)?))
    }])
}

fn one_hot(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let classes = args.int("num_classes")?;
    if classes < 1 {
        return Err(Error::beyond("one_hot without a number of classes"));
    }
    let (value, depth) = (l.value(x)?, l.constant(&Array::scalar(classes))?);
    let values = l.ints(&[0, 1])?;
    let value = l.node("OneHot", &[&value, &depth, &values], &[("axis", int(-1))])?;
    l.answer(value)
}
