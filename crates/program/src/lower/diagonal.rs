//! Diagonals, and products of vectors with all of each other.

use rekindle_onnx::{Array, DType};

use super::alias::View;
use super::shape::certain;
use super::{Args, Int, Lower, Row, TensorId, Value, array_from, axis_of, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("diagonal", diagonal),
    ("diagonal_copy", diagonal),
    ("linalg_diagonal", diagonal),
    ("diag", diag),
    ("diag_embed", |l, a| embed(l, a.tensor("self")?, a.int("offset")?, [a.int("dim1")?, a.int("dim2")?])),
    ("diagonal_scatter", diagonal_scatter),
    ("tril_indices", |l, a| triangle_at(l, a, true)),
    ("triu_indices", |l, a| triangle_at(l, a, false)),
    ("outer", outer),
    ("ger", outer),
    ("addr", add_outer),
    ("linalg_cross", cross),
    ("cross", cross),
];

/// Positions that one call may name.
pub(super) const MAX_POSITIONS: i64 = 1 << 24;

/// Where a diagonal begins, and how long it is.
fn span(high: i64, wide: i64, offset: i64) -> (i64, i64, i64) {
    let (row, column) = if offset < 0 { (offset.saturating_neg(), 0) } else { (0, offset) };
    (row, column, high.saturating_sub(row).min(wide.saturating_sub(column)).max(0))
}

/// Positions of a diagonal of two axes, and the order of axes that brings those two to the front.
fn places(l: &mut Lower, x: TensorId, offset: i64, dims: [i64; 2]) -> Result<(Array, Vec<usize>)> {
    let [a, b] = [l.axis(x, dims[0])?, l.axis(x, dims[1])?];
    if a == b || l.rank(x) < 2 {
        return Err(Error::invalid("a diagonal is of two axes"));
    }
    let (row, column, count) = span(l.size(x, a)? as i64, l.size(x, b)? as i64, offset);
    if count > MAX_POSITIONS {
        return Err(Error::beyond(format!("a diagonal of {count} elements")));
    }
    let positions: Vec<i64> = (0..count).flat_map(|at| [row + at, column + at]).collect();
    let mut order: Vec<usize> = (0..l.rank(x)).filter(|&axis| axis != a && axis != b).collect();
    order.splice(0..0, [a, b]);
    Ok((Array::new(vec![count as usize, 2], positions)?, order))
}

fn along(l: &mut Lower, x: TensorId, offset: i64, dims: [i64; 2]) -> Result<View> {
    let (positions, order) = places(l, x, offset, dims)?;
    Ok(View::Picked { positions: l.constant(&positions)?, order })
}

fn diagonal(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.any(&["self", "A"]).tensor()?;
    let view = along(l, x, args.int("offset")?, [args.int("dim1")?, args.int("dim2")?])?;
    certain(l, args, x, view)
}

fn diagonal_scatter(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, source) = (args.tensor("self")?, args.tensor("src")?);
    let (positions, order) = places(l, x, args.int("offset")?, [args.int("dim1")?, args.int("dim2")?])?;
    let dtype = l.dtype(x);
    let (value, source) = (l.value(x)?, l.value_as(source, dtype)?);
    let positions = l.constant(&positions)?;
    let value = l.put_picked(&value, &source, &positions, &order)?;
    l.answer(value)
}

/// A vector as a diagonal, or the diagonal of a matrix.
fn diag(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let offset = args.int("diagonal")?;
    match l.rank(x) {
        1 => embed(l, x, offset, [-2, -1]),
        2 => {
            let view = along(l, x, offset, [0, 1])?;
            let value = l.value(x)?;
            let value = l.make(&view, &value)?;
            l.answer(value)
        }
        rank => Err(Error::invalid(format!("diag of {rank} axes"))),
    }
}

