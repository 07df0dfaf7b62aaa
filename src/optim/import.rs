//! An optimizer's state from what `optimizer.state_dict()` wrote.

use burn::optim::OptimizerRecord;
use rekindle_state::{DType, Key, StateDict, Tensor, Value};

use super::error::state;
use super::record::{HostState, pack};
use super::state::STEP;
use super::{Group, OptimError, ParameterInfo, Rule, Setting, Settings};

/// An optimizer read from a PyTorch checkpoint.
#[derive(Debug)]
pub struct Restored {
    /// The state, for `ModuleOptimizer::load_record`.
    pub record: OptimizerRecord,
    /// The groups with the checkpoint's hyper-parameters and current learning rates: what `load_state_dict` would train on with.
    pub groups: Vec<Group>,
    /// Where the checkpoint's hyper-parameters differ from those that were expected.
    pub differences: Vec<Difference>,
}

/// A hyper-parameter that a checkpoint has another value for.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// Position of the parameter group.
    pub group: usize,
    /// PyTorch's key.
    pub key: &'static str,
    /// The value that was expected.
    pub expected: String,
    /// The checkpoint's value.
    pub found: String,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "group {}: {} is {} in the checkpoint, {} in the configuration",
            self.group, self.key, self.found, self.expected
        )
    }
}

/// Reads PyTorch's `optimizer.state_dict()` for a model and the groups of its configuration.
///
/// As in PyTorch, groups correspond by position and must have as many parameters; keys that an older PyTorch did not write keep
/// the configuration's values. Hyper-parameters of the checkpoint come back in [`Restored::groups`].
///
/// # Errors
/// When it is the state of another kind of optimizer, has other groups, or a tensor has another shape than its parameter.
pub fn from_state_dict(
    dict: &StateDict,
    parameters: &[ParameterInfo],
    expected: &[Group],
) -> Result<Restored, OptimError> {
    let states = dict.dict("state").ok_or_else(|| missing("state", "a dictionary", dict))?;
    let found =
        dict.get("param_groups").and_then(Value::as_slice).ok_or_else(|| missing("param_groups", "a list", dict))?;
    let found: Vec<&StateDict> = found.iter().filter_map(Value::as_dict).collect();
    for group in &found {
        check_kind(group, expected)?;
    }
    check_sizes(&found, expected)?;

    let mut groups = Vec::with_capacity(expected.len());
    let mut differences = Vec::new();
    let mut records = Vec::new();
    let mut used = 0;
    for (position, (dict, expected)) in found.iter().zip(expected).enumerate() {
        let group = read_group(dict, expected, position)?;
        compare(position, expected, &group, &mut differences);
        for (key, member) in params(dict)?.iter().zip(members(dict, expected, parameters, position)?) {
            let Some(parameter) = parameters.get(member) else {
                return state(format!("an optimizer group has parameter {member}, the model has {}", parameters.len()));
            };
            if let Some(entry) = states.get_key(key) {
                used += 1;
                let entry = entry.as_dict().ok_or_else(|| {
                    OptimError::State(format!(
                        "the optimizer's state of '{}' is a {}, not a dictionary",
                        parameter.name,
                        entry.type_name()
                    ))
                })?;
                if let Some(host) = read_state(entry, parameter, &group.rule)? {
                    records.push((parameter, host));
                }
            }
        }
        groups.push(group);
    }
    if used < states.len() {
        return state(format!(
            "the optimizer's state has {} entries, only {used} belong to a parameter of its groups",
            states.len()
        ));
    }
    Ok(Restored { record: pack(records)?, groups, differences })
}

fn missing(key: &str, kind: &str, dict: &StateDict) -> OptimError {
    let keys: Vec<_> = dict.iter().take(6).map(|(key, _)| key.to_string()).collect();
    OptimError::State(format!(
        "this is no optimizer state: expected '{key}' as {kind}, found the keys {}; it is usually under 'optimizer_state_dict'",
        if keys.is_empty() { "(none)".to_string() } else { keys.join(", ") }
    ))
}

/// Keys that give away the optimizers of `torch.optim` that are not here.
const FOREIGN: [(&str, &str); 6] = [
    ("lambd", "ASGD"),
    ("etas", "Rprop"),
    ("line_search_fn", "LBFGS"),
    ("ns_steps", "Muon"),
    ("beta2_decay", "Adafactor"),
    ("lr_decay", "another kind of Adagrad"),
];

