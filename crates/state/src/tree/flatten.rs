//! A tree as named tensors and a structure.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use serde_json::{Map as JsonMap, Value as Json, json};

use super::{APART, MAX_DEPTH, VERSION, rebuildable};
use crate::fs::hex;
use crate::{Array, DType, Data, DictKind, Error, Key, Quantization, Result, StateDict, Tensor, Value, View};

/// A tree, flattened.
pub(crate) struct Flat {
    /// Tensors in order, under unique names.
    pub tensors: Vec<FlatTensor>,
    /// The structure; none for a plain dictionary of tensors.
    pub structure: Option<String>,
    /// What another program would be surprised by, as sentences.
    pub notes: Vec<String>,
}

/// A tensor as a flat format stores it.
pub(crate) struct FlatTensor {
    /// The name.
    pub name: String,
    /// The element type in the file: the tensor's own, or `uint8` for types that the format has no name for.
    pub dtype: DType,
    /// The shape in the file.
    pub shape: Vec<u64>,
    tensor: Tensor,
}

impl FlatTensor {
    /// Number of bytes in the file.
    pub fn nbytes(&self) -> u64 {
        self.tensor.nbytes()
    }

    /// The values, row-major and little endian.
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        let bytes = self.tensor.bytes().map_err(|error| error.within(format!("tensor '{}'", self.name)))?;
        if bytes.len() as u64 == self.nbytes() {
            return Ok(bytes);
        }
        let message =
            format!("tensor '{}' gave {} bytes where it had announced {}", self.name, bytes.len(), self.nbytes());
        Err(Error::damaged(message))
    }
}

/// Flattens a tree for a format that has names for some element types.
pub(crate) fn flatten(root: &Value, native: fn(DType) -> bool) -> Result<Flat> {
    let mut shares = Shares::default();
    shares.visit(root);
    let mut flattener = Flattener {
        native,
        shares,
        groups: HashMap::new(),
        storages: Vec::new(),
        tensors: Vec::new(),
        names: HashSet::new(),
        notes: Vec::new(),
        nodes: Vec::new(),
        depth: 0,
    };
    let node = flattener.value(root, "")?;
    let plain = flattener.is_plain(root);
    let structure = json!({"version": VERSION, "storages": flattener.storages, "nodes": flattener.nodes, "root": node});
    let structure = (!plain).then(|| structure.to_string());
    Ok(Flat { tensors: flattener.tensors, structure, notes: flattener.notes })
}

/// Which storages several tensors view, and which part of them.
#[derive(Default)]
struct Shares {
    seen: HashMap<(u64, DType), Share>,
}

#[derive(Default)]
struct Share {
    tensors: usize,
    /// First and last element that is viewed.
    first: u64,
    last: u64,
    /// Elements of all views together.
    elements: u64,
}

/// What can share: a plain view with elements.
fn sharing(tensor: &Tensor) -> Option<(&View, (u64, DType))> {
    match tensor.data() {
        Data::Strided(view) if !view.conjugate && !view.negative && tensor.numel() > 0 => {
            Some((view, (view.storage.id(), tensor.dtype())))
        }
        _ => None,
    }
}

impl Shares {
    fn visit(&mut self, value: &Value) {
        match value {
            Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
                items.iter().for_each(|item| self.visit(item))
            }
            Value::Dict(dict) => self.dict(dict),
            Value::Tensor(tensor) => self.tensor(tensor),
            Value::Array(array) => {
                array.tensor.iter().for_each(|tensor| self.tensor(tensor));
                array.objects.iter().for_each(|item| self.visit(item));
            }
            Value::Object(object) => {
                object.args.iter().chain([&object.state]).chain(&object.items).for_each(|item| self.visit(item));
                self.dict(&object.entries);
            }
            _ => {}
        }
    }

    fn dict(&mut self, dict: &StateDict) {
        dict.iter().map(|(_, item)| item).chain(dict.metadata()).for_each(|item| self.visit(item));
    }

    /// Counts a tensor itself; the parts of sparse and quantized ones are written apart.
    fn tensor(&mut self, tensor: &Tensor) {
        let Some((view, id)) = sharing(tensor) else { return };
        let last = tensor.shape().iter().zip(&view.strides).fold(view.offset, |at, (&axis, &stride)| {
            at.saturating_add((axis - 1).saturating_mul(stride)) // Views were checked: this does not saturate.
        });
        let share = self.seen.entry(id).or_insert(Share { first: u64::MAX, ..Share::default() });
        share.tensors += 1;
        share.first = share.first.min(view.offset);
        share.last = share.last.max(last);
        share.elements = share.elements.saturating_add(tensor.numel());
    }
}

