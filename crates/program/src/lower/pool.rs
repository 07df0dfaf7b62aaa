//! Pooling with windows, and to a size.

use rekindle_onnx::builder::ValueName;
use rekindle_onnx::{Array, DType};

use super::convolution::batched;
use super::{Args, Int, Lower, Row, TensorId, Value, int, list};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("max_pool1d", |l, a| max_pool(l, a, 1, false)),
    ("max_pool2d", |l, a| max_pool(l, a, 2, false)),
    ("max_pool3d", |l, a| max_pool(l, a, 3, false)),
    ("max_pool1d_with_indices", |l, a| max_pool(l, a, 1, true)),
    ("max_pool2d_with_indices", |l, a| max_pool(l, a, 2, true)),
    ("max_pool3d_with_indices", |l, a| max_pool(l, a, 3, true)),
    ("max_unpool2d", |l, a| unpool(l, a, 2)),
    ("max_unpool3d", |l, a| unpool(l, a, 3)),
    ("avg_pool1d", |l, a| avg_pool(l, a, 1)),
    ("avg_pool2d", |l, a| avg_pool(l, a, 2)),
    ("avg_pool3d", |l, a| avg_pool(l, a, 3)),
    ("adaptive_avg_pool1d", |l, a| adaptive(l, a, 1, false)),
    ("adaptive_avg_pool2d", |l, a| adaptive(l, a, 2, false)),
    ("adaptive_avg_pool3d", |l, a| adaptive(l, a, 3, false)),
    ("_adaptive_avg_pool2d", |l, a| adaptive(l, a, 2, false)),
    ("_adaptive_avg_pool3d", |l, a| adaptive(l, a, 3, false)),
    ("adaptive_max_pool1d", |l, a| adaptive(l, a, 1, true)),
    ("adaptive_max_pool2d", |l, a| adaptive(l, a, 2, true)),
    ("adaptive_max_pool3d", |l, a| adaptive(l, a, 3, true)),
];

/// Strides are the kernel's sizes when none are given.
fn strides(args: &Args, kernel: &[i64]) -> Result<Vec<i64>> {
    if args.syms("stride")?.is_empty() { Ok(kernel.to_vec()) } else { args.each("stride", kernel.len()) }
}

fn max_pool(l: &mut Lower, args: &Args, n: usize, indices: bool) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let kernel = args.each("kernel_size", n)?;
    let padding = args.each("padding", n)?;
    let attributes = [
        ("kernel_shape", list(kernel.clone())),
        ("strides", list(strides(args, &kernel)?)),
        ("pads", list([padding.clone(), padding].concat())),
        ("dilations", list(args.each("dilation", n)?)),
        ("ceil_mode", int(i64::from(args.bool("ceil_mode")?))),
    ];
    let mut results = batched(l, x, n + 2, |l, value| l.node("MaxPool", &[value], &attributes))?;
    if indices {
        // A node of its own, which is left out where nothing reads the positions.
        results.extend(batched(l, x, n + 2, |l, value| {
            let both = l.nodes("MaxPool", &[value], 2, &attributes)?;
            in_plane(l, x, &both[1], n)
        })?);
    }
    Ok(results)
}

/// Positions as PyTorch counts them, in each plane; ONNX counts through the whole tensor.
fn in_plane(l: &mut Lower, x: TensorId, at: &str, n: usize) -> Result<ValueName> {
    let mut plane = Int::Known(1);
    let rank = l.rank(x);
    for axis in rank - n..rank {
        let size = l.size_int(x, axis)?;
        plane = l.int_op("mul", &plane, &size)?;
    }
    let plane = l.int_value(&plane)?;
    l.node("Mod", &[at, &plane], &[])
}

