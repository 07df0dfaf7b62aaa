//! Which network of the registry a weight file is for.

use burn::tensor::Device;
use rekindle_state::{ModelFile, ModuleTree};
use serde_json::{Map, Value as Json};

use super::weights::entries;
use super::{Architecture, Entry, Registry, infer};

/// A network whose names and shapes a weight file has.
#[derive(Debug, Clone)]
pub struct Recognised {
    /// The row of the registry.
    pub entry: Entry,
    /// The keys of its configuration that the shapes tell; empty when the row fits as it is.
    pub keys: Map<String, Json>,
    /// The network with them.
    pub architecture: Architecture,
}

impl Recognised {
    /// In words: `resnet50 with classes = 37`.
    pub fn describe(&self) -> String {
        let keys: Vec<String> = self.keys.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        if keys.is_empty() {
            self.entry.name.to_string()
        } else {
            format!("{} with {}", self.entry.name, keys.join(", "))
        }
    }

    /// The network with the flags that a pickled module of it has, such as `transform_input`, where they change no weight.
    pub fn with_flags_of(self, tree: &ModuleTree) -> Self {
        let config = self.architecture.config();
        let mut keys = self.keys.clone();
        for (key, value) in &unwrapped(tree).hyper_parameters {
            if let (Some(own), Some(flag)) = (config.get(key).and_then(Json::as_bool), value.as_bool())
                && own != flag
            {
                keys.insert(key.clone(), flag.into());
            }
        }
        if keys.len() == self.keys.len() {
            return self;
        }
        let weights = |network: &Architecture| -> Vec<_> {
            let entries = entries(&network.build(&Device::flex()));
            entries.into_iter().map(|entry| (entry.name, entry.shape)).collect()
        };
        match self.entry.configure(&keys) {
            Ok(architecture) if weights(&architecture) == weights(&self.architecture) => {
                Self { keys, architecture, ..self }
            }
            _ => self,
        }
    }
}

/// The module in a parallel wrapper, which says nothing of the network.
pub fn unwrapped(tree: &ModuleTree) -> &ModuleTree {
    match tree.children.as_slice() {
        [only] if tree.class.name.ends_with("DataParallel") => only,
        _ => tree,
    }
}

/// The networks whose names and shapes a file has, those that fit with the fewest changes first.
///
/// A file may fit several: VGG's widths can be any, and a small network may have the names of another.
pub fn recognise(registry: &Registry, file: &ModelFile) -> Vec<Recognised> {
    let fits = registry.entries().iter().filter_map(|entry| {
        let keys = infer::recognised(entry, file)?;
        let architecture = entry.configure(&keys).ok()?;
        Some(Recognised { entry: entry.clone(), keys, architecture })
    });
    let mut fits: Vec<Recognised> = fits.collect();
    // Rows of the registry stay in order among those with as many changes.
    fits.sort_by_key(|found| found.keys.len());
    fits
}
