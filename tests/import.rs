//! PyTorch's checkpoints become runs: every form that people save, what goes on from it, and what is refused.

use serde_json::{Value, json};

use super::support::program::{Answer, Dir};

/// The network of the fixtures; its data has as many batches to an epoch as theirs.
const RECIPE: &str = r#"name = "imported"
model = { name = "fashion_classifier", classes = 10, hidden = [6, 5, 5, 4] }

[data]
name = "fashion-mnist-sample"
batch_size = 4
limit = { train = 12, test = 8 }

[optimizer]
name = "adam"
lr = 2e-3

[train]
epochs = 4

[checkpoint]
monitor = "valid.accuracy"
"#;

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/import/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// Imports a fixture into `run`, with keys of the recipe changed.
fn import(dir: &Dir, name: &str, settings: &[&str]) -> Answer {
    let file = fixture(name);
    let set = settings.iter().flat_map(|setting| ["--set", setting]);
    let arguments: Vec<&str> = ["import", &file, "--recipe", "r.toml", "--run", "run"].into_iter().chain(set).collect();
    dir.run(&arguments)
}

/// An import that must succeed: what it said, and what is in the run.
#[track_caller]
fn imported(name: &str, settings: &[&str]) -> (Dir, String, Value) {
    let dir = Dir::with(RECIPE);
    let said = import(&dir, name, settings).done().stdout;
    let found = dir.run(&["inspect", "run", "--json"]).done().json();
    (dir, said, found)
}

/// The manifest of the run's one checkpoint.
fn manifest(dir: &Dir) -> Value {
    let mut entries = std::fs::read_dir(dir.path("run")).unwrap().map(|entry| entry.unwrap().path());
    let step = entries.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with("step-")).unwrap();
    serde_json::from_str(&std::fs::read_to_string(step.join("manifest.json")).unwrap()).unwrap()
}

#[track_caller]
fn refused(name: &str, settings: &[&str]) -> String {
    let dir = Dir::with(RECIPE);
    let answer = import(&dir, name, settings);
    assert_eq!((answer.code, answer.stdout.as_str()), (2, ""), "{}", answer.stderr);
    assert!(!dir.path("run").exists(), "a refused import left its folder");
    answer.error().replace(&fixture(""), "")
}

#[track_caller]
fn assert_says(said: &str, lines: &[&str]) {
    // Columns are as wide as their widest entry.
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in lines {
        assert!(plain(said).contains(&plain(line)), "'{line}' is not in:\n{said}");
    }
}

#[test]
fn the_tutorials_checkpoint_goes_on() {
    let (dir, said, run) = imported("tutorial.pth", &[]);
    assert_says(
        &said,
        &[
            "in the file in the run",
            "model_state_dict all 10 parameters and buffers of fashion_classifier",
            "optimizer_state_dict Adam: state of 10 parameters in 1 group",
            "epoch 2: 2 epochs done",
            "loss train.loss = ",
            "optimizer group 0: lr is 0.005 in the file, 0.002 in the recipe",
            "optimizer group 0: betas is [0.8, 0.99] in the file, [0.9, 0.999] in the recipe",
            "2 epochs are done: 'epoch' is 2, and the optimizer counts 6 steps of 3 to an epoch",
            "run: epoch 2 of 4, step 6; go on with: rekindle resume run",
        ],
    );
    assert_eq!((&run["values"]["epoch"], &run["values"]["step"]), (&json!(2), &json!(6)));
    let group = &run["optimizer"]["groups"][0];
    assert_eq!((&group["lr"], &group["betas"]), (&json!(0.005), &json!([0.8, 0.99])));
    assert!(run["optimizer"]["state"].as_array().unwrap().contains(&json!("fc4.bias/exp_avg_sq")));
    dir.run(&["diff", "run", &fixture("weights.pth")]).done();

    let resumed = dir.run(&["resume", "run", "--device", "flex"]).done();
    assert_says(&resumed.stderr, &["the run was trained on PyTorch, it goes on on flex", "epoch 3/4", "epoch 4/4"]);
    let run = dir.run(&["inspect", "run", "--json"]).done().json();
    assert_eq!((&run["values"]["epoch"], &run["values"]["step"]), (&json!(4), &json!(12)));
    // Exported again, it is one that `inspect` reads as PyTorch's.
    dir.run(&["export", "run", "out.pth", "--checkpoint"]).done();
    let out = dir.run(&["inspect", "out.pth", "--json"]).done().json();
    assert_eq!(out["optimizer"]["groups"][0]["params"][0], "fc.weight");
    assert_eq!((&out["values"]["epoch"], &out["safe"]), (&json!(4), &json!(true)));
}

