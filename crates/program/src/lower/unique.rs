//! Elements without their repetitions, counts of them, and order statistics.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, DType};

use super::{Args, Float, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("_unique", |l, a| unique(l, a, None)),
    ("_unique2", |l, a| unique(l, a, None)),
    ("unique_dim", |l, a| unique(l, a, Some(a.int("dim")?))),
    ("unique_consecutive", consecutive),
    ("bincount", bincount),
    ("histc", histogram),
    ("kthvalue", kth_value),
    ("msort", msort),
    ("quantile", quantile),
    ("mode", mode),
];

/// A tensor whose sizes may follow from data.
fn sized(l: &mut Lower, value: ValueName, dtype: DType, rank: usize) -> Value {
    let tensor = l.tensor_or_unknown(value);
    l.assume(tensor, dtype, rank);
    Value::Tensor(tensor)
}

/// What is given of values, where each element went, and counts: PyTorch gives empty tensors for what is not asked for.
fn asked(args: &Args, values: Value, inverse: Value, counts: Value) -> Result<Vec<Value>> {
    let only = |value: Value, wanted: bool| if wanted { value } else { Value::None };
    let inverse = only(inverse, args.bool("return_inverse")?);
    Ok(vec![values, inverse, only(counts, args.bool("return_counts")?)])
}

fn unique(l: &mut Lower, args: &Args, dim: Option<i64>) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (own, rank) = (l.dtype(x), l.rank(x));
    // Truth values have no order in ONNX.
    let dtype = if own == DType::Bool { DType::U8 } else { own };
    let value = l.value_as(x, dtype)?;
    let mut attributes = vec![("sorted", int(1))];
    if let Some(dim) = dim {
        attributes.push(("axis", int(l.axis(x, dim)? as i64)));
    }
    let outputs = l.nodes("Unique", &[&value], 4, &attributes)?;
    let values = l.cast(&outputs[0], dtype, own)?;
    let mut inverse = outputs[2].clone();
    if dim.is_none() {
        let shape = l.shape_of(&value)?;
        inverse = l.reshape(&inverse, &shape)?;
    }
    let values = sized(l, values, own, if dim.is_some() { rank } else { 1 });
    let inverse = sized(l, inverse, DType::I64, if dim.is_some() { 1 } else { rank });
    let counts = sized(l, outputs[3].clone(), DType::I64, 1);
    asked(args, values, inverse, counts)
}

/// The first of each run of equal elements, the run that each is in, and how long runs are.
fn consecutive(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    if !args.get("dim").is_none() {
        return Err(Error::beyond("runs along an axis"));
    }
    let (dtype, rank) = (l.dtype(x), l.rank(x));
    let (value, flat) = (l.value(x)?, l.ints(&[-1])?);
    let shape = l.shape_of(&value)?;
    let row = l.reshape(&value, &flat)?;
    let cut = |l: &mut Lower, value: &str, start: i64, end: i64| {
        let (start, end, axis) = (l.ints(&[start])?, l.ints(&[end])?, l.ints(&[0])?);
        l.node("Slice", &[value, &start, &end, &axis], &[])
    };
    let (later, earlier) = (cut(l, &row, 1, i64::MAX)?, cut(l, &row, 0, -1)?);
    let same = l.node("Equal", &[&later, &earlier], &[])?;
    let other = l.node("Not", &[&same], &[])?;
    // The first begins a run; a tensor without elements has none.
    let first = cut(l, &row, 0, 1)?;
    let first = l.node("Equal", &[&first, &first], &[])?;
    let not = l.node("Not", &[&first], &[])?;
    let first = l.node("Or", &[&first, &not], &[])?;
    let begins = l.node("Concat", &[&first, &other], &[("axis", int(0))])?;
    let values = l.node("Compress", &[&row, &begins], &[("axis", int(0))])?;
    let counted = l.cast(&begins, DType::Bool, DType::I64)?;
    let (zero, one) = (l.constant(&Array::scalar(0_i64))?, l.constant(&Array::scalar(1_i64))?);
    let run = l.node("CumSum", &[&counted, &zero], &[])?;
    let run = l.node("Sub", &[&run, &one], &[])?;
    let count = l.shape_of(&values)?;
    let zeros = l.node("Expand", &[&zero, &count], &[])?;
    let all = l.shape_of(&row)?;
    let ones = l.node("Expand", &[&one, &all], &[])?;
    let lengths = l.node("ScatterElements", &[&zeros, &run, &ones], &[("reduction", Attr::Text("add"))])?;
    let run = l.reshape(&run, &shape)?;
    let (values, run) = (sized(l, values, dtype, 1), sized(l, run, DType::I64, rank));
    let lengths = sized(l, lengths, DType::I64, 1);
    asked(args, values, run, lengths)
}

