//! Copies and other element types.

use rekindle_onnx::DType;

use super::alias::View;
use super::shape::{Sharing, bound, fresh};
use super::{Args, Lower, Row, TensorId, Value};
use crate::Result;

pub(super) const ROWS: &[Row] = &[
    ("contiguous", contiguous),
    ("clone", copy),
    ("lift_fresh_copy", copy),
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
];

/// The tensor itself where it is in memory as asked, else a copy.
fn contiguous(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    // Another memory format is another order of strides: whether that is a copy is not followed.
    if !args.get("memory_format").is_none() {
        return Ok(vec![Value::Tensor(l.perhaps_view(x, View::Whole)?)]);
    }
    let sharing = match l.plain(x) {
        Some(true) => Sharing::Certain,
        Some(false) => Sharing::Never,
        None => Sharing::Perhaps,
    };
    bound(l, x, View::Whole, sharing)
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
