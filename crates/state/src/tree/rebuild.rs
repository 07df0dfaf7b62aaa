//! A tree from named tensors and its structure.

use std::collections::HashMap;

use serde_json::{Map as JsonMap, Value as Json};

use super::scatter::{Part, Scatter};
use super::{APART, MAX_DEPTH, VERSION, rebuildable};
use crate::{
    Array, DType, Data, DictKind, Error, Global, Key, Object, Quantization, Result, StateDict, Storage, Tensor, Value,
    View,
};

/// Rebuilds a tree; `None` when the structure is not one of these tensors (another program changed the file), which is then best
/// read as a plain dictionary.
pub(crate) fn unflatten(structure: &str, tensors: &[(String, Tensor)]) -> Result<Option<Value>> {
    let structure: Json = serde_json::from_str(structure).map_err(|error| broken(&error.to_string()))?;
    if structure.get("version").and_then(Json::as_i64) != Some(VERSION) {
        return Ok(None);
    }
    let list =
        |name: &str| structure.get(name).and_then(Json::as_array).ok_or_else(|| broken(&format!("no list of {name}")));
    let (sizes, nodes) = (list("storages")?, list("nodes")?);
    let root = structure.get("root").ok_or_else(|| broken("no root"))?;
    let mut names = Vec::new();
    let mut shared = Vec::new();
    nodes.iter().chain([root]).try_for_each(|node| survey(node, &mut names, &mut shared))?;
    names.sort_unstable();
    let mut present: Vec<&str> = tensors.iter().map(|(name, _)| name.as_str()).collect();
    present.sort_unstable();
    if names != present {
        return Ok(None);
    }
    let tensors = tensors.iter().map(|(name, tensor)| (name.as_str(), Some(tensor))).collect();
    let mut rebuilder = Rebuilder { tensors, groups: Vec::new(), nodes: nodes.iter().map(Some).collect(), depth: 0 };
    rebuilder.groups = rebuilder.storages(sizes, &shared)?;
    rebuilder.value(root).map(Some)
}

fn broken(why: &str) -> Error {
    Error::damaged(format!("the structure in its 'rekindle' metadata is broken: {why}"))
}

/// Collects the names that a structure refers to, and the nodes that share storages.
fn survey<'a>(node: &'a Json, names: &mut Vec<&'a str>, shared: &mut Vec<&'a JsonMap<String, Json>>) -> Result<()> {
    match node {
        Json::Array(items) => items.iter().try_for_each(|item| survey(item, names, shared)),
        Json::Object(fields) => match first(fields)? {
            ("tensor", name) => {
                names.push(text(name)?);
                if fields.contains_key("storage") {
                    shared.push(fields);
                }
                Ok(())
            }
            (kind, _) => {
                if kind == "quantized" {
                    names.push(text(field(fields, "name")?)?);
                }
                fields.values().try_for_each(|item| survey(item, names, shared))
            }
        },
        _ => Ok(()),
    }
}

/// What a node is: its first field.
fn first(fields: &JsonMap<String, Json>) -> Result<(&str, &Json)> {
    fields.iter().next().map(|(kind, value)| (kind.as_str(), value)).ok_or_else(|| broken("an empty node"))
}

fn field<'a>(fields: &'a JsonMap<String, Json>, name: &str) -> Result<&'a Json> {
    fields.get(name).ok_or_else(|| broken(&format!("a node without '{name}'")))
}

fn text(node: &Json) -> Result<&str> {
    node.as_str().ok_or_else(|| broken("a text is missing"))
}

fn numbers(node: &Json) -> Result<Vec<u64>> {
    let items = node.as_array().ok_or_else(|| broken("a list of numbers is missing"))?;
    items.iter().map(|item| item.as_u64().ok_or_else(|| broken("a size is no number"))).collect()
}

fn dtype(node: &Json) -> Result<DType> {
    text(node)?.parse().map_err(|why: String| broken(&why))
}

fn float(node: &Json) -> Result<f64> {
    let text = text(node)?;
    let parsed = match text.strip_prefix("nan:") {
        Some(bits) => u64::from_str_radix(bits, 16).ok().map(f64::from_bits),
        None => text.parse().ok(),
    };
    parsed.ok_or_else(|| broken("a float is unreadable"))
}

fn unhex(node: &Json) -> Result<Vec<u8>> {
    let digits = text(node)?.as_bytes();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| Some((digit(pair[0])? << 4) | digit(*pair.get(1)?)?)).collect();
    bytes.ok_or_else(|| broken("bytes are unreadable"))
}

fn flag(fields: &JsonMap<String, Json>, name: &str) -> bool {
    fields.get(name).and_then(Json::as_bool).unwrap_or(false)
}

