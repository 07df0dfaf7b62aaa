//! Arguments of nodes.

use serde_json::Value as Json;

use super::json::{self, case};
use super::lower::{Run, name_of};
use crate::lower::{Float, Value};
use crate::{Error, Result};

impl Run {
    pub(super) fn known(&self, name: &str) -> Result<Value> {
        match self.values.get(name) {
            Some(Value::None) => Err(Error::beyond(format!(
                "reading '{name}' (positions of a pool, or statistics that are kept for the gradient)"
            ))),
            Some(value) => Ok(value.clone()),
            None => Err(Error::invalid(format!("nothing computes '{name}'"))),
        }
    }

    /// An argument of a node.
    pub(super) fn argument(&mut self, json: &Json) -> Result<Value> {
        let (kind, value) = case(json)?;
        let invalid = || Error::invalid(format!("an argument of kind '{kind}' holds {value}"));
        let elements = || value.as_array().ok_or_else(invalid);
        Ok(match kind {
            "as_none" => Value::None,
            "as_tensor" => self.known(name_of(value, "name")?)?,
            "as_tensors" => {
                let tensors = elements()?.iter().map(|tensor| self.known(name_of(tensor, "name")?));
                Value::List(tensors.collect::<Result<_>>()?)
            }
            "as_optional_tensors" => {
                let tensors = elements()?.iter().map(|tensor| match tensor.get("as_tensor") {
                    Some(tensor) => self.known(name_of(tensor, "name")?),
                    None => Ok(Value::None),
                });
                Value::List(tensors.collect::<Result<_>>()?)
            }
            "as_int" => Value::int(value.as_i64().ok_or_else(invalid)?),
            "as_ints" => {
                let ints = elements()?.iter().map(|int| int.as_i64().map(Value::int).ok_or_else(invalid));
                Value::List(ints.collect::<Result<_>>()?)
            }
            "as_float" => Value::Float(Float::Known(json::float(value).ok_or_else(invalid)?)),
            "as_floats" => {
                let floats = elements()?
                    .iter()
                    .map(|float| json::float(float).map(|float| Value::Float(Float::Known(float))).ok_or_else(invalid));
                Value::List(floats.collect::<Result<_>>()?)
            }
            "as_bool" => Value::Bool(value.as_bool().ok_or_else(invalid)?),
            "as_bools" => {
                let bools = elements()?.iter().map(|bool| bool.as_bool().map(Value::Bool).ok_or_else(invalid));
                Value::List(bools.collect::<Result<_>>()?)
            }
            "as_string" => Value::Str(value.as_str().ok_or_else(invalid)?.to_string()),
            "as_strings" => {
                let texts = elements()?
                    .iter()
                    .map(|text| text.as_str().map(|text| Value::Str(text.to_string())).ok_or_else(invalid));
                Value::List(texts.collect::<Result<_>>()?)
            }
            "as_sym_int" | "as_sym_bool" | "as_sym_float" => self.symbol(value)?,
            "as_sym_ints" | "as_sym_floats" => {
                Value::List(elements()?.iter().map(|symbol| self.symbol(symbol)).collect::<Result<_>>()?)
            }
            "as_scalar_type" => {
                let number = value.as_i64().ok_or_else(invalid)?;
                match json::complex_part(number) {
                    Some(part) => Value::ComplexType(part),
                    None => Value::DType(json::dtype(number)?),
                }
            }
            "as_device" | "as_layout" | "as_memory_format" => Value::Other,
            "as_nested_tensors" => {
                let mut lists = Vec::new();
                for list in elements()? {
                    let tensors = list.as_array().ok_or_else(invalid)?;
                    let tensors = tensors.iter().map(|tensor| self.known(name_of(tensor, "name")?));
                    lists.push(Value::List(tensors.collect::<Result<_>>()?));
                }
                Value::List(lists)
            }
            other => return Err(Error::beyond(format!("an argument of kind '{other}'"))),
        })
    }

    pub(super) fn symbol(&mut self, json: &Json) -> Result<Value> {
        if let Some(name) = json.get("as_name").and_then(Json::as_str) {
            return self.known(name);
        }
        let (kind, value) = case(json)?;
        let invalid = || Error::invalid(format!("a number of kind '{kind}' holds {value}"));
        Ok(match kind {
            "as_int" => Value::int(value.as_i64().ok_or_else(invalid)?),
            "as_float" => Value::Float(Float::Known(json::float(value).ok_or_else(invalid)?)),
            "as_bool" => Value::Bool(value.as_bool().ok_or_else(invalid)?),
            _ => return Err(invalid()),
        })
    }
}
