//! Training through the real program: what it writes, what it prints, and that a resumed run is the run that was not interrupted.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use image::{GrayImage, Luma, Rgb, RgbImage};
use serde_json::Value;

use crate::support::program::{Answer, Dir};

#[test]
fn training_ends_with_a_best_checkpoint_and_what_to_type_next() {
    let dir = Dir::new();
    let answer = dir.run(&["train", "r.toml", "--device", "flex"]).done();
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert!(lines[0].starts_with("best checkpoint: checkpoints/small/step-000000"), "{}", lines[0]);
    assert!(lines[0].contains("valid.accuracy 0."), "{}", lines[0]);
    assert_eq!(
        lines[1..],
        [
            "next:",
            "  rekindle report checkpoints/small --open",
            "  rekindle eval checkpoints/small",
            "  rekindle predict checkpoints/small IMAGE.png",
            "  rekindle runs"
        ]
    );
    assert!(answer.stderr.contains("device flex (CPU, burn-flex)\nepoch 1/3  train loss "), "{}", answer.stderr);
    assert!(!answer.stderr.contains('\u{1b}'), "colours or bars without a terminal: {}", answer.stderr);

    let found = dir.run(&["eval", "checkpoints/small", "--device", "flex", "--json"]).done().json();
    let best = dir.run(&["runs", "--json"]).done().json()[0]["metrics"].clone();
    assert_eq!(found["items"], 100);
    assert!(found["loss"].as_f64().unwrap() < 2.2, "{found}");
    // The network is better than guessing, and eval finds what training found.
    assert!(found["accuracy"].as_f64().unwrap() > 0.2, "{found}");
    assert_eq!(found["accuracy"], best["valid.accuracy"]);

    let runs = dir.run(&["runs", "--verify"]).done().stdout;
    assert!(runs.contains("checkpoints/small"), "{runs}");
    assert!(runs.ends_with("every checkpoint is what its manifest says\n"), "{runs}");
    // A second run of the name gets a number.
    dir.run(&["train", "r.toml", "--device", "flex", "--epochs", "1"]).done();
    assert!(dir.path("checkpoints/small-2/recipe.toml").is_file());
}

