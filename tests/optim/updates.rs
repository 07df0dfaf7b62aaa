//! Updates of every rule and setting, from the first step on.

use std::ops::Range;

use burn::optim::ModuleOptimizer;
use burn::tensor::Device;
use rekindle::optim::{
    Group, ParameterInfo, Schedule, from_state_dict, module_optimizer, module_scheduler, to_state_dict,
};
use serde_json::Value as Json;

use super::states::assert_same_dict;
use super::support::*;

const TOLERANCE: f64 = 1e-4;
const BEFORE: usize = 4;

fn constant() -> Schedule {
    Schedule::constant()
}

fn clip(case: &Json) -> Clip {
    match (case["clip"][0].as_str(), case["clip"][1].as_f64()) {
        (Some("norm"), Some(norm)) => Clip::Norm(norm),
        (Some("value"), Some(value)) => Clip::Value(value),
        _ => Clip::No,
    }
}

/// A case of the fixture on a device.
struct Run<'a> {
    case: &'a Json,
    batches: &'a Json,
    table: Vec<ParameterInfo>,
    groups: Vec<Group>,
    device: &'a Device,
}

impl Run<'_> {
    /// Takes some steps, counted from 0, each checked against PyTorch; gives the network and the largest difference.
    fn train(&self, mut model: Mlp, optimizer: &mut ModuleOptimizer, steps: Range<usize>) -> (Mlp, f64) {
        let mut scheduler = module_scheduler(&self.groups, &self.table, &constant(), 1, 0).unwrap();
        let mut worst = 0.0_f64;
        for step in steps {
            let (next, loss, norm) =
                train_step(model, optimizer, scheduler.step(), &self.batches[step], clip(self.case), self.device);
            model = next;
            worst = worst.max(distance(&[loss as f32], &[self.case["losses"][step].as_f64().unwrap() as f32]));
            if let Some(expected) = self.case["norms"][step].as_f64() {
                worst = worst.max(distance(&[norm as f32], &[expected as f32]));
            }
            if let Some(expected) = self.case["parameters"].get((step + 1).to_string()) {
                worst = worst.max(model_distance(&model, expected));
            }
        }
        (model, worst)
    }
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
            let mut run = Run { case, batches: &fixture["batches"], table, groups, device: &device };
            let (model, gap) = run.train(model, &mut burn, 0..BEFORE);
            assert!(gap < TOLERANCE, "{label}: the first steps differ by {gap}");
            worst = worst.max(gap);

            // Its state is PyTorch's.
            let dict = to_state_dict(burn.to_record(), &run.table, &run.groups).unwrap();
            assert_same_dict(&dict, &state_dict(&case["state"]), TOLERANCE, &label);

            // Through Burn's bytes, as a checkpoint of a run.
            let bytes = burn.into_bytes().unwrap();
            let mut resumed = module_optimizer(&run.groups, &run.table).unwrap().from_bytes(bytes).unwrap();
            let (_, gap) = run.train(model, &mut resumed, BEFORE..9);
            assert!(gap < TOLERANCE, "{label}: the steps after a round trip differ by {gap}");
            worst = worst.max(gap);

            // From PyTorch's state.
            let model = Mlp::new(&case["parameters"][BEFORE.to_string()], &frozen, &device);
            run.table = model.parameters();
            let restored = from_state_dict(&state_dict(&case["state"]), &run.table, &run.groups).unwrap();
            assert!(restored.differences.is_empty(), "{label}: {:?}", restored.differences);
            run.groups = restored.groups;
            let mut burn = module_optimizer(&run.groups, &run.table).unwrap().load_record(restored.record);
            let (_, gap) = run.train(model, &mut burn, BEFORE..9);
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
