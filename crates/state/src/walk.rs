//! The leaves of a tree of values under the names that `inspect` prints.

use crate::{Value, module_state_dict};

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