/// How often each integer is there; with weights, their sums.
fn bincount(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let at = l.value_as(x, DType::I64)?;
    let least = args.int("minlength")?.max(0);
    let (one, none) = (l.ints(&[1])?, l.ints(&[-1])?);
    let padded = l.node("Concat", &[&at, &none], &[("axis", int(0))])?;
    let axis = l.ints(&[0])?;
    let most = l.node("ReduceMax", &[&padded, &axis], &[("keepdims", int(1))])?;
    let count = l.node("Add", &[&most, &one], &[])?;
    let least = l.ints(&[least])?;
    let count = l.node("Max", &[&count, &least], &[])?;
    let (dtype, added) = match args.optional("weights")? {
        Some(weights) => {
            let dtype = if l.dtype(weights) == DType::F32 { DType::F32 } else { DType::F64 };
            (dtype, l.value_as(weights, dtype)?)
        }
        None => {
            let (shape, one) = (l.shape_of(&at)?, l.number(1.0, DType::I64)?);
            (DType::I64, l.node("Expand", &[&one, &shape], &[])?)
        }
    };
    let zero = l.number(0.0, dtype)?;
    let zeros = l.node("Expand", &[&zero, &count], &[])?;
    let value = l.node("ScatterElements", &[&zeros, &at, &added], &[("reduction", Attr::Text("add"))])?;
    Ok(vec![sized(l, value, dtype, 1)])
}

/// How many elements are in each of equal parts of a range; those outside count nowhere.
fn histogram(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (bins, dtype) = (args.int("bins")?, l.dtype(x));
    let (low, high) = (args.float("min")?, args.float("max")?);
    if bins < 1 || low >= high || !dtype.is_float() {
        return Err(Error::beyond("a histogram over the range of its data"));
    }
    let (value, flat) = (l.value(x)?, l.ints(&[-1])?);
    let row = l.reshape(&value, &flat)?;
    let (low, high) = (l.number(low, dtype)?, l.number(high, dtype)?);
    let (inside, above) = (l.node("LessOrEqual", &[&row, &high], &[])?, l.node("GreaterOrEqual", &[&row, &low], &[])?);
    let inside = l.node("And", &[&inside, &above], &[])?;
    let kept = l.node("Where", &[&inside, &row, &low], &[])?;
    let (from, span) = (l.node("Sub", &[&kept, &low], &[])?, l.node("Sub", &[&high, &low], &[])?);
    let count = l.number(bins as f64, dtype)?;
    let at = l.node("Mul", &[&from, &count], &[])?;
    let at = l.node("Div", &[&at, &span], &[])?;
    let at = l.cast(&at, dtype, DType::I64)?;
    let last = l.constant(&Array::scalar(bins - 1))?;
    let at = l.node("Min", &[&at, &last], &[])?;
    let added = l.cast(&inside, DType::Bool, dtype)?;
    let zeros = l.constant(&Array::filled(dtype, &[bins as usize], 0.0)?)?;
    let value = l.node("ScatterElements", &[&zeros, &at, &added], &[("reduction", Attr::Text("add"))])?;
    l.answer(value)
}

/// The k-th least along an axis, and where it is.
fn kth_value(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, k) = (args.tensor("self")?, args.int("k")?);
    let axis = l.axis(x, args.int("dim")?)?;
    if l.rank(x) == 0 || k < 1 {
        return Err(Error::beyond(format!("element {k} of a scalar")));
    }
    let (value, count) = (l.value(x)?, l.ints(&[k])?);
    let least = l.nodes("TopK", &[&value, &count], 2, &[("axis", int(axis as i64)), ("largest", int(0))])?;
    let at = if args.bool("keepdim")? { l.ints(&[k - 1])? } else { l.constant(&Array::scalar(k - 1))? };
    let mut results = Vec::new();
    for all in &least {
        let one = l.node("Gather", &[all, &at], &[("axis", int(axis as i64))])?;
        results.extend(l.answer(one)?);
    }
    Ok(results)
}

fn msort(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let sorted = l.apply("sort", "", &[("self", args.get("self").clone()), ("dim", Value::int(0))])?;
    Ok(sorted.into_iter().take(1).collect())
}

