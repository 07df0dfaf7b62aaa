//! Scaled dot product attention, taken apart.

use rekindle_onnx::builder::ValueName;
use rekindle_onnx::{Array, DType};

use super::{Args, Int, Lower, Mode, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("scaled_dot_product_attention", attention),
    ("_scaled_dot_product_flash_attention_for_cpu", flash),
    ("_scaled_dot_product_attention_math", attention),
];

fn attention(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let value = attend(l, args)?;
    let mut results = l.answer(value)?;
    if args.operator.ends_with("math") {
        results.push(Value::None);
    }
    Ok(results)
}

fn flash(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let value = attend(l, args)?;
    let mut results = l.answer(value)?;
    results.push(Value::None);
    Ok(results)
}

/// Heads of keys or values repeated, each `count` times in a row.
fn repeated(l: &mut Lower, x: TensorId, count: i64) -> Result<ValueName> {
    let rank = l.rank(x);
    let heads = l.size(x, rank - 3)? as i64;
    let value = l.value(x)?;
    let axis = l.ints(&[(rank - 2) as i64])?;
    let apart = l.node("Unsqueeze", &[&value, &axis], &[])?;
    let mut times = vec![1; rank + 1];
    times[rank - 2] = count;
    let times = l.ints(&times)?;
    let more = l.node("Expand", &[&apart, &times], &[])?;
    let mut shape = Vec::new();
    for axis in 0..rank {
        shape.push(if axis == rank - 3 { Int::Known(heads * count) } else { l.size_int(x, axis)? });
    }
    let shape = l.vector(&shape)?;
    l.reshape(&more, &shape)
}

fn attend(l: &mut Lower, args: &Args) -> Result<ValueName> {
    let [q, k, v] = [args.tensor("query")?, args.tensor("key")?, args.tensor("value")?];
    let rank = l.rank(q);
    if rank < 2 {
        return Err(Error::invalid("attention of vectors"));
    }
    let dtype = l.dtype(q);
    let mask = args.optional("attn_mask")?;
    let (query, mut key, mut value) = (l.value(q)?, l.value(k)?, l.value(v)?);
    if args.bool("enable_gqa")? && rank >= 3 {
        let heads = [l.size(q, rank - 3)?, l.size(k, rank - 3)?, l.size(v, rank - 3)?];
        for (at, slot) in [(1, &mut key), (2, &mut value)] {
            if heads[0] != heads[at] {
                if heads[at] == 0 || heads[0] % heads[at] != 0 {
                    return Err(Error::invalid(format!("{} heads for {}", heads[at], heads[0])));
                }
                *slot = repeated(l, [q, k, v][at], (heads[0] / heads[at]) as i64)?;
            }
        }
    }
    let scale = match args.optional_float("scale")? {
        Some(scale) => scale,
        None => 1.0 / (l.size(q, rank - 1)? as f64).sqrt(),
    };
    let scale = l.number(scale, dtype)?;
    let query = l.node("Mul", &[&query, &scale], &[])?;
    let key_rank = l.rank(k);
    let mut order: Vec<usize> = (0..key_rank).collect();
    order.swap(key_rank - 1, key_rank - 2);
    let key = l.transpose(&key, &order)?;
    let mut scores = l.node("MatMul", &[&query, &key], &[])?;
    let none = l.number(f64::NEG_INFINITY, dtype)?;
    // Rows of which nothing may be seen become zeros: only where a mask could hide everything.
    let mut hides = false;
    if args.bool("is_causal")? {
        let allowed = causal(l, q, k)?;
        scores = l.node("Where", &[&allowed, &scores, &none], &[])?;
    }
    if let Some(mask) = mask {
        let kind = l.dtype(mask);
        let mask = l.value(mask)?;
        scores = if kind == DType::Bool {
            hides = true;
            l.node("Where", &[&mask, &scores, &none], &[])?
        } else {
            let mask = l.cast(&mask, kind, dtype)?;
            l.node("Add", &[&scores, &mask], &[])?
        };
    }
    let mut weights = l.node("Softmax", &[&scores], &[("axis", int(-1))])?;
    if hides {
        let axes = l.ints(&[-1])?;
        let most = l.node("ReduceMax", &[&scores, &axes], &[("keepdims", int(1))])?;
        let empty = l.node("Equal", &[&most, &none], &[])?;
        let zero = l.number(0.0, dtype)?;
        weights = l.node("Where", &[&empty, &zero, &weights], &[])?;
    }
    let p = args.optional_float("dropout_p")?.unwrap_or(0.0);
    if p > 0.0 && l.mode != Mode::Eval {
        weights = super::dropout::drop_out(l, &weights, p, 1)?.swap_remove(0);
    }
    l.node("MatMul", &[&weights, &value], &[])
}

/// Which keys a query may see: those up to its own position.
fn causal(l: &mut Lower, q: TensorId, k: TensorId) -> Result<ValueName> {
    let (queries, keys) = (l.size_int(q, l.rank(q) - 2)?, l.size_int(k, l.rank(k) - 2)?);
    let (zero, one) = (l.constant(&Array::scalar(0_i64))?, l.constant(&Array::scalar(1_i64))?);
    let mut positions = Vec::new();
    for (count, axis) in [(queries, 1), (keys, 0)] {
        let count = l.int_value(&count)?;
        let range = l.node("Range", &[&zero, &count, &one], &[])?;
        let axis = l.ints(&[axis])?;
        positions.push(l.node("Unsqueeze", &[&range, &axis], &[])?);
    }
    l.node("LessOrEqual", &[&positions[1], &positions[0]], &[])
}
