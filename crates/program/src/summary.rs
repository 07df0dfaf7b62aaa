//! What a program is, at a glance: what it takes and gives, its operators, and what is missing.

use std::collections::HashSet;

use indexmap::IndexMap;

/// A program at a glance.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// What wrote it: `torch.export` with PyTorch's version, `TorchScript`.
    pub source: String,
    /// What it takes, trees flattened: name, element type and sizes, open ones by their symbols; constants are left out.
    pub inputs: Vec<Described>,
    /// What it gives.
    pub outputs: Vec<Described>,
    /// Its operators with how often each is there, the most frequent first.
    pub operators: Vec<(String, usize)>,
    /// Names of its parameters, in the order of `parameters()`.
    pub parameters: Vec<String>,
    /// Names of its buffers.
    pub buffers: Vec<String>,
    /// Its modules in the order of use: path, class, and the first source line, where the program says.
    pub modules: Vec<Used>,
    /// What of it is not supported, a sentence for each operator with its module and source line.
    pub missing: Vec<String>,
}

/// An input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: String,
    /// Its sizes; open ones by name.
    pub shape: Vec<String>,
}

/// A module that the program came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Used {
    /// Path from the root; empty for the root.
    pub path: String,
    /// Its class.
    pub class: String,
    /// File and line of the first operator of it.
    pub source: String,
}

/// Counts names, the most frequent first.
pub(crate) fn counted<'n>(names: impl Iterator<Item = &'n str>) -> Vec<(String, usize)> {
    let mut found: IndexMap<&str, usize> = IndexMap::new();
    names.for_each(|name| *found.entry(name).or_default() += 1);
    let mut all: Vec<(String, usize)> = found.into_iter().map(|(name, count)| (name.to_string(), count)).collect();
    all.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
    all
}

/// Modules once each.
pub(crate) fn once(modules: impl Iterator<Item = Used>) -> Vec<Used> {
    let mut known = HashSet::new();
    modules.filter(|module| known.insert(module.path.clone())).collect()
}
