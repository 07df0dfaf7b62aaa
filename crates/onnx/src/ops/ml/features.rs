//! Features chosen, scaled, filled in and put together.

use super::{HostOp, Inputs, Rows, one, sizes};
use crate::array::{Positions, count};
use crate::ops::concat;
use crate::ops::gather::positions;
use crate::{Array, DType, Error, Node, Result, Value};

pub(super) fn find(operator: &str) -> Option<HostOp> {
    Some(match operator {
        "ArrayFeatureExtractor" => extract,
        "Binarizer" => binarize,
        "Scaler" => scale,
        "Normalizer" => normalize,
        "Imputer" => impute,
        "FeatureVectorizer" => vectorize,
        _ => return None,
    })
}

/// Elements of the last axis; a list is one observation.
fn extract(_: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (x, indices) = (inputs.array(0)?, inputs.array(1)?);
    let x = if x.rank() < 2 { &x.reshaped(vec![1, x.len()])? } else { x };
    let mut axes = vec![None; x.rank()];
    axes[x.rank() - 1] = Some(positions(indices, x.shape()[x.rank() - 1])?);
    one(x.select(&axes)?)
}

fn binarize(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let threshold = f64::from(node.attributes.float_or("threshold", 0.0)?);
    let values = x.floats()?.into_iter().map(|value| f64::from(value > threshold)).collect();
    one(Array::of_floats(x.dtype(), x.shape().to_vec(), values)?)
}

/// One value for all features, or one for each.
fn per_feature(name: &str, given: &[f32], columns: usize) -> Result<Vec<f64>> {
    match given {
        [only] => Ok(vec![f64::from(*only); columns]),
        all if all.len() == columns => Ok(all.iter().map(|&value| f64::from(value)).collect()),
        all => Err(Error::invalid(format!("attribute '{name}' holds {} values for {columns} features", all.len()))),
    }
}

fn scale(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let columns = x.shape().last().copied().unwrap_or(1);
    let offset = per_feature("offset", node.attributes.floats("offset")?.unwrap_or(&[0.0]), columns)?;
    let scale = per_feature("scale", node.attributes.floats("scale")?.unwrap_or(&[1.0]), columns)?;
    let values = x
        .floats()?
        .into_iter()
        .enumerate()
        .map(|(i, value)| ((value - offset[i % columns]) * scale[i % columns]) as f32);
    one(Array::new(x.shape().to_vec(), values.collect())?)
}

fn normalize(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let norm: fn(&[f64]) -> f64 = match node.attributes.text_or("norm", "MAX")? {
        "MAX" => |row| row.iter().fold(0.0, |most, value| value.abs().max(most)),
        "L1" => |row| row.iter().map(|value| value.abs()).sum(),
        "L2" => |row| row.iter().map(|value| value * value).sum::<f64>().sqrt(),
        other => return Err(Error::invalid(format!("norm is '{other}', not MAX, L1 or L2"))),
    };
    let rows = Rows::new(x)?;
    let values = rows.iter().flat_map(|row| {
        let by = norm(row).max(1e-30);
        row.iter().map(move |value| (value / by) as f32)
    });
    one(Array::new(x.shape().to_vec(), values.collect())?)
}

/// Puts values where one stands that means "missing" (often NaN).
fn impute(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let columns = x.shape().last().copied().unwrap_or(1);
    let attributes = &node.attributes;
    let misfit = |found: usize| Error::invalid(format!("{found} values to fill in for {columns} features"));
    if x.dtype() == DType::I64 {
        let fill = attributes.ints("imputed_value_int64s")?.unwrap_or_default();
        if fill.len() != 1 && fill.len() != columns {
            return Err(misfit(fill.len()));
        }
        let missing = attributes.int_or("replaced_value_int64", 0)?;
        let values = x.expect::<i64>()?.iter().enumerate();
        let values = values.map(|(i, &value)| if value == missing { fill[i % columns % fill.len()] } else { value });
        return one(Array::new(x.shape().to_vec(), values.collect())?);
    }
    let fill =
        per_feature("imputed_value_floats", attributes.floats("imputed_value_floats")?.unwrap_or_default(), columns)?;
    let missing = f64::from(attributes.float_or("replaced_value_float", 0.0)?);
    let is_missing = |value: f64| value == missing || value.is_nan() && missing.is_nan();
    let values = x.floats()?.into_iter().enumerate();
    let values = values.map(|(i, value)| if is_missing(value) { fill[i % columns] } else { value });
    one(Array::of_floats(x.dtype(), x.shape().to_vec(), values.collect())?)
}

/// Features side by side, each cut or filled with zeros to the number of columns it should have.
fn vectorize(node: &Node, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let widths = sizes(node.attributes.ints("inputdimensions")?.unwrap_or_default())?;
    let mut parts = Vec::new();
    for (i, x) in inputs.arrays()?.into_iter().enumerate() {
        let rows = Rows::new(x)?;
        let part = Array::of_floats(DType::F32, vec![rows.rows, rows.columns], rows.values)?;
        let width = widths.get(i).copied().unwrap_or(rows.columns);
        count(&[rows.rows, width])?;
        let columns: Positions = (0..width).map(|column| (column < rows.columns).then_some(column)).collect();
        parts.push(part.select_or(&[(0..rows.rows).map(Some).collect(), columns], &Array::scalar(0_f32))?);
    }
    one(concat(&parts.iter().collect::<Vec<_>>(), 1)?)
}