/// Elements at parts of the way through the order, between two of them by the distance to each.
fn quantile(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mut x = args.tensor("self")?;
    let how = args.text("interpolation")?.unwrap_or("linear").to_string();
    let flat = args.get("dim").is_none();
    if flat {
        x = l.apply_one("flatten", "using_ints", &[("self", Value::Tensor(x))])?.tensor()?;
    }
    let keep = args.bool("keepdim")?;
    if flat && keep {
        return Err(Error::beyond("the quantiles of all elements with their axes kept"));
    }
    let axis = if flat { 0 } else { l.axis(x, args.int("dim")?)? };
    let (dtype, size) = (l.dtype(x), l.size(x, axis)?);
    let (asked, scalar) = match args.get("q") {
        Value::Tensor(q) => (l.value_as(*q, dtype)?, l.rank(*q) == 0),
        Value::Float(Float::Known(q)) => (l.number(*q, dtype)?, true),
        _ => return Err(Error::beyond("quantiles that follow from an open size")),
    };
    let (value, count) = (l.value(x)?, l.ints(&[size as i64])?);
    let sorted = l.nodes("TopK", &[&value, &count], 2, &[("axis", int(axis as i64)), ("largest", int(0))])?;
    let last = l.number(size as f64 - 1.0, dtype)?;
    let place = l.node("Mul", &[&asked, &last], &[])?;
    let (below, above) = (l.node("Floor", &[&place], &[])?, l.node("Ceil", &[&place], &[])?);
    let place = match how.as_str() {
        "linear" => place,
        "lower" => below.clone(),
        "higher" => above.clone(),
        "nearest" => l.node("Round", &[&place], &[])?,
        "midpoint" => {
            let (sum, two) = (l.node("Add", &[&below, &above], &[])?, l.number(2.0, dtype)?);
            l.node("Div", &[&sum, &two], &[])?
        }
        other => return Err(Error::invalid(format!("interpolation '{other}'"))),
    };
    let mut ends = Vec::new();
    for operator in ["Floor", "Ceil"] {
        let at = l.node(operator, &[&place], &[])?;
        let at = l.cast(&at, dtype, DType::I64)?;
        ends.push(l.node("Gather", &[&sorted[0], &at], &[("axis", int(axis as i64))])?);
    }
    let floor = l.node("Floor", &[&place], &[])?;
    let mut part = l.node("Sub", &[&place, &floor], &[])?;
    let rank = l.rank(x);
    if !scalar {
        // The quantiles stand at the place of the axis, and come to the front.
        let axes: Vec<i64> = (1..(rank - axis) as i64).collect();
        if !axes.is_empty() {
            let axes = l.ints(&axes)?;
            part = l.node("Unsqueeze", &[&part, &axes], &[])?;
        }
    }
    let apart = l.node("Sub", &[&ends[1], &ends[0]], &[])?;
    let step = l.node("Mul", &[&apart, &part], &[])?;
    let mut value = l.node("Add", &[&ends[0], &step], &[])?;
    if !scalar {
        let order: Vec<usize> = [axis].into_iter().chain((0..rank).filter(|&own| own != axis)).collect();
        value = l.transpose(&value, &order)?;
    }
    if keep {
        let axes = l.ints(&[axis as i64 + i64::from(!scalar)])?;
        value = l.node("Unsqueeze", &[&value, &axes], &[])?;
    }
    l.answer(value)
}

/// The most frequent element along an axis, the least of several.
fn mode(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let (rank, dtype) = (l.rank(x), l.dtype(x));
    let axis = l.axis(x, args.int("dim")?)?;
    if rank == 0 || dtype == DType::Bool {
        return Err(Error::beyond("the mode of a scalar or of truth values"));
    }
    let moved = moved_last(l, x, axis)?;
    let (last, before) = (l.ints(&[-1])?, l.ints(&[-2])?);
    let (column, row) = (l.node("Unsqueeze", &[&moved, &last], &[])?, l.node("Unsqueeze", &[&moved, &before], &[])?);
    let same = l.node("Equal", &[&column, &row], &[])?;
    let same = l.cast(&same, DType::Bool, DType::I64)?;
    let keep = [("keepdims", int(1))];
    let counts = l.node("ReduceSum", &[&same, &last], &[("keepdims", int(0))])?;
    let most = l.node("ReduceMax", &[&counts, &last], &keep)?;
    let often = l.node("Equal", &[&counts, &most], &[])?;
    let none = if dtype.is_float() {
        l.number(f64::INFINITY, dtype)?
    } else {
        let greatest = dtype.int_range().map_or(0, |(_, high)| high);
        l.constant(&Array::of_ints(dtype, Vec::new(), vec![greatest])?)?
    };
    let among = l.node("Where", &[&often, &moved, &none], &[])?;
    let mut value = l.node("ReduceMin", &[&among, &last], &[("keepdims", int(0))])?;
    if args.bool("keepdim")? {
        let axes = l.ints(&[axis as i64])?;
        value = l.node("Unsqueeze", &[&value, &axes], &[])?;
    }
    let mut results = l.answer(value)?;
    results.push(Value::None);
    Ok(results)
}

/// An axis as the last one.
fn moved_last(l: &mut Lower, x: TensorId, axis: usize) -> Result<ValueName> {
    let order: Vec<usize> = (0..l.rank(x)).filter(|&own| own != axis).chain([axis]).collect();
    let value = l.value(x)?;
    l.transpose(&value, &order)
}