/// Finds which optimizer wrote a group, and refuses all but the expected kind.
fn check_kind(group: &StateDict, expected: &[Group]) -> Result<(), OptimError> {
    let expected = expected.first().map_or("none", |group| group.rule.torch_name());
    let known = Rule::torch_names().join(", ");
    let foreign = FOREIGN.iter().find(|(key, _)| group.get(key).is_some());
    match (Rule::class_of_group(group, expected), foreign) {
        (Some(found), _) if found == expected => Ok(()),
        (Some(found), _) => state(format!(
            "the checkpoint's optimizer is {found}, the configuration's is {expected}: set the optimizer's name to '{}'",
            found.to_lowercase()
        )),
        (None, Some((key, name))) => state(format!(
            "the checkpoint's optimizer is {name} (its param_groups have '{key}'): its state can be read for {known} only; load the model without the optimizer"
        )),
        (None, None) => {
            let keys: Vec<_> = group.iter().map(|(key, _)| key.to_string()).collect();
            state(format!(
                "the checkpoint's optimizer is unknown (its param_groups have {}): its state can be read for {known} only; load the model without the optimizer",
                keys.join(", ")
            ))
        }
    }
}

/// As PyTorch does, insists on as many groups, each with as many parameters.
fn check_sizes(found: &[&StateDict], expected: &[Group]) -> Result<(), OptimError> {
    let found = found.iter().map(|group| params(group).map(|params| params.len())).collect::<Result<Vec<_>, _>>()?;
    let expected: Vec<usize> = expected.iter().map(|group| group.members.len()).collect();
    if found == expected {
        return Ok(());
    }
    let hint = if found.len() != expected.len() {
        "give the configuration the same 'groups', in the same order"
    } else {
        "it was saved with another model, other 'groups', or without its frozen parameters"
    };
    state(format!(
        "the checkpoint's optimizer has groups of {found:?} parameters, the configuration gives {expected:?}: {hint}"
    ))
}

/// The keys of `state` that belong to a group's parameters: numbers from 0, in old files arbitrary ones, or names (FSDP).
fn params(group: &StateDict) -> Result<Vec<Key>, OptimError> {
    let key = |item: &Value| match item {
        Value::Str(name) => Some(Key::from(name.as_str())),
        other => other.as_int().map(Key::Int),
    };
    let keys = group.get("params").and_then(Value::as_slice).map(|items| items.iter().map(key).collect());
    match keys.flatten() {
        Some(keys) => Ok(keys),
        None => state("a group of the checkpoint's optimizer has no list of integers or names under 'params'"),
    }
}

/// Segments that wrappers of a module put into the names of its parameters.
const WRAPPERS: [&str; 4] = ["_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_orig_mod", "module"];

/// The parameter that a name means: its own, or with something before it or in it that a wrapper put there.
fn named(name: &str, parameters: &[ParameterInfo]) -> Option<usize> {
    let bare: Vec<&str> = name.split('.').filter(|segment| !WRAPPERS.contains(segment)).collect();
    let bare = bare.join(".");
    let ends =
        |full: &str, end: &str| full.strip_suffix(end).is_some_and(|head| head.is_empty() || head.ends_with('.'));
    let fits = parameters
        .iter()
        .enumerate()
        .filter(|(_, parameter)| ends(name, &parameter.name) || ends(&bare, &parameter.name));
    // Of `fc.weight` and `head.fc.weight`, the longer.
    fits.max_by_key(|(_, parameter)| parameter.name.len()).map(|(place, _)| place)
}

