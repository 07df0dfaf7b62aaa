//! Which tensor of a file belongs to which parameter of a model, whatever the file wrapped around the names.

use std::collections::{HashMap, HashSet};

use crate::parametrization::{self, Made, Norm};
use crate::{Error, ErrorKind, Result, StateDict, Tensor, Value, former, module_state_dict, nearest, nearest_alike};

/// A parameter or buffer that a model has, under PyTorch's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The name: `features.0.weight`.
    pub name: String,
    /// The shape.
    pub shape: Vec<u64>,
    /// Whether a file may lack it (`num_batches_tracked`).
    pub optional: bool,
}

/// How to look for the weights, where the automatic way is not the right one.
#[derive(Debug, Clone, Default)]
pub struct MatchOptions {
    /// The path of the dictionary that holds the weights, joined by `/`; found by its names otherwise.
    pub key: Option<String>,
    /// A prefix to take off the file's names; found by the model's names otherwise.
    pub strip: Option<String>,
}

/// A tensor that was found for a parameter.
#[derive(Debug, Clone)]
pub struct Matched {
    /// The model's name.
    pub name: String,
    /// The file's name, in the dictionary that holds the weights.
    pub file_name: String,
    /// The tensor.
    pub tensor: Tensor,
}

/// What came of matching a file with a model.
#[derive(Debug, Clone, Default)]
pub struct Matching {
    /// The path of the dictionary that the weights were taken from; empty for the root.
    pub path: String,
    /// Whether that place was found, and not asked for.
    pub searched: bool,
    /// Parameters that were found, with the right shape, in the model's order.
    pub matched: Vec<Matched>,
    /// Parameters that the file lacks.
    pub missing: Vec<String>,
    /// The file's tensors that the model has no place for.
    pub unused: Vec<String>,
    /// Parameters whose shape is another: name, the model's shape, the file's.
    pub shape_differs: Vec<(String, Vec<u64>, Vec<u64>)>,
    /// For a missing parameter, the unused tensor with the most similar name.
    pub suggestions: Vec<(String, String)>,
    /// Everything that was done to make names match, as sentences.
    pub helps: Vec<String>,
}

impl Matching {
    /// Whether every parameter was found with its shape, and nothing is left over.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unused.is_empty() && self.shape_differs.is_empty()
    }
}

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

/// Finds the dictionary that holds the weights and gives every parameter its tensor.
///
/// # Errors
/// When `key` names nothing, or the file holds no dictionary of tensors.
pub fn match_weights(root: &Value, wanted: &[Wanted], options: &MatchOptions) -> Result<Matching> {
    let names = Names::new(wanted);
    let mut candidates = Vec::new();
    match &options.key {
        Some(key) => candidates
            .extend(Candidate::new(key, find_key(root, key)?).or_else(|| flattened(key, find_key(root, key).ok()?))),
        None => {
            find_candidates(root, &mut String::new(), 0, &mut candidates);
            if candidates.iter().all(|candidate| candidate.fit(&names, options).matches == 0) {
                candidates.extend(flattened("", root));
            }
        }
    }
    candidates.iter_mut().for_each(|candidate| candidate.fold(&names));
    let mut best: Option<(&Candidate, Fit)> = None;
    let mut others = Vec::new();
    for candidate in &candidates {
        let fit = candidate.fit(&names, options);
        let better = best.as_ref().is_none_or(|(former, held)| {
            (fit.matches, former.rank(), former.depth()) > (held.matches, candidate.rank(), candidate.depth())
        });
        if better {
            if let Some((former, held)) = best.take() {
                others.push((former.path.clone(), held.matches));
            }
            best = Some((candidate, fit));
        } else {
            others.push((candidate.path.clone(), fit.matches));
        }
    }
    let Some((candidate, fit)) = best else {
        return Err(Error::new(ErrorKind::Mismatch, "it holds no dictionary of tensors to take weights from"));
    };
    let mut helps = Vec::new();
    if !candidate.path.is_empty() && options.key.is_none() {
        let equals: Vec<_> = others
            .iter()
            .filter(|(_, matches)| *matches == fit.matches && fit.matches > 0)
            .map(|(path, _)| path)
            .collect();
        for path in equals {
            helps.push(format!("'{path}' would fit as well: choose it with --key {path}"));
        }
    }
    helps.extend(fit.helps());
    helps.extend(candidate.folded_helps());
    let mut matching = assign(candidate, &fit, wanted, helps);
    matching.searched = !candidate.path.is_empty() && options.key.is_none();
    for (at, made) in &candidate.folded {
        let name = &candidate.entries[*at].0;
        if let Some(matched) = matching.matched.iter_mut().find(|matched| matched.file_name == *name) {
            matched.tensor = made.weight(&candidate.unfolded)?;
        }
    }
    Ok(matching)
}