#[test]
fn imagenets_example_is_understood() {
    let (_, said, run) = imported("imagenet.pth.tar", &[]);
    assert_says(
        &said,
        &[
            "state_dict all 10 parameters",
            "optimizer Adam: state of 10 parameters in 1 group",
            "best_acc1 best valid.accuracy so far = 0.765",
            "arch ignored: 'mlp'",
            "took the prefix 'module.' off the names (DataParallel)",
            // The number of the last epoch, from 0: the optimizer's steps tell.
            "2 epochs are done: 'epoch' is 1, and the optimizer counts 6 steps of 3 to an epoch",
        ],
    );
    assert_eq!((&run["values"]["epoch"], &run["values"]["best/metric"]), (&json!(2), &json!("valid.accuracy")));
    // Without knowing the length of an epoch, 'epoch' is what PyTorch's examples save.
    let (_, said, run) = imported("imagenet.pth.tar", &["data.batch_size=5"]);
    assert_says(&said, &["2 epochs are done: 'epoch' is 1, and the optimizer counts 6 steps of 3 to an epoch"]);
    assert_eq!(run["values"]["epoch"], 2);
    let (_, said, run) = imported("imagenet.pth.tar", &["data.batch_size=6"]);
    assert_says(
        &said,
        &["1 epoch is done: 'epoch' is taken as their number, as PyTorch's examples save it (epoch + 1)"],
    );
    assert_eq!((&run["values"]["epoch"], &run["values"]["step"]), (&json!(1), &json!(6)));
}

const SGD: [&str; 3] = [
    "optimizer={ name = \"sgd\", momentum = 0.9, groups = [{ match = \"bias$\" }] }",
    "train.epochs=5",
    "checkpoint.monitor=valid.loss",
];

#[test]
fn groups_and_the_schedule_go_on() {
    let step = [&SGD[..], &["scheduler={ name = \"step\", step_size = 2, gamma = 0.9 }"]].concat();
    let (dir, said, run) = imported("groups.pth", &step);
    assert_says(
        &said,
        &[
            "optimizer SGD: state of 10 parameters in 2 groups",
            "lr_scheduler StepLR after 3 steps",
            "args ignored: a dictionary of 1 value",
            "optimizer group 0: lr is 0.02 in the file, 0.001 in the recipe",
            "optimizer group 1: weight_decay is 0.0001 in the file, 0.0 in the recipe",
            "StepLR: gamma is 0.5 in the file, 0.9 in the recipe",
            // SGD counts no steps: the schedule tells.
            "3 epochs are done: 'epoch' is 2, and the scheduler counts 3",
        ],
    );
    let groups = run["optimizer"]["groups"].as_array().unwrap();
    assert_eq!(
        (&groups[0]["initial_lr"], &groups[0]["lr"], &groups[0]["weight_decay"]),
        (&json!(0.02), &json!(0.01), &json!(0.0))
    );
    assert_eq!(
        (&groups[1]["initial_lr"], &groups[1]["lr"], &groups[1]["params"][0]),
        (&json!(0.05), &json!(0.025), &json!("fc.weight"))
    );
    dir.run(&["resume", "run", "--device", "flex"]).done();
    assert_eq!(dir.rates("run"), [0.01, 0.005]);

    // A recipe without a schedule stays at the rate that the checkpoint has come to, and says how to go on with the schedule.
    let (dir, said, _) = imported("groups.pth", &SGD);
    assert_says(
        &said,
        &[
            "lr_scheduler: StepLR is not the recipe's schedule: the learning rate stays as it is in the file; to go on with it, give the \
           recipe [scheduler] name = \"step\", step_size = 2, gamma = 0.5",
            "3 epochs are done: 'epoch' is 2, and the scheduler counts 3",
        ],
    );
    dir.run(&["resume", "run", "--device", "flex", "--epochs", "4"]).done();
    assert_eq!(dir.rates("run")[0], 0.01);
}

