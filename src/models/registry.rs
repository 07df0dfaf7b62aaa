//! The networks that a program knows by name, and the files that are networks.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Architecture, GraphConfig, Invalid, ModelConfig, ModelError, graph};
use crate::keys::read_json;

/// The networks of a program. Other people's programs add theirs to the built-in ones:
///
/// ```ignore
/// rekindle::cli::run_with(Registry::built_in().with::<SmallConfig>());
/// ```
#[derive(Debug, Clone)]
pub struct Registry {
    entries: Arc<Vec<Entry>>,
}

/// A row of the registry: a network with the configuration that it has unless keys say otherwise.
#[derive(Clone)]
pub struct Entry {
    /// The name on the command line and in recipes.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    configure: Configure,
}

/// Lays keys over the row's configuration.
type Configure = Arc<dyn Fn(&'static str, &Map<String, Value>) -> Result<Architecture, ModelError> + Send + Sync>;

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A row: the name, a line about it, and the configuration that it has unless keys say otherwise.
pub fn entry<C: ModelConfig>(
    name: &'static str,
    about: &'static str,
    standard: impl Fn() -> C + Send + Sync + 'static,
) -> Entry {
    let configure = move |name: &'static str, keys: &Map<String, Value>| {
        Ok(Architecture::named(name, overlay(name, &standard(), keys)?))
    };
    Entry { name, about, configure: Arc::new(configure) }
}

impl Entry {
    /// The network with the given keys; keys that are absent have the values of the row.
    ///
    /// # Errors
    /// When a key is unknown, of a wrong type or impossible.
    pub fn configure(&self, keys: &Map<String, Value>) -> Result<Architecture, ModelError> {
        (self.configure)(self.name, keys)
    }

    /// The network as the row has it.
    ///
    /// # Errors
    /// When the configuration refuses its own values.
    pub fn standard(&self) -> Result<Architecture, ModelError> {
        self.configure(&Map::new())
    }
}

impl Registry {
    /// The networks of this program.
    pub fn built_in() -> Self {
        Self { entries: Arc::new(super::built_in()) }
    }

    /// The same with one more network, under the name of its configuration.
    #[must_use]
    pub fn with<C: ModelConfig + Default>(self) -> Self {
        self.with_entry(entry(C::NAME, "", C::default))
    }

    /// The same with one more row. A row of the same name gives way to it.
    #[must_use]
    pub fn with_entry(mut self, entry: Entry) -> Self {
        let entries = Arc::make_mut(&mut self.entries);
        entries.retain(|known| known.name != entry.name);
        entries.push(entry);
        self
    }

    /// Every row, in order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The row of a name.
    ///
    /// # Errors
    /// When there is none: with the nearest name.
    pub fn find(&self, name: &str) -> Result<&Entry, ModelError> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| ModelError::Unknown {
            name: name.to_string(),
            nearest: crate::error::nearest(name, self.entries.iter().map(|entry| entry.name)),
        })
    }
}

/// A kind of file that is a network: an ONNX graph, a program of PyTorch.
pub struct FileKind {
    /// The key of a recipe's `[model]` that names such a file.
    pub key: &'static str,
    /// The keys that may stand beside it.
    pub settings: &'static [&'static str],
    /// Whether a file is of this kind, by its first bytes.
    pub is: fn(&Path) -> Result<bool, ModelError>,
    /// Opens it with the settings beside it.
    pub open: fn(&Path, &Map<String, Value>) -> Result<Architecture, ModelError>,
}

/// Every kind of file that is a network.
pub const FILES: &[FileKind] = &[
    FileKind { key: "onnx", settings: &["classes"], is: graph::is_onnx, open: GraphConfig::from_keys },
    FileKind {
        key: "program",
        settings: &["frozen_statistics", "input", "classes"],
        is: graph::is_program,
        open: GraphConfig::from_keys,
    },
];

/// The network that a file is, whatever its kind; none for a file of no such kind.
///
/// # Errors
/// When the file cannot be read, or is a network that cannot be used.
pub fn open(path: &Path) -> Option<Result<Architecture, ModelError>> {
    FILES.iter().find_map(|kind| match (kind.is)(path) {
        Ok(true) => Some((kind.open)(path, &Map::new())),
        Ok(false) => None,
        Err(error) => Some(Err(error)),
    })
}

/// Lays keys over a configuration, naming the key that is wrong.
fn overlay<C: ModelConfig>(name: &str, standard: &C, keys: &Map<String, Value>) -> Result<C, ModelError> {
    let broken = |problem: String| ModelError::Config { name: name.to_string(), problem };
    let wrong = |key: &str, problem: String| ModelError::Key { name: name.to_string(), key: key.to_string(), problem };
    let mut values = match serde_json::to_value(standard) {
        Ok(Value::Object(values)) => values,
        Ok(_) => return Err(broken("its configuration is not a structure with named fields".to_string())),
        Err(error) => return Err(broken(format!("its configuration cannot be written: {error}"))),
    };
    let known: Vec<String> = values.keys().cloned().collect();
    for (key, value) in keys {
        let field = if known.contains(key) { Some(key.clone()) } else { aliased::<C>(key, &values) };
        let Some(field) = field else {
            let nearest = crate::error::nearest(key, known.iter().map(String::as_str));
            return Err(ModelError::UnknownKey { name: name.to_string(), key: key.clone(), nearest, known });
        };
        values.insert(field, value.clone());
        // After each key, so that the message can name it.
        if let Err(error) = read_json::<C>(&values) {
            return Err(wrong(key, error.to_string()));
        }
    }
    let config: C = read_json(&values).map_err(|error| broken(error.to_string()))?;
    config.check().map_err(|Invalid { key, problem }| wrong(&key, problem))?;
    Ok(config)
}

/// The field that a key is another name of (serde's `alias`): the one whose value it can take the place of.
fn aliased<C: ModelConfig>(key: &str, standard: &Map<String, Value>) -> Option<String> {
    let reads = |values: Map<String, Value>| read_json::<C>(&values).ok();
    let with = |key: &str| {
        let mut values = standard.clone();
        values.insert(key.to_string(), Value::Null);
        values
    };
    if reads(with("no key has this name")).is_some() {
        // The type takes any key in silence, so nothing can be learned.
        return None;
    }
    standard
        .keys()
        .find(|field| {
            let mut values = standard.clone();
            let value = values.remove(*field).unwrap_or_default();
            values.insert(key.to_string(), value);
            reads(values).is_some()
        })
        .cloned()
}
