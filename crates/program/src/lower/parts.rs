//! Parts of tensors, and several joined: slices, splits, concatenations, repetitions.

use rekindle_onnx::DType;

use super::alias::View;
use super::shape::{certain, sizes_of};
use super::{Args, Dim, END, Int, Lower, Row, TensorId, Value, axis_of, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
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
    ("row_stack", |l, a| stack_known(l, a, 0)),
    ("broadcast_tensors", broadcast),
    ("meshgrid", meshgrid),
];

/// Parts of one tensor.
const MAX_PARTS: i64 = 1 << 16;

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
    let (mut x, mut axis) = (x, 0);
    if args.get("dim").is_none() {
        let flat = l.ints(&[-1])?;
        x = l.view(x, View::Reshape(flat))?;
    } else {
        axis = l.axis(x, args.int("dim")?)?;
    }
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

/// Joined along an axis, vectors as rows, or end to end where they are laid side by side.
fn stack_known(l: &mut Lower, args: &Args, axis: usize) -> Result<Vec<Value>> {
    let mut parts = Vec::new();
    for x in args.tensors("tensors")? {
        let mut x = x;
        while l.rank(x) < if axis == 0 { 2 } else { 1 } {
            x = l.view(x, View::Unsqueeze(vec![0]))?;
        }
        parts.push(x);
    }
    let first = *parts.first().ok_or_else(|| Error::invalid("there is nothing to join"))?;
    let axis = axis.min(l.rank(first) - 1);
    join(l, &parts, axis)
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
    if size / each > MAX_PARTS as usize {
        return Err(Error::beyond(format!("{} parts", size / each)));
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
    if !args.get("indices").is_none() {
        // From one position to the next.
        let mut bounds = args.syms("indices")?;
        bounds.push(Int::Known(END));
        let mut results = Vec::new();
        let mut start = Int::Known(0);
        for end in bounds {
            results.extend(certain(l, args, x, View::Slice { axis, start, end: end.clone(), step: 1 })?);
            start = end;
        }
        return Ok(results);
    }
    let (size, count) = (l.size(x, axis)? as i64, args.int("sections")?);
    if !(1..=MAX_PARTS).contains(&count) {
        return Err(Error::invalid(format!("{count} sections")));
    }
    let sizes: Vec<Int> = (0..count).map(|at| Int::Known(size / count + i64::from(at < size % count))).collect();
    parts(l, args, x, axis, &sizes)
}

fn unbind(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let (size, mut results) = (l.size(x, axis)?, Vec::new());
    if size > MAX_PARTS as usize {
        return Err(Error::beyond(format!("{size} parts")));
    }
    for index in 0..size {
        results.extend(certain(l, args, x, View::Select { axis, index: Int::Known(index as i64) })?);
    }
    Ok(results)
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

fn broadcast(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let tensors = args.tensors("tensors")?;
    Ok(vec![Value::List(l.broadcast(&tensors)?.into_iter().map(Value::Tensor).collect())])
}
