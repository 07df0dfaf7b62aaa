//! Which tensor of a file belongs to which parameter of a model, whatever the file wrapped around the names.

mod candidate;
mod fit;
mod key;
mod names;
mod naming;
mod shape;
mod timm;
mod types;

use std::collections::HashMap;

use candidate::{Candidate, find_candidates, flattened};
use fit::Fit;
pub use key::find_key;
use names::Names;
pub use naming::is_spoken;
pub use types::{MatchOptions, Matched, Matching, Wanted};

use crate::{Error, ErrorKind, Result, Value, nearest_alike};

/// Finds the dictionary that holds the weights and gives every parameter its tensor.
///
/// # Errors
/// When `key` names nothing, the file holds no dictionary of tensors, or a tensor to be reshaped cannot be read.
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
    let mut matching = assign(candidate, &fit, wanted, helps)?;
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
fn assign(candidate: &Candidate, fit: &Fit, wanted: &[Wanted], helps: Vec<String>) -> Result<Matching> {
    let keys = fit.keys().to_vec();
    let mut matching = Matching { path: candidate.path.clone(), helps, keys, ..Matching::default() };
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
        let tensor = fit.tensor(index, tensor)?;
        if tensor.shape() == parameter.shape {
            let matched = Matched { name: parameter.name.clone(), file_name: file_name.clone(), tensor };
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
    Ok(matching)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Object, StateDict, Tensor};

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
