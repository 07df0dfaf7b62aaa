//! Putting elements at positions.

use rekindle_onnx::builder::Attr;
use rekindle_onnx::{Array, DType};

use super::index::{coordinates, picked, place};
use super::{Args, Int, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("index_put", index_put),
    ("_unsafe_index_put", index_put),
    ("scatter", scatter),
    ("scatter_add", |l, a| scatter_with(l, a, "add")),
    ("masked_scatter", masked_scatter),
    ("scatter_reduce", scatter_reduce),
    ("index_add", |l, a| put_rows(l, a, "add")),
    ("index_copy", |l, a| put_rows(l, a, "none")),
    ("index_fill", index_fill),
];

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

/// Takes one element after another from a source where a mask holds.
fn masked_scatter(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, mask, source) = (args.tensor("self")?, args.tensor("mask")?, args.tensor("source")?);
    let (value, mask, source) = (l.value(x)?, l.value_as(mask, DType::Bool)?, l.value(source)?);
    let (shape, flat) = (l.shape_of(&value)?, l.ints(&[-1])?);
    let mask = l.node("Expand", &[&mask, &shape], &[])?;
    let counted = l.cast(&mask, DType::Bool, DType::I64)?;
    let counted = l.reshape(&counted, &flat)?;
    let (axis, one, none) =
        (l.constant(&Array::scalar(0_i64))?, l.number(1.0, DType::I64)?, l.number(0.0, DType::I64)?);
    let counted = l.node("CumSum", &[&counted, &axis], &[])?;
    let at = l.node("Sub", &[&counted, &one], &[])?;
    let at = l.node("Max", &[&at, &none], &[])?;
    // Where nothing is taken a position may be past the end of the source: one more element stands there.
    let source = l.reshape(&source, &flat)?;
    let length = l.size_value(&source, 0)?;
    let last = l.int_add(&length, &Int::Known(-1))?;
    let last = l.int_value(&last)?;
    let at = l.node("Min", &[&at, &last], &[])?;
    let taken = l.node("Gather", &[&source, &at], &[("axis", int(0))])?;
    let taken = l.reshape(&taken, &shape)?;
    let value = l.node("Where", &[&mask, &taken, &value], &[])?;
    l.answer(value)
}

fn scatter_reduce(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, at, source) = (args.tensor("self")?, args.tensor("index")?, args.tensor("src")?);
    let (axis, dtype) = (l.axis(x, args.int("dim")?)?, l.dtype(x));
    if l.rank(x) == 0 || l.state(source).shape != l.state(at).shape {
        return Err(Error::beyond("scatter_reduce of a scalar, or of a source of another shape than the index"));
    }
    let (how, start) = match args.text("reduce")? {
        Some("sum" | "mean") => ("add", 0.0),
        Some("prod") => ("mul", 1.0),
        Some("amax") => ("max", f64::NEG_INFINITY),
        Some("amin") => ("min", f64::INFINITY),
        other => return Err(Error::beyond(format!("scatter_reduce with '{}'", other.unwrap_or_default()))),
    };
    let mean = args.text("reduce")? == Some("mean");
    let own = args.bool("include_self")?;
    if !dtype.is_float() && (mean || start.is_infinite() && !own) {
        return Err(Error::beyond(format!("this scatter_reduce of {dtype}")));
    }
    let (mut value, index, source) = (l.value(x)?, l.value(at)?, l.value_as(source, dtype)?);
    let shape = l.shape_of(&index)?;
    let axis = ("axis", int(axis as i64));
    let mut counts = None;
    if mean {
        let one = l.number(1.0, dtype)?;
        let ones = l.node("Expand", &[&one, &shape], &[])?;
        let whole = l.shape_of(&value)?;
        let base = l.number(if own { 1.0 } else { 0.0 }, dtype)?;
        let base = l.node("Expand", &[&base, &whole], &[])?;
        let add = [axis.clone(), ("reduction", Attr::Text("add"))];
        let count = l.node("ScatterElements", &[&base, &index, &ones], &add)?;
        counts = Some(l.node("Max", &[&count, &one], &[])?);
    }
    if !own {
        let start = l.number(start, dtype)?;
        let starts = l.node("Expand", &[&start, &shape], &[])?;
        value = l.node("ScatterElements", &[&value, &index, &starts], std::slice::from_ref(&axis))?;
    }
    let attributes = [axis, ("reduction", Attr::Text(how))];
    value = l.node("ScatterElements", &[&value, &index, &source], &attributes)?;
    if let Some(counts) = counts {
        value = l.node("Div", &[&value, &counts], &[])?;
    }
    l.answer(value)
}

/// Rows along an axis at positions: replaced, or added to.
fn put_along(
    l: &mut Lower,
    x: TensorId,
    dim: i64,
    index: TensorId,
    rows: &str,
    how: &'static str,
) -> Result<Vec<Value>> {
    let (axis, rank) = (l.axis(x, dim)?, l.rank(x));
    if rank == 0 {
        return Err(Error::beyond("positions of a scalar"));
    }
    let (value, flat) = (l.value(x)?, l.ints(&[-1, 1])?);
    let at = l.value_as(index, DType::I64)?;
    let at = l.reshape(&at, &flat)?;
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(0, axis);
    let (base, rows) = (l.transpose(&value, &order)?, l.transpose(rows, &order)?);
    let reduction = [("reduction", Attr::Text(how))];
    let all = l.node("ScatterND", &[&base, &at, &rows], if how == "none" { &[] } else { &reduction })?;
    let value = l.transpose(&all, &order)?;
    l.answer(value)
}

fn put_rows(l: &mut Lower, args: &Args, how: &'static str) -> Result<Vec<Value>> {
    let (x, index, source) = (args.tensor("self")?, args.tensor("index")?, args.tensor("source")?);
    let dtype = l.dtype(x);
    let mut rows = l.value_as(source, dtype)?;
    if !matches!(args.get("alpha"), Value::None | Value::Int(Int::Known(1))) {
        let alpha = l.scalar(args.get("alpha"), dtype)?;
        rows = l.node("Mul", &[&rows, &alpha], &[])?;
    }
    put_along(l, x, args.int("dim")?, index, &rows, how)
}

fn index_fill(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, index) = (args.tensor("self")?, args.tensor("index")?);
    let (axis, dtype) = (l.axis(x, args.int("dim")?)?, l.dtype(x));
    let fill = l.scalar(args.get("value"), dtype)?;
    let mut sizes = super::shape::sizes_of(l, x, 0..l.rank(x))?;
    if l.rank(index) == 0 {
        if let Some(size) = sizes.get_mut(axis) {
            *size = Int::Known(1);
        }
    } else if let Some(size) = sizes.get_mut(axis) {
        *size = l.size_int(index, 0)?;
    }
    let shape = l.vector(&sizes)?;
    let rows = l.node("Expand", &[&fill, &shape], &[])?;
    put_along(l, x, args.int("dim")?, index, &rows, "none")
}