#[test]
fn lightnings_checkpoint_is_understood() {
    let settings = [
        "optimizer.name=adamw",
        "scheduler={ name = \"cosine\", t_max = 10 }",
        "train.early_stopping={ patience = 3 }",
        "checkpoint.monitor=valid.loss",
    ];
    let (dir, said, run) = imported("lightning.ckpt", &settings);
    assert_says(
        &said,
        &[
            "took the prefix 'model.' off the names",
            "not used, as they belong to another module: criterion.weight",
            "optimizer_states/0 AdamW: state of 10 parameters in 1 group",
            "lr_schedulers/0 CosineAnnealingLR after 2 steps",
            "global_step 6 optimizer steps",
            "callbacks/ModelCheckpoint best valid.loss so far = 0.5",
            "callbacks/EarlyStopping early stopping: 1 epoch without improvement on 0.5",
            "hyper_parameters ignored: a dictionary of 1 value",
            "2 epochs are done: 'epoch' is 1, and 'global_step' counts 6 steps of 3 to an epoch",
        ],
    );
    assert_eq!(
        (&run["values"]["best/value"], &run["values"]["early_stopping"]["bad_epochs"]),
        (&json!(0.5), &json!(1))
    );
    // Nothing is as good as 0.5 with this network: two more epochs, and patience is over.
    let resumed = dir.run(&["resume", "run", "--device", "flex", "--epochs", "9"]).done();
    assert!(resumed.stderr.contains("stopped early"), "{}", resumed.stderr);
    assert_eq!(dir.metrics("run").len(), 2);
}

#[test]
fn frozen_parameters_may_be_missing_in_the_optimizer() {
    let settings = ["optimizer={ name = \"rmsprop\", momentum = 0.5, centered = true }", "train.freeze=[\"^fc\\\\.\"]"];
    let (dir, said, run) = imported("frozen.pth", &settings);
    assert_says(&said, &["optim RMSprop: state of 8 parameters in 1 group", "epochs 1: 1 epoch done"]);
    let state = run["optimizer"]["state"].as_array().unwrap();
    assert!(
        state.contains(&json!("fc1.weight/grad_avg"))
            && !state.iter().any(|name| name.as_str().unwrap().starts_with("fc.weight"))
    );
    // Burn's names begin with the network's.
    let layer = |name: &str| dir.weights("run").into_iter().find(|(path, _)| path.ends_with(name)).unwrap().1;
    let (frozen, moving) = (layer(".fc.weight"), layer(".fc1.weight"));
    dir.run(&["resume", "run", "--device", "flex"]).done();
    assert_eq!(layer(".fc.weight"), frozen);
    assert_ne!(layer(".fc1.weight"), moving);
}

#[test]
fn weights_alone_start_anew() {
    let (dir, said, run) = imported("weights.pth", &[]);
    assert_says(
        &said,
        &[
            "(the whole file) all 10 parameters",
            "the file has no optimizer's state: the recipe's optimizer starts anew",
            "the file counts neither epochs nor steps: training starts with epoch 1",
            "run: epoch 0 of 4, step 0; go on with:",
        ],
    );
    assert_eq!(run["optimizer"]["state"], json!([]));
    let resumed = dir.run(&["resume", "run", "--device", "flex"]).done();
    assert_says(&resumed.stderr, &["epoch 1/4"]);
    // SGD has no buffers before its first step.
    let (dir, _, run) = imported("unstarted.pth", &["optimizer={ name = \"sgd\", lr = 0.05, momentum = 0.9 }"]);
    assert_eq!(run["optimizer"]["state"], json!([]));
    dir.run(&["resume", "run", "--device", "flex", "--epochs", "1"]).done();
}

#[test]
fn schedules_that_are_not_here_leave_the_rate_where_it_is() {
    let optimizer = "optimizer={ name = \"sgd\", lr = 0.05, momentum = 0.9 }";
    let (dir, said, run) = imported("one_cycle.pth", &[optimizer]);
    assert_says(
        &said,
        &[
            "scheduler: OneCycleLR is not the recipe's schedule: the learning rate stays as it is in the file; it is not continued, \
           since there is no such schedule here",
        ],
    );
    let found = run["optimizer"]["groups"][0]["lr"].as_f64().unwrap();
    assert!((found - 0.129_475_799_539_020_66).abs() < 1e-12, "{found}");
    dir.run(&["resume", "run", "--device", "flex"]).done();
}

