//! Optimizers' state dicts: parameter groups, and parameters by name where the model's state dict is in the same file.

use std::collections::HashMap;

use indexmap::{IndexMap, IndexSet};
use serde::Serialize;
use serde_json::{Map, Value as Json};

use crate::{Key, StateDict, Tensor, Value, plain};

/// An optimizer's state dict, with parameters by name where the file allows.
#[derive(Debug, Clone, Default, Serialize)]
pub struct OptimizerEntry {
    /// Hyper-parameters of each group, and `params`.
    pub groups: Vec<Map<String, Json>>,
    /// What is kept for each parameter: `conv.weight/momentum_buffer`.
    pub state: Vec<String>,
}

/// Names of buffers of normalization layers: they are no parameters.
const BUFFERS: &[&str] = &["running_mean", "running_var", "num_batches_tracked"];

/// Describes the optimizers in a file, if there are any.
pub(crate) fn describe(root: &Value) -> Option<OptimizerEntry> {
    let mut optimizers = Vec::new();
    let mut models = Vec::new();
    search(root, 0, &mut optimizers, &mut models);
    if optimizers.is_empty() {
        return None;
    }
    let mut entry = OptimizerEntry::default();
    for optimizer in optimizers {
        one(optimizer, &models, &mut entry);
    }
    Some(entry)
}

/// Finds optimizers' and models' state dicts near the root.
fn search<'v>(value: &'v Value, depth: usize, optimizers: &mut Vec<&'v StateDict>, models: &mut Vec<&'v StateDict>) {
    let Some(dict) = value.as_dict() else {
        if let (Some(items), true) = (value.as_slice(), depth < 4) {
            items.iter().take(64).for_each(|item| search(item, depth + 1, optimizers, models));
        }
        return;
    };
    if groups(dict).is_some() && dict.get("state").is_some() {
        optimizers.push(dict);
        return;
    }
    if dict.tensors().count() * 2 > dict.len() {
        models.push(dict);
        return;
    }
    if depth < 4 {
        dict.iter().for_each(|(_, value)| search(value, depth + 1, optimizers, models));
    }
}

fn groups(dict: &StateDict) -> Option<Vec<&StateDict>> {
    let Value::List(groups) = dict.get("param_groups")? else { return None };
    groups.iter().map(Value::as_dict).collect()
}

/// A parameter of a group: the key of its state, and the shape that its state has.
struct Slot<'v> {
    key: Key,
    group: usize,
    shape: Option<&'v [u64]>,
}

fn one(optimizer: &StateDict, models: &[&StateDict], entry: &mut OptimizerEntry) {
    let Some(groups) = groups(optimizer) else { return };
    let state = optimizer.dict("state");
    let mut slots = Vec::new();
    let mut given = Vec::new();
    for (group, settings) in groups.iter().enumerate() {
        let params = settings.get("params").and_then(Value::as_slice).unwrap_or_default();
        let names = settings.get("param_names").and_then(Value::as_slice).unwrap_or_default();
        for (place, param) in params.iter().enumerate() {
            let key = match param {
                Value::Str(text) => Key::from(text.as_str()),
                Value::Int(int) => Key::Int(*int),
                _ => Key::None,
            };
            let shape = state.and_then(|state| state.get_key(&key)).and_then(Value::as_dict).and_then(moment);
            given.push(names.get(place).and_then(Value::as_str).map(str::to_string));
            slots.push(Slot { key, group, shape });
        }
    }
    let resolved = match given.into_iter().collect::<Option<Vec<_>>>() {
        Some(names) => Some(names),
        None => models.iter().find_map(|model| resolve(&slots, model)),
    };
    let name = |place: usize| match &resolved {
        Some(names) => names[place].clone(),
        None => slots[place].key.text().into_owned(),
    };
    for (group, settings) in groups.iter().enumerate() {
        let mut out = Map::new();
        for (key, value) in settings.iter().filter(|(key, _)| !matches!(key.text().as_ref(), "params" | "param_names"))
        {
            out.insert(key.text().into_owned(), plain::json(value));
        }
        let params = (0..slots.len()).filter(|&place| slots[place].group == group).map(name).collect();
        out.insert("params".to_string(), params);
        entry.groups.push(out);
    }
    let places: HashMap<&Key, usize> = slots.iter().enumerate().map(|(place, slot)| (&slot.key, place)).collect();
    for (key, kept) in state.into_iter().flat_map(StateDict::iter) {
        let owner = match places.get(key) {
            Some(&place) => name(place),
            None => key.text().into_owned(),
        };
        match kept.as_dict() {
            Some(kept) => entry.state.extend(kept.keys().map(|key| format!("{owner}/{key}"))),
            None => entry.state.push(owner),
        }
    }
}

