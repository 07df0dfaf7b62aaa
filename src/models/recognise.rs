//! Which network of the registry a weight file is for.

use rekindle_state::ModelFile;
use serde_json::{Map, Value as Json};

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
