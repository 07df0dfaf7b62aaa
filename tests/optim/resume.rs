//! Training goes on from PyTorch's checkpoints as PyTorch goes on.

use rekindle::optim::{
    Group, OptimizerConfig, Schedule, Step, from_state_dict, module_optimizer, module_scheduler, to_state_dict,
};
use rekindle_state::{StateDict, Value};
use serde_json::{Value as Json, json};

use super::states::assert_same_dict;
use super::support::*;

const TOLERANCE: f64 = 1e-4;

/// The settings with which a checkpoint was made.
fn config(label: &str) -> OptimizerConfig {
    optimizer(&match label {
        "sgd_plain" => json!({"name": "sgd", "lr": 0.1}),
        "sgd_nesterov" => json!({"name": "sgd", "lr": 0.05, "momentum": 0.8, "nesterov": true, "weight_decay": 0.02}),
        "sgd_dampening" => json!({"name": "sgd", "lr": 0.1, "momentum": 0.7, "dampening": 0.3}),
        "scheduler" => json!({"name": "sgd", "lr": 0.1, "momentum": 0.9}),
        "adam_decay" => json!({"name": "adam", "lr": 0.02, "weight_decay": 0.1}),
        "adam_amsgrad" => json!({"name": "adam", "lr": 0.02, "betas": [0.5, 0.6], "amsgrad": true}),
        "frozen_parameter" => json!({"name": "adam", "lr": 0.02}),
        "adamw_amsgrad" => json!({"name": "adamw", "lr": 0.02, "weight_decay": 0.1, "amsgrad": true}),
        "two_groups" => json!({"name": "adamw", "lr": 0.02, "groups": [
            {"match": r"^0\.", "lr": 0.003}, {"match": r"^2\.", "weight_decay": 0.2}]}),
        "adagrad" => json!({"name": "adagrad", "lr": 0.1, "lr_decay": 0.01}),
        "rmsprop" => json!({"name": "rmsprop", "lr": 0.01, "alpha": 0.9, "momentum": 0.5}),
        "rmsprop_centered" => json!({"name": "rmsprop", "lr": 0.01, "centered": true}),
        other => panic!("{other}: a fixture without its settings"),
    })
}

/// A checkpoint that PyTorch wrote.
fn checkpoint(label: &str) -> StateDict {
    let path = format!("{}/tests/fixtures/resume/extra_{label}_checkpoint.pt", env!("CARGO_MANIFEST_DIR"));
    match rekindle_state::open(&path).unwrap().content.root {
        Value::Dict(dict) => dict,
        other => panic!("{path}: a {}", other.type_name()),
    }
}

/// Runs the five steps after a checkpoint and gives the largest difference from PyTorch's.
fn resume(case: &Json, batches: &Json, label: &str, device: &burn::tensor::Device) -> f64 {
    let checkpoint = checkpoint(label);
    let frozen = if label == "frozen_parameter" { vec!["0.weight".to_string()] } else { Vec::new() };
    let mut model = Mlp::from_state_dict(checkpoint.dict("model_state_dict").unwrap(), &frozen, device);
    let table = model.parameters();
    let expected = config(label).resolve(&table).unwrap();
    let restored = from_state_dict(checkpoint.dict("optimizer_state_dict").unwrap(), &table, &expected).unwrap();
    let mut optimizer = module_optimizer(&restored.groups, &table).unwrap().load_record(restored.record);

    // What was read is written again as PyTorch wrote it.
    let written = to_state_dict(optimizer.to_record(), &table, &restored.groups).unwrap();
    assert_same_dict(&written, checkpoint.dict("optimizer_state_dict").unwrap(), f64::MIN_POSITIVE, label);

    let (schedule, count) = match checkpoint.dict("scheduler_state_dict") {
        Some(state) => {
            let schedule = Schedule { curve: Step { step_size: 3, gamma: 0.5 }.into(), ..Schedule::constant() };
            let state = schedule.from_state_dict(state).unwrap();
            assert_eq!((state.count, &state.base_lrs[..], &state.differences[..]), (4, &[0.1][..], &[][..]));
            assert_eq!(restored.groups.iter().map(Group::base_lr).collect::<Vec<_>>(), [0.1]);
            (schedule, state.count)
        }
        None => (Schedule::constant(), 0),
    };
    let mut scheduler = module_scheduler(&restored.groups, &table, &schedule, 1, count).unwrap();
    let mut worst = 0.0_f64;
    for (step, expected) in case["steps"].as_array().unwrap().iter().enumerate() {
        let (next, loss, _) = train_step(model, &mut optimizer, scheduler.step(), &batches[step], Clip::No, device);
        model = next;
        worst = worst.max(distance(&[loss as f32], &[case["losses"][step].as_f64().unwrap() as f32]));
        worst = worst.max(model_distance(&model, expected));
    }
    worst
}

#[test]
fn training_goes_on_as_in_torch() {
    let fixture = fixture("resume/resume.json");
    for (device_name, device) in devices() {
        for (label, case) in entries(&fixture["cases"]) {
            let gap = resume(case, &fixture["batches"], label, &device);
            println!("{label} on {device_name}: {gap:e}");
            assert!(gap < TOLERANCE, "{label} on {device_name}: differs by {gap}");
        }
    }
}

#[test]
fn another_optimizer_is_refused_by_name() {
    let checkpoint = checkpoint("adagrad");
    let (_, device) = devices().remove(0);
    let table = Mlp::from_state_dict(checkpoint.dict("model_state_dict").unwrap(), &[], &device).parameters();
    let expected = config("sgd_plain").resolve(&table).unwrap();
    let error = from_state_dict(checkpoint.dict("optimizer_state_dict").unwrap(), &table, &expected).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the checkpoint's optimizer is Adagrad, the configuration's is SGD: set the optimizer's name to 'adagrad'"
    );
}
