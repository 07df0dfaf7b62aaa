//! Whole modules that were pickled: their class tree, and the state dict that PyTorch would give for them.

use std::collections::HashSet;

use super::rebuild::attributes;
use crate::{DictKind, Global, Key, Object, StateDict, Tensor, Value};

/// A pickled `torch.nn.Module`: its class, its settings and its parts.
#[derive(Debug, Clone)]
pub struct ModuleTree {
    /// The class.
    pub class: Global,
    /// The name in the parent module; empty for the outermost.
    pub name: String,
    /// Plain attributes such as `in_features`, in stored order.
    pub hyper_parameters: Vec<(String, Value)>,
    /// The modules in it, in order.
    pub children: Vec<ModuleTree>,
}

/// Attributes of every module, which say nothing about one.
const INTERNAL: &[&str] = &["training", "dump_patches", "call_super_init", "T_destination"];

/// The attribute of an object, whether set by `BUILD` or handed over as a dictionary.
fn attribute<'v>(object: &'v Object, name: &str) -> Option<&'v Value> {
    let key = Key::from(name);
    let found = attributes(&object.state).into_iter().find(|(at, _)| **at == key).map(|(_, value)| value);
    found.or_else(|| {
        let handed = object.args.first().and_then(mapping)?;
        handed.get(name).or_else(|| handed.get("state").and_then(mapping)?.get(name))
    })
}

/// A dictionary, or an object of a subclass of it.
fn mapping(value: &Value) -> Option<&StateDict> {
    match value {
        Value::Dict(dict) => Some(dict),
        Value::Object(object) if !object.entries.is_empty() => Some(&object.entries),
        _ => None,
    }
}

/// The class of a module; some programs hand its name and source text to a function of their own (StyleGAN's persistence).
fn class(object: &Object) -> Global {
    let named =
        object.args.first().and_then(mapping).and_then(|handed| handed.get("class_name")).and_then(Value::as_str);
    match named {
        Some(name) => Global { module: object.class.module.clone(), name: name.to_string() },
        None => object.class.clone(),
    }
}

fn members<'v>(object: &'v Object, name: &str) -> Option<&'v StateDict> {
    attribute(object, name).and_then(Value::as_dict)
}

/// Whether an object is a pickled module.
fn is_module(object: &Object) -> bool {
    members(object, "_modules").is_some()
        && (members(object, "_parameters").is_some() || members(object, "_buffers").is_some())
}

/// Replaces every pickled module in a tree of values by its state dict. Gives the class trees, each with its path.
pub(crate) fn lift(root: &mut Value) -> Vec<(String, ModuleTree)> {
    let mut found = Vec::new();
    walk(root, &mut Vec::new(), &mut found);
    found
}

fn walk(value: &mut Value, path: &mut Vec<String>, found: &mut Vec<(String, ModuleTree)>) {
    match value {
        Value::Object(object) if is_module(object) => {
            found.push((path.join("/"), tree(object, String::new())));
            let mut dict = StateDict::ordered();
            state_dict(object, "", &mut dict);
            dict.set_kind(DictKind::Other(class(object)));
            *value = Value::Dict(dict);
        }
        Value::Object(object) => {
            for (place, arg) in object.args.iter_mut().enumerate() {
                step(arg, place.to_string(), path, found);
            }
            walk(&mut object.state, path, found);
            for (place, item) in object.items.iter_mut().enumerate() {
                step(item, place.to_string(), path, found);
            }
            for (key, entry) in object.entries.iter_mut() {
                step(entry, key.text().into_owned(), path, found);
            }
        }
        Value::Dict(dict) => {
            for (key, entry) in dict.iter_mut() {
                step(entry, key.text().into_owned(), path, found);
            }
        }
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            for (place, item) in items.iter_mut().enumerate() {
                if !matches!(item, Value::Tensor(_)) {
                    step(item, place.to_string(), path, found);
                }
            }
        }
        _ => {}
    }
}

fn step(value: &mut Value, name: String, path: &mut Vec<String>, found: &mut Vec<(String, ModuleTree)>) {
    path.push(name);
    walk(value, path, found);
    path.pop();
}

