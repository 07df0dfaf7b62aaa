//! Picking elements by position, and putting them.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, DType};

use super::{Args, Float, Int, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("index", index),
    ("_unsafe_index", index),
    ("index_put", index_put),
    ("_unsafe_index_put", index_put),
    ("index_select", index_select),
    ("gather", gather),
    ("scatter", scatter),
    ("scatter_add", |l, a| scatter_with(l, a, "add")),
    ("take", take),
    ("masked_select", masked_select),
    ("masked_scatter", |_, _| Err(Error::beyond("masked_scatter"))),
    ("nonzero", nonzero),
    ("nonzero_numpy", nonzero_numpy),
    ("argwhere", nonzero),
    ("item", item),
    ("_local_scalar_dense", item),
    ("topk", topk),
    ("sort", sort),
    ("argsort", argsort),
    ("one_hot", one_hot),
];

/// An index: positions along one axis of the operand.
struct Picked {
    axis: usize,
    value: ValueName,
    rank: usize,
}

/// The indices of a call; masks become positions.
fn picked(l: &mut Lower, args: &Args, x: TensorId) -> Result<Vec<Picked>> {
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
fn coordinates(l: &mut Lower, picked: &[Picked], rank: usize) -> Result<(ValueName, usize, Vec<usize>)> {
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
fn place(picked: &[Picked]) -> usize {
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

fn index_put(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (values, accumulate) = (args.tensor("values")?, args.bool("accumulate")?);
    let (dtype, rank) = (l.dtype(x), l.rank(x));
    let indices = args.get("indices").list()?;
    // One mask and one value: no positions are needed.
    if let [Value::Tensor(mask)] = indices
        && l.dtype(*mask) == DType::Bool
        && l.rank(values) == 0
        && !accumulate
    {
        let (mut condition, mask_rank) = (l.value(*mask)?, l.rank(*mask));
        if mask_rank < rank {
            let axes: Vec<i64> = (mask_rank as i64..rank as i64).collect();
            let axes = l.ints(&axes)?;
            condition = l.node("Unsqueeze", &[&condition, &axes], &[])?;
        }
        let (fill, value) = (l.value_as(values, dtype)?, l.value(x)?);
        let value = l.node("Where", &[&condition, &fill, &value], &[])?;
        return l.answer(value);
    }
    let picked = picked(l, args, x)?;
    if picked.is_empty() {
        return Err(Error::beyond("index_put without an index"));
    }
    let (at, of_index, order) = coordinates(l, &picked, rank)?;
    let value = l.value(x)?;
    let turned = l.transpose(&value, &order)?;
    // What is put spreads over the shape of the index and the axes that are not picked, in PyTorch's order of axes.
    let place = place(&picked);
    let rest = rank - picked.len();
    let shape = l.shape_of(&at)?;
    let (zero, minus) = (l.ints(&[0])?, l.ints(&[-1])?);
    let of_at = l.node("Slice", &[&shape, &zero, &minus, &zero], &[])?;
    let whole = l.shape_of(&turned)?;
    let (from, to) = (l.ints(&[picked.len() as i64])?, l.ints(&[i64::MAX])?);
    let of_rest = l.node("Slice", &[&whole, &from, &to, &zero], &[])?;
    let middle = l.ints(&[place as i64])?;
    let before = l.node("Slice", &[&of_rest, &zero, &middle, &zero], &[])?;
    let after = l.node("Slice", &[&of_rest, &middle, &to, &zero], &[])?;
    let target = l.node("Concat", &[&before, &of_at, &after], &[("axis", int(0))])?;
    let put = l.value_as(values, dtype)?;
    let put = l.node("Expand", &[&put, &target], &[])?;
    let total = of_index + rest;
    let front: Vec<usize> = (place..place + of_index).chain(0..place).chain(place + of_index..total).collect();
    let put = l.transpose(&put, &front)?;
    let how = [("reduction", Attr::Text("add"))];
    let result = l.node("ScatterND", &[&turned, &at, &put], if accumulate { &how } else { &[] })?;
    let mut back = vec![0; rank];
    order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
    let result = l.transpose(&result, &back)?;
    l.answer(result)
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
    let (x, at) = (args.tensor("self")?, args.tensor("index")?);
    if l.rank(x) == 0 || l.rank(at) == 0 {
        return Err(Error::beyond("gather of a scalar"));
    }
    let axis = l.axis(x, args.int("dim")?)?;
    let (value, at) = (l.value(x)?, l.value(at)?);
    let value = l.node("GatherElements", &[&value, &at], &[("axis", int(axis as i64))])?;
    l.answer(value)
}

fn scatter(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    match args.text("reduce")? {
        None => scatter_with(l, args, "none"),
        Some("add") => scatter_with(l, args, "add"),
        Some("multiply") => scatter_with(l, args, "mul"),
        Some(other) => Err(Error::beyond(format!("scatter with '{other}'"))),
    }
}

fn scatter_with(l: &mut Lower, args: &Args, how: &'static str) -> Result<Vec<Value>> {
    let (x, at) = (args.tensor("self")?, args.tensor("index")?);
    if l.rank(x) == 0 {
        return Err(Error::beyond("scatter of a scalar"));
    }
    let axis = l.axis(x, args.int("dim")?)?;
    let dtype = l.dtype(x);
    let (value, index) = (l.value(x)?, l.value(at)?);
    let shape = l.shape_of(&index)?;
    let source = match args.get("src") {
        Value::Tensor(source) => {
            let own = l.value_as(*source, dtype)?;
            // The source may be larger than the index: its first elements count.
            if l.state(*source).shape == l.state(at).shape {
                own
            } else {
                let zeros = l.ints(&vec![0; l.rank(x)])?;
                l.node("Slice", &[&own, &zeros, &shape], &[])?
            }
        }
        _ => {
            let fill = l.scalar(args.get("value"), dtype)?;
            l.node("Expand", &[&fill, &shape], &[])?
        }
    };
    let attributes = [("axis", int(axis as i64)), ("reduction", Attr::Text(how))];
    let value = l.node("ScatterElements", &[&value, &index, &source], &attributes)?;
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

fn nonzero_numpy(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
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
        Value::OpenBool
    } else {
        Value::Int(Int::Open(l.cast(&value, dtype, DType::I64)?))
    }])
}

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