fn global(node: &Json) -> Result<Global> {
    match node.as_array().map(Vec::as_slice) {
        Some([module, name]) => Ok(Global { module: text(module)?.to_string(), name: text(name)?.to_string() }),
        _ => Err(broken("a class is no pair of names")),
    }
}

fn key(node: &Json) -> Result<Key> {
    Ok(match node {
        Json::Null => Key::None,
        Json::Bool(value) => Key::Bool(*value),
        Json::Number(number) => Key::Int(number.as_i64().ok_or_else(|| broken("a key is no integer"))?),
        Json::String(text) => Key::Str(text.clone()),
        Json::Array(_) => return Err(broken("a key is a list")),
        Json::Object(fields) => match first(fields)? {
            ("float", value) => Key::Float(float(value)?.to_bits()),
            ("bytes", value) => Key::Bytes(unhex(value)?),
            ("tuple", value) => {
                let items = value.as_array().ok_or_else(|| broken("a key is unreadable"))?;
                Key::Tuple(items.iter().map(key).collect::<Result<_>>()?)
            }
            ("other", value) => Key::Other(text(value)?.to_string()),
            (kind, _) => return Err(broken(&format!("a key of kind '{kind}'"))),
        },
    })
}

/// A storage that several tensors share, and where its first element is.
struct Group {
    storage: Storage,
    base: u64,
}

struct Rebuilder<'a> {
    /// The file's tensors; taken out when used, so that each is used once.
    tensors: HashMap<&'a str, Option<&'a Tensor>>,
    groups: Vec<Group>,
    /// Nodes that stand apart; taken out when used, so that none contains itself or multiplies.
    nodes: Vec<Option<&'a Json>>,
    /// How many nodes that stand apart contain the one that is being read.
    depth: usize,
}

impl<'a> Rebuilder<'a> {
    /// Makes the shared storages: one of the tensors where it covers all, all tensors put together otherwise.
    fn storages(&self, sizes: &[Json], shared: &[&JsonMap<String, Json>]) -> Result<Vec<Group>> {
        let mut parts: Vec<Vec<Part>> = (0..sizes.len()).map(|_| Vec::new()).collect();
        for fields in shared {
            let group =
                field(fields, "storage")?.as_u64().and_then(|group| parts.get_mut(usize::try_from(group).ok()?));
            let group = group.ok_or_else(|| broken("a storage that there is none of"))?;
            let stored = self.tensors.get(text(field(fields, "tensor")?)?).copied().flatten();
            let tensor = typed(stored.ok_or_else(|| broken("a tensor that there is none of"))?, fields)?;
            let offset = field(fields, "offset")?.as_u64().ok_or_else(|| broken("an offset is no number"))?;
            group.push(Part { tensor, offset, strides: numbers(field(fields, "strides")?)? });
        }
        sizes.iter().zip(parts).map(|(elements, parts)| group(elements, parts)).collect()
    }

    fn value(&mut self, node: &Json) -> Result<Value> {
        Ok(match node {
            Json::Null => Value::None,
            Json::Bool(value) => Value::Bool(*value),
            Json::Number(number) => Value::Int(number.as_i64().ok_or_else(|| broken("a number is no integer"))?),
            Json::String(text) => Value::Str(text.clone()),
            Json::Array(items) => Value::List(self.items(items)?),
            Json::Object(fields) => self.node(fields)?,
        })
    }

    fn items(&mut self, items: &[Json]) -> Result<Vec<Value>> {
        items.iter().map(|item| self.value(item)).collect()
    }

    fn list(&mut self, node: &Json) -> Result<Vec<Value>> {
        self.items(node.as_array().ok_or_else(|| broken("a list is missing"))?)
    }

    fn node(&mut self, fields: &JsonMap<String, Json>) -> Result<Value> {
        let (kind, value) = first(fields)?;
        Ok(match kind {
            "float" => Value::Float(float(value)?),
            "int" => Value::BigInt(text(value)?.parse().map_err(|_| broken("an integer is unreadable"))?),
            "complex" => match value.as_array().map(Vec::as_slice) {
                Some([real, imaginary]) => Value::Complex(float(real)?, float(imaginary)?),
                _ => return Err(broken("a complex number is no pair")),
            },
            "bytes" => Value::Bytes(unhex(value)?),
            "bytearray" => Value::ByteArray(unhex(value)?),
            "tuple" => Value::Tuple(self.list(value)?),
            "set" => Value::Set(self.list(value)?),
            "frozenset" => Value::FrozenSet(self.list(value)?),
            "dict" | "OrderedDict" => Value::Dict(self.dict(fields)?),
            "dtype" => Value::DType(text(value)?.to_string()),
            "device" => Value::Device(text(value)?.to_string()),
            "global" => Value::Global(global(value)?),
            "object" => Value::Object(Box::new(Object {
                class: global(value)?,
                args: self.list(field(fields, "args")?)?,
                state: self.value(field(fields, "state")?)?,
                items: self.list(field(fields, "items")?)?,
                entries: match field(fields, "entries")? {
                    Json::Object(fields) => self.dict(fields)?,
                    _ => return Err(broken("entries are no dictionary")),
                },
            })),
            "array" => Value::Array(Array {
                descr: text(value)?.to_string(),
                scalar: flag(fields, "scalar"),
                tensor: fields.get("tensor").map(|node| self.part(node)).transpose()?,
                raw: fields.get("raw").map(unhex).transpose()?.unwrap_or_default(),
                shape: numbers(field(fields, "shape")?)?,
                objects: fields.get("objects").map(|node| self.list(node)).transpose()?.unwrap_or_default(),
            }),
            "node" => self.node_apart(value)?,
            _ => Value::Tensor(self.tensor(fields)?),
        })
    }

