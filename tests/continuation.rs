//! We continue PyTorch's trainings: a checkpoint becomes a run, and the steps after it are those that PyTorch took.

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn::train::Learner;
use rekindle::checkpoint::Which;
use rekindle::data::{Batch, BatchTarget};
use rekindle::models::{Network, Registry, weights};
use rekindle::train::{Loaded, Plan, Position, StepInput, import, recipe, recipe_of, restored};
use rekindle_state::{StateDict, Value};
use serde_json::{Value as Json, json};

use super::support::numbers::{devices, distance, tensor_values};

/// PyTorch's relative tolerance; numbers smaller than a hundredth of their tensor's largest are held against that.
const TOLERANCE: f64 = 1e-4;

/// The recipe that a fixture was trained with.
fn recipe_text(entry: &Json) -> String {
    let names = [("cnn", "cifar_cnn"), ("narrow_vgg16", "vgg16")];
    let model = entry["model"].as_str().unwrap();
    let model = names.iter().find(|(theirs, _)| *theirs == model).map_or(model, |(_, ours)| ours);
    let mut config = entry["config"].clone();
    config["name"] = json!(model);
    if ["fashion_classifier", "cifar_cnn", "vgg16"].contains(&model) {
        // The fixtures were trained without dropout.
        config["dropout"] = json!(0.0);
    }
    let mut optimizer = entry["optimizer_args"].clone();
    optimizer["name"] = entry["optimizer"].clone();
    // What the checkpoint says goes on, not what the recipe says.
    optimizer["lr"] = json!(0.5);
    let recipe = json!({
        "name": "continued", "model": config, "optimizer": optimizer,
        // The batches come from the fixture.
        "data": { "name": "fashion-mnist-sample" },
        "train": { "epochs": 10, "loss": entry["loss_function"].as_str().unwrap().replace('_', "-") },
    });
    toml::to_string(&recipe).unwrap()
}

fn open(path: &Path) -> StateDict {
    match rekindle_state::open(path).unwrap().content.root {
        Value::Dict(dict) => dict,
        other => panic!("{}: a {}", path.display(), other.type_name()),
    }
}

fn shape(tensor: &rekindle_state::Tensor) -> Vec<usize> {
    tensor.shape().iter().map(|&axis| axis as usize).collect()
}

fn batch(batches: &StateDict, step: usize, device: &Device) -> Batch {
    let images = |name: String| {
        let tensor = batches.tensor(&name).unwrap();
        Tensor::<4>::from_data(TensorData::new(tensor_values(tensor), shape(tensor)), device)
    };
    let input = images(format!("x{step}"));
    let target = batches.tensor(&format!("y{step}")).unwrap();
    let target = if target.shape().len() == 1 {
        let classes: Vec<i64> =
            target.bytes().unwrap().as_chunks::<8>().0.iter().map(|chunk| i64::from_le_bytes(*chunk)).collect();
        BatchTarget::Classes(Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [classes.len()]), device))
    } else {
        BatchTarget::Images(images(format!("y{step}")))
    };
    Batch { len: input.dims()[0], input: input.into(), target }
}

/// Five steps of a learner on a fixture's batches: the largest difference from PyTorch's losses and parameters.
fn follow(
    learner: &mut Learner<Network>,
    plan: &Plan,
    batches: &StateDict,
    expected: &StateDict,
    device: &Device,
) -> f64 {
    let losses = tensor_values(expected.tensor("loss").unwrap());
    let mut worst = 0.0_f64;
    for (step, loss) in losses.iter().enumerate() {
        let output =
            learner.train_step(StepInput { batch: batch(batches, step, device), objective: plan.objective.clone() });
        learner.lr_step();
        learner.optimizer_step(output.grads);
        worst = worst.max(distance(&[output.item.reported().unwrap().read().1 as f32], &[*loss]));
        let network = weights::to_state_dict(&learner.model()).unwrap();
        let mut compared = 0;
        for (name, tensor) in network.tensors() {
            if let Some(expected) = expected.tensor(&format!("step{step}/{name}")) {
                worst = worst.max(distance(&tensor_values(tensor), &tensor_values(expected)));
                compared += 1;
            }
        }
        assert_eq!(compared, network.len());
    }
    worst
}

