//! Views: the same elements under other shapes and orders of axes.

use super::alias::View;
use super::{Args, Dim, Int, Lower, Row, TensorId, Value, axis_of};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("view", view),
    ("_unsafe_view", |l, a| reshape(l, a, "size", Sharing::Never)),
    ("reshape", |l, a| reshape(l, a, "shape", Sharing::Perhaps)),
    ("_reshape_alias", |l, a| reshape(l, a, "size", Sharing::Certain)),
    ("_reshape_copy", |l, a| reshape(l, a, "size", Sharing::Never)),
    ("view_copy", |l, a| reshape(l, a, "size", Sharing::Never)),
    ("view_as", |l, a| reshape_as(l, a, Sharing::Certain)),
    ("reshape_as", |l, a| reshape_as(l, a, Sharing::Perhaps)),
    ("flatten", flatten),
    ("ravel", ravel),
    ("unflatten", unflatten),
    ("permute", permute),
    ("permute_copy", permute),
    ("transpose", transpose),
    ("transpose_copy", transpose),
    ("swapaxes", transpose),
    ("swapdims", transpose),
    ("t", turned),
    ("numpy_T", reversed),
    ("mT", matrix_turned),
    ("movedim", movedim),
    ("moveaxis", movedim),
    ("unsqueeze", unsqueeze),
    ("unsqueeze_copy", unsqueeze),
    ("squeeze", squeeze),
    ("squeeze_copy", squeeze),
    ("expand", expand),
    ("expand_copy", expand),
    ("expand_as", expand_as),
    ("broadcast_to", expand),
    ("alias", whole),
    ("alias_copy", whole),
    ("detach", whole),
    ("lift_fresh", whole),
    ("lift", whole),
    ("cpu", whole),
    ("as_strided", as_strided),
    ("as_strided_copy", as_strided),
    ("atleast_1d", |l, a| at_least(l, a, 1)),
    ("atleast_2d", |l, a| at_least(l, a, 2)),
    ("atleast_3d", |l, a| at_least(l, a, 3)),
    ("adjoint", matrix_turned),
    ("mH", matrix_turned),
];

/// Whether a result shares the memory of its operand.
#[derive(Clone, Copy)]
pub(super) enum Sharing {
    Certain,
    Perhaps,
    Never,
}

pub(super) fn bound(l: &mut Lower, x: TensorId, view: View, sharing: Sharing) -> Result<Vec<Value>> {
    let tensor = match sharing {
        Sharing::Certain => l.view(x, view)?,
        Sharing::Perhaps => {
            let tensor = l.perhaps_view(x, view)?;
            match l.views(x, &l.state(tensor).value_name()) {
                Some(true) => l.make_certain(tensor),
                Some(false) => return fresh(l, tensor),
                None => {}
            }
            tensor
        }
        Sharing::Never => {
            let tensor = l.view(x, view)?;
            return fresh(l, tensor);
        }
    };
    Ok(vec![Value::Tensor(tensor)])
}

/// The same values as a tensor with memory of its own.
pub(super) fn fresh(l: &mut Lower, x: TensorId) -> Result<Vec<Value>> {
    let value = l.value(x)?;
    let (dtype, shape) = (l.dtype(x), l.state(x).shape.clone());
    Ok(vec![Value::Tensor(l.tensor_of(value, dtype, shape))])
}

/// A view, or a copy for operators that end in `_copy`.
pub(super) fn certain(l: &mut Lower, args: &Args, x: TensorId, view: View) -> Result<Vec<Value>> {
    bound(l, x, view, if args.operator.ends_with("_copy") { Sharing::Never } else { Sharing::Certain })
}

pub(super) fn view(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    if args.dtype("dtype")?.is_some() {
        return Err(Error::beyond("a view of other element types"));
    }
    reshape(l, args, "size", Sharing::Certain)
}

pub(super) fn reshape(l: &mut Lower, args: &Args, name: &str, sharing: Sharing) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let sizes = args.syms(name)?;
    let shape = l.vector(&sizes)?;
    bound(l, x, View::Reshape(shape), sharing)
}