/// Gives each parameter its tensor, once the dictionary and the renaming are known.
fn assign(candidate: &Candidate, fit: &Fit, wanted: &[Wanted], helps: Vec<String>) -> Matching {
    let mut matching = Matching { path: candidate.path.clone(), helps, ..Matching::default() };
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    for (index, name) in fit.names.iter().enumerate() {
        by_name.entry(name).or_insert(index);
    }
    let mut used = vec![false; candidate.entries.len()];
    for parameter in wanted {
        let Some(&index) = by_name.get(parameter.name.as_str()) else {
            if !parameter.optional {
                matching.missing.push(parameter.name.clone());
            }
            continue;
        };
        used[index] = true;
        let (file_name, tensor) = &candidate.entries[index];
        if tensor.shape() == parameter.shape {
            let matched =
                Matched { name: parameter.name.clone(), file_name: file_name.clone(), tensor: tensor.clone() };
            matching.matched.push(matched);
        } else {
            matching.shape_differs.push((parameter.name.clone(), parameter.shape.clone(), tensor.shape().to_vec()));
        }
    }
    let unused: Vec<usize> = (0..used.len()).filter(|&index| !used[index]).collect();
    matching.unused = unused.iter().map(|&index| candidate.entries[index].0.clone()).collect();
    // Comparing every pair of names is for a typo, not for another model.
    if matching.missing.len() * unused.len() <= 100_000 {
        for missing in &matching.missing {
            let names = unused.iter().map(|&index| fit.names[index].as_ref());
            let nearest = nearest_alike(missing, names, 0.7);
            if let Some(index) = nearest.and_then(|name| unused.iter().find(|&&index| *fit.names[index] == *name)) {
                let index = *index;
                matching.suggestions.push((missing.clone(), candidate.entries[index].0.clone()));
            }
        }
    }
    matching
}

/// The names that a model has.
struct Names<'a> {
    all: HashSet<&'a str>,
}

impl<'a> Names<'a> {
    fn new(wanted: &'a [Wanted]) -> Self {
        Self { all: wanted.iter().map(|parameter| parameter.name.as_str()).collect() }
    }

    fn has(&self, name: &str) -> bool {
        self.all.contains(name)
    }

    /// The name itself, or with TensorFlow's words for a norm's parameters or torchvision's former names replaced, where the model
    /// has that.
    fn resolve(&self, name: &str) -> Option<String> {
        if self.has(name) {
            return Some(name.to_string());
        }
        let renamed = match name.rsplit_once('.') {
            Some((head, "gamma")) => format!("{head}.weight"),
            Some((head, "beta")) => format!("{head}.bias"),
            _ => former::renamed(name)?,
        };
        self.has(&renamed).then_some(renamed)
    }
}

/// A dictionary that may hold the weights.
struct Candidate {
    path: String,
    entries: Vec<(String, Tensor)>,
    /// Places of weights that stand for the parts that they are computed from; until then they are the part of the same shape.
    folded: Vec<(usize, Made)>,
    /// The entries before, if there are such weights.
    unfolded: Vec<(String, Tensor)>,
}

