//! `FlexAttention`: attention whose scores and probabilities the model itself modifies, by nested graphs.

use super::Inputs;
use super::attention::{Heads, precision, products, scaled};
use super::matmul::matmul;
use super::product::Ring;
use super::real::{Real, read, with_real, write};
use super::softmax::{rows, softmax_in};
use crate::array::Rounding;
use crate::operator::RawNode;
use crate::{Array, DType, Error, Result};

/// What a nested graph makes of scores or probabilities, which keep shape and type.
type Modify<'m> = &'m dyn Fn(&str, Array) -> Result<Array>;

/// Runs a node; `modify` runs its graph of a name (`score_mod`, `prob_mod`), if it has one.
pub(crate) fn flex_attention(node: &RawNode, inputs: &Inputs<'_>, modify: Modify<'_>) -> Result<Array> {
    let (q, k, v) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?);
    if k.dtype() != q.dtype() || v.dtype() != q.dtype() {
        return Err(Error::invalid(format!(
            "queries, keys and values have the types {}, {} and {}",
            q.dtype(),
            k.dtype(),
            v.dtype()
        )));
    }
    let heads = Heads::new(q, k, v)?;
    let default = if q.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    let precision = precision(node)?.unwrap_or(default);
    let scale = node.attributes.float("scale")?.map_or(1.0 / (heads.depth as f64).sqrt(), f64::from);
    let scores = with_real!(q.dtype(), T => all_products::<T>(q, k, &heads, scale))?;
    let scores = modified(modify, "score_mod", scores.cast(precision, true, Rounding::Nearest)?)?;
    let shape = scores.shape().to_vec();
    let probabilities = with_real!(precision, T => {
        let values = rows(read::<T>(&scores)?.into_owned(), heads.columns, 1, |row| softmax_in(precision, row));
        write(precision, shape, values)
    })?;
    let probabilities = modified(modify, "prob_mod", probabilities)?;
    // Query heads that share a head of values are rows of one product.
    let Heads { batch, queries, group, rows, columns, width, .. } = heads;
    let shared = probabilities.reshaped(vec![batch, queries / group.max(1), group * rows, columns])?;
    let output = matmul(&shared, &v.cast(precision, true, Rounding::Nearest)?)?;
    output.reshaped(vec![batch, queries, rows, width])?.cast(q.dtype(), true, Rounding::Nearest)
}

fn all_products<T: Real + Ring>(q: &Array, k: &Array, heads: &Heads, scale: f64) -> Result<Array> {
    let (qs, ks): (Vec<T>, Vec<T>) = (scaled(q, scale)?, scaled(k, scale)?);
    let mut scores = Vec::new();
    for (sample, head) in (0..heads.batch).flat_map(|sample| (0..heads.queries).map(move |head| (sample, head))) {
        scores.append(&mut products(&qs, &ks, heads, (sample, head), q.dtype())?);
    }
    write(q.dtype(), vec![heads.batch, heads.queries, heads.rows, heads.columns], scores)
}

fn modified(modify: Modify<'_>, name: &str, array: Array) -> Result<Array> {
    let (shape, dtype) = (array.shape().to_vec(), array.dtype());
    let result = modify(name, array)?;
    if result.shape() != shape || result.dtype() != dtype {
        let found = format!("{}{:?}", result.dtype(), result.shape());
        return Err(Error::invalid(format!("its graph '{name}' gives {found}, which must be {dtype}{shape:?}")));
    }
    Ok(result)
}