fn reshape_as(l: &mut Lower, args: &Args, sharing: Sharing) -> Result<Vec<Value>> {
    let (x, other) = (args.tensor("self")?, args.tensor("other")?);
    let other = l.value(other)?;
    let shape = l.shape_of(&other)?;
    bound(l, x, View::Reshape(shape), sharing)
}

/// The sizes of axes as a vector: known ones as numbers.
pub(super) fn sizes_of(l: &mut Lower, x: TensorId, axes: std::ops::Range<usize>) -> Result<Vec<Int>> {
    axes.map(|axis| l.size_int(x, axis)).collect()
}

fn flatten(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let rank = l.rank(x);
    let (start, end) = (l.axis(x, args.int("start_dim")?)?, l.axis(x, args.int("end_dim")?)?);
    if start > end {
        return Err(Error::invalid("start_dim is after end_dim"));
    }
    if rank > 0 && start == end {
        return whole(l, args);
    }
    let mut sizes = sizes_of(l, x, 0..start)?;
    sizes.push(product_of(l, x, start, end)?);
    sizes.extend(sizes_of(l, x, (end + 1).min(rank)..rank)?);
    let shape = l.vector(&sizes)?;
    bound(l, x, View::Reshape(shape), Sharing::Perhaps)
}

/// The product of sizes: a number where all are known, else whatever is left (-1).
fn product_of(l: &Lower, x: TensorId, start: usize, end: usize) -> Result<Int> {
    let shape = &l.state(x).shape;
    let inside = shape.get(start..(end + 1).min(shape.len())).unwrap_or(&[]);
    let known: Option<usize> = inside.iter().map(|dim| dim.size()).product();
    Ok(Int::Known(known.map_or(-1, |known| known as i64)))
}

fn ravel(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let shape = l.ints(&[-1])?;
    bound(l, x, View::Reshape(shape), Sharing::Perhaps)
}

fn unflatten(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (rank, axis) = (l.rank(x), l.axis(x, args.int("dim")?)?);
    let mut sizes = sizes_of(l, x, 0..axis)?;
    sizes.extend(args.syms("sizes")?);
    sizes.extend(sizes_of(l, x, axis + 1..rank)?);
    let shape = l.vector(&sizes)?;
    bound(l, x, View::Reshape(shape), Sharing::Certain)
}

fn ordered(l: &mut Lower, args: &Args, x: TensorId, order: Vec<usize>) -> Result<Vec<Value>> {
    let mut seen = vec![false; l.rank(x)];
    order.iter().for_each(|&axis| seen[axis] = true);
    if order.len() != l.rank(x) || seen.contains(&false) {
        return Err(Error::invalid(format!("{order:?} is no order of {} axes", l.rank(x))));
    }
    certain(l, args, x, View::Permute(order))
}

fn permute(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let order = args.ints("dims")?.into_iter().map(|axis| l.axis(x, axis)).collect::<Result<_>>()?;
    ordered(l, args, x, order)
}

fn known_int(value: &Value) -> Result<i64> {
    match value {
        Value::Int(Int::Known(int)) => Ok(*int),
        other => Err(Error::invalid(format!("expected an integer, found {}", other.kind()))),
    }
}

pub(super) fn transpose(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let a = l.axis(x, known_int(args.any(&["dim0", "axis0"]))?)?;
    let b = l.axis(x, known_int(args.any(&["dim1", "axis1"]))?)?;
    let mut order: Vec<usize> = (0..l.rank(x)).collect();
    if !order.is_empty() {
        order.swap(a, b);
    }
    ordered(l, args, x, order)
}

fn turned(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    match l.rank(x) {
        2 => ordered(l, args, x, vec![1, 0]),
        0 | 1 => whole(l, args),
        rank => Err(Error::invalid(format!("t of {rank} axes"))),
    }
}

fn reversed(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let order = (0..l.rank(x)).rev().collect();
    ordered(l, args, x, order)
}

fn matrix_turned(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let rank = l.rank(x);
    if rank < 2 {
        return Err(Error::invalid(format!("mT of {rank} axes")));
    }
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(rank - 1, rank - 2);
    ordered(l, args, x, order)
}

