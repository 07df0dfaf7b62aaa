//! A network's state in and out: Burn's parameters under PyTorch's names, in PyTorch's order and layout.
//!
//! Burn's own layers get the names of PyTorch's: norms `weight` and `bias`, recurrent layers their stacked gates (`weight_ih_l0`),
//! attention its one projection (`in_proj_weight`). A linear layer's weight is `[inputs, outputs]` in Burn and `[outputs, inputs]`
//! in PyTorch. Elements of `Vec`, arrays and tuples are numbered as those of `nn.ModuleList`, an enum's variant has no segment.
//!
//! Differences that names and shapes cannot show are the model's own matter: a `Gru` with `reset_after = false`, a recurrent layer
//! with `clip`, `reverse` or other activations, and `quiet_softmax` compute what PyTorch's layer of these parameters does not.
//! Burn's `BatchNorm` moves `running_var` by the biased variance, PyTorch by the unbiased ([`crate::layers::BatchNorm2d`] does too).
//! A struct of one's own that is called `Linear` and has Burn's parameters in Burn's shapes is taken for Burn's.

mod layers;
mod load;
mod read;
mod transpose;
mod tree;

use burn::module::{Module, ModuleMapper, Param, ParamId};
use burn::tensor::{Bool, Int, Tensor};
use rekindle_state as state;
use rekindle_state::StateDict;

pub(crate) use load::shared;
pub use load::{Layout, load};
pub use read::{to_state_dict, to_unstacked};
pub use tree::Kind;

/// A tensor of a network's state dict.
#[derive(Debug, Clone)]
pub struct Entry {
    /// PyTorch's name.
    pub name: String,
    /// PyTorch's shape.
    pub shape: Vec<usize>,
    /// What its elements are.
    pub kind: Kind,
    /// Whether it is trained; running statistics are not.
    pub trained: bool,
    /// Burn's parameters, which it has along its first axis in equal parts; none if Burn does not keep it.
    pub parts: Vec<Part>,
}

/// A parameter of Burn's in a tensor of PyTorch's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Burn's number, by which optimizers know it.
    pub id: ParamId,
    /// Burn's path, by which records know it.
    pub path: String,
    /// Whether Burn has its axes exchanged (the weight of a linear layer).
    pub transposed: bool,
    /// Whether Burn's records have its axes exchanged, from what Burn has (`LinearLayout::Col`).
    pub(super) exchanged: bool,
    /// The path without enums' variants.
    name: String,
    /// Its place in the order in which Burn visits parameters.
    place: usize,
}

impl Entry {
    /// The shape of each part in PyTorch's layout.
    pub fn part_shape(&self) -> Vec<usize> {
        let mut shape = self.shape.clone();
        if let Some(rows) = shape.first_mut() {
            *rows /= self.parts.len().max(1);
        }
        shape
    }

    /// PyTorch's name of its element type.
    pub fn dtype(&self) -> &'static str {
        match self.kind {
            Kind::Float => "float32",
            Kind::Int | Kind::Count => "int64",
            Kind::Bool => "bool",
        }
    }

    /// Whether a file may lack it: files from before PyTorch 0.4.1 do not count batches, and the places of a window follow from its
    /// size, which timm's Swin transformers do not save.
    pub fn is_optional(&self) -> bool {
        self.kind == Kind::Count || self.name.ends_with(".relative_position_index")
    }
}

/// The parameters and buffers of a module as the tensors of PyTorch's state dict, in its order.
pub fn entries<M: Module>(module: &M) -> Vec<Entry> {
    let (stored, root) = tree::tree(module);
    let part = |(place, transposed): (usize, bool)| {
        let stored = &stored[place];
        let exchanged = stored.exchanged;
        Part { id: stored.id, path: stored.path.clone(), name: stored.name.clone(), transposed, exchanged, place }
    };
    let entry = |draft: layers::Draft| Entry {
        name: draft.name,
        shape: draft.shape,
        kind: draft.kind,
        trained: !draft.buffer,
        parts: draft.parts.into_iter().map(part).collect(),
    };
    layers::draft(&stored, &root).0.into_iter().map(entry).collect()
}

