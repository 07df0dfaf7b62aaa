//! Choosing and renaming what is in a file, as `convert` offers it.

use regex::Regex;

use crate::walk::MAX_DEPTH;
use crate::{Error, ErrorKind, Key, Result, StateDict, Value, find_key, module_state_dict};

/// What to take of a tree and how to call it. Applied in the order of the fields.
#[derive(Debug, Clone, Default)]
pub struct Renames {
    /// Only the part under this path, joined by `/`.
    pub key: Option<String>,
    /// A prefix that is taken off the names of tensors.
    pub strip: Option<String>,
    /// Replacements in the names of tensors; `$1` stands for a group.
    pub rename: Vec<(Regex, String)>,
    /// Only tensors and values whose path (after renaming) this finds.
    pub only: Option<Regex>,
}

impl Renames {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.key.is_none() && self.strip.is_none() && self.rename.is_empty() && self.only.is_none()
    }

    /// Applies them; returns the new tree and what was done, as sentences.
    ///
    /// The names that change are the keys that tensors have in their dictionaries (`module.fc.weight`), wherever these are.
    ///
    /// # Errors
    /// When the key or the prefix is not there, two names become the same, or nothing is left.
    pub fn apply(&self, root: &Value) -> Result<(Value, Vec<String>)> {
        let mut notes = Vec::new();
        let root = match &self.key {
            Some(key) => find_key(root, key)?,
            None => root,
        };
        let mut root = root.clone();
        if let Some(prefix) = &self.strip {
            let mut count = 0;
            root = map_names(root, 0, &mut |name| {
                let bare = name.strip_prefix(prefix.as_str()).filter(|bare| !bare.is_empty())?;
                count += 1;
                Some(bare.to_string())
            })?;
            if count == 0 {
                let example = first_name(&root).map(|name| format!("; the first is '{name}'")).unwrap_or_default();
                return Err(Error::new(
                    ErrorKind::Mismatch,
                    format!("no tensor's name begins with '{prefix}'{example}"),
                ));
            }
            notes.push(format!("took the prefix '{prefix}' off {count} names"));
        }
        for (pattern, to) in &self.rename {
            let mut count = 0;
            root = map_names(root, 0, &mut |name| {
                let renamed = pattern.replace_all(name, to.as_str());
                (renamed != name).then(|| {
                    count += 1;
                    renamed.into_owned()
                })
            })?;
            notes.push(format!("renamed {count} tensors by '{pattern}'"));
        }
        if let Some(only) = &self.only {
            root = retain(root, "", 0, only).ok_or_else(|| {
                Error::new(ErrorKind::Mismatch, format!("no tensor or value has a name that '{only}' finds"))
            })?;
        }
        Ok((root, notes))
    }
}

/// The first tensor's key in its dictionary.
fn first_name(value: &Value) -> Option<String> {
    let dict = value.as_dict()?;
    let own = dict.tensors().next().map(|(name, _)| name.to_string());
    own.or_else(|| dict.iter().find_map(|(_, value)| first_name(value)))
}

/// Renames tensors in every dictionary of a tree.
fn map_names(value: Value, depth: usize, rename: &mut impl FnMut(&str) -> Option<String>) -> Result<Value> {
    if depth > MAX_DEPTH {
        return Err(Error::unsupported("values nest too deeply to be renamed"));
    }
    Ok(match value {
        Value::Dict(dict) => {
            let mut out = StateDict::new();
            out.set_kind(dict.kind().clone());
            out.set_metadata(dict.metadata().cloned());
            for (key, value) in dict {
                let renamed = match (&key, &value) {
                    (Key::Str(name), Value::Tensor(_)) => rename(name).map(Key::Str),
                    _ => None,
                };
                let key = renamed.unwrap_or(key);
                if out.get_key(&key).is_some() {
                    return Err(Error::new(ErrorKind::Mismatch, format!("two tensors would be called '{key}'")));
                }
                out.insert(key, map_names(value, depth + 1, rename)?);
            }
            Value::Dict(out)
        }
        Value::List(items) => {
            Value::List(items.into_iter().map(|item| map_names(item, depth + 1, rename)).collect::<Result<_>>()?)
        }
        Value::Object(object) => match module_state_dict(&object) {
            Some(dict) => map_names(Value::Dict(dict), depth + 1, rename)?,
            None => Value::Object(object),
        },
        other => other,
    })
}

/// The part of a tree whose paths a pattern finds.
fn retain(value: Value, path: &str, depth: usize, only: &Regex) -> Option<Value> {
    let join = |name: &str| if depth == 0 { name.to_string() } else { format!("{path}/{name}") };
    match value {
        Value::Dict(dict) if depth < MAX_DEPTH => {
            let mut out = StateDict::new();
            out.set_kind(dict.kind().clone());
            for (key, value) in dict {
                let path = join(&key.text());
                if let Some(value) = retain(value, &path, depth + 1, only) {
                    out.insert(key, value);
                }
            }
            (!out.is_empty()).then_some(Value::Dict(out))
        }
        // Positions in lists stay what they are: a list is kept whole or not at all.
        other => only.is_match(path).then_some(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tensor;

    fn tree() -> Value {
        let tensor = Tensor::from_f32(&[1], &[1.0]).unwrap();
        let weights: StateDict =
            [("module.a.weight", tensor.clone()), ("module.b.weight", tensor)].into_iter().collect();
        let mut root = StateDict::new();
        root.insert("model", weights);
        root.insert("epoch", 1_i64);
        Value::Dict(root)
    }

    #[test]
    fn key_strip_rename_only() {
        let renames = Renames {
            key: Some("model".into()),
            strip: Some("module.".into()),
            rename: vec![(Regex::new("^a\\.(.*)").unwrap(), "first.$1".into())],
            only: Some(Regex::new("first").unwrap()),
        };
        let (value, notes) = renames.apply(&tree()).unwrap();
        let keys: Vec<_> = value.as_dict().unwrap().keys().map(ToString::to_string).collect();
        assert_eq!(keys, ["first.weight"]);
        assert_eq!(notes.len(), 2);
    }

    #[test]
    fn clashes_and_wrong_prefixes_are_errors() {
        let clash = Renames { rename: vec![(Regex::new("[ab]").unwrap(), "x".into())], ..Renames::default() };
        assert!(clash.apply(&tree()).unwrap_err().to_string().contains("two tensors"));
        let wrong = Renames { strip: Some("net.".into()), ..Renames::default() };
        assert!(wrong.apply(&tree()).unwrap_err().to_string().contains("'module.a.weight'"));
    }
}