/// How a dictionary's names become the model's.
struct Fit {
    /// The model's name for every entry, or the file's where the model has none.
    names: Vec<String>,
    matches: usize,
    prefix: String,
    /// Wrapper words that were dropped inside names.
    wrappers: bool,
    /// How many gammas and betas were read as weight and bias.
    norms: usize,
    /// How many names are those of an earlier torchvision.
    former: usize,
}

impl Fit {
    fn helps(&self) -> Vec<String> {
        let mut helps = Vec::new();
        if !self.prefix.is_empty() {
            let by = match self.prefix.as_str() {
                "module." => " (DataParallel)",
                "_orig_mod." => " (torch.compile)",
                _ => "",
            };
            helps.push(format!("took the prefix '{}' off the names{by}", self.prefix));
        }
        if self.wrappers {
            helps.push("dropped '_orig_mod' and 'module' inside the names (torch.compile, DataParallel)".to_string());
        }
        if self.norms > 0 {
            helps.push(format!("read gamma and beta as weight and bias ({} names)", self.norms));
        }
        if self.former > 0 {
            helps.push(format!("read the names of an earlier torchvision as those of today ({} names)", self.former));
        }
        helps
    }
}

impl Candidate {
    /// The tensors under text keys of a value, if there are any.
    fn new(path: &str, value: &Value) -> Option<Self> {
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
    fn fold(&mut self, names: &Names<'_>) {
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

    fn folded_helps(&self) -> Vec<String> {
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
    fn rank(&self) -> usize {
        let key = self.path.rsplit('/').next().unwrap_or_default();
        if key.is_empty() {
            0
        } else {
            USUAL_KEYS.iter().position(|usual| *usual == key).map_or(USUAL_KEYS.len() + 1, |at| at + 1)
        }
    }

    fn depth(&self) -> usize {
        self.path.split('/').count()
    }

    /// The renaming that finds most of the model's names.
    fn fit(&self, names: &Names<'_>, options: &MatchOptions) -> Fit {
        if let Some(prefix) = &options.strip {
            return self.try_fit(names, prefix, false);
        }
        let mut best = self.try_fit(names, "", false);
        let mut prefixes = self.prefixes(names, false).into_iter().map(|prefix| (prefix, false)).collect::<Vec<_>>();
        if best.matches < self.entries.len() && self.entries.iter().any(|(name, _)| unwrapped(name) != *name) {
            prefixes.push((String::new(), true));
            prefixes.extend(self.prefixes(names, true).into_iter().map(|prefix| (prefix, true)));
        }
        for (prefix, wrappers) in prefixes {
            let fit = self.try_fit(names, &prefix, wrappers);
            if fit.matches > best.matches {
                best = fit;
            }
        }
        best
    }

    /// What stands before one of the model's names in the file's: the few most frequent.
    fn prefixes(&self, names: &Names<'_>, wrappers: bool) -> Vec<String> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for (name, _) in &self.entries {
            let name = if wrappers { unwrapped(name) } else { name.clone() };
            for (dot, _) in name.match_indices('.').take(32) {
                if names.resolve(&name[dot + 1..]).is_some() {
                    *counts.entry(name[..=dot].to_string()).or_default() += 1;
                }
            }
        }
        let mut prefixes: Vec<_> = counts.into_iter().collect();
        prefixes.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.len().cmp(&b.0.len())).then_with(|| a.0.cmp(&b.0)));
        prefixes.into_iter().take(4).map(|(prefix, _)| prefix).collect()
    }

    fn try_fit(&self, names: &Names<'_>, prefix: &str, wrappers: bool) -> Fit {
        let mut fit = Fit {
            names: Vec::with_capacity(self.entries.len()),
            matches: 0,
            prefix: prefix.to_string(),
            wrappers,
            norms: 0,
            former: 0,
        };
        let mut taken = HashSet::new();
        for (name, _) in &self.entries {
            let name = if wrappers { unwrapped(name) } else { name.clone() };
            let bare = name.strip_prefix(prefix).unwrap_or(&name);
            match names.resolve(bare) {
                Some(resolved) if taken.insert(resolved.clone()) => {
                    fit.matches += 1;
                    if resolved != bare {
                        let norm = bare.ends_with(".gamma") || bare.ends_with(".beta");
                        *(if norm { &mut fit.norms } else { &mut fit.former }) += 1;
                    }
                    fit.names.push(resolved);
                }
                _ => fit.names.push(bare.to_string()),
            }
        }
        fit
    }
}