/// What of a module PyTorch has no form for, a sentence each: it is in the state dict under Burn's names.
pub fn notes<M: Module>(module: &M) -> Vec<String> {
    let (stored, root) = tree::tree(module);
    layers::draft(&stored, &root).1
}

/// One of Burn's parameters by itself, for those who see what a module computes: gates are not stacked there.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Burn's number.
    pub id: ParamId,
    /// Burn's path.
    pub path: String,
    /// PyTorch's name where the parameter is a tensor by itself; a name of Burn's below the layer's path otherwise.
    pub name: String,
    /// Whether Burn has its axes exchanged.
    pub transposed: bool,
}

/// Burn's parameters in the order in which Burn visits them.
pub fn leaves<M: Module>(module: &M) -> Vec<Leaf> {
    leaves_of(&entries(module))
}

fn leaves_of(entries: &[Entry]) -> Vec<Leaf> {
    let all = entries.iter().flat_map(|entry| entry.parts.iter().map(move |part| (entry, part)));
    let mut leaves: Vec<(usize, Leaf)> = all
        .map(|(entry, part)| {
            let name = if entry.parts.len() == 1 { entry.name.clone() } else { part.name.clone() };
            (part.place, Leaf { id: part.id, path: part.path.clone(), name, transposed: part.transposed })
        })
        .collect();
    leaves.sort_by_key(|(place, _)| *place);
    leaves.into_iter().map(|(_, leaf)| leaf).collect()
}

/// The `_metadata` that PyTorch hangs on a state dict: the version of each module's state, by its path.
///
/// Without it, loading takes batch normalisation for the kind that did not count batches yet.
pub fn metadata<M: Module>(module: &M) -> state::Value {
    let (stored, root) = tree::tree(module);
    let entries = layers::draft(&stored, &root).0;
    // To torchvision's MNASNet, version 1 is the network whose stem has 32 and 16 channels whatever the width of the rest.
    let outputs =
        |name: &str| entries.iter().find(|entry| entry.name == name).and_then(|entry| entry.shape.first().copied());
    let stem = ["layers.0.weight", "layers.6.weight"].map(outputs);
    let is_second = root.class == "MnasNet" && stem != [Some(32), Some(16)];
    let names: Vec<String> = entries.into_iter().map(|entry| entry.name).collect();
    let mut dict = StateDict::ordered();
    let mut add = |path: &str| {
        let counts =
            names.iter().any(|name| name.strip_prefix(path).is_some_and(|rest| rest == ".num_batches_tracked"));
        if dict.get(path).is_none() {
            let version = if counts || path.is_empty() && is_second { 2 } else { 1 };
            dict.insert(path, StateDict::from_iter([(state::Key::from("version"), state::Value::Int(version))]));
        }
    };
    add("");
    for name in &names {
        name.match_indices('.').for_each(|(at, _)| add(&name[..at]));
    }
    state::Value::Dict(dict)
}

/// Keeps the parameters whose PyTorch name matches any pattern from moving: they get no gradient.
pub fn freeze<M: Module>(module: M, patterns: &[regex::Regex]) -> M {
    if patterns.is_empty() {
        return module;
    }
    let mut frozen = Vec::new();
    for entry in entries(&module) {
        if patterns.iter().any(|pattern| pattern.is_match(&entry.name)) {
            frozen.extend(entry.parts.iter().map(|part| part.place));
        }
    }
    module.map(&mut Freezer { place: 0, frozen })
}

struct Freezer {
    place: usize,
    frozen: Vec<usize>,
}

impl ModuleMapper for Freezer {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.place += 1;
        if self.frozen.contains(&(self.place - 1)) { param.set_require_grad(false) } else { param }
    }

    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        self.place += 1;
        param
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        self.place += 1;
        param
    }
}