/// The last axis as a diagonal of two new ones, zeros beside it.
fn embed(l: &mut Lower, x: TensorId, offset: i64, dims: [i64; 2]) -> Result<Vec<Value>> {
    let (rank, dtype) = (l.rank(x), l.dtype(x));
    if rank == 0 {
        return Err(Error::invalid("a scalar has no diagonal"));
    }
    let [a, b] = [axis_of(dims[0], rank + 1)?, axis_of(dims[1], rank + 1)?];
    let size = (l.size(x, rank - 1)? as i64).saturating_add(offset.saturating_abs());
    if a == b || size.saturating_mul(size) > MAX_POSITIONS {
        return Err(Error::beyond(format!("a diagonal of {size} by {size}")));
    }
    let mut pads = vec![0; 2 * rank];
    pads[if offset < 0 { rank - 1 } else { 2 * rank - 1 }] = offset.abs();
    let (pads, zero) = (l.ints(&pads)?, l.number(0.0, dtype)?);
    let value = l.value(x)?;
    let rows = l.node("Pad", &[&value, &pads, &zero], &[])?;
    let after = l.ints(&[-1])?;
    let rows = l.node("Unsqueeze", &[&rows, &after], &[])?;
    let on: Vec<bool> = (0..size).flat_map(|row| (0..size).map(move |column| column - row == offset)).collect();
    let on = l.constant(&Array::new(vec![size as usize; 2], on)?)?;
    let value = l.node("Where", &[&on, &rows, &zero], &[])?;
    // The two are last; they go where they were asked for.
    let mut outer = 0..rank - 1;
    let order: Option<Vec<usize>> = (0..=rank)
        .map(|axis| {
            if axis == a {
                Some(rank - 1)
            } else if axis == b {
                Some(rank)
            } else {
                outer.next()
            }
        })
        .collect();
    let value = l.transpose(&value, &order.ok_or_else(|| Error::invalid("a diagonal is of two axes"))?)?;
    l.answer(value)
}

fn triangle_at(l: &mut Lower, args: &Args, lower: bool) -> Result<Vec<Value>> {
    let (rows, columns, offset) = (args.int("row")?, args.int("col")?, args.int("offset")?);
    let dtype = args.dtype("dtype")?.unwrap_or(DType::I64);
    if rows < 0 || columns < 0 || rows.saturating_mul(columns) > MAX_POSITIONS {
        return Err(Error::beyond(format!("the triangle of {rows} by {columns}")));
    }
    let inside = |row: i64, column: i64| {
        let apart = column - row;
        if lower { apart <= offset } else { apart >= offset }
    };
    let at: Vec<(i64, i64)> = (0..rows)
        .flat_map(|row| (0..columns).map(move |column| (row, column)))
        .filter(|&(row, column)| inside(row, column))
        .collect();
    let all: Vec<f64> = at.iter().map(|at| at.0 as f64).chain(at.iter().map(|at| at.1 as f64)).collect();
    let value = l.constant(&array_from(dtype, vec![2, at.len()], &all)?)?;
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}

fn product(l: &mut Lower, a: &Value, b: &Value, dtype: DType) -> Result<rekindle_onnx::builder::ValueName> {
    let (a, b) = (l.scalar(a, dtype)?, l.scalar(b, dtype)?);
    let after = l.ints(&[1])?;
    let column = l.node("Unsqueeze", &[&a, &after], &[])?;
    l.node(if dtype == DType::Bool { "And" } else { "Mul" }, &[&column, &b], &[])
}

fn outer(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("vec2").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let value = product(l, &a, &b, dtype)?;
    l.answer(value)
}

fn add_outer(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let mut value = product(l, args.get("vec1"), args.get("vec2"), dtype)?;
    let alpha = l.scalar(args.get("alpha"), dtype)?;
    value = l.node("Mul", &[&value, &alpha], &[])?;
    if !matches!(args.get("beta"), Value::Int(Int::Known(0))) {
        let (x, beta) = (l.value(x)?, l.scalar(args.get("beta"), dtype)?);
        let x = l.node("Mul", &[&x, &beta], &[])?;
        value = l.node("Add", &[&x, &value], &[])?;
    }
    l.answer(value)
}

/// `a × b` of vectors of three along an axis: both turned by one and by two.
fn cross(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("self").clone(), args.get("other").clone());
    let x = a.tensor()?;
    let dtype = l.result_type(&[&a, &b])?;
    let axis = if args.get("dim").is_none() {
        (0..l.rank(x)).find(|&axis| l.size(x, axis).is_ok_and(|size| size == 3))
    } else {
        Some(l.axis(x, args.int("dim")?)?)
    };
    let axis = axis.ok_or_else(|| Error::invalid("no axis of three"))?;
    let (a, b) = (l.scalar(&a, dtype)?, l.scalar(&b, dtype)?);
    let (one, two) = (l.ints(&[1, 2, 0])?, l.ints(&[2, 0, 1])?);
    let along = [("axis", int(axis as i64))];
    let mut halves = Vec::new();
    for (first, second) in [(&one, &two), (&two, &one)] {
        let (a, b) = (l.node("Gather", &[&a, first], &along)?, l.node("Gather", &[&b, second], &along)?);
        halves.push(l.node("Mul", &[&a, &b], &[])?);
    }
    let value = l.node("Sub", &[&halves[0], &halves[1]], &[])?;
    l.answer(value)
}
