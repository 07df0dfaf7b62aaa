//! Views and rearrangements: the same elements under other shapes, parts of them, several joined.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, DType};

use super::alias::View;
use super::{Args, Dim, END, Int, Lower, Row, TensorId, Value, axis_of, int};
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
    ("repeat", repeat),
    ("tile", tile),
    ("repeat_interleave", repeat_interleave),
    ("slice", slice),
    ("slice_copy", slice),
    ("narrow", narrow),
    ("select", select),
    ("select_copy", select),
    ("slice_scatter", slice_scatter),
    ("select_scatter", select_scatter),
    ("cat", cat),
    ("concat", cat),
    ("concatenate", cat),
    ("stack", stack),
    ("hstack", |l, a| stack_known(l, a, 1)),
    ("vstack", |l, a| stack_known(l, a, 0)),
    ("chunk", chunk),
    ("split", split),
    ("unsafe_split", split),
    ("unsafe_chunk", chunk),
    ("split_with_sizes", split),
    ("split_with_sizes_copy", split),
    ("split_copy", split),
    ("tensor_split", tensor_split),
    ("unbind", unbind),
    ("unbind_copy", unbind),
    ("alias", whole),
    ("alias_copy", whole),
    ("detach", whole),
    ("contiguous", contiguous),
    ("clone", copy),
    ("lift_fresh", whole),
    ("lift_fresh_copy", copy),
    ("lift", whole),
    ("to", to),
    ("_to_copy", to_copy),
    ("type_as", type_as),
    ("float", |l, a| cast(l, a, DType::F32)),
    ("double", |l, a| cast(l, a, DType::F64)),
    ("half", |l, a| cast(l, a, DType::F16)),
    ("bfloat16", |l, a| cast(l, a, DType::BF16)),
    ("long", |l, a| cast(l, a, DType::I64)),
    ("int", |l, a| cast(l, a, DType::I32)),
    ("bool", |l, a| cast(l, a, DType::Bool)),
    ("cpu", whole),
    ("roll", roll),
    ("flip", flip),
    ("pad", pad),
    ("constant_pad_nd", pad),
    ("reflection_pad1d", |l, a| pad_mode(l, a, "reflect")),
    ("reflection_pad2d", |l, a| pad_mode(l, a, "reflect")),
    ("reflection_pad3d", |l, a| pad_mode(l, a, "reflect")),
    ("replication_pad1d", |l, a| pad_mode(l, a, "edge")),
    ("replication_pad2d", |l, a| pad_mode(l, a, "edge")),
    ("replication_pad3d", |l, a| pad_mode(l, a, "edge")),
    ("diagonal", diagonal),
    ("unfold", unfold),
    ("im2col", im2col),
    ("as_strided", as_strided),
    ("as_strided_copy", as_strided),
    ("meshgrid", meshgrid),
    ("atleast_1d", |l, a| at_least(l, a, 1)),
    ("rot90", rot90),
];

/// Whether a result shares the memory of its operand.
#[derive(Clone, Copy)]
pub(super) enum Sharing {
    Certain,
    Perhaps,
    Never,
}

fn bound(l: &mut Lower, x: TensorId, view: View, sharing: Sharing) -> Result<Vec<Value>> {
    let tensor = match sharing {
        Sharing::Certain => l.view(x, view)?,
        Sharing::Perhaps if l.plain(x) == Some(true) => l.view(x, view)?,
        Sharing::Perhaps => l.perhaps_view(x, view)?,
        Sharing::Never => {
            let tensor = l.view(x, view)?;
            return fresh(l, tensor);
        }
    };
    Ok(vec![Value::Tensor(tensor)])
}

/// The same values as a tensor with memory of its own.
fn fresh(l: &mut Lower, x: TensorId) -> Result<Vec<Value>> {
    let value = l.value(x)?;
    let (dtype, shape) = (l.dtype(x), l.state(x).shape.clone());
    Ok(vec![Value::Tensor(l.tensor_of(value, dtype, shape))])
}

/// A view, or a copy for operators that end in `_copy`.
fn certain(l: &mut Lower, args: &Args, x: TensorId, view: View) -> Result<Vec<Value>> {
    bound(l, x, view, if args.operator.ends_with("_copy") { Sharing::Never } else { Sharing::Certain })
}

