//! A value by the path of keys that leads to it.

use crate::{Error, ErrorKind, Result, Value, nearest};

/// The value at a path of keys and positions joined by `/`; keys may contain `/` themselves.
///
/// # Errors
/// When there is none: the error names the keys that there are.
pub fn find_key<'a>(root: &'a Value, path: &str) -> Result<&'a Value> {
    let mut value = root;
    let mut rest = path;
    let mut at = String::new();
    while !rest.is_empty() {
        // The longest key that the rest of the path begins with.
        let ends = rest.match_indices('/').map(|(index, _)| index).chain([rest.len()]);
        let found = ends.filter_map(|end| Some((end, child(value, &rest[..end])?))).next_back();
        let Some((end, next)) = found else {
            let first = rest.split('/').next().unwrap_or_default();
            return Err(no_key(value, first, &at));
        };
        if !at.is_empty() {
            at.push('/');
        }
        at.push_str(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
        value = next;
    }
    Ok(value)
}

fn child<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Dict(dict) => {
            dict.get(name).or_else(|| dict.iter().find(|(key, _)| key.text() == name).map(|(_, value)| value))
        }
        Value::List(items) | Value::Tuple(items) => items.get(name.parse::<usize>().ok()?),
        Value::Object(object) => object.state.as_dict()?.get(name),
        _ => None,
    }
}

fn no_key(value: &Value, name: &str, at: &str) -> Error {
    let keys: Vec<String> =
        value.as_dict().map(|dict| dict.keys().map(|key| key.text().into_owned()).collect()).unwrap_or_default();
    let place = if at.is_empty() { "the file".to_string() } else { format!("'{at}'") };
    let mut message = format!("{place} has no key '{name}'");
    if let Some(nearest) = nearest(name, keys.iter().map(String::as_str)) {
        message.push_str(&format!("; did you mean '{nearest}'?"));
    } else if keys.is_empty() {
        message.push_str(&format!(": it is a {}", value.type_name()));
    } else {
        let shown: Vec<_> = keys.iter().take(8).map(String::as_str).collect();
        message.push_str(&format!("; it has {}{}", shown.join(", "), if keys.len() > 8 { ", …" } else { "" }));
    }
    Error::new(ErrorKind::Mismatch, message)
}