    fn node_apart(&mut self, index: &Json) -> Result<Value> {
        let node =
            index.as_u64().and_then(|index| self.nodes.get_mut(usize::try_from(index).ok()?)).and_then(Option::take);
        let node = node.ok_or_else(|| broken("a node is used twice or not there"))?;
        if self.depth > MAX_DEPTH / APART {
            return Err(broken("it nests too deeply"));
        }
        self.depth += 1;
        let value = self.value(node);
        self.depth -= 1;
        value
    }

    fn dict(&mut self, fields: &JsonMap<String, Json>) -> Result<StateDict> {
        let (kind, entries) = first(fields)?;
        let entries = entries
            .as_array()
            .filter(|entries| entries.len() % 2 == 0)
            .ok_or_else(|| broken("a dictionary has no pairs"))?;
        let mut dict = StateDict::new();
        for pair in entries.chunks_exact(2) {
            let value = self.value(&pair[1])?;
            dict.insert(key(&pair[0])?, value);
        }
        if kind == "OrderedDict" {
            dict.set_kind(DictKind::Ordered);
        } else if let Some(class) = fields.get("class") {
            dict.set_kind(DictKind::Other(global(class)?));
        }
        if let Some(metadata) = fields.get("metadata") {
            dict.set_metadata(Some(self.value(metadata)?));
        }
        Ok(dict)
    }

    /// A tensor that is part of another, or the values of an array.
    fn part(&mut self, node: &Json) -> Result<Tensor> {
        self.tensor(node.as_object().ok_or_else(|| broken("a tensor is missing"))?)
    }

    fn boxed(&mut self, fields: &JsonMap<String, Json>, name: &str) -> Result<Box<Tensor>> {
        self.part(field(fields, name)?).map(Box::new)
    }

