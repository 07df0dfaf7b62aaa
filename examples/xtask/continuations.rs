//! Trains small networks, exports checkpoints for PyTorch, and writes down the five steps after each of them, for PyTorch to take
//! the same (`.ci/continue_torch.py`).
//!
//! ```text
//! cargo xtask continuations OUT
//! ```
//!
//! For each case, `OUT/NAME.pth` is the exported checkpoint and `OUT/NAME.safetensors` has the batches `x0`, `y0`, …, the losses as
//! `loss`, the learning rates of each group as `lr`, and the parameters after each step as `step0/NAME`. `OUT/cases.json` says what
//! to build in PyTorch.

use std::error::Error;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use rekindle::checkpoint::Which;
use rekindle::data::{BatchTarget, Split};
use rekindle::device::DeviceName;
use rekindle::models::Registry;
use rekindle::models::weights;
use rekindle::train::{Loaded, Plan, Position, Session, Snapshot, Start, StepInput, recipe, recipe_of, restored};
use rekindle_state::{Safetensors, SaveOptions, StateDict, Tensor, Value, save};
use serde_json::{Value as Json, json};

/// Steps that both sides take.
const STEPS: usize = 5;

/// Networks, without dropout, which no two programs do alike. The data are images of the sample.
const MODELS: &[(&str, &str)] = &[
    (
        "fashion_classifier",
        r#"{ name = "fashion_classifier", classes = 10, hidden = [20, 16, 14, 12], dropout = 0.0 }"#,
    ),
    ("cifar_cnn", r#"{ name = "cifar_cnn", in_channels = 1, channels = [4, 4, 6], hidden = 20, dropout = 0.0 }"#),
];

/// Optimizers: PyTorch's class is found by `name`, and its arguments come back from the checkpoint.
const OPTIMIZERS: &[(&str, &str)] = &[
    ("sgd_momentum", "name = \"sgd\"\nlr = 0.01\nmomentum = 0.9"),
    ("sgd_nesterov", "name = \"sgd\"\nlr = 0.01\nmomentum = 0.8\nnesterov = true\nweight_decay = 0.01"),
    ("adam", "name = \"adam\"\nlr = 0.002\nweight_decay = 0.01"),
    ("adam_amsgrad", "name = \"adam\"\nlr = 0.002\nbetas = [0.8, 0.9]\namsgrad = true"),
    ("adamw", "name = \"adamw\"\nlr = 0.002\nweight_decay = 0.1"),
    ("rmsprop", "name = \"rmsprop\"\nlr = 0.001\nalpha = 0.9\nmomentum = 0.5"),
    ("rmsprop_centered", "name = \"rmsprop\"\nlr = 0.001\ncentered = true"),
];

/// Parameter groups: one, and three of which one lists its parameters in another order than the model.
const GROUPS: &[(&str, &str)] = &[
    ("", ""),
    (
        "groups",
        "groups = [{ match = \"bias$\", weight_decay = 0.0, lr = 0.003 }, { match = \"^(fc2|conv1)\", lr = 0.0005 }]",
    ),
];

/// Schedules, with PyTorch's class and arguments.
const SCHEDULES: &[(&str, &str, &str)] = &[
    ("", "", "null"),
    ("step", "name = \"step\"\nstep_size = 2\ngamma = 0.5", r#"["StepLR", {"step_size": 2, "gamma": 0.5}]"#),
    (
        "cosine_per_step",
        "name = \"cosine\"\nper = \"step\"\nt_max = 20\neta_min = 1e-5",
        r#"["CosineAnnealingLR", {"T_max": 20, "eta_min": 1e-5}]"#,
    ),
    ("exponential", "name = \"exponential\"\ngamma = 0.7", r#"["ExponentialLR", {"gamma": 0.7}]"#),
    (
        "linear_per_step",
        "name = \"linear\"\nper = \"step\"\nstart_factor = 0.5\ntotal_iters = 9",
        r#"["LinearLR", {"start_factor": 0.5, "end_factor": 1.0, "total_iters": 9}]"#,
    ),
    (
        "warmup",
        "name = \"step\"\nper = \"step\"\nstep_size = 3\ngamma = 0.5\nwarmup = 8\nwarmup_start_factor = 0.25",
        r#"["SequentialLR", {"warmup": 8, "start_factor": 0.25, "then": ["StepLR", {"step_size": 3, "gamma": 0.5}]}]"#,
    ),
];

/// Trains, and writes everything into a folder.
pub fn run(arguments: Vec<String>) -> Result<bool, Box<dyn Error>> {
    let [out] = arguments.as_slice() else { return Err("usage: cargo xtask continuations OUT".into()) };
    let out = &PathBuf::from(out);
    std::fs::create_dir_all(out)?;
    let mut cases = Vec::new();
    for (place, (model, _)) in MODELS.iter().enumerate() {
        for (number, (optimizer, _)) in OPTIMIZERS.iter().enumerate() {
            for (groups, _) in GROUPS {
                // Every optimizer meets some schedules, and every schedule some optimizers.
                for turn in [0, number + place + 1] {
                    let schedule = SCHEDULES[turn % SCHEDULES.len()].0;
                    let name = [*model, optimizer, groups, schedule].into_iter().filter(|part| !part.is_empty());
                    let name = name.collect::<Vec<_>>().join("-");
                    let case = Case { name, model, optimizer, groups, schedule };
                    if !cases.iter().any(|done: &Json| done["name"] == case.name) {
                        cases.push(case.write(out)?);
                    }
                }
            }
        }
    }
    std::fs::write(out.join("cases.json"), serde_json::to_string_pretty(&cases)?)?;
    println!("{} checkpoints", cases.len());
    Ok(true)
}

/// One network with its optimizer and schedule, each by its name above.
struct Case<'a> {
    name: String,
    model: &'a str,
    optimizer: &'a str,
    groups: &'a str,
    schedule: &'a str,
}

fn find<'a>(table: &[(&'a str, &'a str)], name: &str) -> &'a str {
    table.iter().find(|(known, _)| *known == name).map_or("", |(_, text)| text)
}

impl Case<'_> {
    /// Three batches to an epoch, so that an epoch ends among the five steps.
    fn recipe(&self) -> String {
        let (_, schedule, _) = SCHEDULES.iter().find(|(known, ..)| *known == self.schedule).unwrap_or(&SCHEDULES[0]);
        let section = if schedule.is_empty() { String::new() } else { format!("[scheduler]\n{schedule}\n") };
        // The convolutions want 32×32, the linear layers what the sample has.
        let resize = if self.model == "cifar_cnn" { "resize = 32\n" } else { "" };
        format!(
            "name = \"continued\"\nmodel = {}\n[data]\nname = \"fashion-mnist-sample\"\nbatch_size = 8\n{resize}limit = {{ train = 24, test = 8 }}\n\
             normalize = {{ mean = [0.286], std = [0.353] }}\n[optimizer]\n{}\n{}\n{section}[train]\nepochs = 2\n",
            find(MODELS, self.model),
            find(OPTIMIZERS, self.optimizer),
            find(GROUPS, self.groups),
        )
    }

    fn write(&self, out: &Path) -> Result<Json, Box<dyn Error>> {
        let place = &self.name;
        let recipe = recipe::parse(&Registry::built_in(), &self.recipe(), &[], place)?;
        let scratch = tempfile::tempdir()?;
        let loaded = Box::new(Loaded { recipe, base: PathBuf::new(), place: place.clone() });
        let start = Start::New { loaded, dir: scratch.path().join("run"), numbered: false };
        let (_, run) = Session::new(&Registry::built_in(), start, DeviceName::FLEX, Default::default())?.run()?;

        let contents = run.find(Which::Last)?.read()?;
        let snapshot = Snapshot::new(&Registry::built_in(), &contents, place)?;
        let exported = snapshot.checkpoint(&contents, place)?;
        save(&out.join(format!("{place}.pth")), &Value::Dict(exported), &SaveOptions::default())?;
        let steps = self.steps(&contents, place)?;
        let options = SaveOptions { format: Some(&Safetensors), ..SaveOptions::default() };
        save(&out.join(format!("{place}.safetensors")), &Value::Dict(steps), &options)?;

        let (.., schedule) = SCHEDULES.iter().find(|(known, ..)| *known == self.schedule).unwrap_or(&SCHEDULES[0]);
        let recipe = &contents.manifest.recipe;
        let mut config = recipe["model"].clone();
        config.as_object_mut().map(|config| config.shift_remove("name"));
        Ok(json!({
            "name": place,
            "model": recipe["model"]["name"],
            "config": config,
            "optimizer": recipe["optimizer"]["name"],
            "schedule": serde_json::from_str::<Json>(schedule)?,
            "batches_per_step": if recipe["scheduler"]["per"] == "epoch" { contents.manifest.batches } else { 1 },
            "loss": if self.model == "fashion_classifier" { "nll" } else { "cross_entropy" },
        }))
    }

    /// Five steps from the checkpoint on.
    fn steps(&self, contents: &rekindle::checkpoint::Contents, place: &str) -> Result<StateDict, Box<dyn Error>> {
        let plan = Plan::new(&Registry::built_in(), recipe_of(contents, place)?, place)?;
        let device = DeviceName::FLEX.open()?.device.autodiff();
        let manifest = &contents.manifest;
        let loader = plan.recipe.data.loader(Path::new(""), Split::Train, plan.recipe.train.seed, &device)?;
        let network = restored(&plan.architecture, contents, place)?;
        let at = Position { step: manifest.step, epoch: manifest.epoch, batch: manifest.batch, ..Position::default() };
        let mut learner = plan.learner(network, Some(contents.optimizer()?), at, loader.num_batches(), &device)?;
        let groups = plan.recipe.optimizer.resolve(&rekindle::train::trained_parameters(&learner.model()))?;
        let parameters = rekindle::train::trained_parameters(&learner.model());

        let mut written = StateDict::new();
        let (mut losses, mut rates) = (Vec::new(), Vec::new());
        let batches = loader.batches(manifest.epoch, 0).chain(loader.batches(manifest.epoch + 1, 0)).take(STEPS);
        for (step, batch) in batches.enumerate() {
            let batch = batch?;
            written
                .insert(format!("x{step}"), tensor(batch.input.images().ok_or("a batch without images")?.to_data())?);
            if let BatchTarget::Classes(classes) = &batch.target {
                let classes: Vec<i64> = classes.to_data().iter::<i64>().collect();
                written.insert(format!("y{step}"), Tensor::from_i64(&[classes.len() as u64], &classes)?);
            }
            let output = learner.train_step(StepInput { batch, objective: plan.objective.clone() });
            learner.lr_step();
            learner.optimizer_step(output.grads);
            losses.push(output.item.reported()?.read().1 as f32);
            let lr = learner.lr_current();
            let of = |group: &rekindle::optim::Group| {
                let first = group.members.first().and_then(|&member| parameters[member].parts.first());
                first.map_or(0.0, |part| lr.lr_from_param(part.id, Some(&part.path)) as f32)
            };
            rates.extend(groups.iter().map(of));
            for (name, value) in weights::to_state_dict(&learner.model())?.tensors() {
                written.insert(format!("step{step}/{name}"), value.clone());
            }
        }
        written.insert("loss", Tensor::from_f32(&[STEPS as u64], &losses)?);
        written.insert("lr", Tensor::from_f32(&[STEPS as u64, groups.len() as u64], &rates)?);
        Ok(written)
    }
}

fn tensor(data: TensorData) -> rekindle_state::Result<Tensor> {
    let shape: Vec<u64> = data.shape().iter().map(|&axis| axis as u64).collect();
    Tensor::from_f32(&shape, &data.iter::<f32>().collect::<Vec<f32>>())
}