#[cfg(unix)]
#[test]
fn an_interrupted_and_resumed_run_is_the_run_that_was_not() {
    let dir = Dir::new();
    let recipe =
        ["--set", "data.limit.train=2000", "--set", "data.batch_size=4", "--set", "checkpoint.every_steps=100"];
    dir.train("whole", &recipe);

    let arguments = [&["train", "r.toml", "--device", "flex", "--run", "broken"][..], &recipe].concat();
    let child = dir.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // In the middle of the first epoch, which has 500 steps.
    let started = Instant::now();
    while !dir.path("broken/step-00000100").is_dir() {
        assert!(started.elapsed() < Duration::from_secs(120), "no checkpoint was written");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let answer = Answer::from(child.wait_with_output().unwrap());
    assert_eq!(answer.code, 130, "{}{}", answer.stdout, answer.stderr);
    assert!(
        answer.stderr.ends_with("interrupted; everything is saved. Go on with:\n  rekindle resume broken\n"),
        "{}",
        answer.stderr
    );
    assert_ne!(dir.weights("broken"), dir.weights("whole"));

    dir.run(&["resume", "broken", "--device", "flex"]).done();
    assert_eq!(dir.weights("broken"), dir.weights("whole"));
    assert_eq!(dir.optimizer("broken"), dir.optimizer("whole"));
    let told = |run: &str| -> Vec<(Value, Value)> {
        dir.metrics(run).iter().map(|line| (line["train.loss"].clone(), line["valid.accuracy"].clone())).collect()
    };
    assert_eq!(told("broken"), told("whole"));
    assert_eq!(told("whole").len(), 3);
}

#[test]
fn more_epochs_go_on_where_the_run_ended() {
    let dir = Dir::new();
    dir.train("whole", &[]);
    dir.train("parts", &["--epochs", "1"]);
    dir.run(&["resume", "parts", "--epochs", "3", "--device", "flex"]).done();
    assert_eq!(dir.weights("parts"), dir.weights("whole"));
    // From an earlier step, the same weights come out again.
    let step = fs::read_to_string(dir.path("whole/last")).unwrap();
    assert_eq!(step, "step-00000045\n");
    dir.run(&["resume", "parts", "--from", "30", "--epochs", "3", "--device", "flex"]).done();
    assert_eq!(dir.weights("parts"), dir.weights("whole"));
    let missing = dir.run(&["resume", "parts", "--from", "7"]);
    assert_eq!(missing.code, 2);
    assert!(missing.error().starts_with("parts: there is no checkpoint of step 7, only of "), "{}", missing.stderr);
}

#[test]
fn the_same_seed_gives_the_same_weights() {
    let dir = Dir::new();
    for device in ["flex", "ndarray"] {
        for run in ["a", "b"] {
            let run = format!("{device}-{run}");
            dir.run(&["train", "r.toml", "--device", device, "--run", &run]).done();
        }
        assert_eq!(dir.weights(&format!("{device}-a")), dir.weights(&format!("{device}-b")), "{device}");
    }
    dir.train("other", &["--seed", "7"]);
    assert_ne!(dir.weights("other"), dir.weights("flex-a"));
    // Threads that read ahead change nothing.
    dir.train("alone", &["--set", "data.workers=0"]);
    assert_eq!(dir.weights("alone"), dir.weights("flex-a"));
}

#[test]
fn early_stopping_stops() {
    let dir = Dir::new();
    let more = ["--epochs", "50", "--set", "optimizer.lr=0", "--set", "train.early_stopping={ patience = 2 }"];
    let answer = dir.train("stopped", &more);
    assert!(answer.stderr.contains("stopped early: the metric did not improve any more\n"), "{}", answer.stderr);
    // The first epoch is the best; two more do not improve on it.
    assert_eq!(dir.metrics("stopped").len(), 3);
    assert_eq!(fs::read_to_string(dir.path("stopped/best")).unwrap(), "step-00000015\n");
}

#[test]
fn a_run_that_is_there_is_not_written_over() {
    let dir = Dir::new();
    dir.train("run", &["--epochs", "1"]);
    let before = dir.weights("run");
    let answer = dir.run(&["train", "r.toml", "--device", "flex", "--run", "run"]);
    assert_eq!(answer.code, 2);
    assert_eq!(
        answer.error(),
        "run: a run is here already: continue it with `rekindle resume run`, or give another folder with --run"
    );
    assert_eq!(dir.weights("run"), before);
}

#[test]
fn what_cannot_be_trained_is_refused_in_a_sentence() {
    let dir = Dir::new();
    // A device is refused while the command line is read; clap adds the flag and its usage.
    let unknown = dir.run(&["train", "r.toml", "--device", "flix"]);
    assert_eq!(unknown.code, 2);
    assert_eq!(
        unknown.error(),
        "invalid value 'flix' for '--device <DEVICE>': unknown device 'flix': expected auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], \
         ndarray or flex, did you mean 'flex'?"
    );
    let number = dir.run(&["train", "r.toml", "--device", "flex:1"]);
    assert_eq!(
        number.error(),
        "invalid value 'flex:1' for '--device <DEVICE>': device 'flex:1': flex is a single device and takes no number: write --device flex"
    );
    if cfg!(feature = "wgpu") {
        let error = dir.refused(&["--device", "wgpu:99"]);
        assert!(error.starts_with("device 'wgpu:99': "), "{error}");
        assert!(error.ends_with("; `rekindle devices` lists what is here, and --device flex always works"), "{error}");
    }
    if cfg!(not(feature = "cuda")) {
        assert_eq!(
            dir.refused(&["--device", "cuda"]),
            "device 'cuda' is not in this build: install with `--features cuda`, or use --device flex"
        );
    }
    let flex = ["--device", "flex", "--set"];
    let refused = |setting: &str| dir.refused(&[&flex[..], &[setting]].concat());
    assert_eq!(refused("model.classes=4"), "r.toml: the data has 10 classes, the model only 4: set model.classes");
    assert_eq!(refused("train.loss=mse"), "r.toml: train.loss = \"mse\" does not fit a model that gives classes");
    assert_eq!(
        refused("train.freeze=[\"^head\"]"),
        "r.toml: train.freeze: '^head' matches no parameter: the model's are fc.weight, fc.bias, fc1.weight, fc1.bias, …"
    );
    assert_eq!(
        refused("train.freeze=[\".\"]"),
        "r.toml: train.freeze: every parameter of the model is frozen, nothing is left to train"
    );
    assert_eq!(
        refused("optimizer.groups=[{ match = \"^x\", lr = 1.0 }]"),
        "optimizer group '^x' matches no parameter: the model's are fc.weight, fc.bias, fc1.weight, fc1.bias, …"
    );
    assert_eq!(refused("train.epochs=0"), "--set train.epochs=0: train.epochs: must be at least 1, found 0");
    assert_eq!(
        refused("data={ name = \"mnist\", dir = \"nowhere\" }"),
        "nowhere: there is no such file or folder; run `rekindle datasets fetch mnist` and leave out data.dir, or correct data.dir"
    );
    let error = refused("train.init={ weights = \"nowhere.pth\" }");
    assert!(error.starts_with("nowhere.pth: cannot open it: no such file"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let dir = Dir::new();
    fs::write(dir.path("file"), "in the way").unwrap();
    let answer = dir.run(&["train", "r.toml", "--device", "flex", "--run", "file/run"]);
    assert_eq!(answer.code, 2);
    assert!(answer.error().starts_with("file/run: cannot create the run's folder: "), "{}", answer.stderr);

    let locked = dir.path("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(locked.join("probe"), "").is_ok() {
        eprintln!("skipped the rest: this user may write anywhere");
        return;
    }
    let answer = dir.run(&["train", "r.toml", "--device", "flex", "--run", "locked/run"]);
    assert_eq!(answer.code, 2);
    assert!(answer.error().starts_with("locked/run: cannot create the run's folder: "), "{}", answer.stderr);
}

#[test]
fn a_new_head_goes_on_frozen_weights() {
    let dir = Dir::new();
    dir.train("first", &["--epochs", "1"]);
    let step = fs::read_to_string(dir.path("first/last")).unwrap();
    let weights = format!("first/{}/model.bpk", step.trim());
    let head = ["--set", "model.classes=12", "--set", "train.freeze=[\"^fc\\\\.\", \"^fc[123]\"]", "--init", &weights];

    let whole = dir.run(&[&["train", "r.toml", "--device", "flex", "--run", "second"][..], &head].concat());
    assert_eq!(whole.code, 2);
    assert_eq!(whole.error(), "the weights do not fit the model; --partial loads what fits");
    assert!(whole.stderr.contains("fc4.weight: the model has [12, 16], the file [10, 16]"), "{}", whole.stderr);

    // A run stands for the weights of its best checkpoint.
    let answer = dir.train("second", &[&head[..4], &["--init", "first", "--partial"]].concat());
    assert!(answer.stderr.contains("8 of 10 parameters matched"), "{}", answer.stderr);
    let (first, second) = (dir.weights("first"), dir.weights("second"));
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    for (name, bytes) in &first {
        let is_head = name.contains("fc4");
        assert_eq!(second[name] != *bytes, is_head, "{name}");
    }
    assert!(second.iter().any(|(name, bytes)| name.contains("fc4") && bytes.len() == 12 * 16 * 4));
}

#[test]
fn parameter_groups_move_at_their_own_rate() {
    let dir = Dir::new();
    dir.train("start", &["--set", "optimizer.lr=0"]);
    dir.train(
        "groups",
        &["--set", "optimizer.groups=[{ match = \"^fc4\", lr = 0.0 }, { match = \"bias$\", lr = 1e-4 }]"],
    );
    let (start, groups) = (dir.weights("start"), dir.weights("groups"));
    for (name, bytes) in &start {
        assert_eq!(groups[name] == *bytes, name.contains("fc4"), "{name}");
    }
    dir.train("plain", &[]);
    assert_ne!(dir.weights("plain"), groups);
}

#[test]
fn predict_prints_labels_of_an_image() {
    let dir = Dir::new();
    dir.train("run", &["--epochs", "1"]);
    let picture = GrayImage::from_fn(28, 28, |x, y| Luma([if (8..20).contains(&x) && y > 4 { 200 } else { 0 }]));
    picture.save(dir.path("shirt.png")).unwrap();
    let answer = dir.run(&["predict", "run", "shirt.png", "--top", "3", "--device", "flex"]).done();
    let lines: Vec<&str> = answer.stdout.lines().collect();
    assert_eq!(lines.len(), 4, "{}", answer.stdout);
    assert_eq!(lines[0], "shirt.png");
    assert!(lines[1..].iter().all(|line| line.contains(" %  ")), "{}", answer.stdout);

    let all = dir.run(&["predict", "run", "shirt.png", "--top", "10", "--device", "flex", "--json"]).done().json();
    let labels = all[0]["labels"].as_array().unwrap();
    let sum: f64 = labels.iter().map(|label| label["probability"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-4, "{sum}");
    assert!(labels.iter().any(|label| label["label"] == "Ankle boot"), "{all}");
    assert!(labels.windows(2).all(|pair| pair[0]["probability"].as_f64() >= pair[1]["probability"].as_f64()), "{all}");

    fs::write(dir.path("not.png"), "text").unwrap();
    let answer = dir.run(&["predict", "run", "not.png", "--device", "flex"]);
    assert_eq!(answer.code, 2);
    assert!(answer.error().starts_with("not.png: "), "{}", answer.stderr);
}

#[test]
fn super_resolution_trains_on_a_folder_and_enlarges() {
    let dir = Dir::with(
        r#"name = "sr"
model = { name = "super_resolution", upscale_factor = 3, channels = [8, 8, 4] }
[data]
name = "super-resolution"
source = "folder"
dir = "pictures"
crop = 24
batch_size = 4
[optimizer]
name = "adam"
[train]
epochs = 2
[checkpoint]
monitor = "valid.psnr"
"#,
    );
    for (split, count) in [("train", 12), ("test", 4)] {
        let folder = dir.path("pictures").join(split).join("all");
        fs::create_dir_all(&folder).unwrap();
        for i in 0..count {
            let picture = RgbImage::from_fn(30, 26, |x, y| Rgb([(x * 8) as u8, (y * 9) as u8, (x * y + i * 10) as u8]));
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
    let answer = dir.train("run", &[]);
    assert!(answer.stdout.contains("valid.psnr "), "{}", answer.stdout);
    let found = dir.run(&["eval", "run", "--device", "flex", "--json"]).done().json();
    assert!(found["psnr"].as_f64().is_some() && found.get("accuracy").is_none_or(Value::is_null), "{found}");

    let picture = RgbImage::from_fn(10, 7, |x, y| Rgb([(x * 20) as u8, (y * 30) as u8, 90]));
    picture.save(dir.path("small.png")).unwrap();
    let answer = dir.run(&["predict", "run", "small.png", "--output", "large", "--device", "flex"]).done();
    assert_eq!(answer.stdout, format!("small.png -> {}\n", Path::new("large").join("small-x3.png").display()));
    let large = image::open(dir.path("large/small-x3.png")).unwrap();
    assert_eq!((large.width(), large.height()), (30, 21));
}

#[test]
fn schedules_set_the_learning_rate() {
    let dir = Dir::new();
    let rates = |name: &str, scheduler: &str| {
        dir.train(
            name,
            &["--epochs", "4", "--set", "optimizer.lr=0.1", "--set", "optimizer.name=sgd", "--set", scheduler],
        );
        dir.rates(name)
    };
    #[track_caller]
    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "found {found}, expected {expected}");
        }
    }
    close(&rates("constant", "scheduler={ name = \"constant\" }"), &[0.1, 0.1, 0.1, 0.1]);
    close(&rates("step", "scheduler={ name = \"step\", step_size = 2 }"), &[0.1, 0.1, 0.01, 0.01]);
    close(&rates("exponential", "scheduler={ name = \"exponential\", gamma = 0.5 }"), &[0.1, 0.05, 0.025, 0.0125]);
    let half = 0.05 * (1.0 + std::f64::consts::FRAC_PI_4.cos());
    close(&rates("cosine", "scheduler={ name = \"cosine\" }"), &[0.1, half, 0.05, 0.1 - half]);
    let linear = "scheduler={ name = \"linear\", start_factor = 0.5, total_iters = 2 }";
    close(&rates("linear", linear), &[0.05, 0.075, 0.1, 0.1]);
    // Two warm-up steps of a batch each, then the curve; the last batch of an epoch is past them.
    let warmup = "scheduler={ name = \"constant\", per = \"step\", warmup = 2, warmup_start_factor = 0.1 }";
    close(&rates("warmup", warmup), &[0.1, 0.1, 0.1, 0.1]);
    let warmup = "scheduler={ name = \"constant\", warmup = 2, warmup_start_factor = 0.5 }";
    close(&rates("warmup-epochs", warmup), &[0.05, 0.075, 0.1, 0.1]);
    // No epoch after the first is nine tenths better than the best before.
    let plateau = "scheduler={ name = \"plateau\", patience = 0, threshold = 0.9, factor = 0.5 }";
    close(&rates("plateau", plateau), &[0.1, 0.1, 0.05, 0.025]);
}

/// The records of an event file: what their lengths say, the checksums left out.
fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut at, mut all) = (0, Vec::new());
    while at < bytes.len() {
        let length = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
        all.push(bytes[at + 12..at + 12 + length].to_vec());
        at += 16 + length;
    }
    all
}

#[test]
fn event_files_for_tensorboard_are_written_when_the_recipe_says_so() {
    let dir = Dir::new();
    dir.train("plain", &["--epochs", "1"]);
    dir.train("run", &["--epochs", "2", "--set", "train.tensorboard=true"]);
    dir.run(&["resume", "run", "--epochs", "3", "--device", "flex"]).done();
    let events = |run: &str| {
        let names = fs::read_dir(dir.path(run)).unwrap().map(|entry| entry.unwrap().path());
        let is_events = |path: &PathBuf| path.to_str().unwrap().contains("events.out.tfevents.");
        let mut files: Vec<PathBuf> = names.filter(is_events).collect();
        files.sort();
        files.into_iter().map(|path| records(&fs::read(path).unwrap())).collect::<Vec<_>>()
    };
    assert!(events("plain").is_empty());
    let files = events("run");
    // The version and two epochs; the version, that it goes on, and one epoch.
    assert_eq!(files.iter().map(Vec::len).collect::<Vec<_>>(), [3, 3]);
    let has = |record: &[u8], text: &str| record.windows(text.len()).any(|part| part == text.as_bytes());
    for record in [&files[0][1], &files[0][2], &files[1][2]] {
        assert!(["train/loss", "valid/accuracy", "lr"].iter().all(|tag| has(record, tag)));
    }
    assert!(has(&files[0][0], "brain.Event:2"));
}