struct Flattener {
    native: fn(DType) -> bool,
    shares: Shares,
    /// The number in the structure of each shared storage.
    groups: HashMap<(u64, DType), usize>,
    storages: Vec<u64>,
    tensors: Vec<FlatTensor>,
    names: HashSet<String>,
    notes: Vec<String>,
    /// Nodes that stand apart, because JSON does not nest as deeply as values do.
    nodes: Vec<Json>,
    depth: usize,
}

impl Flattener {
    /// Whether the tree is a dictionary of plain tensors that a reader without the structure gives back the same.
    fn is_plain(&self, root: &Value) -> bool {
        let Value::Dict(dict) = root else { return false };
        let simple =
            |tensor: &Tensor| !tensor.parameter && !tensor.requires_grad && matches!(tensor.data(), Data::Strided(_));
        matches!(dict.kind(), DictKind::Plain | DictKind::Ordered)
            && dict.metadata().is_none()
            && self.storages.is_empty()
            && dict.len() == self.tensors.len()
            && dict.iter().zip(&self.tensors).all(|((key, value), flat)| {
                let named = matches!(key, Key::Str(name) if *name == flat.name);
                named && value.as_tensor().is_some_and(|tensor| simple(tensor) && (self.native)(tensor.dtype()))
            })
    }

    fn value(&mut self, value: &Value, path: &str) -> Result<Json> {
        if self.depth > MAX_DEPTH {
            return Err(Error::unsupported(format!("values nest deeper than {MAX_DEPTH} levels")));
        }
        self.depth += 1;
        let node = self.node(value, path);
        self.depth -= 1;
        if self.depth > 0 && self.depth.is_multiple_of(APART) {
            self.nodes.push(node?);
            return Ok(json!({"node": self.nodes.len() - 1}));
        }
        node
    }

    fn node(&mut self, value: &Value, path: &str) -> Result<Json> {
        Ok(match value {
            Value::None => Json::Null,
            Value::Bool(value) => json!(value),
            Value::Int(int) => json!(int),
            Value::BigInt(int) => json!({"int": int.to_string()}),
            Value::Float(float) => json!({"float": float_text(*float)}),
            Value::Complex(real, imaginary) => json!({"complex": [float_text(*real), float_text(*imaginary)]}),
            Value::Str(text) => json!(text),
            Value::Bytes(bytes) => json!({"bytes": hex(bytes)}),
            Value::ByteArray(bytes) => json!({"bytearray": hex(bytes)}),
            Value::List(items) => Json::Array(self.items(items, path)?),
            Value::Tuple(items) => json!({"tuple": self.items(items, path)?}),
            Value::Set(items) => json!({"set": self.items(items, path)?}),
            Value::FrozenSet(items) => json!({"frozenset": self.items(items, path)?}),
            Value::Dict(dict) => self.dict(dict, path)?,
            Value::Tensor(tensor) => self.tensor(tensor, path)?,
            Value::Array(array) => self.array(array, path)?,
            Value::DType(name) => json!({"dtype": name}),
            Value::Device(name) => json!({"device": name}),
            Value::Global(global) => json!({"global": [global.module, global.name]}),
            Value::Object(object) => {
                let class = json!([object.class.module, object.class.name]);
                json!({
                    "object": class,
                    "args": self.items(&object.args, &join(path, "args"))?,
                    "state": self.value(&object.state, path)?,
                    "items": self.items(&object.items, path)?,
                    "entries": self.dict(&object.entries, path)?,
                })
            }
        })
    }

    fn items(&mut self, items: &[Value], path: &str) -> Result<Vec<Json>> {
        items.iter().enumerate().map(|(index, item)| self.value(item, &join(path, &index.to_string()))).collect()
    }

    fn dict(&mut self, dict: &StateDict, path: &str) -> Result<Json> {
        let mut entries = Vec::with_capacity(2 * dict.len());
        for (key, value) in dict.iter() {
            entries.push(key_node(key));
            entries.push(self.value(value, &join(path, &key.text()))?);
        }
        let mut node = match dict.kind() {
            DictKind::Plain => json!({"dict": entries}),
            DictKind::Ordered => json!({"OrderedDict": entries}),
            DictKind::Other(class) => json!({"dict": entries, "class": [class.module, class.name]}),
        };
        if let Some(metadata) = dict.metadata() {
            node["metadata"] = self.value(metadata, &join(path, "_metadata"))?;
        }
        Ok(node)
    }

