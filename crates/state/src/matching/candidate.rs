//! Dictionaries of a file that may hold the weights.

use super::names::Names;
use crate::parametrization::{self, Made, Norm};
use crate::{StateDict, Tensor, Value, module_state_dict};

/// Keys under which weights are usually kept, the likeliest first.
const USUAL_KEYS: [&str; 12] = [
    "state_dict",
    "model_state_dict",
    "model",
    "model_state",
    "net",
    "network",
    "module",
    "weights",
    "params",
    "model_ema",
    "ema",
    "state_dict_ema",
];
/// How deep dictionaries of weights are looked for.
const MAX_DEPTH: usize = 32;

/// A dictionary that may hold the weights.
pub struct Candidate {
    pub path: String,
    pub entries: Vec<(String, Tensor)>,
    /// Places of weights that stand for the parts that they are computed from; until then they are the part of the same shape.
    pub folded: Vec<(usize, Made)>,
    /// The entries before, if there are such weights.
    pub unfolded: Vec<(String, Tensor)>,
}

impl Candidate {
    /// The tensors under text keys of a value, if there are any.
    pub fn new(path: &str, value: &Value) -> Option<Self> {
        let dict = match value {
            Value::Dict(dict) => std::borrow::Cow::Borrowed(dict),
            Value::Object(object) => std::borrow::Cow::Owned(module_state_dict(object)?),
            _ => return None,
        };
        let entries: Vec<_> = dict.tensors().map(|(name, tensor)| (name.to_string(), tensor.clone())).collect();
        (!entries.is_empty()).then(|| Self::of(path, entries))
    }

    fn of(path: &str, entries: Vec<(String, Tensor)>) -> Self {
        Self { path: path.to_string(), entries, folded: Vec::new(), unfolded: Vec::new() }
    }

    /// Puts normalized weights in the place of their parts, unless the model has such parts itself.
    pub fn fold(&mut self, names: &Names<'_>) {
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
        let mut made = parametrization::find(&self.entries);
        made.retain(|made| !names.all.iter().any(|name| last(name) == last(&self.entries[made.places[0]].0)));
        if made.is_empty() {
            return;
        }
        self.unfolded = std::mem::take(&mut self.entries);
        let mut owners = vec![None; self.unfolded.len()];
        made.iter().enumerate().for_each(|(at, made)| made.places.iter().for_each(|&place| owners[place] = Some(at)));
        let mut made: Vec<Option<Made>> = made.into_iter().map(Some).collect();
        for (place, (name, tensor)) in self.unfolded.iter().enumerate() {
            let Some(at) = owners[place] else {
                self.entries.push((name.clone(), tensor.clone()));
                continue;
            };
            // In the place of its first part.
            if let Some(made) = made[at].take() {
                let whole = made.places[usize::from(made.norm == Norm::Weight)];
                self.entries.push((made.name.clone(), self.unfolded[whole].1.clone()));
                self.folded.push((self.entries.len() - 1, made));
            }
        }
    }

    pub fn folded_helps(&self) -> Vec<String> {
        let of =
            |norm: Norm| self.folded.iter().filter(move |(_, made)| made.norm == norm).map(|(_, made)| &made.name[..]);
        let kinds =
            [(Norm::Weight, "weight normalization"), (Norm::Spectral, "spectral normalization, as in evaluation")];
        let kinds = kinds.into_iter().map(|(norm, kind)| (of(norm).collect::<Vec<_>>(), kind));
        kinds
            .filter(|(weights, _)| !weights.is_empty())
            .map(|(weights, kind)| {
                format!("computed {} from {kind}: the model trains them as plain weights", weights.join(", "))
            })
            .collect()
    }

    /// Where its key stands among the usual ones; the root comes first.
    pub fn rank(&self) -> usize {
        let key = self.path.rsplit('/').next().unwrap_or_default();
        if key.is_empty() {
            0
        } else {
            USUAL_KEYS.iter().position(|usual| *usual == key).map_or(USUAL_KEYS.len() + 1, |at| at + 1)
        }
    }

    pub fn depth(&self) -> usize {
        self.path.split('/').count()
    }
}

/// Every dictionary of tensors in a tree.
pub fn find_candidates(value: &Value, path: &mut String, depth: usize, out: &mut Vec<Candidate>) {
    if depth > MAX_DEPTH {
        return;
    }
    out.extend(Candidate::new(path, value));
    let Some(dict) = value.as_dict() else { return };
    for (key, value) in dict.iter() {
        if matches!(value, Value::Dict(_) | Value::Object(_)) {
            let length = path.len();
            if depth > 0 {
                path.push('/');
            }
            path.push_str(&key.text());
            find_candidates(value, path, depth + 1, out);
            path.truncate(length);
        }
    }
}

/// A tree of dictionaries (`{'conv': {'weight': …}}`) as one with dotted names.
pub fn flattened(path: &str, value: &Value) -> Option<Candidate> {
    fn collect(dict: &StateDict, prefix: &str, depth: usize, out: &mut Vec<(String, Tensor)>) {
        for (key, value) in dict.iter() {
            let name = format!("{prefix}{}", key.text());
            match value {
                Value::Tensor(tensor) => out.push((name, tensor.clone())),
                Value::Dict(dict) if depth < MAX_DEPTH => collect(dict, &format!("{name}."), depth + 1, out),
                _ => {}
            }
        }
    }
    let mut entries = Vec::new();
    collect(value.as_dict()?, "", 0, &mut entries);
    (!entries.is_empty()).then(|| Candidate::of(path, entries))
}
