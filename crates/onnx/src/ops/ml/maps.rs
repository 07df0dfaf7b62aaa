//! Maps: made of scores, and made into tensors.

use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use std::collections::BTreeMap;

use super::scores::Labels;
use super::{Rows, one};
use crate::array::{Rounding, count};
use crate::{Array, DType, Error, Value};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::of("ai.onnx.ml", "ZipMap", &[1], (1, 1)).attributes(&["classlabels_int64s", "classlabels_strings"]),
        zip,
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "DictVectorizer", &[1], (1, 1)).attributes(&["int64_vocabulary", "string_vocabulary"]),
        vectorize,
    ),
    Entry::new(Schema::of("ai.onnx.ml", "CastMap", &[1], (1, 1)).attributes(&["cast_to", "map_form", "max_map"]), cast),
];

/// A map from class to score for each observation.
fn zip(node: &RawNode) -> Parsed {
    let labels = Labels::of(node, "classlabels_int64s", "classlabels_strings")?;
    eval(move |inputs| {
        let rows = Rows::new(inputs.array(0)?)?;
        if rows.columns != labels.len() {
            return Err(Error::invalid(format!("{} classes for {} scores", labels.len(), rows.columns)));
        }
        let score = |score: &f64| Value::from(Array::scalar(*score as f32));
        let map = |row: &[f64]| match &labels {
            Labels::Ints(labels) => Value::IntMap(labels.iter().copied().zip(row.iter().map(score)).collect()),
            Labels::Texts(labels) => Value::StrMap(labels.iter().cloned().zip(row.iter().map(score)).collect()),
        };
        Ok(vec![Value::Sequence(rows.iter().map(map).collect())])
    })
}

/// The values of a map in the order of a vocabulary; 0, or the empty text, for what is not there.
fn vectorize(node: &RawNode) -> Parsed {
    let vocabulary = Labels::of(node, "int64_vocabulary", "string_vocabulary")?;
    eval(move |inputs| {
        let row: Vec<Option<&Array>> = match (inputs.value(0)?, &vocabulary) {
            (Value::IntMap(map), Labels::Ints(keys)) => {
                keys.iter().map(|key| map.get(key).map(Value::array).transpose()).collect::<crate::Result<_>>()?
            }
            (Value::StrMap(map), Labels::Texts(keys)) => {
                keys.iter().map(|key| map.get(key).map(Value::array).transpose()).collect::<crate::Result<_>>()?
            }
            (other, _) => {
                return Err(Error::invalid(format!(
                    "expected a map with keys like its vocabulary, found {}",
                    other.kind()
                )));
            }
        };
        let dtype = row.iter().flatten().next().map_or(DType::F32, |first| first.dtype());
        if row.iter().flatten().any(|value| value.len() != 1 || value.dtype() != dtype) {
            return Err(Error::invalid("the values of the map are no single values of one type"));
        }
        let zero = Array::from_data(Vec::new(), crate::Data::zeros(dtype, 1))?;
        let parts =
            row.into_iter().map(|value| value.unwrap_or(&zero).reshaped(vec![1])).collect::<crate::Result<Vec<_>>>()?;
        one(crate::ops::concat(&parts.iter().collect::<Vec<_>>(), 0)?.reshaped(vec![1, parts.len()])?)
    })
}

/// The values of a map in the order of its keys, or each at the position that its key says.
fn cast(node: &RawNode) -> Parsed {
    let dtype = match node.attributes.text_or("cast_to", "TO_FLOAT")? {
        "TO_FLOAT" => DType::F32,
        "TO_INT64" => DType::I64,
        "TO_STRING" => DType::Str,
        other => return Err(Error::invalid(format!("cast_to is '{other}', not TO_FLOAT, TO_INT64 or TO_STRING"))),
    };
    let length = match node.attributes.text_or("map_form", "DENSE")? {
        "SPARSE" => Some(super::sizes(&[node.attributes.int_or("max_map", 1)?])?[0]),
        _ => None,
    };
    eval(move |inputs| {
        let Value::IntMap(map) = inputs.value(0)? else {
            return Err(Error::invalid(format!("expected a map with integer keys, found {}", inputs.value(0)?.kind())));
        };
        let single = |value: &Value| value.array()?.cast(dtype, true, Rounding::Nearest)?.reshaped(vec![1]);
        let values =
            map.iter().map(|(key, value)| Ok((*key, single(value)?))).collect::<crate::Result<BTreeMap<_, _>>>()?;
        let zero = Array::from_data(vec![1], crate::Data::zeros(dtype, 1))?;
        let parts: Vec<&Array> = match length {
            Some(length) => (0..count(&[length])? as i64).map(|key| values.get(&key).unwrap_or(&zero)).collect(),
            None => values.values().collect(),
        };
        one(crate::ops::concat(&parts, 0)?.reshaped(vec![1, parts.len()])?)
    })
}
