//! The state dict: an ordered map from names to tensors and values, as PyTorch users mean the word.

use std::borrow::Cow;
use std::fmt;

use indexmap::IndexMap;

use crate::{Global, Tensor, Value};

/// An ordered dictionary: the one currency between formats, models, optimizers and checkpoints.
///
/// Keys keep the order in which they were stored. A whole checkpoint is one (`epoch`, `model_state_dict`, …), and so is each
/// dictionary inside it.
#[derive(Debug, Clone, Default)]
pub struct StateDict {
    entries: IndexMap<Key, Value>,
    kind: DictKind,
    metadata: Option<Box<Value>>,
}

/// Which of Python's dictionaries it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DictKind {
    /// `dict`.
    #[default]
    Plain,
    /// `collections.OrderedDict`.
    Ordered,
    /// Another dictionary class (`collections.defaultdict`, `Counter`, …), read as its entries.
    Other(Global),
}

/// A key of a dictionary: nearly always text, integers in optimizer state.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Key {
    /// Text.
    Str(String),
    /// An integer.
    Int(i64),
    /// `True` or `False`.
    Bool(bool),
    /// `None`.
    None,
    /// A float, by its bits.
    Float(u64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A tuple of keys.
    Tuple(Vec<Key>),
    /// A class, an element type, or another object, by its description.
    Other(String),
}

impl Key {
    /// The text of the key as a path element.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Str(text) | Self::Other(text) => Cow::Borrowed(text),
            Self::Int(int) => Cow::Owned(int.to_string()),
            Self::Bool(true) => Cow::Borrowed("True"),
            Self::Bool(false) => Cow::Borrowed("False"),
            Self::None => Cow::Borrowed("None"),
            Self::Float(bits) => Cow::Owned(format!("{:?}", f64::from_bits(*bits))),
            Self::Bytes(bytes) => Cow::Owned(format!("b'{}'", bytes.escape_ascii())),
            Self::Tuple(keys) => {
                let part = |key: &Self| match key {
                    Self::Str(text) => format!("'{text}'"),
                    key => key.text().into_owned(),
                };
                let inner: Vec<_> = keys.iter().map(part).collect();
                Cow::Owned(format!("({}{})", inner.join(", "), if keys.len() == 1 { "," } else { "" }))
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

impl From<&str> for Key {
    fn from(text: &str) -> Self {
        Self::Str(text.to_string())
    }
}

impl From<String> for Key {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<i64> for Key {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl StateDict {
    /// An empty `dict`.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty `OrderedDict`, which is what `module.state_dict()` gives.
    pub fn ordered() -> Self {
        Self { kind: DictKind::Ordered, ..Self::default() }
    }

    /// Which of Python's dictionaries it is.
    pub fn kind(&self) -> &DictKind {
        &self.kind
    }

    /// Sets which of Python's dictionaries it is.
    pub fn set_kind(&mut self, kind: DictKind) {
        self.kind = kind;
    }

    /// The `_metadata` that `module.state_dict()` attaches (module path → version), if any.
    pub fn metadata(&self) -> Option<&Value> {
        self.metadata.as_deref()
    }

    /// Attaches `_metadata`.
    pub fn set_metadata(&mut self, metadata: Option<Value>) {
        self.metadata = metadata.map(Box::new);
    }

    /// Puts a value under a key; an existing key keeps its place and gives back its former value.
    pub fn insert(&mut self, key: impl Into<Key>, value: impl Into<Value>) -> Option<Value> {
        self.entries.insert(key.into(), value.into())
    }

    /// Takes a value out; the others keep their order.
    pub fn remove(&mut self, name: &str) -> Option<Value> {
        self.entries.shift_remove(&Key::from(name))
    }

    /// The value under a text key.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entries.get(&Key::from(name))
    }

    /// The value under any key.
    pub fn get_key(&self, key: &Key) -> Option<&Value> {
        self.entries.get(key)
    }

    /// The value under a text key, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut Value> {
        self.entries.get_mut(&Key::from(name))
    }

    /// The tensor under a text key.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.get(name).and_then(Value::as_tensor)
    }

    /// The dictionary under a text key.
    pub fn dict(&self, name: &str) -> Option<&StateDict> {
        self.get(name).and_then(Value::as_dict)
    }

    /// Entries in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Key, &Value)> {
        self.entries.iter()
    }

    /// Entries in order, with values that may be changed.
    pub fn iter_mut(&mut self) -> impl ExactSizeIterator<Item = (&Key, &mut Value)> {
        self.entries.iter_mut()
    }

    /// Tensors directly under text keys, in order.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.entries.iter().filter_map(|(key, value)| match (key, value) {
            (Key::Str(name), Value::Tensor(tensor)) => Some((name.as_str(), tensor)),
            _ => None,
        })
    }

    /// Keys in order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Key> {
        self.entries.keys()
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl<K: Into<Key>, V: Into<Value>> FromIterator<(K, V)> for StateDict {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut dict = Self::new();
        for (key, value) in entries {
            dict.insert(key, value);
        }
        dict
    }
}

impl IntoIterator for StateDict {
    type Item = (Key, Value);
    type IntoIter = indexmap::map::IntoIter<Key, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.entries.into_iter()
    }
}