/// The shape of a parameter's state: that of its largest tensor; a step count says nothing.
fn moment(state: &StateDict) -> Option<&[u64]> {
    let tensor = state
        .tensors()
        .filter(|(name, _)| *name != "step")
        .map(|(_, tensor)| tensor)
        .max_by_key(|tensor| tensor.numel());
    tensor.map(Tensor::shape)
}

/// Names for the parameters, if the model's state dict leaves no doubt.
fn resolve(slots: &[Slot<'_>], model: &StateDict) -> Option<Vec<String>> {
    let all: Vec<_> = model
        .tensors()
        .filter(|(name, _)| !BUFFERS.iter().any(|buffer| *name == *buffer || name.ends_with(&format!(".{buffer}"))))
        .collect();
    let float: Vec<_> =
        all.iter().filter(|(_, tensor)| tensor.dtype().is_float() || tensor.dtype().is_complex()).copied().collect();
    // Tied weights are one parameter with several names: the first counts.
    let mut storages = IndexSet::new();
    let once: Vec<_> = float
        .iter()
        .filter(|(_, tensor)| {
            tensor.view().is_none_or(|view| tensor.numel() == 0 || storages.insert((view.storage.id(), view.offset)))
        })
        .copied()
        .collect();
    let family = largest_family(&float);
    [float, once, all, family]
        .iter()
        .find_map(|parameters| in_order(slots, parameters).or_else(|| by_shape(slots, parameters)))
}

/// The parameters under the module that has most of them: a LightningModule holds a network, and beside it what a loss needs.
fn largest_family<'v>(parameters: &[(&'v str, &'v Tensor)]) -> Vec<(&'v str, &'v Tensor)> {
    let first = |name: &'v str| name.split('.').next().unwrap_or_default();
    let mut counts: IndexMap<&str, usize> = IndexMap::new();
    for (name, _) in parameters {
        *counts.entry(first(name)).or_default() += 1;
    }
    let largest = counts.iter().max_by_key(|(_, count)| **count).map(|(name, _)| *name);
    parameters.iter().filter(|(name, _)| Some(first(name)) == largest).copied().collect()
}

fn names(parameters: &[(&str, &Tensor)]) -> Vec<String> {
    parameters.iter().map(|(name, _)| (*name).to_string()).collect()
}

/// The i-th index is the i-th parameter.
fn in_order(slots: &[Slot<'_>], parameters: &[(&str, &Tensor)]) -> Option<Vec<String>> {
    let fits = slots.len() == parameters.len()
        && slots
            .iter()
            .zip(parameters)
            .all(|(slot, (_, tensor))| slot.shape.is_none_or(|shape| shape == tensor.shape()));
    // Several groups without any state could be in any order.
    let told = slots.last().is_none_or(|last| last.group == 0) || slots.iter().any(|slot| slot.shape.is_some());
    (fits && told).then(|| names(parameters))
}

/// Groups may reorder parameters, and buffers of other kinds may lie between them: every shape must then belong to one group.
fn by_shape(slots: &[Slot<'_>], parameters: &[(&str, &Tensor)]) -> Option<Vec<String>> {
    let mut shapes: IndexMap<&[u64], (Vec<&str>, Vec<usize>)> = IndexMap::new();
    for (name, tensor) in parameters {
        shapes.entry(tensor.shape()).or_default().0.push(name);
    }
    for (place, slot) in slots.iter().enumerate() {
        shapes.get_mut(slot.shape?)?.1.push(place);
    }
    let mut names = vec![String::new(); slots.len()];
    for (held, places) in shapes.values() {
        let one_group = places.windows(2).all(|pair| slots[pair[0]].group == slots[pair[1]].group);
        if !places.is_empty() && (held.len() != places.len() || !one_group) {
            return None;
        }
        for (name, &place) in held.iter().zip(places) {
            names[place] = (*name).to_string();
        }
    }
    Some(names)
}
