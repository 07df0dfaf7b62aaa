//! Layer normalization written out in single operators becomes one.

use super::draft::{Draft, input};
use crate::graph::{Attribute, Attributes, Body, Node, ValueId};
use crate::ops;

/// The version of the operator set that has `LayerNormalization`.
const VERSION: i64 = 17;

/// `(x - mean) / sqrt(variance + epsilon) * scale + shift` over the last axis.
pub(super) fn merge(draft: &mut Draft, at: usize) -> Option<()> {
    let add = draft.standard(at, &["Add"])?;
    let (product, shift) = draft.with_constant(add)?;
    let multiply = draft.standard(draft.only_for_one(product)?, &["Mul"])?;
    let (quotient, scale) = draft.with_constant(multiply)?;
    let divide = draft.standard(draft.only_for_one(quotient)?, &["Div"])?;
    let (centred, deviation) = (input(divide, 0)?, input(divide, 1)?);
    let root = draft.standard(draft.only_for_one(deviation)?, &["Sqrt"])?;
    let plus = draft.standard(draft.only_for_one(input(root, 0)?)?, &["Add"])?;
    let (variance, epsilon) = draft.with_constant(plus)?;
    let epsilon = draft.number(Some(epsilon))?;
    let squares = last_mean(draft, variance)?;
    let square = draft.node(draft.only_for_one(squares)?)?;
    let squared = match square.operator.as_str() {
        "Pow" => draft.number(input(square, 1)) == Some(2.0) && input(square, 0) == Some(centred),
        "Mul" => square.inputs == [Some(centred), Some(centred)],
        _ => false,
    };
    let subtract = draft.standard(draft.maker(centred)?, &["Sub"])?;
    let x = input(subtract, 0)?;
    let whole = last_mean(draft, input(subtract, 1)?)? == x;
    // Scale and shift of one row, as the single operator takes them.
    let row = |id: ValueId| {
        draft.weight(Some(id)).filter(|weight| weight.shape.len() == 1).map(|weight| (weight.dtype, weight.shape[0]))
    };
    let same = row(scale)? == row(shift)? && row(scale)?.1 > 1;
    if !squared || !whole || !same || !square.domain.is_empty() || add.version < 7 {
        return None;
    }
    let mut attributes = Attributes::default();
    attributes.insert("epsilon".to_string(), Attribute::Float(epsilon as f32));
    let name = subtract.name.clone();
    let last = draft.take(at)?;
    // The others are left out when nothing uses what they give.
    let inputs = vec![Some(x), Some(scale), Some(shift)];
    let operator = "LayerNormalization".to_string();
    let mut node = Node { name, operator, version: VERSION, inputs, attributes, ..last };
    node.body = Body::Operator(ops::find("", "LayerNormalization")?.parse(&node.raw()).ok()?);
    draft.put(at, node);
    Some(())
}

/// What a value is the mean of over the last axis, with that axis kept.
fn last_mean(draft: &Draft, id: ValueId) -> Option<ValueId> {
    let node = draft.standard(draft.maker(id)?, &["ReduceMean"])?;
    let axes = match input(node, 1) {
        Some(axes) => draft.weight(Some(axes))?.array().ok()?.int64s().ok()?,
        None => node.attributes.ints("axes").ok()??.to_vec(),
    };
    let fits = axes == [-1] && node.attributes.flag("keepdims", true).ok()?;
    if fits { input(node, 0) } else { None }
}