#[test]
fn a_schedule_that_follows_a_metric_goes_on() {
    // Without the schedule the rate stays as it is.
    let optimizer = "optimizer={ name = \"sgd\", lr = 0.05 }";
    let (_, said, run) = imported("plateau.pth", &[optimizer]);
    assert_says(
        &said,
        &[
            "scheduler: ReduceLROnPlateau is not the recipe's schedule: the learning rate stays as it is in the file; to go on with it, \
           give the recipe [scheduler] name = \"plateau\", factor = 0.5, patience = 0, threshold = 0.0001",
        ],
    );
    assert_eq!(run["optimizer"]["groups"][0]["lr"], 0.0125);
    // With it, from the rate, the best value and the arguments of the file: 1.0 is not reached again, so that nothing is lowered.
    let more = ["train.epochs=4", "scheduler={ name = \"plateau\", monitor = \"train.loss\" }"];
    let (dir, said, _) = imported("plateau.pth", &[&[optimizer][..], &more[..]].concat());
    assert_says(
        &said,
        &[
            "scheduler ReduceLROnPlateau after 3 steps",
            "ReduceLROnPlateau: factor is 0.5 in the file, 0.1 in the recipe",
            "ReduceLROnPlateau: patience is 0 in the file, 10 in the recipe",
        ],
    );
    let manifest = manifest(&dir);
    assert_eq!(manifest["plateau"], json!({ "best": 1.0, "bad_epochs": 0, "cooldown": 0, "lowered": 0 }));
    assert_eq!(manifest["recipe"]["scheduler"]["factor"], 0.5);
    assert_eq!(manifest["recipe"]["scheduler"]["monitor"], "train.loss");
    // The losses of this network are above 1: the rate falls after each epoch.
    dir.run(&["resume", "run", "--device", "flex"]).done();
    dir.run(&["export", "run", "out.pth", "--checkpoint"]).done();
    let out = dir.run(&["inspect", "out.pth", "--json"]).done().json();
    let lowered = out["optimizer"]["groups"][0]["lr"].as_f64().unwrap();
    assert!(lowered < 0.0125, "{lowered}");
    assert_eq!(out["values"]["scheduler_state_dict/mode"], "min");
    assert_eq!(out["values"]["scheduler_state_dict/factor"], 0.5);
    // A metric that should grow is not followed from where one that should fall was.
    let (_, said, _) =
        imported("plateau.pth", &[optimizer, "scheduler={ name = \"plateau\", monitor = \"valid.accuracy\" }"]);
    assert_says(
        &said,
        &["scheduler: its mode is 'min', which is not that of valid.accuracy: the metric is followed anew"],
    );
}

#[test]
fn other_optimizers_of_torch_go_on() {
    let (dir, said, _) = imported("adagrad.pth", &["optimizer={ name = \"adagrad\", lr = 0.01 }"]);
    assert_says(&said, &["optimizer_state_dict Adagrad: state of 10 parameters in 1 group"]);
    dir.run(&["resume", "run", "--device", "flex"]).done();
    dir.run(&["export", "run", "out.pth", "--checkpoint"]).done();
    let out = dir.run(&["inspect", "out.pth", "--json"]).done().json();
    assert!(out["optimizer"]["state"].as_array().unwrap().contains(&json!("fc4.bias/sum")));
}

#[test]
fn what_does_not_fit_is_refused_in_a_sentence() {
    assert_eq!(
        refused("adagrad.pth", &[]),
        "adagrad.pth: optimizer_state_dict: the checkpoint's optimizer is Adagrad, the configuration's is Adam: set the optimizer's name to \
         'adagrad'"
    );
    assert_eq!(
        refused("tutorial.pth", &["optimizer.name=adamw"]),
        "tutorial.pth: optimizer_state_dict: the checkpoint's optimizer is Adam, the configuration's is AdamW: set the optimizer's name to 'adam'"
    );
    assert_eq!(
        refused("groups.pth", &["optimizer={ name = \"sgd\" }"]),
        "groups.pth: optimizer: the checkpoint's optimizer has groups of [5, 5] parameters, the configuration gives [10]: give the \
         configuration the same 'groups', in the same order"
    );
    assert_eq!(
        refused("two_optimizers.pth", &["optimizer={ name = \"sgd\" }"]),
        "two_optimizers.pth: it has the states of 2 optimizers (optimizer_g, optimizer_d), a run has one: start from the weights alone with \
         `rekindle train RECIPE --init FILE`"
    );
    assert_eq!(
        refused("tutorial.pth", &["model.hidden=[6, 5, 5, 3]"]),
        "tutorial.pth: its weights are not those of the recipe's model, 'fashion_classifier': correct [model]"
    );
    let error = refused("nowhere.pth", &[]);
    assert!(error.starts_with("nowhere.pth: cannot open it: no such file"), "{error}");
}