/// A name without the segments that wrappers put anywhere in it.
fn unwrapped(name: &str) -> String {
    name.split('.').filter(|part| *part != "_orig_mod" && *part != "module").collect::<Vec<_>>().join(".")
}

/// Every dictionary of tensors in a tree.
fn find_candidates(value: &Value, path: &mut String, depth: usize, out: &mut Vec<Candidate>) {
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
fn flattened(path: &str, value: &Value) -> Option<Candidate> {
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

/// The value at a path of keys and positions joined by `/`; keys may contain `/` themselves.
///
/// # Errors
/// When there is none: the error names the keys that there are.
pub fn find_key<'a>(root: &'a Value, path: &str) -> Result<&'a Value> {
    let mut value = root;
    let mut rest = path;
    let mut at = String::new();
    while !rest.is_empty() {
        // The longest key that the rest of the path begins with.
        let ends = rest.match_indices('/').map(|(index, _)| index).chain([rest.len()]);
        let found = ends.filter_map(|end| Some((end, child(value, &rest[..end])?))).next_back();
        let Some((end, next)) = found else {
            let first = rest.split('/').next().unwrap_or_default();
            return Err(no_key(value, first, &at));
        };
        if !at.is_empty() {
            at.push('/');
        }
        at.push_str(&rest[..end]);
        rest = rest.get(end + 1..).unwrap_or_default();
        value = next;
    }
    Ok(value)
}

fn child<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    match value {
        Value::Dict(dict) => {
            dict.get(name).or_else(|| dict.iter().find(|(key, _)| key.text() == name).map(|(_, value)| value))
        }
        Value::List(items) | Value::Tuple(items) => items.get(name.parse::<usize>().ok()?),
        Value::Object(object) => object.state.as_dict()?.get(name),
        _ => None,
    }
}