/// The parameters of a group in the checkpoint's order: by name, if `params` are names or there are `param_names`, which PyTorch
/// writes for an optimizer made of named parameters; or else by position.
fn members(
    group: &StateDict,
    expected: &Group,
    parameters: &[ParameterInfo],
    position: usize,
) -> Result<Vec<usize>, OptimError> {
    let list = |key: &str| group.get(key).and_then(Value::as_slice).unwrap_or_default();
    let is_keyed_by_name = matches!(list("params").first(), Some(Value::Str(_)));
    let names = if is_keyed_by_name { list("params") } else { list("param_names") };
    let mut found = Vec::with_capacity(names.len());
    for name in names.iter().filter_map(Value::as_str) {
        match named(name, parameters) {
            Some(member) => found.push(member),
            None if is_keyed_by_name => {
                return state(format!(
                    "group {position} of the checkpoint's optimizer has '{name}', which is no parameter of the model"
                ));
            }
            None => {}
        }
    }
    if found.len() != expected.members.len() && !is_keyed_by_name {
        return Ok(expected.members.clone());
    }
    match found.iter().find(|member| !expected.members.contains(member)) {
        None => Ok(found),
        Some(&stray) => state(format!(
            "group {position} of the checkpoint's optimizer has '{}', which the configuration puts into another group: give the configuration the same 'groups', in the same order",
            parameters[stray].name
        )),
    }
}

/// A group with the checkpoint's hyper-parameters.
fn read_group(dict: &StateDict, expected: &Group, position: usize) -> Result<Group, OptimError> {
    let mut settings = Settings::new();
    for (key, value) in expected.rule.settings(expected.lr).iter() {
        let found = match value {
            Setting::Number(_) => number(dict, key, position)?.map(Setting::Number),
            Setting::Flag(_) => flag(dict, key, position)?.map(Setting::Flag),
            Setting::Pair(_) => pair(dict, key, position)?.map(Setting::Pair),
            Setting::Length(_) | Setting::Lengths(_) => None,
        };
        if let Some(found) = found {
            settings = settings.with(key, found);
        }
    }
    let (lr, rule) = expected
        .rule
        .with(expected.lr, &settings)
        .map_err(|error| OptimError::State(format!("group {position} of the checkpoint's optimizer: {error}")))?;
    let initial_lr = number(dict, "initial_lr", position)?;
    Ok(Group { lr, initial_lr, rule, members: expected.members.clone() })
}

/// A switch of a group.
fn flag(dict: &StateDict, key: &str, position: usize) -> Result<Option<bool>, OptimError> {
    match dict.get(key) {
        None | Some(Value::None) => Ok(None),
        // Pickled arguments may be integers where a truth value is meant.
        Some(Value::Int(value)) => Ok(Some(*value != 0)),
        Some(Value::Bool(value)) => Ok(Some(*value)),
        Some(value) => state(format!(
            "group {position} of the checkpoint's optimizer has a {} as '{key}', not a bool",
            value.type_name()
        )),
    }
}

/// Two numbers of a group.
fn pair(dict: &StateDict, key: &str, position: usize) -> Result<Option<[f64; 2]>, OptimError> {
    let Some(value) = dict.get(key) else { return Ok(None) };
    let pair: Option<Vec<f64>> = value.as_slice().and_then(|items| items.iter().map(scalar).collect());
    match pair.as_deref() {
        Some(&[first, second]) => Ok(Some([first, second])),
        _ => state(format!("group {position} of the checkpoint's optimizer has no two numbers under '{key}'")),
    }
}

/// A number of a group: an integer, a float, or a tensor with one element.
fn number(dict: &StateDict, key: &str, position: usize) -> Result<Option<f64>, OptimError> {
    match dict.get(key) {
        None | Some(Value::None) => Ok(None),
        Some(value) => match scalar(value) {
            Some(value) => Ok(Some(value)),
            None => state(format!(
                "group {position} of the checkpoint's optimizer has a {} as '{key}', not a number",
                value.type_name()
            )),
        },
    }
}

/// The number that a value is: an integer, a float, or a tensor or numpy scalar with one element.
pub fn scalar(value: &Value) -> Option<f64> {
    match value {
        Value::Tensor(tensor) if tensor.numel() == 1 => Some(*values(tensor).ok()?.first()?),
        Value::Array(array) => array
            .tensor
            .as_ref()
            .filter(|tensor| tensor.numel() == 1)
            .and_then(|one| values(one).ok()?.first().copied()),
        other => other.as_float(),
    }
}

/// Notes each hyper-parameter in which two groups differ.
fn compare(position: usize, expected: &Group, found: &Group, differences: &mut Vec<Difference>) {
    let found_settings = found.rule.settings(found.lr);
    for (key, expected) in expected.rule.settings(expected.lr).iter() {
        if let Some(found) = found_settings.get(key).filter(|found| *found != *expected) {
            let (expected, found) = (expected.to_string(), found.to_string());
            differences.push(Difference { group: position, key, expected, found });
        }
    }
}

