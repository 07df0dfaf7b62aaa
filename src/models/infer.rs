//! The sizes of a network, read off the shapes of a weight file.
//!
//! Weights tell channels, kernels, hidden sizes, classes and the grid between convolutions and linear layers. What they do not
//! tell (the size of a pool, padding, dropout) keeps its default.

use std::collections::HashMap;

use burn::tensor::Device;
use rekindle_state::{MatchOptions, ModelFile, is_spoken, match_weights};
use serde_json::{Map, Value as Json};

use super::{Architecture, Entry, import, weights};

/// The configuration keys with which a network has all names and shapes of a weight file and no others, only those that differ
/// from the row's: none at all where the row fits as it is.
pub fn configuration(entry: &Entry, file: &ModelFile) -> Option<Map<String, Json>> {
    among_forms(entry, file, |_| true)
}

/// The same for one row of many: a look at the names comes before a match in earnest. Burn's records, whose names are not
/// PyTorch's, fit none.
pub(super) fn recognised(entry: &Entry, file: &ModelFile) -> Option<Map<String, Json>> {
    let names = Names::of(file);
    among_forms(entry, file, |network| names.may_be(network))
}

fn among_forms(entry: &Entry, file: &ModelFile, may_be: impl Fn(&Architecture) -> bool) -> Option<Map<String, Json>> {
    entry.standard().ok()?.forms().into_iter().find_map(|form| {
        let network = entry.configure(&form).ok().filter(&may_be)?;
        with_form(entry, file, &network, form)
    })
}

/// The keys for one form of the network.
fn with_form(
    entry: &Entry,
    file: &ModelFile,
    network: &Architecture,
    form: Map<String, Json>,
) -> Option<Map<String, Json>> {
    let (known, fits) = shapes(network, file)?;
    let mut keys = if fits { Map::new() } else { network.fit(&known)? };
    keys.extend(form);
    keys.extend(network.differing_in(&known.told));
    if fits {
        return Some(keys);
    }
    // Only a network that then fits entirely is worth proposing.
    let (_, fits) = shapes(&entry.configure(&keys).ok()?, file)?;
    fits.then_some(keys)
}

/// The names of a file's tensors, for a quick look before a match in earnest.
struct Names(Vec<String>);

impl Names {
    /// The names of all tensors of a file.
    fn of(file: &ModelFile) -> Self {
        Self(rekindle_state::tensors(&file.content.root).into_iter().map(|(name, _)| name).collect())
    }

    /// Whether a network's first and last names are among the file's, whatever stands before them, and are as many at least; or
    /// whether they may be another library's.
    fn may_be(&self, architecture: &Architecture) -> bool {
        let entries = weights::entries(&architecture.build(&Device::flex()));
        let wanted: Vec<&str> =
            entries.iter().filter(|entry| !entry.is_optional()).map(|entry| entry.name.as_str()).collect();
        if is_spoken(&self.0, &wanted) {
            return true;
        }
        let has = |wanted: &&str| self.0.iter().any(|name| name.ends_with(*wanted));
        wanted.len() <= self.0.len() && wanted.first().is_some_and(has) && wanted.last().is_some_and(has)
    }
}

/// Shapes in a weight file, by the names of a network's parameters and buffers.
#[derive(Debug, Clone)]
pub struct Shapes {
    by_name: HashMap<String, Vec<usize>>,
    /// Keys that the file's names tell, and no shape.
    told: Vec<(&'static str, f64)>,
}

impl Shapes {
    /// The shape of a tensor, in PyTorch's layout.
    pub fn get(&self, name: &str) -> Option<&[usize]> {
        self.by_name.get(name).map(Vec::as_slice)
    }

    /// The length of an axis of a tensor.
    pub fn axis(&self, name: &str, axis: usize) -> Option<usize> {
        self.get(name)?.get(axis).copied()
    }

    /// The outputs of some layers: the first axes of their weights.
    pub fn outputs<const N: usize>(&self, layers: [&str; N]) -> Option<[usize; N]> {
        let outputs: Option<Vec<usize>> = layers.iter().map(|layer| self.axis(&format!("{layer}.weight"), 0)).collect();
        outputs?.try_into().ok()
    }
}

/// Matches a file with a network that has no weights yet, and says whether every shape is the network's; none when names are
/// missing or left over.
fn shapes(architecture: &Architecture, file: &ModelFile) -> Option<(Shapes, bool)> {
    // Parameters are drawn when they are first used: this costs nothing.
    let entries = weights::entries(&architecture.build(&Device::flex()));
    let wanted = import::wanted(&entries);
    let record = import::from_record(&entries, file).ok()?;
    let found = match_weights(record.as_ref().unwrap_or(&file.content.root), &wanted, &MatchOptions::default()).ok()?;
    if !found.missing.is_empty() || !found.unused.is_empty() {
        return None;
    }
    let equal = found.matched.iter().map(|matched| (matched.name.clone(), matched.tensor.shape()));
    let other = found.shape_differs.iter().map(|(name, _, shape)| (name.clone(), shape.as_slice()));
    let sized = |shape: &[u64]| shape.iter().map(|&axis| usize::try_from(axis).ok()).collect::<Option<Vec<_>>>();
    let by_name =
        equal.chain(other).map(|(name, shape)| Some((name, sized(shape)?))).collect::<Option<HashMap<_, _>>>()?;
    Some((Shapes { by_name, told: found.keys }, found.shape_differs.is_empty()))
}
