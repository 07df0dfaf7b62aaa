//! Features chosen, scaled, filled in and put together.

use super::{Inputs, Rows, one, sizes};
use crate::array::{Positions, count};
use crate::operator::{ANY, Entry, Parsed, RawNode, Schema, eval};
use crate::ops::concat;
use crate::ops::gather::positions;
use crate::{Array, DType, Error, Result, Value};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::plain(Schema::of("ai.onnx.ml", "ArrayFeatureExtractor", &[1], (2, 2)), extract),
    Entry::new(Schema::of("ai.onnx.ml", "Binarizer", &[1], (1, 1)).attributes(&["threshold"]), binarize),
    Entry::new(Schema::of("ai.onnx.ml", "Scaler", &[1], (1, 1)).attributes(&["offset", "scale"]), scale),
    Entry::new(Schema::of("ai.onnx.ml", "Normalizer", &[1], (1, 1)).attributes(&["norm"]), normalize),
    Entry::new(
        Schema::of("ai.onnx.ml", "Imputer", &[1], (1, 1)).attributes(&[
            "imputed_value_floats",
            "imputed_value_int64s",
            "replaced_value_float",
            "replaced_value_int64",
        ]),
        impute,
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "FeatureVectorizer", &[1], (1, ANY)).attributes(&["inputdimensions"]),
        vectorize,
    ),
];

/// Elements of the last axis; a list is one observation.
fn extract(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (x, indices) = (inputs.array(0)?, inputs.array(1)?);
    let x = if x.rank() < 2 { &x.reshaped(vec![1, x.len()])? } else { x };
    let mut axes = vec![None; x.rank()];
    axes[x.rank() - 1] = Some(positions(indices, x.shape()[x.rank() - 1])?);
    one(x.select(&axes)?)
}

fn binarize(node: &RawNode) -> Parsed {
    let threshold = f64::from(node.attributes.float_or("threshold", 0.0)?);
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let values = x.floats()?.into_iter().map(|value| f64::from(value > threshold)).collect();
        one(Array::of_floats(x.dtype(), x.shape().to_vec(), values)?)
    })
}

/// One value for all features, or one for each.
fn per_feature(name: &str, given: &[f32], columns: usize) -> Result<Vec<f64>> {
    match given {
        [only] => Ok(vec![f64::from(*only); columns]),
        all if all.len() == columns => Ok(all.iter().map(|&value| f64::from(value)).collect()),
        all => Err(Error::invalid(format!("attribute '{name}' holds {} values for {columns} features", all.len()))),
    }
}

fn scale(node: &RawNode) -> Parsed {
    let offsets = node.attributes.floats("offset")?.unwrap_or(&[0.0]).to_vec();
    let scales = node.attributes.floats("scale")?.unwrap_or(&[1.0]).to_vec();
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let columns = x.shape().last().copied().unwrap_or(1);
        let offset = per_feature("offset", &offsets, columns)?;
        let scale = per_feature("scale", &scales, columns)?;
        let values = x.floats()?.into_iter().enumerate();
        let values = values.map(|(i, value)| ((value - offset[i % columns]) * scale[i % columns]) as f32);
        one(Array::new(x.shape().to_vec(), values.collect())?)
    })
}

fn normalize(node: &RawNode) -> Parsed {
    let norm: fn(&[f64]) -> f64 = match node.attributes.text_or("norm", "MAX")? {
        "MAX" => |row| row.iter().fold(0.0, |most, value| value.abs().max(most)),
        "L1" => |row| row.iter().map(|value| value.abs()).sum(),
        "L2" => |row| row.iter().map(|value| value * value).sum::<f64>().sqrt(),
        other => return Err(Error::invalid(format!("norm is '{other}', not MAX, L1 or L2"))),
    };
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let rows = Rows::new(x)?;
        let values = rows.iter().flat_map(|row| {
            let by = norm(row).max(1e-30);
            row.iter().map(move |value| (value / by) as f32)
        });
        one(Array::new(x.shape().to_vec(), values.collect())?)
    })
}

/// Puts values where one stands that means "missing" (often NaN).
fn impute(node: &RawNode) -> Parsed {
    let attributes = &node.attributes;
    let fill_ints = attributes.ints("imputed_value_int64s")?.unwrap_or_default().to_vec();
    let missing_int = attributes.int_or("replaced_value_int64", 0)?;
    let fill_floats = attributes.floats("imputed_value_floats")?.unwrap_or_default().to_vec();
    let missing = f64::from(attributes.float_or("replaced_value_float", 0.0)?);
    eval(move |inputs| {
        let x = inputs.array(0)?;
        let columns = x.shape().last().copied().unwrap_or(1);
        let misfit = |found: usize| Error::invalid(format!("{found} values to fill in for {columns} features"));
        if x.dtype() == DType::I64 {
            let fill = &fill_ints;
            if fill.len() != 1 && fill.len() != columns {
                return Err(misfit(fill.len()));
            }
            let missing = missing_int;
            let values = x.expect::<i64>()?.iter().enumerate();
            let values =
                values.map(|(i, &value)| if value == missing { fill[i % columns % fill.len()] } else { value });
            return one(Array::new(x.shape().to_vec(), values.collect())?);
        }
        let fill = per_feature("imputed_value_floats", &fill_floats, columns)?;
        let is_missing = |value: f64| value == missing || value.is_nan() && missing.is_nan();
        let values = x.floats()?.into_iter().enumerate();
        let values = values.map(|(i, value)| if is_missing(value) { fill[i % columns] } else { value });
        one(Array::of_floats(x.dtype(), x.shape().to_vec(), values.collect())?)
    })
}

/// Features side by side, each cut or filled with zeros to the number of columns it should have.
fn vectorize(node: &RawNode) -> Parsed {
    let widths = sizes(node.attributes.ints("inputdimensions")?.unwrap_or_default())?;
    eval(move |inputs| {
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
    })
}