#[test]
fn a_run_that_is_there_is_not_written_over() {
    let (dir, ..) = imported("tutorial.pth", &[]);
    let before = dir.weights("run");
    let again = import(&dir, "groups.pth", &SGD);
    assert_eq!(again.code, 2);
    assert!(again.error().starts_with("run: a run is here already"), "{}", again.stderr);
    assert_eq!(dir.weights("run"), before);
}

#[test]
fn our_own_export_comes_back_to_the_bit() {
    let schedule =
        ["--set", "scheduler={ name = \"cosine\", per = \"step\", warmup = 4 }", "--set", "optimizer.amsgrad=true"];
    let dir = Dir::with(RECIPE);
    dir.train("whole", &schedule);
    dir.train(
        "part",
        &[&schedule[..], &["--set", "checkpoint.every_steps=5", "--set", "checkpoint.keep_last=9"]].concat(),
    );
    // In the middle of the second epoch.
    dir.run(&["export", "part", "part.pth", "--checkpoint", "--from", "5"]).done();
    let arguments = [&["import", "part.pth", "--recipe", "r.toml", "--run", "again"][..], &schedule].concat();
    let said = dir.run(&arguments).done().stdout;
    assert_says(
        &said,
        &[
            "1 epoch is done and 2 batches of the next: 'epoch' and 'batch' count them",
            "scheduler_state_dict SequentialLR after 5 steps",
            "again: epoch 1 of 4, step 5",
        ],
    );
    dir.run(&["resume", "again", "--device", "flex"]).done();
    assert_eq!(dir.weights("again"), dir.weights("whole"));
    assert_eq!(dir.optimizer("again"), dir.optimizer("whole"));
}

#[test]
fn a_changed_run_goes_on_and_says_so() {
    let dir = Dir::with(RECIPE);
    dir.train("run", &["--epochs", "1"]);
    let changes = ["--device", "ndarray", "--epochs", "2", "--set", "data.batch_size=6", "--set", "optimizer.lr=1e-3"];
    let resumed = dir.run(&[&["resume", "run"][..], &changes].concat()).done();
    assert_says(
        &resumed.stderr,
        &[
            "data.batch_size was 4, now it is 6; optimizer.lr was 0.002, now it is 0.001; train.epochs was 1, now it is 2; the run was trained on flex, it goes on on ndarray; \
           so this is no longer, to the bit, the run that was never interrupted: data.batch_size, optimizer.lr, the device makes a difference",
        ],
    );
    // What has changed is the run's own from then on, and more epochs are no change of those before.
    let more = dir.run(&["resume", "run", "--device", "ndarray", "--epochs", "3"]).done();
    assert_says(&more.stderr, &["train.epochs was 2, now it is 3", "epoch 3/3"]);
    assert!(!more.stderr.contains("no longer"), "{}", more.stderr);

    for (setting, problem) in [
        ("model.hidden=[7, 5, 5, 4]", "model.hidden cannot change within a run: it is [6,5,5,4], not [7,5,5,4]; "),
        ("optimizer.name=adamw", "optimizer.name cannot change within a run: it is \"adam\", not \"adamw\"; "),
    ] {
        let answer = dir.run(&["resume", "run", "--set", setting]);
        assert_eq!(answer.code, 2);
        assert!(answer.error().contains(problem), "{}", answer.stderr);
    }
    let unknown = dir.run(&["resume", "run", "--set", "optimizer.lrr=1"]);
    assert!(
        unknown.error().starts_with("--set optimizer.lrr=1: unknown key 'lrr', did you mean 'lr'?"),
        "{}",
        unknown.stderr
    );
}
