//! Weights from any model file into a network, with what was matched, missing and left over.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;

use burn::module::Module;
use rekindle_state as state;
use rekindle_state::{
    Burnpack, Format, MatchOptions, Matching, ModelFile, StateDict, Value, Wanted, match_weights, show_shape,
};

use super::weights::{Entry, Layout};
use super::{ModelError, weights};

/// How a weight file is read.
#[derive(Debug, Clone, Default)]
pub struct ImportOptions {
    /// Where the weights are in the file and what is stripped; found automatically otherwise.
    pub matching: MatchOptions,
    /// Whether names and shapes that do not fit are passed over.
    pub partial: bool,
    /// How the weights of linear layers are kept.
    pub layout: Layout,
}

/// Loads weights from a file of any format into a module.
///
/// # Errors
/// When the file cannot be read, or does not fit and `partial` is off: the error holds the table of names.
pub fn import<M: Module>(module: M, path: &Path, options: &ImportOptions) -> Result<(M, Report), ModelError> {
    let file = rekindle_state::open(path)?;
    let entries = weights::entries(&module);
    let wanted = wanted(&entries);
    let record = from_record(&entries, &file)?;
    let root = record.as_ref().unwrap_or(&file.content.root);
    let mut matching = match_weights(root, &wanted, &options.matching).map_err(|error| error.at(path))?;
    matching.helps.extend(file.notes.iter().cloned());
    let report = Report { file: path.display().to_string(), wanted: wanted.len(), matching };
    if !options.partial && !report.matching.is_complete() {
        return Err(ModelError::Weights { table: Box::new(report) });
    }
    if report.matching.matched.is_empty() {
        return Err(ModelError::Weights { table: Box::new(report) });
    }
    let mut found = StateDict::new();
    for matched in &report.matching.matched {
        found.insert(matched.name.as_str(), matched.tensor.clone());
    }
    let module = weights::load(module, &found, options.layout).map_err(|error| error.at(path))?;
    Ok((module, report))
}

/// What a file has to hold for some parameters.
pub(super) fn wanted(entries: &[Entry]) -> Vec<Wanted> {
    let wanted = entries.iter().map(|entry| Wanted {
        name: entry.name.clone(),
        shape: entry.shape.iter().map(|&axis| axis as u64).collect(),
        // Files from before PyTorch 0.4.1 do not count batches.
        optional: entry.name.ends_with("num_batches_tracked"),
    });
    wanted.collect()
}

/// A record of Burn's in PyTorch's terms, if the file is one for such a module: there, every tensor carries Burn's identity,
/// names are Burn's, and linear weights lie as Burn keeps them. A square one would otherwise be taken for what it is not.
pub(super) fn from_record(entries: &[Entry], file: &ModelFile) -> Result<Option<Value>, ModelError> {
    if file.format.name() != Burnpack.name() {
        return Ok(None);
    }
    let map = rekindle_state::Map::open(&file.path)?;
    let (_, ids) = rekindle_state::read_burnpack_with_ids(&map)?;
    let tensors = rekindle_state::tensors(&file.content.root);
    let by_path: HashMap<&str, &Entry> = entries.iter().map(|entry| (entry.path.as_str(), entry)).collect();
    let is_record = tensors.iter().all(|(name, _)| ids.contains_key(name))
        && tensors.iter().any(|(name, _)| by_path.contains_key(name.as_str()));
    if !is_record {
        return Ok(None);
    }
    let mut dict = StateDict::ordered();
    for (name, tensor) in tensors {
        match by_path.get(name.as_str()) {
            Some(entry) => dict.insert(entry.name.as_str(), torch_layout(tensor, entry)?),
            None => dict.insert(name, tensor.clone()),
        };
    }
    Ok(Some(Value::Dict(dict)))
}

/// A view of a tensor of a record as PyTorch would have it.
fn torch_layout(tensor: &state::Tensor, entry: &Entry) -> Result<state::Tensor, ModelError> {
    let (Some(view), mut shape) = (tensor.view(), tensor.shape().to_vec()) else { return Ok(tensor.clone()) };
    let mut view = view.clone();
    if entry.transposed {
        shape.reverse();
        view.strides.reverse();
    } else if entry.shape.is_empty() && shape == [1] {
        // The count of batches is a scalar in PyTorch alone.
        shape.clear();
        view.strides.clear();
    }
    Ok(state::Tensor::strided(tensor.dtype(), &shape, view)?)
}

/// What came of matching a file with a network.
#[derive(Debug)]
pub struct Report {
    file: String,
    wanted: usize,
    /// The match of every name.
    pub matching: Matching,
}

/// How many names of a kind are listed before the rest is only counted.
const LISTED: usize = 12;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matching { matched, missing, unused, shape_differs, suggestions, helps, .. } = &self.matching;
        write!(f, "{}: {} of {} parameters matched", self.file, matched.len(), self.wanted)?;
        for help in helps {
            write!(f, "\n  {help}")?;
        }
        let nearest = |name: &String| suggestions.iter().find(|(missing, _)| missing == name).map(|(_, found)| found);
        list(
            f,
            "missing in the file",
            missing.iter().map(|name| match nearest(name) {
                Some(found) => format!("{name} (the file has '{found}')"),
                None => name.clone(),
            }),
        )?;
        list(f, "not used from the file", unused.iter().cloned())?;
        list(
            f,
            "of another shape",
            shape_differs.iter().map(|(name, expected, found)| {
                format!("{name}: the model has {}, the file {}", show_shape(expected), show_shape(found))
            }),
        )
    }
}

fn list(f: &mut fmt::Formatter<'_>, what: &str, names: impl ExactSizeIterator<Item = String>) -> fmt::Result {
    let count = names.len();
    if count == 0 {
        return Ok(());
    }
    write!(f, "\n  {count} {what}:")?;
    for name in names.take(LISTED) {
        write!(f, "\n    {name}")?;
    }
    if count > LISTED {
        write!(f, "\n    … and {} more", count - LISTED)?;
    }
    Ok(())
}