fn no_key(value: &Value, name: &str, at: &str) -> Error {
    let keys: Vec<String> =
        value.as_dict().map(|dict| dict.keys().map(|key| key.text().into_owned()).collect()).unwrap_or_default();
    let place = if at.is_empty() { "the file".to_string() } else { format!("'{at}'") };
    let mut message = format!("{place} has no key '{name}'");
    if let Some(nearest) = nearest(name, keys.iter().map(String::as_str)) {
        message.push_str(&format!("; did you mean '{nearest}'?"));
    } else if keys.is_empty() {
        message.push_str(&format!(": it is a {}", value.type_name()));
    } else {
        let shown: Vec<_> = keys.iter().take(8).map(String::as_str).collect();
        message.push_str(&format!("; it has {}{}", shown.join(", "), if keys.len() > 8 { ", …" } else { "" }));
    }
    Error::new(ErrorKind::Mismatch, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Object;

    fn wanted(names: &[&str]) -> Vec<Wanted> {
        let one = |name: &&str| Wanted {
            name: (*name).into(),
            shape: vec![2],
            optional: name.ends_with("num_batches_tracked"),
        };
        names.iter().map(one).collect()
    }

    fn dict(names: &[&str]) -> StateDict {
        names.iter().map(|name| (*name, Tensor::from_f32(&[2], &[1.0, 2.0]).unwrap())).collect()
    }

    fn run(root: impl Into<Value>, names: &[&str]) -> Matching {
        match_weights(&root.into(), &wanted(names), &MatchOptions::default()).unwrap()
    }

    #[test]
    fn plain_names_need_no_help() {
        let matching = run(dict(&["a.weight", "a.bias"]), &["a.weight", "a.bias", "n.num_batches_tracked"]);
        assert!(matching.is_complete() && matching.helps.is_empty(), "{matching:?}");
    }

    #[test]
    fn nested_weights_are_found_and_the_usual_key_wins() {
        let mut root = StateDict::new();
        root.insert("ema", dict(&["a.weight"]));
        root.insert("model", dict(&["a.weight"]));
        root.insert("epoch", 3_i64);
        let matching = run(root, &["a.weight"]);
        assert!(matching.is_complete());
        assert!(
            matching.searched && matching.path == "model" && matching.helps[0].contains("--key ema"),
            "{matching:?}"
        );
    }

    #[test]
    fn prefixes_come_off() {
        for prefix in ["module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "backbone.body."] {
            let names = [format!("{prefix}a.weight"), format!("{prefix}b.bias")];
            let matching = run(dict(&[&names[0], &names[1]]), &["a.weight", "b.bias"]);
            assert!(matching.is_complete(), "{prefix}: {matching:?}");
            assert!(!matching.helps.is_empty());
        }
        let matching = run(dict(&["a._orig_mod.weight", "b.bias"]), &["a.weight", "b.bias"]);
        assert!(matching.is_complete(), "{matching:?}");
    }

    #[test]
    fn gamma_and_beta_are_weight_and_bias() {
        let matching = run(dict(&["m.bn.gamma", "m.bn.beta"]), &["bn.weight", "bn.bias"]);
        assert!(matching.is_complete() && matching.helps.len() == 2, "{matching:?}");
    }

    #[test]
    fn names_of_an_earlier_torchvision_are_read() {
        let file = dict(&["module.denselayer1.norm.1.weight", "module.denselayer1.conv.2.weight", "module.fc.weight"]);
        let matching = run(file, &["denselayer1.norm1.weight", "denselayer1.conv2.weight", "fc.weight"]);
        assert!(matching.is_complete(), "{matching:?}");
        assert!(matching.helps.iter().any(|help| help.contains("earlier torchvision") && help.contains("(2 names)")));
    }

    #[test]
    fn differences_are_reported() {
        let mut names = wanted(&["conv1.weight", "conv1.bias", "fc.weight"]);
        names[2].shape = vec![3];
        let root = Value::Dict(dict(&["conv1.weight", "conv1.bais", "fc.weight"]));
        let matching = match_weights(&root, &names, &MatchOptions::default()).unwrap();
        assert_eq!(matching.missing, ["conv1.bias"]);
        assert_eq!(matching.unused, ["conv1.bais"]);
        assert_eq!(matching.suggestions, [("conv1.bias".to_string(), "conv1.bais".to_string())]);
        assert_eq!(matching.shape_differs, [("fc.weight".to_string(), vec![3], vec![2])]);
        assert!(!matching.is_complete());
    }

    #[test]
    fn nested_dictionaries_and_modules_are_weights_too() {
        let mut root = StateDict::new();
        root.insert("conv", dict(&["weight"]));
        assert!(run(root, &["conv.weight"]).is_complete());

        let mut state = StateDict::new();
        state.insert("_parameters", dict(&["weight"]));
        state.insert("_buffers", StateDict::new());
        state.insert("_modules", StateDict::new());
        let class = crate::Global { module: "m".into(), name: "Net".into() };
        let object =
            Object { class, args: vec![], state: Value::Dict(state), items: vec![], entries: StateDict::new() };
        assert!(run(Value::Object(Box::new(object)), &["weight"]).is_complete());
    }

    #[test]
    fn a_wrong_key_is_named_with_the_right_one() {
        let mut root = StateDict::new();
        root.insert("model_state_dict", dict(&["a"]));
        let options = MatchOptions { key: Some("model_state_dct".into()), strip: None };
        let error = match_weights(&Value::Dict(root), &wanted(&["a"]), &options).unwrap_err().to_string();
        assert!(error.contains("did you mean 'model_state_dict'"), "{error}");
    }
}
