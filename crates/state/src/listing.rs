//! What `inspect` tells of a file, in a form that other programs can rely on.

use std::collections::HashMap;

use indexmap::IndexSet;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::optimizer::{self, OptimizerEntry};
use crate::torch::audit::{self, Verdict};
use crate::torch::dtypes;
use crate::{Error, Key, ModelFile, Object, Result, StateDict, Tensor, Value, hashes, plain};

/// Everything in a model file: tensors, values, optimizer, classes, and what unpickling would have called.
#[derive(Debug, Clone, Serialize)]
pub struct Listing {
    /// The format's name.
    pub format: String,
    /// Number of files.
    pub files: u64,
    /// Bytes of all files.
    pub bytes: u64,
    /// Tensors in stored order.
    pub tensors: Vec<TensorEntry>,
    /// All other values, by path.
    pub values: Map<String, Json>,
    /// Parameter groups and state of the optimizer, if there is one.
    pub optimizer: Option<OptimizerEntry>,
    /// Classes of the modules in a whole-module pickle or TorchScript archive, once each.
    pub classes: Vec<String>,
    /// Classes and functions that unpickling would have looked up, once each, in the order of the file.
    pub globals: Vec<GlobalEntry>,
    /// Whether every one of those is harmless.
    pub safe: bool,
}

/// One tensor.
#[derive(Debug, Clone, Default, Serialize)]
pub struct TensorEntry {
    /// Path from the root; empty for the sole tensor of a file.
    pub name: String,
    /// PyTorch's name of the element type, without `torch.`.
    pub dtype: String,
    /// The length of each axis.
    pub shape: Vec<u64>,
    /// Bytes of the values in row-major order.
    pub bytes: u64,
    /// The key of the storage in the file; empty where the format has none.
    pub storage: String,
    /// The layout, where it is not strided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Hash of the values in row-major order, little endian.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Hashes of the parts of tensors that are not strided.
    #[serde(flatten)]
    pub parts: Map<String, Json>,
}

/// A class or function that unpickling would have looked up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GlobalEntry {
    /// Module and name.
    pub name: String,
    /// `harmless`, `unknown` or `runs code`.
    pub verdict: &'static str,
}

impl ModelFile {
    /// Lists what is in the file. With `hash`, the values of every tensor are read and hashed.
    ///
    /// # Errors
    /// With `hash`, when a tensor's bytes cannot be read.
    pub fn listing(&self, hash: bool) -> Result<Listing> {
        let mut walk =
            Walk { hash, tensors: Vec::new(), values: Map::new(), seen: HashMap::new(), path: String::new() };
        walk.value(&self.content.root)?;
        let globals: Vec<_> =
            self.content.globals.iter().map(|global| (global.to_string(), audit::verdict(global))).collect();
        let classes: IndexSet<String> = self.modules.iter().flat_map(|(_, module)| module.classes()).collect();
        Ok(Listing {
            format: self.format.name().to_string(),
            files: self.files,
            bytes: self.bytes,
            tensors: walk.tensors,
            values: walk.values,
            optimizer: optimizer::describe(&self.content.root),
            classes: classes.into_iter().collect(),
            safe: globals.iter().all(|(_, verdict)| *verdict == Verdict::Harmless),
            globals: globals.into_iter().map(|(name, verdict)| GlobalEntry { name, verdict: verdict.name() }).collect(),
        })
    }
}

/// Every tensor of a tree of values with its path from the root, in stored order.
pub fn tensors(root: &Value) -> Vec<(String, &Tensor)> {
    fn walk<'v>(value: &'v Value, path: &mut String, found: &mut Vec<(String, &'v Tensor)>) {
        if let Value::Tensor(tensor) = value {
            found.push((path.clone(), tensor));
        }
        children(value, &mut |name, child| {
            let len = push(path, name);
            walk(child, path, found);
            path.truncate(len);
        });
    }
    let mut found = Vec::new();
    walk(root, &mut String::new(), &mut found);
    found
}

/// Adds a path element; gives the length before.
fn push(path: &mut String, name: &str) -> usize {
    let len = path.len();
    if len > 0 {
        path.push('/');
    }
    path.push_str(name);
    len
}

/// The parts of a container, each with its path element.
fn children<'v>(value: &'v Value, visit: &mut dyn FnMut(&str, &'v Value)) {
    match value {
        Value::Dict(dict) => dict.iter().for_each(|(key, value)| visit(&key.text(), value)),
        Value::List(items) | Value::Tuple(items) => numbered(items, visit),
        // The elements of a bare storage are no tensor.
        Value::Array(array) => numbered(&array.objects, visit),
        Value::Object(object) if !dtypes::is_storage(object) => parts(object, visit),
        _ => {}
    }
}

fn numbered<'v>(items: &'v [Value], visit: &mut dyn FnMut(&str, &'v Value)) {
    for (place, item) in items.iter().enumerate() {
        visit(&place.to_string(), item);
    }
}

