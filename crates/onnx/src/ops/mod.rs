//! Operators on the host, a module for each family. Each family has a table from names to functions.
//!
//! A function gets the node (for its attributes and the version of the operator set) and the inputs, and gives the outputs in
//! order; outputs that nobody wants may be given all the same. Values come from files of strangers: shapes are checked before
//! anything is indexed.

mod activation;
mod attention;
mod binary;
mod casting;
mod conv;
mod conv_deform;
mod conv_quantized;
mod cumulative;
mod detection;
mod einsum;
mod erf;
mod flex_attention;
mod fourier;
mod fused;
mod gather;
mod grid_sample;
mod inputs;
mod layer_norm;
mod loss;
mod matmul;
mod mersenne;
mod microsoft;
mod microsoft_attention;
mod ml;
mod movement;
mod ngrams;
mod normalize;
mod order;
mod padding;
mod pool;
mod pool_regions;
mod product;
mod quantize;
mod random;
mod real;
mod recurrent;
mod recurrent_activation;
mod recurrent_attention;
mod reduce;
mod resize;
mod resize_axis;
mod scatter;
mod sequence;
mod shape;
mod signal;
mod softmax;
mod text;
mod training;
mod unary;
mod vector_math;
mod window;

pub(crate) use flex_attention::flex_attention;
pub(crate) use fused::find as find_fused;
pub use inputs::Inputs;
pub(crate) use random::DRAWING;

use crate::array::{Data, count};
use crate::{Array, DType, Error, Node, Result, Value};

/// An operator on the host.
pub type HostOp = fn(&Node, &Inputs<'_>) -> Result<Vec<Value>>;

/// The families of the standard domain.
const FAMILIES: &[fn(&str) -> Option<HostOp>] = &[
    unary::find,
    binary::find,
    activation::find,
    matmul::find,
    reduce::find,
    softmax::find,
    casting::find,
    shape::find,
    movement::find,
    padding::find,
    gather::find,
    scatter::find,
    order::find,
    cumulative::find,
    quantize::find,
    sequence::find,
    text::find,
    ngrams::find,
    random::find,
    conv::find,
    conv_deform::find,
    conv_quantized::find,
    pool::find,
    pool_regions::find,
    einsum::find,
    layer_norm::find,
    normalize::find,
    attention::find,
    recurrent_attention::find,
    loss::find,
    grid_sample::find,
    resize::find,
    recurrent::find,
    signal::find,
    detection::find,
];

/// The operator of a domain (empty for the standard one) and name, if it is implemented at that version.
pub fn find(domain: &str, operator: &str, _version: i64) -> Option<HostOp> {
    match domain {
        "" => FAMILIES.iter().find_map(|family| family(operator)),
        "ai.onnx.ml" => ml::find(operator),
        "ai.onnx.preview.training" => training::find(operator),
        "com.microsoft" => microsoft::find(operator),
        _ => None,
    }
}

/// One output.
fn one(array: Array) -> Result<Vec<Value>> {
    Ok(vec![array.into()])
}

/// Integers as sizes.
///
/// # Errors
/// When one is negative.
fn sizes(values: &[i64]) -> Result<Vec<usize>> {
    let sizes: Option<_> = values.iter().map(|&size| usize::try_from(size).ok()).collect();
    sizes.ok_or_else(|| Error::invalid(format!("{values:?} should not be negative")))
}

/// The element type that an attribute names by ONNX's number; 0 is none.
///
/// # Errors
/// When there is no such type.
fn dtype_attribute(node: &Node, name: &str) -> Result<Option<DType>> {
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
