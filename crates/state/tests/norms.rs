//! Weights that PyTorch computes from other parameters, taken by a model that has them plain.

use rekindle_state::{MatchOptions, StateDict, Value, Wanted, match_weights, open};

fn wanted(dict: &StateDict) -> Vec<Wanted> {
    let of = |(name, tensor): (&str, &rekindle_state::Tensor)| Wanted {
        name: name.to_string(),
        shape: tensor.shape().to_vec(),
        optional: false,
    };
    dict.tensors().map(of).collect()
}

#[test]
fn normalized_weights_are_computed_and_reported() {
    let path = format!("{}/tests/fixtures/norms/norms.pth", env!("CARGO_MANIFEST_DIR"));
    let root = open(&path).unwrap().content.root;
    let cases = root.as_dict().unwrap();
    assert_eq!(cases.len(), 8);
    for (case, value) in cases.iter() {
        let case = case.text();
        let (state, weight) =
            (value.as_dict().unwrap().dict("state").unwrap(), value.as_dict().unwrap().tensor("weight"));
        let weight = weight.unwrap();
        let name = if case.ends_with("lstm") { "m.weight_hh_l0" } else { "m.weight" };
        // What the model has beside the weight: everything that is no part of it.
        let parts = ["_g", "_v", "_u", "_orig", "original0", "original1", "original", "0._u", "0._v"];
        let mut plain = StateDict::new();
        plain.insert(name, weight.clone());
        for (name, tensor) in state.tensors().filter(|(name, _)| !parts.iter().any(|part| name.ends_with(part))) {
            plain.insert(name, tensor.clone());
        }
        // The weights may be wrapped as any others.
        let mut wrapped = StateDict::new();
        wrapped.insert("model", Value::Dict(state.clone()));
        let found = match_weights(&Value::Dict(wrapped), &wanted(&plain), &MatchOptions::default()).unwrap();
        assert!(found.is_complete(), "{case}: {found:?}");
        let made = &found.matched.iter().find(|matched| matched.name == name).unwrap().tensor;
        let (made, expected) = (made.to_f32().unwrap(), weight.to_f32().unwrap());
        // A difference that is no number is too large, where `f32::max` would pass over it.
        let gap = made.iter().zip(&expected).map(|(a, b)| (a - b).abs()).max_by(f32::total_cmp).unwrap();
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        assert!(gap <= 2e-6 * largest, "{case}: differs by {gap} of {largest}");
        let kind = if case.starts_with("weight") { "weight normalization" } else { "spectral normalization" };
        assert!(found.helps.iter().any(|help| help.contains(name) && help.contains(kind)), "{case}: {:?}", found.helps);

        // A model that has the parts itself gets them.
        let found = match_weights(&Value::Dict(state.clone()), &wanted(state), &MatchOptions::default()).unwrap();
        assert!(found.is_complete() && found.helps.is_empty(), "{case}: {found:?}");
        assert_eq!(found.matched.len(), state.len(), "{case}");
    }
}

#[test]
fn parts_that_do_not_fit_each_other_are_an_error() {
    let tensor = |shape: &[u64]| {
        let values = vec![1.0; shape.iter().product::<u64>() as usize];
        rekindle_state::Tensor::from_f32(shape, &values).unwrap()
    };
    let mut state = StateDict::new();
    state.insert("fc.weight_g", tensor(&[5, 1]));
    state.insert("fc.weight_v", tensor(&[3, 4]));
    let wanted = [Wanted { name: "fc.weight".to_string(), shape: vec![3, 4], optional: false }];
    let error = match_weights(&Value::Dict(state), &wanted, &MatchOptions::default()).unwrap_err().to_string();
    assert!(error.contains("'fc.weight'") && error.contains("[5, 1]") && error.contains("[3, 4]"), "{error}");
}
