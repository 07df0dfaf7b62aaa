//! Optimizer state to and from PyTorch's layout: what is accepted, and what is refused with which words.

use burn::optim::OptimizerRecord;
use rekindle::optim::{Group, OptimError, ParameterInfo, Restored, from_state_dict, module_optimizer, to_state_dict};
use rekindle_state::{Key, StateDict, Tensor, Value};
use serde_json::{Value as Json, json};

use super::support::*;

/// Compares two state dicts: keys in any order, numbers within a tolerance.
pub fn assert_same_dict(found: &StateDict, expected: &StateDict, tolerance: f64, at: &str) {
    let keys = |dict: &StateDict| {
        let mut keys: Vec<String> = dict.iter().map(|(key, _)| key.to_string()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(found), keys(expected), "{at}");
    for (key, expected) in expected.iter() {
        assert_same(found.get_key(key).unwrap(), expected, tolerance, &format!("{at}/{key}"));
    }
}

fn assert_same(found: &Value, expected: &Value, tolerance: f64, at: &str) {
    match (found, expected) {
        (Value::Dict(a), Value::Dict(b)) => assert_same_dict(a, b, tolerance, at),
        (Value::None, Value::None) => {}
        (Value::Bool(a), Value::Bool(b)) => assert_eq!(a, b, "{at}"),
        (Value::Str(a), Value::Str(b)) => assert_eq!(a, b, "{at}"),
        (Value::Tensor(a), Value::Tensor(b)) => {
            assert_eq!(a.shape(), b.shape(), "{at}");
            let gap = distance(&tensor_values(a), &tensor_values(b));
            assert!(gap < tolerance, "{at}: differs by {gap}");
        }
        _ => match (found.as_slice(), expected.as_slice(), found.as_float(), expected.as_float()) {
            (Some(a), Some(b), ..) => {
                assert_eq!(a.len(), b.len(), "{at}");
                for (index, (a, b)) in a.iter().zip(b).enumerate() {
                    assert_same(a, b, tolerance, &format!("{at}/{index}"));
                }
            }
            (_, _, Some(a), Some(b)) => assert!((a - b).abs() <= 1e-12 * b.abs().max(1e-3), "{at}: {a} and {b}"),
            _ => panic!("{at}: {found:?} and {expected:?}"),
        },
    }
}

/// A network and the groups of one case, with PyTorch's state after some steps.
struct Case {
    table: Vec<ParameterInfo>,
    groups: Vec<Group>,
    state: Json,
}

impl Case {
    fn new(name: &str) -> Self {
        let fixture = fixture("optim/optimizers.json");
        let case = &fixture["cases"][name];
        let (_, device) = devices().remove(0);
        let table = Mlp::new(&case["initial"], &[], &device).parameters();
        let groups = optimizer(&case["optimizer"]).resolve(&table).unwrap();
        Self { table, groups, state: case["state"].clone() }
    }

    fn read(&self) -> Result<Restored, OptimError> {
        self.read_dict(&state_dict(&self.state))
    }

    fn read_dict(&self, dict: &StateDict) -> Result<Restored, OptimError> {
        from_state_dict(dict, &self.table, &self.groups)
    }

    fn write(&self, record: OptimizerRecord) -> StateDict {
        to_state_dict(record, &self.table, &self.groups).unwrap()
    }

    fn error(&self) -> String {
        self.read().unwrap_err().to_string()
    }
}

#[test]
fn states_survive_reading_and_writing_unchanged() {
    for name in [
        "sgd_all",
        "adam_all",
        "adamw_defaults",
        "rmsprop_all",
        "groups",
        "groups_sgd",
        "frozen",
        "sgd_defaults",
        "adagrad_all",
        "adamax_all",
        "radam_all",
        "nadam_all",
        "adadelta_all",
    ] {
        let case = Case::new(name);
        let dict = state_dict(&case.state);
        assert_same_dict(&case.write(case.read().unwrap().record), &dict, f64::MIN_POSITIVE, name);
    }
}

#[test]
fn states_keyed_by_names_are_those_keyed_by_numbers() {
    // As FSDP gives them: names instead of numbers, in any order, with the wrappers' segments.
    let plain = Case::new("adam_all");
    let wrapped = |name: &str| format!("_fsdp_wrapped_module.{}", name.replace('.', "._checkpoint_wrapped_module."));
    let mut named = Case::new("adam_all");
    for (number, name) in NAMES.iter().enumerate() {
        let states = named.state["state"].as_object_mut().unwrap();
        let state = states.remove(&number.to_string()).unwrap();
        states.insert(wrapped(name), state);
    }
    named.state["param_groups"][0]["params"] = NAMES.iter().rev().map(|name| wrapped(name)).collect();
    let restored = named.read().unwrap();
    assert_same_dict(&named.write(restored.record), &state_dict(&plain.state), f64::MIN_POSITIVE, "by names");

    named.state["param_groups"][0]["params"][1] = json!("3.weight");
    assert_eq!(
        named.error(),
        "group 0 of the checkpoint's optimizer has '3.weight', which is no parameter of the model"
    );
}

#[test]
fn keys_have_the_order_of_torch() {
    let case = Case::new("adam_all");
    let dict = case.write(case.read().unwrap().record);
    let keys = |dict: &StateDict| dict.iter().map(|(key, _)| key.to_string()).collect::<Vec<_>>();
    assert_eq!(keys(&dict), ["state", "param_groups"]);
    let states = dict.dict("state").unwrap();
    assert_eq!(keys(states), ["0", "1", "2", "3"]);
    let first = states.get_key(&Key::Int(0)).unwrap().as_dict().unwrap();
    assert_eq!(keys(first), ["step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"]);
    let group = dict.get("param_groups").unwrap().as_slice().unwrap()[0].as_dict().unwrap();
    let expected = keys(&state_dict(&case.state["param_groups"][0]));
    assert_eq!(keys(group), expected);
}

#[test]
fn counts_of_updates_may_be_integers_floats_or_tensors() {
    for step in [json!(4), json!(4.0), json!({"shape": [], "values": [4.0]}), json!({"shape": [1], "values": [4.0]})] {
        let mut case = Case::new("adamw_all");
        case.state["state"]["2"]["step"] = step.clone();
        let written = case.write(case.read().unwrap().record);
        assert_same_dict(&written, &state_dict(&Case::new("adamw_all").state), f64::MIN_POSITIVE, &step.to_string());
    }
    let mut case = Case::new("adamw_all");
    case.state["state"]["2"]["step"] = json!("four");
    assert_eq!(case.error(), "the optimizer's state of '2.weight' has no count of updates under 'step'");
}

#[test]
fn groups_of_older_releases_keep_the_configured_values() {
    let mut case = Case::new("adam_all");
    let group = case.state["param_groups"][0].as_object_mut().unwrap();
    for key in ["foreach", "maximize", "capturable", "differentiable", "fused", "decoupled_weight_decay"] {
        assert!(group.remove(key).is_some());
    }
    let restored = case.read().unwrap();
    assert_eq!(restored.groups, case.groups);
    assert!(restored.differences.is_empty());
}

#[test]
fn hyper_parameters_of_the_checkpoint_win_and_are_reported() {
    let mut case = Case::new("groups_sgd");
    case.state["param_groups"][0]["lr"] = json!(0.025);
    case.state["param_groups"][0]["initial_lr"] = json!(0.1);
    case.state["param_groups"][1]["nesterov"] = json!(true);
    case.state["param_groups"][1]["momentum"] = json!(0.5);
    let restored = case.read().unwrap();
    assert_eq!(
        (restored.groups[0].lr, restored.groups[0].initial_lr, restored.groups[0].base_lr()),
        (0.025, Some(0.1), 0.1)
    );
    let differences: Vec<String> = restored.differences.iter().map(ToString::to_string).collect();
    assert_eq!(
        differences,
        [
            "group 0: lr is 0.025 in the checkpoint, 0.1 in the configuration",
            "group 1: momentum is 0.5 in the checkpoint, 0.0 in the configuration",
            "group 1: nesterov is true in the checkpoint, false in the configuration",
        ]
    );
}

#[test]
fn buffers_that_are_none_are_no_state() {
    let mut case = Case::new("sgd_all");
    case.state["state"]["1"]["momentum_buffer"] = Json::Null;
    let written = case.write(case.read().unwrap().record);
    let states = written.dict("state").unwrap();
    assert_eq!(states.keys().map(ToString::to_string).collect::<Vec<_>>(), ["0", "2", "3"]);
}

#[test]
fn half_precision_buffers_are_widened() {
    let case = Case::new("frozen");
    let mut dict = state_dict(&case.state);
    let Some(Value::Dict(states)) = dict.get_mut("state") else { panic!("no state") };
    let mut entry = StateDict::new();
    let halves =
        [0.5, -1.25, 3.0, 0.0, 8.0].map(half::bf16::from_f32).iter().flat_map(|half| half.to_le_bytes()).collect();
    entry.insert("momentum_buffer", Tensor::from_bytes(rekindle_state::DType::BF16, &[5], halves).unwrap());
    states.insert(Key::Int(1), entry);
    let written = case.write(case.read_dict(&dict).unwrap().record);
    let buffer = written
        .dict("state")
        .unwrap()
        .get_key(&Key::Int(1))
        .unwrap()
        .as_dict()
        .unwrap()
        .tensor("momentum_buffer")
        .unwrap();
    assert_eq!(tensor_values(buffer), [0.5, -1.25, 3.0, 0.0, 8.0]);
}

#[test]
fn other_optimizers_are_refused_by_name() {
    let fixture = fixture("optim/optimizers.json");
    let mut case = Case::new("adam_defaults");
    case.state = fixture["foreign"]["ASGD"].clone();
    assert_eq!(
        case.error(),
        "the checkpoint's optimizer is ASGD (its param_groups have 'lambd'): its state can be read for SGD, Adam, AdamW, RMSprop, Adagrad, Adamax, RAdam, NAdam, Adadelta only; load the model without the optimizer"
    );
    for (name, state) in entries(&fixture["foreign"]) {
        case.state = state.clone();
        let message = case.error();
        let named = ["ASGD", "Rprop"].contains(&name.as_str());
        assert!(message.contains(if named { name.as_str() } else { "optimizer is unknown" }), "{name}: {message}");
    }
    case.state = Case::new("adamw_defaults").state;
    assert_eq!(
        case.error(),
        "the checkpoint's optimizer is AdamW, the configuration's is Adam: set the optimizer's name to 'adamw'"
    );
    case.state = Case::new("rmsprop_defaults").state;
    assert!(case.error().contains("is RMSprop, the configuration's is Adam"), "{}", case.error());
    // What has Adam's name, settings or buffers is not Adam.
    for (label, name) in
        [("radam", "RAdam"), ("nadam", "NAdam"), ("adamax", "Adamax"), ("adagrad", "Adagrad"), ("adadelta", "Adadelta")]
    {
        case.state = Case::new(&format!("{label}_defaults")).state;
        let expected = format!(
            "the checkpoint's optimizer is {name}, the configuration's is Adam: set the optimizer's name to '{label}'"
        );
        assert_eq!(case.error(), expected);
    }
    // One from elsewhere that writes Adam's groups, and keeps something else.
    let mut case = Case::new("adam_defaults");
    case.state["state"]["0"]["exp_avg_diff"] = case.state["state"]["0"]["exp_avg"].clone();
    assert_eq!(
        case.error(),
        "the optimizer's state of '0.weight' has 'exp_avg_diff', which Adam does not keep: another optimizer wrote it; load the model without the optimizer"
    );
}

#[test]
fn states_that_do_not_fit_are_refused() {
    let mut case = Case::new("adam_defaults");
    case.state["state"]["2"]["exp_avg_sq"]["shape"] = json!([5, 4]);
    assert_eq!(
        case.error(),
        "the optimizer's 'exp_avg_sq' of '2.weight' has shape [5, 4], the parameter has [4, 5]: the checkpoint belongs to another model or configuration"
    );

    let mut case = Case::new("adam_defaults");
    case.state["state"]["0"].as_object_mut().unwrap().remove("exp_avg");
    assert_eq!(
        case.error(),
        "the optimizer's state of '0.weight' lacks 'exp_avg', which Adam needs: it has step, exp_avg_sq"
    );

    let mut case = Case::new("adam_defaults");
    case.state["param_groups"][0]["params"] = json!([0, 1, 2]);
    assert_eq!(
        case.error(),
        "the checkpoint's optimizer has groups of [3] parameters, the configuration gives [4]: it was saved with another model, other 'groups', or without its frozen parameters"
    );

    let mut case = Case::new("groups");
    case.state = Case::new("adam_defaults").state;
    assert_eq!(
        case.error(),
        "the checkpoint's optimizer has groups of [4] parameters, the configuration gives [2, 1, 1]: give the configuration the same 'groups', in the same order"
    );

    let mut case = Case::new("adam_defaults");
    case.state["param_groups"][0]["betas"] = json!([0.9, 1.0]);
    assert_eq!(
        case.error(),
        "group 0 of the checkpoint's optimizer: optimizer 'adam' cannot have betas[1] = 1: expected a number from 0 to 1, 1 excluded"
    );

    let mut case = Case::new("adam_defaults");
    case.state["state"]["9"] = case.state["state"]["0"].clone();
    assert_eq!(case.error(), "the optimizer's state has 5 entries, only 4 belong to a parameter of its groups");

    let mut case = Case::new("adam_defaults");
    case.state = json!({"epoch": 3});
    assert_eq!(
        case.error(),
        "this is no optimizer state: expected 'state' as a dictionary, found the keys epoch; it is usually under 'optimizer_state_dict'"
    );
}

#[test]
fn a_record_of_another_model_is_not_written() {
    let (case, other) = (Case::new("adam_defaults"), Case::new("adam_defaults"));
    let optimizer = module_optimizer(&other.groups, &other.table).unwrap().load_record(other.read().unwrap().record);
    let error = to_state_dict(optimizer.to_record(), &case.table, &case.groups).unwrap_err().to_string();
    assert_eq!(
        error,
        "the optimizer holds state of 4 parameters that the model does not have: it was trained with another model"
    );
}