/// Puts elements back where a pool found them, zeros elsewhere.
fn unpool(l: &mut Lower, args: &Args, n: usize) -> Result<Vec<Value>> {
    let (x, at) = (args.tensor("self")?, args.tensor("indices")?);
    let wanted = args.ints("output_size")?;
    let (rank, dtype) = (l.rank(x), l.dtype(x));
    if wanted.len() != n || rank < n + 1 {
        return Err(Error::invalid(format!("{} sizes for {rank} axes", wanted.len())));
    }
    let outer = rank - n;
    let (value, at) = (l.value(x)?, l.value(at)?);
    let head = super::shape::sizes_of(l, x, 0..outer)?;
    let flat = |l: &mut Lower, last: i64| {
        let mut shape = head.clone();
        shape.push(Int::Known(last));
        l.vector(&shape)
    };
    let total = wanted.iter().try_fold(1_i64, |all, &size| all.checked_mul(size).filter(|all| *all >= 0));
    let total = total.ok_or_else(|| Error::invalid(format!("sizes of {wanted:?}")))?;
    let (given, whole) = (flat(l, -1)?, flat(l, total)?);
    let (value, at) = (l.reshape(&value, &given)?, l.reshape(&at, &given)?);
    let zero = l.number(0.0, dtype)?;
    let zeros = l.node("Expand", &[&zero, &whole], &[])?;
    let put = l.node("ScatterElements", &[&zeros, &at, &value], &[("axis", int(-1))])?;
    let mut shape = head.clone();
    shape.extend(wanted.into_iter().map(Int::Known));
    let shape = l.vector(&shape)?;
    let value = l.reshape(&put, &shape)?;
    l.answer(value)
}

fn avg_pool(l: &mut Lower, args: &Args, n: usize) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let kernel = args.each("kernel_size", n)?;
    let (strides, padding) = (strides(args, &kernel)?, args.each("padding", n)?);
    let (ceil, count) = (args.bool("ceil_mode")?, args.bool("count_include_pad")?);
    let divisor = args.get("divisor_override").clone();
    let pads = [padding.clone(), padding.clone()].concat();
    let attributes = [
        ("kernel_shape", list(kernel.clone())),
        ("strides", list(strides.clone())),
        ("pads", list(pads.clone())),
        ("ceil_mode", int(i64::from(ceil))),
        ("count_include_pad", int(i64::from(count))),
    ];
    if divisor.is_none() {
        return batched(l, x, n + 2, |l, value| l.node("AveragePool", &[value], &attributes));
    }
    // The sum of a window: its mean with padding counted, times its size. Windows past the end have no such size.
    if ceil {
        return Err(Error::beyond("avg_pool with divisor_override and ceil_mode"));
    }
    let (dtype, area) = (l.dtype(x), kernel.iter().product::<i64>());
    let divisor = args.int("divisor_override")?;
    batched(l, x, n + 2, |l, value| {
        let attributes = [
            ("kernel_shape", list(kernel.clone())),
            ("strides", list(strides.clone())),
            ("pads", list(pads.clone())),
            ("count_include_pad", int(1)),
        ];
        let mean = l.node("AveragePool", &[value], &attributes)?;
        let factor = l.number(area as f64 / divisor as f64, dtype)?;
        l.node("Mul", &[&mean, &factor], &[])
    })
}

fn adaptive(l: &mut Lower, args: &Args, n: usize, max: bool) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let rank = l.rank(x);
    if rank <= n {
        return Err(Error::invalid(format!("expected at least {} axes, found {rank}", n + 1)));
    }
    // None keeps the size of an axis.
    let wanted = match args.get("output_size") {
        Value::List(values) if values.iter().any(Value::is_none) => {
            let mut sizes = Vec::new();
            for (at, value) in values.iter().enumerate() {
                sizes.push(match value {
                    Value::None => l.size(x, rank - n + at)? as i64,
                    Value::Int(Int::Known(size)) => *size,
                    _ => return Err(Error::beyond("an output size that follows an open size")),
                });
            }
            sizes
        }
        _ => args.each("output_size", n)?,
    };
    let mut results = to_size(l, x, &wanted, n, max)?;
    if max {
        results.push(positions(l, x, &wanted, n)?);
    }
    Ok(results)
}

