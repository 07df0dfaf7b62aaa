//! What operators of all families use.

use crate::array::{Data, count};
use crate::operator::RawNode;
use crate::{Array, DType, Error, Result, Value};

/// One output.
pub(super) fn one(array: Array) -> Result<Vec<Value>> {
    Ok(vec![array.into()])
}

/// Integers as sizes.
///
/// # Errors
/// When one is negative.
pub(super) fn sizes(values: &[i64]) -> Result<Vec<usize>> {
    let sizes: Option<_> = values.iter().map(|&size| usize::try_from(size).ok()).collect();
    sizes.ok_or_else(|| Error::invalid(format!("{values:?} should not be negative")))
}

/// The element type that an attribute names by ONNX's number; 0 is none.
///
/// # Errors
/// When there is no such type.
pub(super) fn dtype_attribute(node: &RawNode, name: &str) -> Result<Option<DType>> {
    match node.attributes.int(name)? {
        None | Some(0) => Ok(None),
        Some(number) => {
            let dtype = i32::try_from(number).ok().and_then(DType::from_number);
            dtype.map(Some).ok_or_else(|| Error::beyond(format!("element type {number} (attribute '{name}')")))
        }
    }
}

/// A shape seen from an axis: elements before it, its size, elements after it.
pub(crate) fn around(shape: &[usize], axis: usize) -> (usize, usize, usize) {
    (shape[..axis].iter().product(), shape[axis], shape[axis + 1..].iter().product())
}

/// Arrays one after another along an axis.
///
/// # Errors
/// When their types differ, or their shapes apart from that axis.
pub(crate) fn concat(arrays: &[&Array], axis: usize) -> Result<Array> {
    let first = arrays.first().ok_or_else(|| Error::invalid("there is nothing to concatenate"))?;
    let same = |array: &&&Array| {
        let rest = |shape: &[usize]| {
            shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &size)| size).collect::<Vec<_>>()
        };
        array.dtype() == first.dtype() && array.rank() == first.rank() && rest(array.shape()) == rest(first.shape())
    };
    if axis >= first.rank() || !arrays.iter().all(|array| same(&array)) {
        let kinds: Vec<_> = arrays.iter().map(|array| format!("{}{:?}", array.dtype(), array.shape())).collect();
        return Err(Error::invalid(format!("tensors {} cannot be joined along axis {axis}", kinds.join(", "))));
    }
    let mut shape = first.shape().to_vec();
    shape[axis] = arrays.iter().map(|array| array.shape()[axis]).sum();
    count(&shape)?;
    let parts: Vec<&Data> = arrays.iter().map(|array| array.data()).collect();
    let joined = Data::concat(&parts).ok_or_else(|| Error::invalid("there is nothing to concatenate"))?;
    let outer: usize = shape[..axis].iter().product();
    if outer == 1 {
        return Array::from_data(shape, joined);
    }
    let mut indices = Vec::with_capacity(joined.len());
    for o in 0..outer {
        let mut start = 0;
        for array in arrays {
            let block = array.len() / outer;
            indices.extend(start + o * block..start + (o + 1) * block);
            start += array.len();
        }
    }
    Array::from_data(shape, joined.take(&indices))
}
