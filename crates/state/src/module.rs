//! A pickled `torch.nn.Module` seen as its `state_dict()`.

use crate::{Key, Object, StateDict, Value};

/// How deep modules may nest; real ones stay below twenty.
const MAX_DEPTH: usize = 128;

/// What `module.state_dict()` would give for a pickled module: parameters and persistent buffers under dotted names, in PyTorch's
/// order. `None` when the object is no module.
pub fn module_state_dict(object: &Object) -> Option<StateDict> {
    attributes(object)?;
    let mut dict = StateDict::ordered();
    collect(object, "", 0, &mut dict);
    Some(dict)
}

/// The attributes of an instance that has a module's three dictionaries.
fn attributes(object: &Object) -> Option<&StateDict> {
    let state = object.state.as_dict()?;
    (state.get("_modules")?.as_dict().is_some() && state.get("_parameters").is_some()).then_some(state)
}

fn collect(object: &Object, prefix: &str, depth: usize, out: &mut StateDict) {
    let Some(state) = attributes(object).filter(|_| depth < MAX_DEPTH) else { return };
    let transient = match state.get("_non_persistent_buffers_set") {
        Some(Value::Set(names)) => names.as_slice(),
        _ => &[],
    };
    for group in ["_parameters", "_buffers"] {
        for (key, value) in state.dict(group).into_iter().flat_map(StateDict::iter) {
            let name = key.text();
            let hidden = group == "_buffers" && transient.iter().any(|value| value.as_str() == Some(&name));
            if let (Value::Tensor(tensor), false) = (value, hidden) {
                let mut tensor = tensor.clone();
                // `state_dict()` gives the values, detached.
                tensor.parameter = false;
                tensor.requires_grad = false;
                out.insert(Key::Str(format!("{prefix}{name}")), tensor);
            }
        }
    }
    for (key, value) in state.dict("_modules").into_iter().flat_map(StateDict::iter) {
        if let Value::Object(child) = value {
            collect(child, &format!("{prefix}{}.", key.text()), depth + 1, out);
        }
    }
}
