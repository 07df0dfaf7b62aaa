//! Writing a tree in the format that a file's name asks for.

use std::collections::HashMap;
use std::path::Path;

use crate::walk::MAX_DEPTH;
use crate::{DType, Data, Error, Format, ParamIds, Result, StateDict, Tensor, Value, format_for, module_state_dict};

/// How a tree is written.
#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    /// The format; that of the file's extension otherwise.
    pub format: Option<&'static dyn Format>,
    /// Another element type for floating tensors.
    pub dtype: Option<DType>,
    /// Text to store beside the tensors, where the format has a place for it (safetensors, burnpack).
    pub metadata: Vec<(String, String)>,
    /// Burn's identities of parameters, for burnpack.
    pub param_ids: ParamIds,
}

/// Writes a tree as a file, which appears whole or not at all. Returns notes on what the format could not say.
///
/// A pickled module is written as its `state_dict()`.
///
/// # Errors
/// When the format is not known, the file cannot be written, or a tensor cannot be read.
pub fn save(path: &Path, root: &Value, options: &SaveOptions) -> Result<Vec<String>> {
    let format = options.format.map_or_else(|| format_for(path), Ok)?;
    let Some(write) = format.writer() else {
        return Err(Error::unsupported(format!("{} is a format that is only read", format.name())).at(path));
    };
    let mut preparation = Preparation { dtype: options.dtype, cast: HashMap::new(), notes: Vec::new() };
    let root = preparation.value(root, "", 0).map_err(|error| error.at(path))?;
    let mut notes = preparation.notes;
    if !options.metadata.is_empty() && !format.keeps_metadata() {
        let keys: Vec<_> = options.metadata.iter().map(|(key, _)| key.as_str()).collect();
        notes.push(format!("the format has no place for metadata: {} left out", keys.join(", ")));
    }
    notes.extend(write(path, &root, options)?);
    Ok(notes)
}

/// What a tensor views: storage, offset, type, shape, strides.
type Viewed = (u64, u64, DType, Vec<u64>, Vec<u64>);

/// Makes the tree to write: modules as their state dicts, floating tensors in another type.
struct Preparation {
    dtype: Option<DType>,
    /// Tensors in the other type, by what they view: those that were the same stay so.
    cast: HashMap<Viewed, Tensor>,
    notes: Vec<String>,
}

impl Preparation {
    fn value(&mut self, value: &Value, path: &str, depth: usize) -> Result<Value> {
        if depth > MAX_DEPTH {
            return Err(Error::unsupported("the values nest too deeply to be written"));
        }
        Ok(match value {
            Value::List(items) => Value::List(self.items(items, path, depth)?),
            Value::Tuple(items) => Value::Tuple(self.items(items, path, depth)?),
            Value::Dict(dict) => {
                let mut out = StateDict::new();
                out.set_kind(dict.kind().clone());
                out.set_metadata(dict.metadata().cloned());
                for (key, value) in dict.iter() {
                    out.insert(key.clone(), self.value(value, &join(path, &key.text()), depth + 1)?);
                }
                Value::Dict(out)
            }
            Value::Tensor(tensor) => {
                Value::Tensor(self.tensor(tensor).map_err(|error| error.within(format!("tensor '{path}'")))?)
            }
            Value::Object(object) => match module_state_dict(object) {
                Some(dict) => {
                    let place = if path.is_empty() { "the file".to_string() } else { format!("'{path}'") };
                    self.notes.push(format!("{place} is a whole {}: its state dict is written", object.class));
                    self.value(&Value::Dict(dict), path, depth + 1)?
                }
                None => value.clone(),
            },
            other => other.clone(),
        })
    }

    fn items(&mut self, items: &[Value], path: &str, depth: usize) -> Result<Vec<Value>> {
        items
            .iter()
            .enumerate()
            .map(|(index, item)| self.value(item, &join(path, &index.to_string()), depth + 1))
            .collect()
    }

    /// A floating strided tensor in the other type, produced when it is written.
    fn tensor(&mut self, tensor: &Tensor) -> Result<Tensor> {
        let (Some(dtype), Data::Strided(view)) = (self.dtype, tensor.data()) else { return Ok(tensor.clone()) };
        if !tensor.dtype().is_float() || tensor.dtype() == dtype {
            return Ok(tensor.clone());
        }
        let viewed = (view.storage.id(), view.offset, tensor.dtype(), tensor.shape().to_vec(), view.strides.clone());
        let mut cast = match self.cast.get(&viewed) {
            Some(cast) if !view.negative => cast.clone(),
            _ => tensor.cast_lazily(dtype)?,
        };
        cast.parameter = tensor.parameter;
        cast.requires_grad = tensor.requires_grad;
        if !view.negative {
            self.cast.insert(viewed, cast.clone());
        }
        Ok(cast)
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}/{name}") }
}
