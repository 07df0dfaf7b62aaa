//! The leaves of a tree of values under the names that `inspect` prints.

use crate::{Data, Quantization, StateDict, Tensor, Value, module_state_dict};

/// How deep values may nest to be walked.
pub(crate) const MAX_DEPTH: usize = 1000;

/// Calls `visit` for every value that is no container, in order, with its path: dictionary keys and list positions joined by `/`.
///
/// A pickled module is walked as its `state_dict()`; other objects are leaves. What is nested deeper than a thousand levels is
/// left out.
pub fn walk(root: &Value, visit: &mut impl FnMut(&str, &Value)) {
    walk_at(root, &mut String::new(), 0, visit);
}

fn walk_at(value: &Value, path: &mut String, depth: usize, visit: &mut impl FnMut(&str, &Value)) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Dict(dict) => {
            for (key, value) in dict.iter() {
                descend(value, &key.text(), path, depth, visit);
            }
        }
        Value::List(items) | Value::Tuple(items) => {
            for (index, value) in items.iter().enumerate() {
                descend(value, &index.to_string(), path, depth, visit);
            }
        }
        Value::Object(object) => match module_state_dict(object) {
            Some(dict) => walk_at(&Value::Dict(dict), path, depth, visit),
            None => visit(path, value),
        },
        leaf => visit(path, leaf),
    }
}

fn descend(value: &Value, name: &str, path: &mut String, depth: usize, visit: &mut impl FnMut(&str, &Value)) {
    let length = path.len();
    if depth > 0 {
        path.push('/');
    }
    path.push_str(name);
    walk_at(value, path, depth + 1, visit);
    path.truncate(length);
}

/// Puts the name of a file inside a larger one before the keys of its storages: each file counts its own from 0.
pub(crate) fn name_storages(value: &mut Value, file: &str) {
    let mut name = |value: &mut Value| name_storages(value, file);
    match value {
        Value::Tensor(tensor) => name_storage(tensor, file),
        Value::Dict(dict) => dict.iter_mut().for_each(|(_, value)| name(value)),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            items.iter_mut().for_each(name);
        }
        Value::Array(array) => {
            if let Some(tensor) = &mut array.tensor {
                name_storage(tensor, file);
            }
            array.objects.iter_mut().for_each(name);
        }
        Value::Object(object) => {
            object.args.iter_mut().for_each(&mut name);
            name(&mut object.state);
            object.items.iter_mut().for_each(&mut name);
            StateDict::iter_mut(&mut object.entries).for_each(|(_, value)| name(value));
        }
        _ => {}
    }
}

fn name_storage(tensor: &mut Tensor, file: &str) {
    match tensor.data_mut() {
        Data::Strided(view) => view.storage.name(file),
        Data::Quantized { view, scheme } => {
            view.storage.name(file);
            if let Quantization::PerChannel { scales, zero_points, .. } = scheme {
                name_storage(scales, file);
                name_storage(zero_points, file);
            }
        }
        Data::SparseCoo { indices, values, .. } => {
            name_storage(indices, file);
            name_storage(values, file);
        }
        Data::SparseCompressed { compressed, plain, values, .. } => {
            name_storage(compressed, file);
            name_storage(plain, file);
            name_storage(values, file);
        }
        Data::Meta => {}
    }
}
