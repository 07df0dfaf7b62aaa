//! A bias added to a matrix product goes into the product's node.

use super::draft::{Draft, fuse, input};
use crate::DType;

/// `MatMul` with a constant matrix, then `Add` of a constant row.
pub(super) fn merge(draft: &mut Draft, at: usize) -> Option<()> {
    let add = draft.standard(at, &["Add"]).filter(|add| add.version >= 7)?;
    let (value, constant) = draft.with_constant(add)?;
    let before = draft.only_for_one(value)?;
    let product = draft.standard(before, &["MatMul"])?;
    let weight = draft.weight(input(product, 1)).filter(|weight| weight.shape.len() == 2)?;
    let bias = draft.weight(Some(constant))?;
    let row = bias.shape.last() == Some(&weight.shape[1]) && bias.shape.iter().rev().skip(1).all(|&size| size == 1);
    if !row || bias.dtype != weight.dtype || !matches!(weight.dtype, DType::F32 | DType::F64) {
        return None;
    }
    let add = draft.take(at)?;
    let mut product = draft.take(before)?;
    fuse(&mut product)?;
    product.inputs.push(Some(constant));
    product.outputs = add.outputs;
    draft.put(at, product);
    Some(())
}