fn view(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    if args.dtype("dtype")?.is_some() {
        return Err(Error::beyond("a view of other element types"));
    }
    reshape(l, args, "size", Sharing::Certain)
}

fn reshape(l: &mut Lower, args: &Args, name: &str, sharing: Sharing) -> Result<Vec<Value>> {
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

fn transpose(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
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

fn repeated(l: &mut Lower, x: TensorId, mut times: Vec<Int>) -> Result<Vec<Value>> {
    let rank = l.rank(x);
    let mut value = l.value(x)?;
    if times.len() > rank {
        let axes: Vec<i64> = (0..(times.len() - rank) as i64).collect();
        let axes = l.ints(&axes)?;
        value = l.node("Unsqueeze", &[&value, &axes], &[])?;
    }
    while times.len() < rank {
        times.insert(0, Int::Known(1));
    }
    let times = l.vector(&times)?;
    let value = l.node("Tile", &[&value, &times], &[])?;
    l.answer(value)
}

fn repeat(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let times = args.syms("repeats")?;
    repeated(l, args.tensor("self")?, times)
}

fn tile(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let times = args.syms("dims")?;
    repeated(l, args.tensor("self")?, times)
}

fn repeat_interleave(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let Value::Int(times) = args.get("repeats").clone() else {
        return Err(Error::beyond("repeat_interleave with a tensor of counts"));
    };
    if args.get("dim").is_none() {
        return Err(Error::beyond("repeat_interleave without a dimension"));
    }
    let axis = l.axis(x, args.int("dim")?)?;
    let value = l.value(x)?;
    let after = l.ints(&[axis as i64 + 1])?;
    let apart = l.node("Unsqueeze", &[&value, &after], &[])?;
    let mut shape = vec![Int::Known(1); l.rank(x) + 1];
    shape[axis + 1] = times.clone();
    let shape = l.vector(&shape)?;
    let more = l.node("Expand", &[&apart, &shape], &[])?;
    let mut sizes = sizes_of(l, x, 0..l.rank(x))?;
    sizes[axis] = l.int_op("mul", &sizes[axis].clone(), &times)?;
    let sizes = l.vector(&sizes)?;
    let value = l.reshape(&more, &sizes)?;
    l.answer(value)
}

/// A bound of a slice: None is `other`.
fn slice_bound(args: &Args, name: &str, other: i64) -> Result<Int> {
    if args.get(name).is_none() { Ok(Int::Known(other)) } else { args.sym(name) }
}

fn slice_view(l: &Lower, args: &Args, x: TensorId) -> Result<View> {
    let axis = l.axis(x, args.int("dim")?)?;
    let step = args.int("step")?;
    if step < 1 {
        return Err(Error::invalid("the step of a slice must be positive"));
    }
    let mut end = slice_bound(args, "end", END)?;
    let size = l.state(x).shape.get(axis).and_then(|dim| dim.size());
    if let (Int::Known(known), Some(size)) = (&end, size)
        && *known >= size as i64
    {
        end = Int::Known(END);
    }
    Ok(View::Slice { axis, start: slice_bound(args, "start", 0)?, end, step })
}

fn slice(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let view = slice_view(l, args, x)?;
    certain(l, args, x, view)
}

fn narrow(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let (mut start, length) = (args.sym("start")?, args.sym("length")?);
    if let Int::Known(known) = start
        && known < 0
    {
        let size = l.size_int(x, axis)?;
        start = l.int_add(&start, &size)?;
    }
    let end = l.int_add(&start, &length)?;
    certain(l, args, x, View::Slice { axis, start, end, step: 1 })
}

fn select(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let index = args.sym("index")?;
    certain(l, args, x, View::Select { axis, index })
}

fn slice_scatter(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, source) = (args.tensor("self")?, args.tensor("src")?);
    let View::Slice { axis, start, end, step } = slice_view(l, args, x)? else {
        return Err(Error::invalid("no slice"));
    };
    let dtype = l.dtype(x);
    let (base, value) = (l.value(x)?, l.value_as(source, dtype)?);
    let value = l.put_slice(&base, &value, axis, &start, &end, step)?;
    l.answer(value)
}

fn select_scatter(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, source) = (args.tensor("self")?, args.tensor("src")?);
    let axis = l.axis(x, args.int("dim")?)?;
    let index = args.sym("index")?;
    let dtype = l.dtype(x);
    let (base, value) = (l.value(x)?, l.value_as(source, dtype)?);
    let axes = l.ints(&[axis as i64])?;
    let one = l.node("Unsqueeze", &[&value, &axes], &[])?;
    let end = if index == Int::Known(-1) { Int::Known(END) } else { l.int_add(&index, &Int::Known(1))? };
    let value = l.put_slice(&base, &one, axis, &index, &end, 1)?;
    l.answer(value)
}