    fn stored(&mut self, name: &Json) -> Result<&'a Tensor> {
        let taken = self.tensors.get_mut(text(name)?).and_then(Option::take);
        taken.ok_or_else(|| broken("a tensor is named twice or not there"))
    }

    fn tensor(&mut self, fields: &JsonMap<String, Json>) -> Result<Tensor> {
        let (kind, value) = first(fields)?;
        let mut tensor = match kind {
            "tensor" => self.strided(value, fields)?,
            "meta" => Tensor::with_data(dtype(value)?, &numbers(field(fields, "shape")?)?, Data::Meta),
            "sparse_coo" => {
                let coalesced = fields.get("coalesced").and_then(Json::as_bool);
                let (indices, values) = (self.boxed(fields, "indices")?, self.boxed(fields, "values")?);
                let data = Data::SparseCoo { indices, values, coalesced };
                Tensor::with_data(dtype(value)?, &numbers(field(fields, "shape")?)?, data)
            }
            "sparse_compressed" => {
                let layouts = ["sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"];
                let name = text(field(fields, "layout")?)?;
                let layout =
                    layouts.into_iter().find(|layout| *layout == name).ok_or_else(|| broken("an unknown layout"))?;
                let compressed = self.boxed(fields, "compressed")?;
                let (plain, values) = (self.boxed(fields, "plain")?, self.boxed(fields, "values")?);
                let data = Data::SparseCompressed { layout, compressed, plain, values };
                Tensor::with_data(dtype(value)?, &numbers(field(fields, "shape")?)?, data)
            }
            "quantized" => self.quantized(dtype(value)?, fields)?,
            other => return Err(broken(&format!("a node of kind '{other}'"))),
        };
        tensor.parameter = flag(fields, "parameter");
        tensor.requires_grad = flag(fields, "requires_grad");
        Ok(tensor)
    }

    fn strided(&mut self, name: &Json, fields: &JsonMap<String, Json>) -> Result<Tensor> {
        let tensor = typed(self.stored(name)?, fields)?;
        let Some(group) = fields.get("storage").and_then(Json::as_u64) else { return Ok(tensor) };
        let group = usize::try_from(group)
            .ok()
            .and_then(|group| self.groups.get(group))
            .ok_or_else(|| broken("an unknown storage"))?;
        let offset = field(fields, "offset")?.as_u64().and_then(|offset| offset.checked_add(group.base));
        let offset = offset.ok_or_else(|| broken("an offset is no number"))?;
        let strides = numbers(field(fields, "strides")?)?;
        let view = View { storage: group.storage.clone(), offset, strides, conjugate: false, negative: false };
        Tensor::strided(tensor.dtype(), tensor.shape(), view)
    }

    fn quantized(&mut self, dtype: DType, fields: &JsonMap<String, Json>) -> Result<Tensor> {
        let shape = numbers(field(fields, "shape")?)?;
        let stored = self.stored(field(fields, "name")?)?;
        let storage = stored.view().ok_or_else(|| broken("a tensor without bytes"))?.storage.clone();
        let tensor = Tensor::contiguous(dtype, &shape, storage, 0)?;
        let view = tensor.view().ok_or_else(|| broken("a tensor without bytes"))?.clone();
        let scheme = if fields.contains_key("scales") {
            Quantization::PerChannel {
                scales: self.boxed(fields, "scales")?,
                zero_points: self.boxed(fields, "zero_points")?,
                axis: field(fields, "axis")?.as_i64().ok_or_else(|| broken("an axis is no number"))?,
                float_params: flag(fields, "float_params"),
            }
        } else {
            let zero_point =
                field(fields, "zero_point")?.as_i64().ok_or_else(|| broken("a zero point is no number"))?;
            Quantization::PerTensor { scale: float(field(fields, "scale")?)?, zero_point }
        };
        Ok(Tensor::with_data(dtype, &shape, Data::Quantized { view, scheme }))
    }
}

/// A stored tensor with its true type and shape, where the format had no name for them.
fn typed(stored: &Tensor, fields: &JsonMap<String, Json>) -> Result<Tensor> {
    let Some(name) = fields.get("dtype") else { return Ok(stored.clone()) };
    let view = stored.view().ok_or_else(|| broken("a tensor without bytes"))?;
    let tensor = Tensor::contiguous(dtype(name)?, &numbers(field(fields, "shape")?)?, view.storage.clone(), 0)?;
    if tensor.nbytes() == stored.nbytes() {
        Ok(tensor)
    } else {
        Err(broken("a tensor's bytes are not those of its shape"))
    }
}

fn group(elements: &Json, parts: Vec<Part>) -> Result<Group> {
    let elements = elements.as_u64().ok_or_else(|| broken("a storage's size is no number"))?;
    let seen = parts.iter().fold(0_u64, |seen, part| seen.saturating_add(part.tensor.numel()));
    let size = parts.first().map_or(1, |part| part.tensor.dtype().size());
    let alike =
        parts.iter().all(|part| part.tensor.dtype().size() == size && part.strides.len() == part.tensor.shape().len());
    if !alike || !rebuildable(elements, seen) {
        return Err(broken("a storage does not fit its tensors"));
    }
    for part in &parts {
        if let (Some(view), true) = (part.tensor.view(), part.offset == 0 && part.tensor.numel() == elements) {
            let stored = View { strides: part.strides.clone(), ..view.clone() };
            let whole = Tensor::with_data(part.tensor.dtype(), part.tensor.shape(), Data::Strided(stored));
            if whole.is_contiguous() {
                return Ok(Group { storage: view.storage.clone(), base: view.offset });
            }
        }
    }
    let scatter = Scatter { elements, size, parts };
    let checked = Storage::new(scatter_checked(scatter)?, "");
    Ok(Group { storage: checked, base: 0 })
}

/// That every part lies inside the storage: putting it together then cannot go wrong.
fn scatter_checked(scatter: Scatter) -> Result<Scatter> {
    for part in &scatter.parts {
        let mut steps = part.tensor.shape().iter().zip(&part.strides);
        let last = steps
            .try_fold(part.offset, |at, (&axis, &stride)| at.checked_add(axis.saturating_sub(1).checked_mul(stride)?));
        // One step further is computed on the way from row to row.
        let far =
            part.tensor.shape().iter().zip(&part.strides).map(|(&axis, &stride)| axis.saturating_mul(stride)).max();
        if last.is_none_or(|last| last >= scatter.elements) || far > Some(1 << 62) || part.tensor.numel() == 0 {
            return Err(broken("a tensor lies outside its storage"));
        }
    }
    Ok(scatter)
}