    fn tensor(&mut self, tensor: &Tensor, path: &str) -> Result<Json> {
        let mut node = match tensor.data() {
            Data::Strided(_) => self.strided(tensor, path),
            Data::Meta => json!({"meta": tensor.dtype().name(), "shape": tensor.shape()}),
            Data::SparseCoo { indices, values, coalesced } => json!({
                "sparse_coo": tensor.dtype().name(),
                "shape": tensor.shape(),
                "indices": self.tensor(indices, &join(path, "indices"))?,
                "values": self.tensor(values, &join(path, "values"))?,
                "coalesced": coalesced,
            }),
            Data::SparseCompressed { layout, compressed, plain, values } => json!({
                "sparse_compressed": tensor.dtype().name(),
                "layout": layout,
                "shape": tensor.shape(),
                "compressed": self.tensor(compressed, &join(path, "compressed"))?,
                "plain": self.tensor(plain, &join(path, "plain"))?,
                "values": self.tensor(values, &join(path, "values"))?,
            }),
            Data::Quantized { scheme, .. } => {
                let name = self.push(tensor, path);
                let mut node = json!({"quantized": tensor.dtype().name(), "shape": tensor.shape(), "name": name});
                match scheme {
                    Quantization::PerTensor { scale, zero_point } => {
                        node["scale"] = json!(float_text(*scale));
                        node["zero_point"] = json!(zero_point);
                    }
                    Quantization::PerChannel { scales, zero_points, axis, float_params } => {
                        node["scales"] = self.tensor(scales, &join(path, "scales"))?;
                        node["zero_points"] = self.tensor(zero_points, &join(path, "zero_points"))?;
                        node["axis"] = json!(axis);
                        node["float_params"] = json!(float_params);
                    }
                }
                node
            }
        };
        for (name, set) in [("parameter", tensor.parameter), ("requires_grad", tensor.requires_grad)] {
            if set {
                node[name] = json!(true);
            }
        }
        Ok(node)
    }

    fn strided(&mut self, tensor: &Tensor, path: &str) -> Json {
        let mut node = JsonMap::new();
        node.insert("tensor".into(), json!(self.push(tensor, path)));
        if !(self.native)(tensor.dtype()) {
            node.insert("dtype".into(), json!(tensor.dtype().name()));
            node.insert("shape".into(), json!(tensor.shape()));
        }
        if let Some((view, id)) = sharing(tensor) {
            let share = self.shares.seen.get(&id);
            let shared =
                share.filter(|share| share.tensors > 1 && rebuildable(share.last - share.first + 1, share.elements));
            if let Some(share) = shared {
                let storages = &mut self.storages;
                let group = *self.groups.entry(id).or_insert_with(|| {
                    storages.push(share.last - share.first + 1);
                    storages.len() - 1
                });
                node.insert("storage".into(), json!(group));
                node.insert("offset".into(), json!(view.offset - share.first));
                // The stride of an axis with one element means nothing and may be any number.
                let strides: Vec<u64> =
                    tensor.shape().iter().zip(&view.strides).map(|(&axis, &s)| if axis == 1 { 1 } else { s }).collect();
                node.insert("strides".into(), json!(strides));
            }
        }
        Json::Object(node)
    }

    /// Adds the values under a name of their own, which it gives back.
    fn push(&mut self, tensor: &Tensor, path: &str) -> String {
        let mut name = path.to_string();
        let mut number = 1;
        // Two paths may read the same (1 and "1"), and `__metadata__` is safetensors' own.
        while name == "__metadata__" || !self.names.insert(name.clone()) {
            number += 1;
            name = format!("{path}~{number}");
        }
        let (dtype, shape) = if (self.native)(tensor.dtype()) {
            (tensor.dtype(), tensor.shape().to_vec())
        } else {
            let note =
                format!("'{name}' is {}, which this format has no name for: it is stored as bytes", tensor.dtype());
            self.notes.push(note);
            (DType::U8, vec![tensor.nbytes()])
        };
        self.tensors.push(FlatTensor { name: name.clone(), dtype, shape, tensor: tensor.clone() });
        name
    }

    fn array(&mut self, array: &Array, path: &str) -> Result<Json> {
        let mut node = json!({"array": array.descr, "scalar": array.scalar, "shape": array.shape});
        if let Some(tensor) = &array.tensor {
            node["tensor"] = self.tensor(tensor, path)?;
        }
        if !array.raw.is_empty() {
            node["raw"] = json!(hex(&array.raw));
        }
        if !array.objects.is_empty() {
            node["objects"] = json!(self.items(&array.objects, path)?);
        }
        Ok(node)
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_string() } else { format!("{path}/{name}") }
}

fn key_node(key: &Key) -> Json {
    match key {
        Key::Str(text) => json!(text),
        Key::Int(int) => json!(int),
        Key::Bool(value) => json!(value),
        Key::None => Json::Null,
        Key::Float(bits) => json!({"float": float_text(f64::from_bits(*bits))}),
        Key::Bytes(bytes) => json!({"bytes": hex(bytes)}),
        Key::Tuple(keys) => json!({"tuple": keys.iter().map(key_node).collect::<Vec<_>>()}),
        Key::Other(text) => json!({"other": text}),
    }
}

/// A float as text that reads back to the same bits.
fn float_text(float: f64) -> String {
    if float.is_nan() { format!("nan:{:016x}", float.to_bits()) } else { format!("{float:?}") }
}