/// The type that holds the values of all.
fn common(l: &Lower, tensors: &[TensorId]) -> Result<DType> {
    let values: Vec<Value> = tensors.iter().map(|&tensor| Value::Tensor(tensor)).collect();
    l.result_type(&values.iter().collect::<Vec<_>>())
}

fn join(l: &mut Lower, tensors: &[TensorId], axis: usize) -> Result<Vec<Value>> {
    let dtype = common(l, tensors)?;
    let mut values = Vec::new();
    for &tensor in tensors {
        values.push(l.value_as(tensor, dtype)?);
    }
    let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    let value = l.node("Concat", &values, &[("axis", int(axis as i64))])?;
    l.answer(value)
}

fn cat(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mut tensors = args.tensors("tensors")?;
    // PyTorch passes over empty vectors among tensors of more axes.
    if tensors.iter().any(|&tensor| l.rank(tensor) != 1) {
        tensors.retain(|&tensor| l.state(tensor).shape != [Dim::Size(0)]);
    }
    let first = *tensors.first().ok_or_else(|| Error::invalid("there is nothing to join"))?;
    let axis = l.axis(first, args.int("dim")?)?;
    join(l, &tensors, axis)
}

fn stack(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let tensors = args.tensors("tensors")?;
    let first = *tensors.first().ok_or_else(|| Error::invalid("there is nothing to stack"))?;
    let axis = axis_of(args.int("dim")?, l.rank(first) + 1)?;
    let mut parts = Vec::new();
    for tensor in tensors {
        parts.push(l.view(tensor, View::Unsqueeze(vec![axis as i64]))?);
    }
    join(l, &parts, axis)
}

fn stack_known(l: &mut Lower, args: &Args, axis: usize) -> Result<Vec<Value>> {
    let tensors = args.tensors("tensors")?;
    if tensors.iter().any(|&tensor| l.rank(tensor) < 2) {
        return Err(Error::beyond(format!("{} of vectors", args.operator)));
    }
    join(l, &tensors, axis)
}

/// Parts of an axis one after another.
fn parts(l: &mut Lower, args: &Args, x: TensorId, axis: usize, sizes: &[Int]) -> Result<Vec<Value>> {
    let mut at = Int::Known(0);
    let mut results = Vec::new();
    for size in sizes {
        let end = l.int_add(&at, size)?;
        let view = View::Slice { axis, start: at, end: end.clone(), step: 1 };
        results.extend(certain(l, args, x, view)?);
        at = end;
    }
    Ok(results)
}

fn equal_parts(l: &mut Lower, args: &Args, x: TensorId, axis: usize, each: usize, size: usize) -> Result<Vec<Value>> {
    if each == 0 {
        return Err(Error::invalid("parts of size 0"));
    }
    let mut sizes: Vec<Int> = (0..size / each).map(|_| Int::Known(each as i64)).collect();
    if !size.is_multiple_of(each) || size == 0 {
        sizes.push(Int::Known((size % each) as i64));
    }
    parts(l, args, x, axis, &sizes)
}

fn chunk(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let size = l.size(x, axis)?;
    let count = usize::try_from(args.int("chunks")?).ok().filter(|&count| count > 0);
    let count = count.ok_or_else(|| Error::invalid("chunks must be positive"))?;
    equal_parts(l, args, x, axis, size.div_ceil(count).max(1), size)
}

fn split(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    if let Value::Int(Int::Known(each)) = args.get("split_size") {
        let size = l.size(x, axis)?;
        return equal_parts(l, args, x, axis, usize::try_from(*each).unwrap_or(0), size);
    }
    let sizes = args.syms(if args.get("split_sizes").is_none() { "split_size" } else { "split_sizes" })?;
    parts(l, args, x, axis, &sizes)
}

