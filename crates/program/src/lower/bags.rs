//! Sums, means and extremes of bags of embeddings.

use rekindle_onnx::builder::{Attr, ValueName};
use rekindle_onnx::{Array, DType};

use super::{Args, Lower, Row, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] =
    &[("embedding_bag", bags), ("_embedding_bag", bags), ("_embedding_bag_forward_only", bags)];

fn reduction(how: &'static str) -> [(&'static str, Attr); 1] {
    [("reduction", Attr::Text(how))]
}

/// The number of the bag that each index is in: how many bags begin at or before it, less one.
fn bag_of(l: &mut Lower, offsets: &str, indices: &str) -> Result<ValueName> {
    let (zero, one) = (l.constant(&Array::scalar(0_i64))?, l.constant(&Array::scalar(1_i64))?);
    let (count, bags) = (l.shape_of(indices)?, l.shape_of(offsets)?);
    // A bag may begin after the last index, which makes it empty.
    let places = l.node("Add", &[&count, &one], &[])?;
    let (none, ones) = (l.node("Expand", &[&zero, &places], &[])?, l.node("Expand", &[&one, &bags], &[])?);
    let begin = l.node("ScatterElements", &[&none, offsets, &ones], &reduction("add"))?;
    let (start, axis) = (l.ints(&[0])?, l.ints(&[0])?);
    let begin = l.node("Slice", &[&begin, &start, &count, &axis], &[])?;
    let so_far = l.node("CumSum", &[&begin, &zero], &[])?;
    l.node("Sub", &[&so_far, &one], &[])
}

fn bags(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (weight, indices, offsets) = (args.tensor("weight")?, args.tensor("indices")?, args.tensor("offsets")?);
    if l.rank(indices) != 1 || l.rank(offsets) != 1 {
        return Err(Error::invalid("the indices and offsets of bags are vectors"));
    }
    let dtype = l.dtype(weight);
    let (table, at) = (l.value(weight)?, l.value_as(indices, DType::I64)?);
    let mut begin = l.value_as(offsets, DType::I64)?;
    if args.bool("include_last_offset")? {
        let (start, end, axis) = (l.ints(&[0])?, l.ints(&[-1])?, l.ints(&[0])?);
        begin = l.node("Slice", &[&begin, &start, &end, &axis], &[])?;
    }
    let bag = bag_of(l, &begin, &at)?;
    let mut rows = l.node("Gather", &[&table, &at], &[("axis", int(0))])?;
    let column = l.ints(&[1])?;
    if let Some(factor) = args.optional("per_sample_weights")? {
        let factor = l.value_as(factor, dtype)?;
        let factor = l.node("Unsqueeze", &[&factor, &column], &[])?;
        rows = l.node("Mul", &[&rows, &factor], &[])?;
    }
    // The index of padding belongs to no bag.
    let mode = args.int("mode")?;
    let padding = if args.get("padding_idx").is_none() { -1 } else { args.int("padding_idx")? };
    let (zero, one) = (l.number(0.0, dtype)?, l.number(1.0, dtype)?);
    let (none, single) = (l.number(0.0, DType::I64)?, l.number(1.0, DType::I64)?);
    let least = l.number(f64::NEG_INFINITY, dtype)?;
    let empty = if mode == 2 { least } else { zero.clone() };
    let shape = l.shape_of(&at)?;
    let mut counted = l.node("Expand", &[&single, &shape], &[])?;
    if padding >= 0 {
        let padding = l.constant(&Array::scalar(padding))?;
        let out = l.node("Equal", &[&at, &padding], &[])?;
        counted = l.node("Where", &[&out, &none, &counted], &[])?;
        let out = l.node("Unsqueeze", &[&out, &column], &[])?;
        rows = l.node("Where", &[&out, &empty, &rows], &[])?;
    }
    let of_bags = l.shape_of(&begin)?;
    let zeros = l.node("Expand", &[&none, &of_bags], &[])?;
    let sizes = l.node("ScatterElements", &[&zeros, &bag, &counted], &reduction("add"))?;
    let wide = l.constant(&Array::vector(vec![l.size(weight, 1)? as i64]))?;
    let shape = l.node("Concat", &[&of_bags, &wide], &[("axis", int(0))])?;
    let start = l.node("Expand", &[&empty, &shape], &[])?;
    let place = l.node("Unsqueeze", &[&bag, &column], &[])?;
    let how = reduction(if mode == 2 { "max" } else { "add" });
    let mut value = l.node("ScatterND", &[&start, &place, &rows], &how)?;
    let column_sizes = l.node("Unsqueeze", &[&sizes, &column], &[])?;
    match mode {
        0 => {}
        1 => {
            let count = l.cast(&column_sizes, DType::I64, dtype)?;
            let count = l.node("Max", &[&count, &one], &[])?;
            value = l.node("Div", &[&value, &count], &[])?;
        }
        2 => {
            let nothing = l.node("Equal", &[&column_sizes, &none], &[])?;
            value = l.node("Where", &[&nothing, &zero, &value], &[])?;
        }
        other => return Err(Error::invalid(format!("mode {other} of bags"))),
    }
    let mut results = l.answer(value)?;
    // The bag of each index, sizes of bags and places of extremes are for the gradient.
    results.extend([Value::None, Value::None, Value::None]);
    Ok(results)
}