/// Imports a fixture's checkpoint and follows PyTorch; with and without the optimizer's state.
fn continued(folder: &Path, entry: &Json, device_name: &str, device: &Device) -> (f64, f64) {
    let path = |key: &str| folder.join(entry[key].as_str().unwrap());
    let scratch = tempfile::tempdir().unwrap();
    let recipe = recipe::parse(&Registry::built_in(), &recipe_text(entry), &[], "the fixture's recipe").unwrap();
    let loaded = Loaded { recipe, base: PathBuf::new(), place: "the fixture's recipe".into() };
    let imported = import(&Registry::built_in(), &path("file"), loaded, &scratch.path().join("run")).unwrap();
    let rate = entry["optimizer_args"].get("lr").and_then(Json::as_f64).unwrap();
    assert_eq!(imported.differences, [format!("optimizer group 0: lr is {rate} in the file, 0.5 in the recipe")]);
    assert_eq!(imported.position.epoch as u64, entry["steps_before"].as_u64().unwrap());

    let contents = imported.run.find(Which::Last).unwrap().read().unwrap();
    let plan = Plan::new(&Registry::built_in(), recipe_of(&contents, "the run").unwrap(), "the run").unwrap();
    let network = restored(&plan.architecture, &contents, "the run").unwrap();
    let (batches, expected) = (open(&path("batches")), open(&path("continuation")));
    let learner = |state: Option<&[u8]>| {
        let at = Position { step: contents.manifest.step, epoch: contents.manifest.epoch, ..Position::default() };
        plan.learner(network.clone(), state, at, 1, device).unwrap()
    };
    let gap = follow(&mut learner(Some(contents.optimizer().unwrap())), &plan, &batches, &expected, device);
    let cold = follow(&mut learner(None), &plan, &batches, &expected, device);
    println!(
        "{} on {device_name}: {gap:.2e} with the optimizer's state, {cold:.2e} without",
        entry["file"].as_str().unwrap()
    );
    (gap, cold)
}

fn follow_all(folder: &Path, entries: &[Json]) {
    for (device_name, device) in devices() {
        for entry in entries {
            let (gap, cold) = continued(folder, entry, device_name, &device);
            let file = entry["file"].as_str().unwrap();
            assert!(gap < TOLERANCE, "{file} on {device_name}: differs by {gap}");
            // Otherwise forgetting the state would go unnoticed.
            assert!(
                cold > 20.0 * TOLERANCE,
                "{file} on {device_name}: the optimizer's state makes no difference ({cold})"
            );
        }
    }
}

fn entries(folder: &Path) -> Vec<Json> {
    let manifest: Json = serde_json::from_slice(&std::fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    manifest["files"].as_array().unwrap().clone()
}

#[test]
fn steps_after_an_import_are_those_of_pytorch() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/continuation");
    let entries = entries(&folder);
    assert_eq!(entries.len(), 4);
    follow_all(&folder, &entries);
}

/// Every network and optimizer of the oracle, where `REKINDLE_ORACLE` names its folder.
#[test]
fn steps_after_every_checkpoint_of_the_oracle_are_those_of_pytorch() {
    let Some(oracle) = std::env::var_os("REKINDLE_ORACLE") else {
        eprintln!("SKIPPED: the checkpoints of the oracle: set REKINDLE_ORACLE to its folder");
        return;
    };
    let folder = PathBuf::from(oracle).join("fixtures");
    let wanted = |entry: &Json| {
        let file = entry["file"].as_str().unwrap_or_default();
        file.starts_with("resume/") && file.ends_with("_checkpoint.pt") && entry["model"] != "mlp"
    };
    let entries: Vec<Json> = entries(&folder).into_iter().filter(wanted).collect();
    assert!(entries.len() >= 18, "only {} checkpoints in {}", entries.len(), folder.display());
    follow_all(&folder, &entries);
}