/// The parts of an opaque object: arguments and items by position, attributes and entries by name.
fn parts<'v>(object: &'v Object, visit: &mut dyn FnMut(&str, &'v Value)) {
    numbered(&object.args, visit);
    match &object.state {
        Value::Dict(dict) => dict.iter().for_each(|(key, value)| visit(&key.text(), value)),
        Value::Tuple(parts)
            if parts.len() == 2 && parts.iter().all(|part| matches!(part, Value::Dict(_) | Value::None)) =>
        {
            for (key, value) in parts.iter().filter_map(Value::as_dict).flat_map(StateDict::iter) {
                visit(&key.text(), value);
            }
        }
        Value::List(items) | Value::Tuple(items) => numbered(items, visit),
        Value::None => {}
        other => visit("state", other),
    }
    numbered(&object.items, visit);
    object.entries.iter().for_each(|(key, value): (&Key, _)| visit(&key.text(), value));
}

struct Walk {
    hash: bool,
    tensors: Vec<TensorEntry>,
    values: Map<String, Json>,
    /// Hashes by what was hashed: tied weights are hashed once.
    seen: HashMap<hashes::Identity, Option<String>>,
    path: String,
}

impl Walk {
    fn value(&mut self, value: &Value) -> Result<()> {
        match value {
            Value::Tensor(tensor) => {
                let entry =
                    self.tensor(tensor).map_err(|error| error.within(format_args!("tensor '{}'", self.path)))?;
                self.tensors.push(entry);
                return Ok(());
            }
            Value::Dict(_) | Value::List(_) | Value::Tuple(_) => {}
            Value::Object(object) if is_container(object) => return self.contents(object),
            Value::Array(array) => {
                let json = plain::array(array, self.hash)
                    .map_err(|error| error.within(format_args!("array '{}'", self.path)))?;
                self.values.insert(self.path.clone(), json);
            }
            other => {
                self.values.insert(self.path.clone(), plain::json(other));
            }
        }
        let mut result = Ok(());
        let inside = matches!(value, Value::Object(_) | Value::Array(_));
        children(value, &mut |name, child| {
            if result.is_err() || inside && !holds_tensors(child) {
                return;
            }
            let len = push(&mut self.path, name);
            result = if inside { self.inside(child) } else { self.value(child) };
            self.path.truncate(len);
        });
        result
    }

    /// What is in an instance of a subclass of a dictionary or a list.
    fn contents(&mut self, object: &Object) -> Result<()> {
        let items = object.items.iter().enumerate().map(|(place, item)| (place.to_string(), item));
        let entries = object.entries.iter().map(|(key, value)| (key.text().into_owned(), value));
        for (name, value) in items.chain(entries) {
            let len = push(&mut self.path, &name);
            let result = self.value(value);
            self.path.truncate(len);
            result?;
        }
        Ok(())
    }

    /// The parts of an opaque object: only tensors are listed, its plain attributes are in its own entry.
    fn inside(&mut self, value: &Value) -> Result<()> {
        if let Value::Tensor(_) = value {
            return self.value(value);
        }
        let mut result: Result<(), Error> = Ok(());
        children(value, &mut |name, child| {
            if result.is_ok() {
                let len = push(&mut self.path, name);
                result = self.inside(child);
                self.path.truncate(len);
            }
        });
        result
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<TensorEntry> {
        let layout = tensor.layout();
        let mut entry = TensorEntry {
            name: self.path.clone(),
            dtype: tensor.dtype().name().to_string(),
            shape: tensor.shape().to_vec(),
            bytes: tensor.nbytes(),
            storage: tensor.view().map(|view| view.storage.key().to_string()).unwrap_or_default(),
            layout: (layout != "strided").then(|| layout.to_string()),
            ..TensorEntry::default()
        };
        if layout != "strided" {
            entry.parts = hashes::parts(tensor, self.hash)?;
        } else if self.hash {
            entry.sha256 = match hashes::identity(tensor) {
                Some(identity) => match self.seen.get(&identity) {
                    Some(known) => known.clone(),
                    None => {
                        let hash = hashes::sha256(tensor)?;
                        self.seen.insert(identity, hash.clone());
                        hash
                    }
                },
                None => hashes::sha256(tensor)?,
            };
        }
        Ok(entry)
    }
}

/// Whether an object is nothing but a dictionary or a list of a class of its own, such as Lightning's `AttributeDict`.
fn is_container(object: &Object) -> bool {
    let bare = match &object.state {
        Value::None => true,
        Value::Dict(state) => state.is_empty(),
        _ => false,
    };
    bare && object.args.is_empty()
        && object.items.is_empty() != object.entries.is_empty()
        && object.class.module != "collections"
}

/// Whether there is a tensor somewhere in a value.
fn holds_tensors(value: &Value) -> bool {
    if matches!(value, Value::Tensor(_)) {
        return true;
    }
    let mut found = false;
    children(value, &mut |_, child| found = found || holds_tensors(child));
    found
}
