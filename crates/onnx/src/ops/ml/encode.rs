//! Labels and categories as numbers, and back.

use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use std::collections::HashMap;

use super::one;
use crate::array::{Data, count};
use crate::{Array, DType, Error, Result};

pub(in crate::ops) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::of("ai.onnx.ml", "LabelEncoder", &[1, 2, 4], (1, 1)).attributes(&[
            "classes_strings<2",
            "default_float@2",
            "default_int64",
            "default_string",
            "default_tensor@4",
            "keys_floats@2",
            "keys_int64s@2",
            "keys_strings@2",
            "keys_tensor@4",
            "values_floats@2",
            "values_int64s@2",
            "values_strings@2",
            "values_tensor@4",
        ]),
        encode_labels,
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "CategoryMapper", &[1], (1, 1)).attributes(&[
            "cats_int64s",
            "cats_strings",
            "default_int64",
            "default_string",
        ]),
        map_categories,
    ),
    Entry::new(
        Schema::of("ai.onnx.ml", "OneHotEncoder", &[1], (1, 1)).attributes(&["cats_int64s", "cats_strings", "zeros"]),
        encode_one_hot,
    ),
];

/// A value that can be looked up. Floats are their bits, with one zero and one NaN.
#[derive(Hash, PartialEq, Eq)]
enum Key {
    Int(i128),
    Float(u64),
    Text(String),
}

fn keys(x: &Array) -> Result<Vec<Key>> {
    if let Some(texts) = x.values::<String>() {
        return Ok(texts.iter().cloned().map(Key::Text).collect());
    }
    if x.dtype().is_float() {
        let bits = |value: f64| if value.is_nan() { f64::NAN.to_bits() } else { (value + 0.0).to_bits() };
        return Ok(x.floats()?.into_iter().map(|value| Key::Float(bits(value))).collect());
    }
    Ok(x.ints()?.into_iter().map(Key::Int).collect())
}

/// A table: values by their keys, and the value of what has no key.
struct Table {
    positions: HashMap<Key, usize>,
    keys: DType,
    /// The values in order, then the one without a key.
    values: Data,
    default: usize,
}

impl Table {
    fn new(known: &Array, values: &Array, default: &Array) -> Result<Self> {
        if known.len() != values.len() || default.len() != 1 || default.dtype() != values.dtype() {
            return Err(Error::invalid(format!(
                "{} keys of {}, {} values of {} and a default of {} do not fit together",
                known.len(),
                known.dtype(),
                values.len(),
                values.dtype(),
                default.dtype()
            )));
        }
        // Of a key that is there twice, the last counts.
        let positions = keys(known)?.into_iter().enumerate().map(|(i, key)| (key, i)).collect();
        let pool =
            Data::concat(&[values.data(), default.data()]).ok_or_else(|| Error::invalid("there are no values"))?;
        Ok(Self { positions, keys: known.dtype(), values: pool, default: values.len() })
    }

    /// Each element as the value of its key.
    fn look_up(&self, x: &Array) -> Result<Array> {
        if self.keys != x.dtype() {
            return Err(Error::invalid(format!("keys of {} do not fit inputs of {}", self.keys, x.dtype())));
        }
        let from: Vec<_> =
            keys(x)?.iter().map(|key| self.positions.get(key).copied().unwrap_or(self.default)).collect();
        Array::from_data(x.shape().to_vec(), self.values.take(&from))
    }
}

/// Version 1 has a list of classes: texts become their positions, and positions texts.
fn encode_labels(node: &RawNode) -> Parsed {
    let attributes = &node.attributes;
    if let Some(classes) = attributes.texts("classes_strings")? {
        let numbers = Array::vector((0..classes.len() as i64).collect());
        return both_ways(node, &Array::vector(classes), &numbers);
    }
    let list = |kind: &str| -> Result<Option<Array>> {
        let name = |suffix: &str| format!("{kind}_{suffix}");
        Ok(
            match (
                attributes.texts(&name("strings"))?,
                attributes.ints(&name("int64s"))?,
                attributes.floats(&name("floats"))?,
            ) {
                (Some(texts), ..) => Some(Array::vector(texts)),
                (_, Some(ints), _) => Some(Array::vector(ints.to_vec())),
                (.., Some(floats)) => Some(Array::vector(floats.to_vec())),
                _ => attributes.array(&name("tensor"))?.cloned(),
            },
        )
    };
    let keys = list("keys")?.ok_or_else(|| Error::invalid("it has no keys"))?;
    let values = list("values")?.ok_or_else(|| Error::invalid("it has no values"))?;
    let default = match (attributes.array("default_tensor")?, values.dtype()) {
        (Some(default), _) => default.clone(),
        (None, DType::Str) => Array::scalar(attributes.text_or("default_string", "_Unused")?.to_string()),
        (None, dtype) if dtype.is_float() => {
            Array::filled(dtype, &[], f64::from(attributes.float_or("default_float", -0.0)?))?
        }
        (None, dtype) => Array::of_ints(dtype, Vec::new(), vec![attributes.int_or("default_int64", -1)?.into()])?,
    };
    let table = Table::new(&keys, &values, &default)?;
    eval(move |inputs| one(table.look_up(inputs.array(0)?)?))
}

/// Texts to integers, or integers to texts, whichever comes in.
fn both_ways(node: &RawNode, texts: &Array, numbers: &Array) -> Parsed {
    let number = Array::scalar(node.attributes.int_or("default_int64", -1)?);
    let text = Array::scalar(node.attributes.text_or("default_string", "_Unused")?.to_string());
    let (from_texts, from_numbers) = (Table::new(texts, numbers, &number)?, Table::new(numbers, texts, &text)?);
    eval(move |inputs| {
        let x = inputs.array(0)?;
        one(if x.dtype() == DType::Str { from_texts.look_up(x)? } else { from_numbers.look_up(x)? })
    })
}

fn map_categories(node: &RawNode) -> Parsed {
    let texts = Array::vector(node.attributes.texts("cats_strings")?.unwrap_or_default());
    let numbers = Array::vector(node.attributes.ints("cats_int64s")?.unwrap_or_default().to_vec());
    both_ways(node, &texts, &numbers)
}

fn encode_one_hot(node: &RawNode) -> Parsed {
    let categories = match (node.attributes.texts("cats_strings")?, node.attributes.ints("cats_int64s")?) {
        (Some(texts), _) if !texts.is_empty() => Array::vector(texts),
        (_, Some(numbers)) => Array::vector(numbers.to_vec()),
        _ => return Err(Error::invalid("it has no categories")),
    };
    let zeros = node.attributes.flag("zeros", true)?;
    let table: HashMap<Key, usize> = keys(&categories)?.into_iter().enumerate().map(|(i, key)| (key, i)).collect();
    eval(move |inputs| {
        let x = inputs.array(0)?;
        // Whole numbers may come as floats.
        let x = if categories.dtype() == DType::I64 && x.dtype() != DType::Str {
            &Array::new(x.shape().to_vec(), x.int64s()?)?
        } else {
            x
        };
        if x.dtype() != categories.dtype() {
            return Err(Error::invalid(format!("inputs of {} for categories of {}", x.dtype(), categories.dtype())));
        }
        let shape = [x.shape(), &[categories.len()]].concat();
        let mut values = vec![0_f32; count(&shape)?];
        for (i, key) in keys(x)?.iter().enumerate() {
            match table.get(key) {
                Some(at) => values[i * categories.len() + at] = 1.0,
                None if zeros => {}
                None => return Err(Error::invalid(format!("element {i} is of no known category"))),
            }
        }
        one(Array::new(shape, values)?)
    })
}