fn tensor_split(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let size = l.size(x, axis)? as i64;
    let sizes: Vec<Int> = if args.get("indices").is_none() {
        let count = args.int("sections")?;
        if count < 1 {
            return Err(Error::invalid("sections must be positive"));
        }
        (0..count).map(|at| Int::Known(size / count + i64::from(at < size % count))).collect()
    } else {
        return Err(Error::beyond("tensor_split at positions"));
    };
    parts(l, args, x, axis, &sizes)
}

fn unbind(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let mut results = Vec::new();
    for index in 0..l.size(x, axis)? {
        results.extend(certain(l, args, x, View::Select { axis, index: Int::Known(index as i64) })?);
    }
    Ok(results)
}

fn whole(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    certain(l, args, x, View::Whole)
}

/// The tensor itself where it is in memory as asked, else a copy.
fn contiguous(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    // Another memory format is another order of strides: whether that is a copy is not followed.
    if !args.get("memory_format").is_none() {
        return Ok(vec![Value::Tensor(l.perhaps_view(x, View::Whole)?)]);
    }
    bound(l, x, View::Whole, if l.plain(x) == Some(false) { Sharing::Never } else { Sharing::Perhaps })
}

fn copy(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    fresh(l, args.tensor("self")?)
}

fn converted(l: &mut Lower, x: TensorId, dtype: DType, copy: bool) -> Result<Vec<Value>> {
    if l.dtype(x) == dtype {
        return if copy { fresh(l, x) } else { bound(l, x, View::Whole, Sharing::Certain) };
    }
    let value = l.value_as(x, dtype)?;
    l.answer(value)
}

fn to(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = match args.dtype("dtype")? {
        Some(dtype) => dtype,
        None => match args.get("other") {
            Value::Tensor(other) => l.dtype(*other),
            _ => l.dtype(x),
        },
    };
    converted(l, x, dtype, args.bool("copy")?)
}

fn to_copy(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = args.dtype("dtype")?.unwrap_or(l.dtype(x));
    converted(l, x, dtype, true)
}

fn type_as(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let dtype = l.dtype(args.tensor("other")?);
    converted(l, args.tensor("self")?, dtype, false)
}

fn cast(l: &mut Lower, args: &Args, dtype: DType) -> Result<Vec<Value>> {
    converted(l, args.tensor("self")?, dtype, false)
}

fn cut(l: &mut Lower, value: &str, axis: usize, start: i64, end: i64) -> Result<ValueName> {
    let (start, end, axis) = (l.ints(&[start])?, l.ints(&[end])?, l.ints(&[axis as i64])?);
    l.node("Slice", &[value, &start, &end, &axis], &[])
}

fn roll(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (shifts, dims) = (args.ints("shifts")?, args.ints("dims")?);
    let mut value = l.value(x)?;
    if dims.is_empty() {
        return Err(Error::beyond("roll without dimensions"));
    }
    if shifts.len() != dims.len() {
        return Err(Error::invalid("as many shifts as dimensions are expected"));
    }
    for (shift, dim) in shifts.into_iter().zip(dims) {
        let axis = l.axis(x, dim)?;
        let size = l.state(x).shape[axis].size();
        let shift = match size {
            Some(0) => 0,
            Some(size) => shift.rem_euclid(size as i64),
            // What is rolled further than an open axis is long comes round more than once.
            None if shift.abs() <= 1 => shift,
            None => return Err(Error::beyond("a roll of an open size")),
        };
        if shift == 0 {
            continue;
        }
        let (last, first) = (cut(l, &value, axis, -shift, END)?, cut(l, &value, axis, 0, -shift)?);
        value = l.node("Concat", &[&last, &first], &[("axis", int(axis as i64))])?;
    }
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}

/// A value with axes in reverse.
pub(super) fn flipped(l: &mut Lower, value: &str, axes: &[usize]) -> Result<ValueName> {
    let count = axes.len();
    let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
    let (starts, ends) = (l.ints(&vec![-1; count])?, l.ints(&vec![i64::MIN + 1; count])?);
    let (axes, steps) = (l.ints(&axes)?, l.ints(&vec![-1; count])?);
    l.node("Slice", &[value, &starts, &ends, &axes, &steps], &[])
}