/// Where the greatest elements are, if windows do not overlap.
fn positions(l: &mut Lower, x: TensorId, wanted: &[i64], n: usize) -> Result<Value> {
    let rank = l.rank(x);
    let mut kernel = Vec::new();
    for (axis, &wanted) in (rank - n..rank).zip(wanted) {
        match l.size(x, axis) {
            Ok(size) if wanted > 0 && size as i64 % wanted == 0 => kernel.push(size as i64 / wanted),
            _ => return Ok(Value::None),
        }
    }
    let attributes = [("kernel_shape", list(kernel.clone())), ("strides", list(kernel))];
    let found = batched(l, x, n + 2, |l, value| {
        let both = l.nodes("MaxPool", &[value], 2, &attributes)?;
        in_plane(l, x, &both[1], n)
    });
    Ok(found?.swap_remove(0))
}

fn to_size(l: &mut Lower, x: TensorId, wanted: &[i64], n: usize, max: bool) -> Result<Vec<Value>> {
    let rank = l.rank(x);
    if wanted.iter().all(|&size| size == 1) {
        let operator = if max { "GlobalMaxPool" } else { "GlobalAveragePool" };
        return batched(l, x, n + 2, |l, value| l.node(operator, &[value], &[]));
    }
    let mut sizes = Vec::new();
    for axis in rank - n..rank {
        sizes.push(l.size(x, axis)? as i64);
    }
    if wanted.iter().any(|&size| size < 1) {
        return Err(Error::beyond("pooling to a size of 0"));
    }
    if sizes.iter().zip(wanted).all(|(size, wanted)| size % wanted == 0) {
        let kernel: Vec<i64> = sizes.iter().zip(wanted).map(|(size, wanted)| size / wanted).collect();
        if kernel.iter().all(|&size| size == 1) {
            let value = l.value(x)?;
            let value = l.node("Identity", &[&value], &[])?;
            return l.answer(value);
        }
        let attributes = [("kernel_shape", list(kernel.clone())), ("strides", list(kernel))];
        let operator = if max { "MaxPool" } else { "AveragePool" };
        return batched(l, x, n + 2, |l, value| l.node(operator, &[value], &attributes));
    }
    let dtype = l.dtype(x);
    let mut value = l.value(x)?;
    for (at, (&size, &wanted)) in sizes.iter().zip(wanted).enumerate() {
        let axis = rank - n + at;
        value = if max {
            max_along(l, &value, axis, size, wanted)?
        } else {
            mean_along(l, &value, axis, rank, [size, wanted], dtype)?
        };
    }
    l.answer(value)
}

/// Where window `at` of `wanted` begins and ends on an axis.
fn bounds(size: i64, wanted: i64, at: i64) -> (i64, i64) {
    (at * size / wanted, -(-(at + 1) * size).div_euclid(wanted))
}

/// Means of uneven windows along an axis: a product with a matrix of weights.
fn mean_along(
    l: &mut Lower,
    value: &str,
    axis: usize,
    rank: usize,
    [size, wanted]: [i64; 2],
    dtype: DType,
) -> Result<ValueName> {
    if size.saturating_mul(wanted) > super::diagonal::MAX_POSITIONS {
        return Err(Error::beyond(format!("pooling {size} to {wanted}")));
    }
    let mut weights = vec![0.0; (size * wanted) as usize];
    for at in 0..wanted {
        let (start, end) = bounds(size, wanted, at);
        for row in start..end {
            weights[(row * wanted + at) as usize] = 1.0 / (end - start) as f64;
        }
    }
    let matrix = l.constant(&Array::of_floats(dtype, vec![size as usize, wanted as usize], weights)?)?;
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis, rank - 1);
    let turned = l.transpose(value, &order)?;
    let product = l.node("MatMul", &[&turned, &matrix], &[])?;
    l.transpose(&product, &order)
}

/// Greatest of uneven windows along an axis.
fn max_along(l: &mut Lower, value: &str, axis: usize, size: i64, wanted: i64) -> Result<ValueName> {
    let axes = l.ints(&[axis as i64])?;
    let mut parts = Vec::new();
    for at in 0..wanted {
        let (start, end) = bounds(size, wanted, at);
        let (start, end) = (l.ints(&[start])?, l.ints(&[end])?);
        let part = l.node("Slice", &[value, &start, &end, &axes], &[])?;
        parts.push(l.node("ReduceMax", &[&part, &axes], &[("keepdims", int(1))])?);
    }
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    l.node("Concat", &parts, &[("axis", int(axis as i64))])
}
