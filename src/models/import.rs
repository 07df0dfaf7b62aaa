//! Weights from any model file into a network, with what was matched, missing and left over.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::Path;

use burn::module::Module;
use rekindle_state as state;
use rekindle_state::{
    Burnpack, Format, MatchOptions, Matching, ModelFile, StateDict, Value, Wanted, match_weights, show_shape,
};

use super::weights::{Entry, Kind, Layout};
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
    import_file(module, &rekindle_state::open(path)?, options)
}

/// Loads weights from an open file into a module.
///
/// # Errors
/// As for [`import`].
pub fn import_file<M: Module>(module: M, file: &ModelFile, options: &ImportOptions) -> Result<(M, Report), ModelError> {
    let path = &file.path;
    let entries = weights::entries(&module);
    let wanted = wanted(&entries);
    let record = from_record(&entries, file)?;
    let root = record.as_ref().unwrap_or(&file.content.root);
    let mut matching = match_weights(root, &wanted, &options.matching).map_err(|error| error.at(path))?;
    matching.helps.extend(file.notes.iter().cloned());
    let notes = notes(&entries, &matching, weights::notes(&module));
    let report = Report { file: path.display().to_string(), wanted: wanted.len(), matching, notes };
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
        optional: entry.is_optional(),
    });
    wanted.collect()
}

/// What a module cannot take of the tensors that were matched, and what of it has no form in PyTorch, a sentence each.
fn notes(entries: &[Entry], matching: &Matching, mut notes: Vec<String>) -> Vec<String> {
    let uncounted: HashSet<&str> =
        entries.iter().filter(|entry| entry.parts.is_empty()).map(|entry| entry.name.as_str()).collect();
    let lost = matching.matched.iter().filter(|matched| {
        let counted = matched.tensor.to_i64().is_ok_and(|count| count.iter().any(|&count| count != 0));
        counted && uncounted.contains(matched.name.as_str())
    });
    match lost.count() {
        0 => {}
        count => notes.push(format!(
            "Burn's BatchNorm counts no batches: {count} num_batches_tracked of the file are passed over, and 0 when saved"
        )),
    }
    notes
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
    let by_path: HashMap<&str, &state::Tensor> =
        tensors.iter().map(|(name, tensor)| (name.as_str(), *tensor)).collect();
    let known: HashSet<&str> = entries.iter().flat_map(|entry| &entry.parts).map(|part| part.path.as_str()).collect();
    let is_record =
        tensors.iter().all(|(name, _)| ids.contains_key(name)) && by_path.keys().any(|name| known.contains(name));
    if !is_record {
        return Ok(None);
    }
    let mut dict = StateDict::ordered();
    for entry in entries {
        let parts =
            entry.parts.iter().map(|part| Some((part.transposed != part.exchanged, *by_path.get(part.path.as_str())?)));
        let Some(parts) = parts.collect::<Option<Vec<_>>>().filter(|parts| !parts.is_empty()) else { continue };
        let views = parts.into_iter().map(|(transposed, tensor)| torch_layout(tensor, transposed, entry));
        dict.insert(entry.name.as_str(), along_first_axis(views.collect::<Result<Vec<_>, _>>()?)?);
    }
    for (name, tensor) in tensors.iter().filter(|(name, _)| !known.contains(name.as_str())) {
        dict.insert(name.as_str(), (*tensor).clone());
    }
    Ok(Some(Value::Dict(dict)))
}

/// A view of a tensor of a record as PyTorch would have it.
fn torch_layout(tensor: &state::Tensor, transposed: bool, entry: &Entry) -> Result<state::Tensor, ModelError> {
    let (Some(view), mut shape) = (tensor.view(), tensor.shape().to_vec()) else { return Ok(tensor.clone()) };
    let mut view = view.clone();
    if transposed {
        shape.reverse();
        view.strides.reverse();
    } else if entry.kind == Kind::Count && shape == [1] {
        // The count of batches is a scalar in PyTorch alone.
        shape.clear();
        view.strides.clear();
    }
    Ok(state::Tensor::strided(tensor.dtype(), &shape, view)?)
}

/// Tensors one after the other along their first axis.
fn along_first_axis(parts: Vec<state::Tensor>) -> Result<state::Tensor, ModelError> {
    if let [only] = &parts[..] {
        return Ok(only.clone());
    }
    let mut shape = parts.first().map(|part| part.shape().to_vec()).unwrap_or_default();
    let dtype = parts.first().map_or(state::DType::F32, state::Tensor::dtype);
    let mut bytes = Vec::new();
    for part in &parts {
        bytes.extend_from_slice(&part.bytes()?);
    }
    if let Some(rows) = shape.first_mut() {
        *rows = parts.iter().filter_map(|part| part.shape().first()).sum();
    }
    Ok(state::Tensor::from_bytes(dtype, &shape, bytes)?)
}

/// What came of matching a file with a network.
#[derive(Debug)]
pub struct Report {
    file: String,
    wanted: usize,
    /// The match of every name.
    pub matching: Matching,
    /// What of the network or of the file the other has no form for, a sentence each.
    pub notes: Vec<String>,
}

/// How many names of a kind are listed before the rest is only counted.
const LISTED: usize = 12;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Matching { path, searched, matched, missing, unused, shape_differs, suggestions, helps, keys } =
            &self.matching;
        write!(f, "{}: {} of {} parameters matched", self.file, matched.len(), self.wanted)?;
        if *searched {
            write!(f, "\n  took the weights under '{path}'")?;
        }
        for help in helps.iter().chain(&self.notes) {
            write!(f, "\n  {help}")?;
        }
        for (key, value) in keys {
            write!(f, "\n  the network of the file has {key} = {value}")?;
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