fn flip(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axes: Vec<usize> = args.ints("dims")?.into_iter().map(|axis| l.axis(x, axis)).collect::<Result<_>>()?;
    let value = l.value(x)?;
    let value = if axes.is_empty() { l.node("Identity", &[&value], &[])? } else { flipped(l, &value, &axes)? };
    l.answer(value)
}

fn rot90(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axes: Vec<usize> = args.ints("dims")?.into_iter().map(|axis| l.axis(x, axis)).collect::<Result<_>>()?;
    let [a, b] = axes[..] else { return Err(Error::invalid("rot90 takes two dimensions")) };
    let mut order: Vec<usize> = (0..l.rank(x)).collect();
    order.swap(a, b);
    let value = l.value(x)?;
    let value = match args.int("k")?.rem_euclid(4) {
        0 => l.node("Identity", &[&value], &[])?,
        1 => {
            let flat = flipped(l, &value, &[b])?;
            l.transpose(&flat, &order)?
        }
        2 => flipped(l, &value, &[a, b])?,
        _ => {
            let turned = l.transpose(&value, &order)?;
            flipped(l, &turned, &[b])?
        }
    };
    l.answer(value)
}

fn pad(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mode = match args.text("mode")?.unwrap_or("constant") {
        "constant" => "constant",
        "reflect" => "reflect",
        "replicate" => "edge",
        "circular" => "wrap",
        other => return Err(Error::beyond(format!("padding mode '{other}'"))),
    };
    padded(l, args, "pad", mode)
}

fn pad_mode(l: &mut Lower, args: &Args, mode: &'static str) -> Result<Vec<Value>> {
    padded(l, args, "padding", mode)
}

fn padded(l: &mut Lower, args: &Args, name: &str, mode: &'static str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let pads = args.syms(name)?;
    let (rank, dtype) = (l.rank(x), l.dtype(x));
    if pads.len() % 2 != 0 || pads.len() / 2 > rank {
        return Err(Error::invalid(format!("{} paddings for {rank} axes", pads.len())));
    }
    // Pairs begin with the last axis.
    let (mut low, mut high) = (vec![Int::Known(0); rank], vec![Int::Known(0); rank]);
    for (at, pair) in pads.chunks(2).enumerate() {
        (low[rank - 1 - at], high[rank - 1 - at]) = (pair[0].clone(), pair[1].clone());
    }
    low.extend(high);
    let value = l.value(x)?;
    let pads = l.vector(&low)?;
    let fill = if mode != "constant" {
        "".into()
    } else if args.get("value").is_none() {
        l.number(0.0, dtype)?
    } else {
        l.scalar(args.get("value"), dtype)?
    };
    let value = l.node("Pad", &[&value, &pads, &fill], &[("mode", Attr::Text(mode))])?;
    l.answer(value)
}

fn diagonal(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (a, b) = (l.axis(x, args.int("dim1")?)?, l.axis(x, args.int("dim2")?)?);
    let offset = args.int("offset")?;
    let (high, wide) = (l.size(x, a)? as i64, l.size(x, b)? as i64);
    let (row, column) = if offset < 0 { (-offset, 0) } else { (0, offset) };
    let count = (high - row).min(wide - column).max(0);
    let mut order: Vec<usize> = (0..l.rank(x)).filter(|&axis| axis != a && axis != b).collect();
    let outer = order.len();
    order.splice(0..0, [a, b]);
    let value = l.value(x)?;
    let turned = l.transpose(&value, &order)?;
    let positions: Vec<i64> = (0..count).flat_map(|at| [row + at, column + at]).collect();
    let positions = l.constant(&Array::new(vec![count as usize, 2], positions)?)?;
    let picked = l.node("GatherND", &[&turned, &positions], &[])?;
    let back: Vec<usize> = (1..=outer).chain([0]).collect();
    let value = l.transpose(&picked, &back)?;
    // A write to a diagonal would have to reach its tensor, which is not followed: such a tie is a doubtful one.
    let tensor = l.tensor(value)?;
    l.tie(tensor, x);
    Ok(vec![Value::Tensor(tensor)])
}