/// What `module.state_dict()` gives: parameters, then buffers that are saved, then the parts.
fn state_dict(object: &Object, prefix: &str, dict: &mut StateDict) {
    let skipped: HashSet<&str> = match attribute(object, "_non_persistent_buffers_set") {
        Some(Value::Set(names)) => names.iter().filter_map(Value::as_str).collect(),
        _ => HashSet::new(),
    };
    for (group, all) in [("_parameters", true), ("_buffers", false)] {
        for (key, value) in members(object, group).into_iter().flat_map(StateDict::iter) {
            let name = key.text();
            match value {
                Value::Tensor(_) if all || !skipped.contains(name.as_ref()) => {
                    dict.insert(format!("{prefix}{name}"), value.clone());
                }
                // A parameter of an opaque tensor subclass is kept, and its tensors with it.
                Value::Object(_) => {
                    dict.insert(format!("{prefix}{name}"), value.clone());
                }
                _ => {}
            }
        }
    }
    if object.class.module.contains("quantized") {
        quantized(object, prefix, dict);
    }
    for (key, child) in members(object, "_modules").into_iter().flat_map(StateDict::iter) {
        match child {
            Value::Object(module) if is_module(module) => state_dict(module, &format!("{prefix}{}.", key.text()), dict),
            // A class with a state of its own, such as a quantized convolution: its tensors are listed by position.
            Value::Object(_) => {
                dict.insert(format!("{prefix}{}", key.text()), child.clone());
            }
            _ => {}
        }
    }
}

/// Quantized layers keep weight and bias packed outside the parameters, and the scale of their output as numbers.
fn quantized(object: &Object, prefix: &str, dict: &mut StateDict) {
    for (key, value) in attributes(&object.state) {
        match value {
            // The state of a packed object: (its parts, the name of its class).
            Value::Object(packed) if packed.class.name == "ScriptObject" => {
                if let Value::Tuple(state) = &packed.state
                    && let Some(parts) = state.first()
                {
                    // The packed weight of an embedding is that one tensor.
                    let weight = match (key.text().as_ref(), parts) {
                        ("_packed_weight", Value::Tuple(parts)) => {
                            parts.get(1).and_then(Value::as_slice).and_then(<[Value]>::first)
                        }
                        _ => None,
                    };
                    dict.insert(format!("{prefix}{}", key.text()), weight.unwrap_or(parts).clone());
                }
            }
            // `state_dict()` makes tensors of them.
            Value::Float(scale) if key.text() == "scale" => {
                if let Ok(tensor) = Tensor::from_f32(&[], &[*scale as f32]) {
                    dict.insert(format!("{prefix}scale"), tensor);
                }
            }
            Value::Int(zero_point) if key.text() == "zero_point" => {
                if let Ok(tensor) = Tensor::from_i64(&[], &[*zero_point]) {
                    dict.insert(format!("{prefix}zero_point"), tensor);
                }
            }
            Value::DType(_) if key.text() == "dtype" && object.class.name.ends_with("PackedParams") => {
                dict.insert(format!("{prefix}dtype"), value.clone());
            }
            _ => {}
        }
    }
}

fn tree(object: &Object, name: String) -> ModuleTree {
    let hyper_parameters = attributes(&object.state)
        .into_iter()
        .filter_map(|(key, value)| match key {
            Key::Str(name) if !name.starts_with('_') && !INTERNAL.contains(&name.as_str()) && is_plain(value) => {
                Some((name.clone(), value.clone()))
            }
            _ => None,
        })
        .collect();
    let children = members(object, "_modules")
        .into_iter()
        .flat_map(StateDict::iter)
        .filter_map(|(key, child)| match child {
            Value::Object(child) => Some(tree(child, key.text().into_owned())),
            _ => None,
        })
        .collect();
    ModuleTree { class: class(object), name, hyper_parameters, children }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::None
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Float(_)
        | Value::Str(_)
        | Value::DType(_)
        | Value::Device(_) => true,
        Value::Tuple(items) | Value::List(items) => items.len() <= 16 && items.iter().all(is_plain),
        _ => false,
    }
}

impl ModuleTree {
    /// The classes in the tree, once each, outermost first.
    pub fn classes(&self) -> Vec<String> {
        let mut names = indexmap::IndexSet::new();
        let mut open = vec![self];
        while let Some(module) = open.pop() {
            names.insert(module.class.to_string());
            open.extend(module.children.iter().rev());
        }
        names.into_iter().collect()
    }
}