/// The state of one parameter; `None` when there is none yet (`momentum_buffer: None`).
fn read_state(entry: &StateDict, parameter: &ParameterInfo, rule: &Rule) -> Result<Option<HostState>, OptimError> {
    let mut host = HostState::default();
    if rule.counts() {
        let step = entry.get(STEP).and_then(scalar).filter(|step| *step >= 0.0 && step.fract() == 0.0);
        let Some(step) = step else {
            return state(format!(
                "the optimizer's state of '{}' has no count of updates under '{STEP}'",
                parameter.name
            ));
        };
        host.step = step as u64;
    }
    let known =
        |key: &str| key == STEP || rule.scalars().contains(&key) || rule.all_buffers().iter().any(|b| b.0 == key);
    if let Some((key, _)) = entry.iter().find(|(key, _)| !known(&key.text())) {
        return state(format!(
            "the optimizer's state of '{}' has '{key}', which {} does not keep: another optimizer wrote it; load the model without the optimizer",
            parameter.name,
            rule.torch_name()
        ));
    }
    for name in rule.scalars() {
        let Some(value) = entry.get(name).and_then(scalar) else {
            return state(format!("the optimizer's state of '{}' has no number under '{name}'", parameter.name));
        };
        host.scalars.push((name, value));
    }
    for buffer in rule.buffers() {
        let name = buffer.0;
        match entry.get(name) {
            Some(Value::Tensor(tensor)) => host.buffers.push((buffer, floats(tensor, parameter, name)?)),
            // SGD makes its buffer at the first update with a gradient.
            None | Some(Value::None) if !rule.counts() => return Ok(None),
            None => {
                let keys: Vec<_> = entry.iter().map(|(key, _)| key.to_string()).collect();
                return state(format!(
                    "the optimizer's state of '{}' lacks '{name}', which {} needs: it has {}",
                    parameter.name,
                    rule.torch_name(),
                    keys.join(", ")
                ));
            }
            Some(value) => {
                return state(format!(
                    "the optimizer's state of '{}' has a {} as '{name}', not a tensor",
                    parameter.name,
                    value.type_name()
                ));
            }
        }
    }
    Ok((!host.buffers.is_empty()).then_some(host))
}

/// A buffer's values, in PyTorch's layout.
fn floats(tensor: &Tensor, parameter: &ParameterInfo, name: &str) -> Result<Vec<f32>, OptimError> {
    if !tensor.shape().iter().copied().eq(parameter.shape.iter().map(|&axis| axis as u64)) {
        return state(format!(
            "the optimizer's '{name}' of '{}' has shape {}, the parameter has {:?}: the checkpoint belongs to another model or configuration",
            parameter.name,
            rekindle_state::show_shape(tensor.shape()),
            parameter.shape
        ));
    }
    let values = values(tensor)
        .map_err(|error| match error {
            OptimError::Tensor(error) => {
                OptimError::Tensor(error.within(format!("the optimizer's '{name}' of '{}'", parameter.name)))
            }
            other => other,
        })?
        .into_iter()
        .map(|value| value as f32)
        .collect();
    Ok(values)
}

/// The values of a tensor of real numbers.
fn values(tensor: &Tensor) -> Result<Vec<f64>, OptimError> {
    let bytes = tensor.bytes()?;
    let values = match tensor.dtype() {
        DType::F32 => bytes.as_chunks::<4>().0.iter().map(|chunk| f64::from(f32::from_le_bytes(*chunk))).collect(),
        DType::F64 => bytes.as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect(),
        DType::F16 => bytes.as_chunks::<2>().0.iter().map(|chunk| half::f16::from_le_bytes(*chunk).to_f64()).collect(),
        DType::BF16 => {
            bytes.as_chunks::<2>().0.iter().map(|chunk| half::bf16::from_le_bytes(*chunk).to_f64()).collect()
        }
        DType::I64 => bytes.as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk) as f64).collect(),
        DType::I32 => bytes.as_chunks::<4>().0.iter().map(|chunk| f64::from(i32::from_le_bytes(*chunk))).collect(),
        other => {
            return state(format!(
                "an optimizer's state of type {other} cannot be used: expected float32, float64, float16 or bfloat16"
            ));
        }
    };
    Ok(values)
}
