//! Updates of every rule and setting, from the first step on.

use burn::optim::ModuleOptimizer;
use rekindle::optim::{Curve, Group, ParameterInfo, Schedule, from_state_dict, module_optimizer, module_scheduler, to_state_dict};
use serde_json::Value as Json;

use super::states::assert_same_dict;
use super::support::*;

const TOLERANCE: f64 = 1e-4;
const BEFORE: usize = 4;

fn constant() -> Schedule {
    Schedule { curve: Curve::Constant, warmup: None }
}

fn clip(case: &Json) -> Clip {
    match (case["clip"][0].as_str(), case["clip"][1].as_f64()) {
        (Some("norm"), Some(norm)) => Clip::Norm(norm),
        (Some("value"), Some(value)) => Clip::Value(value),
        _ => Clip::No,
    }
}

/// Steps `from..to` of a case (counted from 0), checked against PyTorch; gives the network and the largest difference.
fn train(
    case: &Json,
    batches: &Json,
    mut model: Mlp,
    optimizer: &mut ModuleOptimizer,
    groups: &[Group],
    table: &[ParameterInfo],
    steps: std::ops::Range<usize>,
    device: &burn::tensor::Device,
) -> (Mlp, f64) {
    let mut scheduler = module_scheduler(groups, table, &constant(), 1, 0).unwrap();
    let mut worst = 0.0_f64;
    for step in steps {
        let (next, loss, norm) = train_step(model, optimizer, scheduler.step(), &batches[step], clip(case), device);
        model = next;
        worst = worst.max(distance(&[loss as f32], &[case["losses"][step].as_f64().unwrap() as f32]));
        if let Some(expected) = case["norms"][step].as_f64() {
            worst = worst.max(distance(&[norm as f32], &[expected as f32]));
        }
        if let Some(expected) = case["parameters"].get((step + 1).to_string()) {
            worst = worst.max(model_distance(&model, expected));
        }
    }
    (model, worst)
}

#[test]
fn every_rule_follows_torch_from_the_first_step_and_from_its_state() {
    let fixture = fixture("optim/optimizers.json");
    let mut worst = 0.0_f64;
    for (device_name, device) in devices() {
        for (name, case) in entries(&fixture["cases"]) {
            let label = format!("{name} on {device_name}");
            let config = optimizer(&case["optimizer"]);
            let frozen = strings(&case["frozen"]);

            // From nothing.
            let model = Mlp::new(&case["initial"], &frozen, &device);
            let table = model.parameters();
            let groups = config.resolve(&table).unwrap();
            let mut burn = module_optimizer(&groups, &table).unwrap();
            let (model, gap) = train(case, &fixture["batches"], model, &mut burn, &groups, &table, 0..BEFORE, &device);
            assert!(gap < TOLERANCE, "{label}: the first steps differ by {gap}");
            worst = worst.max(gap);

            // Its state is PyTorch's.
            let dict = to_state_dict(burn.to_record(), &table, &groups).unwrap();
            assert_same_dict(&dict, &state_dict(&case["state"]), TOLERANCE, &label);

            // Through Burn's bytes, as a checkpoint of a run.
            let bytes = burn.into_bytes().unwrap();
            let mut resumed = module_optimizer(&groups, &table).unwrap().from_bytes(bytes).unwrap();
            let (_, gap) = train(case, &fixture["batches"], model, &mut resumed, &groups, &table, BEFORE..9, &device);
            assert!(gap < TOLERANCE, "{label}: the steps after a round trip differ by {gap}");
            worst = worst.max(gap);

            // From PyTorch's state.
            let model = Mlp::new(&case["parameters"][BEFORE.to_string()], &frozen, &device);
            let table = model.parameters();
            let restored = from_state_dict(&state_dict(&case["state"]), &table, &groups).unwrap();
            assert!(restored.differences.is_empty(), "{label}: {:?}", restored.differences);
            let mut burn = module_optimizer(&restored.groups, &table).unwrap().load_record(restored.record);
            let (_, gap) = train(case, &fixture["batches"], model, &mut burn, &restored.groups, &table, BEFORE..9, &device);
            assert!(gap < TOLERANCE, "{label}: the steps after PyTorch's state differ by {gap}");
            worst = worst.max(gap);
        }
    }
    println!("largest relative difference from torch: {worst:e}");
}

#[test]
fn clipping_leaves_small_gradients_alone() {
    let fixture = fixture("optim/optimizers.json");
    let case = &fixture["cases"]["adam_all"];
    let (_, device) = devices().remove(0);
    let config = optimizer(&case["optimizer"]);
    let step = |clip| {
        let model = Mlp::new(&case["initial"], &[], &device);
        let table = model.parameters();
        let mut burn = module_optimizer(&config.resolve(&table).unwrap(), &table).unwrap();
        let (model, _, norm) = train_step(model, &mut burn, 0.1.into(), &fixture["batches"][0], clip, &device);
        (model.values(), norm)
    };
    let (plain, _) = step(Clip::No);
    let (clipped, norm) = step(Clip::Norm(100.0));
    assert_eq!(plain, clipped);
    assert!(norm > 0.0 && norm < 100.0, "{norm}");
    assert_ne!(plain, step(Clip::Norm(1e-12)).0);
}
