//! Operators on the host, a module for each family. Each family has a table from names to functions.
//!
//! A function gets the node (for its attributes and the version of the operator set) and the inputs, and gives the outputs in
//! order; outputs that nobody wants may be given all the same. Values come from files of strangers: shapes are checked before
//! anything is indexed.

mod activation;
mod binary;
mod erf;
mod inputs;
mod matmul;
mod mersenne;
mod product;
mod real;
mod reduce;
mod softmax;
mod unary;

pub use inputs::Inputs;

use crate::array::{Data, count};
use crate::{Array, Error, Node, Result, Value};

/// An operator on the host.
pub type HostOp = fn(&Node, &Inputs<'_>) -> Result<Vec<Value>>;

/// The tables of the standard domain.
const FAMILIES: &[fn(&str) -> Option<HostOp>] = &[unary::find, binary::find, activation::find, matmul::find, reduce::find, softmax::find];

/// The operator of a domain (empty for the standard one) and name, if it is implemented at that version.
pub fn find(domain: &str, operator: &str, _version: i64) -> Option<HostOp> {
    match domain {
        "" => FAMILIES.iter().find_map(|family| family(operator)),
        _ => None,
    }
}

/// One output.
fn one(array: Array) -> Result<Vec<Value>> {
    Ok(vec![array.into()])
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
        let rest = |shape: &[usize]| shape.iter().enumerate().filter(|(i, _)| *i != axis).map(|(_, &size)| size).collect::<Vec<_>>();
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