/// Windows along an axis, which may overlap.
fn unfold(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dimension")?)?;
    let (size, step) = (args.int("size")?, args.int("step")?);
    let length = l.size(x, axis)? as i64;
    if size > length || size < 0 || step < 1 {
        return Err(Error::invalid(format!("windows of {size} at a step of {step} along {length}")));
    }
    let count = (length - size) / step + 1;
    let positions: Vec<i64> = (0..count).flat_map(|at| (0..size).map(move |i| at * step + i)).collect();
    let positions = l.constant(&Array::new(vec![count as usize, size as usize], positions)?)?;
    let value = l.value(x)?;
    let gathered = l.node("Gather", &[&value, &positions], &[("axis", int(axis as i64))])?;
    let rank = l.rank(x);
    let order: Vec<usize> = (0..=axis).chain(axis + 2..=rank).chain([axis + 1]).collect();
    let value = l.transpose(&gathered, &order)?;
    let tensor = l.tensor(value)?;
    l.tie(tensor, x);
    Ok(vec![Value::Tensor(tensor)])
}

/// Blocks of an image as columns.
fn im2col(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (kernel, dilation) = (args.each("kernel_size", 2)?, args.each("dilation", 2)?);
    let (padding, stride) = (args.each("padding", 2)?, args.each("stride", 2)?);
    if l.rank(x) != 4 {
        return Err(Error::beyond("im2col without a batch"));
    }
    let channels = l.size(x, 1)? as i64;
    let (high, wide) = (l.size(x, 2)? as i64, l.size(x, 3)? as i64);
    let mut value = l.value(x)?;
    let dtype = l.dtype(x);
    let pads = l.ints(&[0, 0, padding[0], padding[1], 0, 0, padding[0], padding[1]])?;
    let zero = l.number(0.0, dtype)?;
    value = l.node("Pad", &[&value, &pads, &zero], &[("mode", Attr::Text("constant"))])?;
    let mut counts = Vec::new();
    // Rows of windows, then columns: [n, c, kh, oh, w], then [n, c, kh, oh, kw, ow].
    for (axis, (at, length)) in [(2, (0, high)), (4, (1, wide))] {
        let length = length + 2 * padding[at];
        let count = (length - dilation[at] * (kernel[at] - 1) - 1) / stride[at] + 1;
        if count < 1 {
            return Err(Error::invalid("the window is larger than the image"));
        }
        let positions = (0..kernel[at]).flat_map(|k| (0..count).map(move |o| (k, o)));
        let positions: Vec<i64> = positions.map(|(k, o)| k * dilation[at] + o * stride[at]).collect();
        let positions = l.constant(&Array::new(vec![kernel[at] as usize, count as usize], positions)?)?;
        value = l.node("Gather", &[&value, &positions], &[("axis", int(axis))])?;
        counts.push(count);
    }
    let turned = l.transpose(&value, &[0, 1, 2, 4, 3, 5])?;
    let shape = l.ints(&[0, channels * kernel[0] * kernel[1], counts[0] * counts[1]])?;
    // 0 keeps the size of the batch.
    let value = l.node("Reshape", &[&turned, &shape], &[])?;
    l.answer(value)
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

fn meshgrid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let tensors = args.tensors("tensors")?;
    let order = args.text("indexing")?.unwrap_or("ij").to_string();
    let count = tensors.len();
    // "xy" is "ij" with the first two axes swapped.
    let place = |at: usize| if order == "xy" && count >= 2 && at < 2 { 1 - at } else { at };
    let mut sizes = vec![Int::Known(1); count];
    for (at, &tensor) in tensors.iter().enumerate() {
        sizes[place(at)] = if l.rank(tensor) == 0 { Int::Known(1) } else { l.size_int(tensor, 0)? };
    }
    let shape = l.vector(&sizes)?;
    let mut results = Vec::new();
    for (at, &tensor) in tensors.iter().enumerate() {
        let mut own = vec![1; count];
        own[place(at)] = -1;
        let own = l.ints(&own)?;
        let value = l.value(tensor)?;
        let value = l.reshape(&value, &own)?;
        let value = l.node("Expand", &[&value, &shape], &[])?;
        results.extend(l.answer(value)?);
    }
    Ok(vec![Value::List(results)])
}

fn at_least(l: &mut Lower, args: &Args, rank: usize) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    if l.rank(x) >= rank {
        return whole(l, args);
    }
    let shape = l.ints(&vec![1; rank])?;
    bound(l, x, View::Reshape(shape), Sharing::Certain)
}