fn movedim(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let rank = l.rank(x);
    let from: Vec<usize> = args.ints("source")?.into_iter().map(|axis| l.axis(x, axis)).collect::<Result<_>>()?;
    let to: Vec<usize> = args.ints("destination")?.into_iter().map(|axis| l.axis(x, axis)).collect::<Result<_>>()?;
    let mut order = vec![usize::MAX; rank];
    from.iter().zip(&to).for_each(|(&from, &to)| order[to] = from);
    let mut rest = (0..rank).filter(|axis| !from.contains(axis));
    for slot in &mut order {
        if *slot == usize::MAX {
            *slot = rest.next().ok_or_else(|| Error::invalid("an axis is moved twice"))?;
        }
    }
    ordered(l, args, x, order)
}

fn unsqueeze(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = axis_of(args.int("dim")?, l.rank(x) + 1)?;
    certain(l, args, x, View::Unsqueeze(vec![axis as i64]))
}

fn squeeze(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let rank = l.rank(x);
    let all = args.get("dim").is_none();
    let wanted: Vec<usize> = if all {
        (0..rank).collect()
    } else {
        args.ints("dim")?.into_iter().map(|axis| l.axis(x, axis)).collect::<Result<_>>()?
    };
    // An open size is not 1 for a program that was exported with it open; squeezing all of them names none.
    let gone: Vec<i64> = wanted
        .into_iter()
        .filter(|&axis| l.state(x).shape.get(axis) == Some(&Dim::Size(1)))
        .map(|axis| axis as i64)
        .collect();
    if gone.is_empty() {
        return certain(l, args, x, View::Whole);
    }
    certain(l, args, x, View::Squeeze(gone))
}

fn expand(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let sizes: Vec<Int> =
        args.syms("size")?.into_iter().map(|size| if size == Int::Known(-1) { Int::Known(1) } else { size }).collect();
    let shape = l.vector(&sizes)?;
    certain(l, args, x, View::Expand(shape))
}

fn expand_as(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, other) = (args.tensor("self")?, args.tensor("other")?);
    let other = l.value(other)?;
    let shape = l.shape_of(&other)?;
    certain(l, args, x, View::Expand(shape))
}

fn whole(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    certain(l, args, x, View::Whole)
}

/// Strides are taken only where they say no more than the shape does, or where they turn two axes of it.
fn as_strided(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let offset = matches!(args.get("storage_offset"), Value::None | Value::Int(Int::Known(0)));
    let (size, stride) = (args.syms("size")?, args.syms("stride")?);
    let same = size.len() == l.rank(x)
        && size.iter().zip(&l.state(x).shape).all(|(size, dim)| match (size, dim) {
            (Int::Known(size), Dim::Size(dim)) => *size == *dim as i64,
            (size, _) => l.hints(size).is_some_and(|_| true),
        });
    if !offset || !same {
        return Err(Error::beyond("as_strided to another shape"));
    }
    // Row-major strides of the same sizes: the tensor as it is, if it is in row-major order itself.
    let mut expected = vec![1_i64; l.probes()];
    for (size, stride) in size.iter().zip(&stride).rev() {
        let (sizes, strides) = (l.hints(size), l.hints(stride));
        let (Some(sizes), Some(strides)) = (sizes, strides) else {
            return Err(Error::beyond("as_strided of open sizes"));
        };
        for at in 0..expected.len() {
            if sizes[at] != 1 && strides[at] != expected[at] {
                return Err(Error::beyond("as_strided with other strides than those of the shape"));
            }
            expected[at] = expected[at].saturating_mul(sizes[at]);
        }
    }
    if l.plain(x) != Some(true) {
        return Err(Error::beyond("as_strided of a tensor that is not known to be in row-major order"));
    }
    bound(l, x, View::Whole, Sharing::Certain)
}

fn at_least(l: &mut Lower, args: &Args, rank: usize) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    // A vector becomes a row, and a matrix one of a single depth.
    let axes: &[i64] = match (l.rank(x), rank) {
        (0, 1) => &[0],
        (0, 2) => &[0, 1],
        (0, 3) => &[0, 1, 2],
        (1, 2) => &[0],
        (1, 3) => &[0, 2],
        (2, 3) => &[2],
        _ => return whole(l, args),
    };
    certain(l, args, x, View::Unsqueeze(axes.to_vec()))
}
