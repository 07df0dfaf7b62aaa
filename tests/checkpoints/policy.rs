//! When checkpoints are made, and which are kept.

use std::fs;

use super::support::{TINY, problems, steps};
use crate::support::program::Dir;

/// Steps that are left of a training of four epochs with a section `[checkpoint]`.
#[track_caller]
fn left(dir: &Dir, run: &str, section: &[&str]) -> Vec<u64> {
    let settings: Vec<String> = section.iter().map(|setting| format!("checkpoint.{setting}")).collect();
    let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting.as_str()]).collect();
    dir.train(run, &[&["--epochs", "4"][..], &flags].concat());
    assert_eq!(problems(&dir.path(run)), [""; 0]);
    steps(dir, run)
}

#[test]
fn checkpoints_are_made_and_kept_by_epochs_steps_and_minutes() {
    // A loss that falls in every epoch: the newest is the best.
    let dir = Dir::with(TINY);
    let falls = "monitor=train.loss";
    assert_eq!(left(&dir, "default", &[falls]), [150, 200]);
    assert_eq!(left(&dir, "one", &[falls, "keep_last=1"]), [200]);
    assert_eq!(left(&dir, "top", &[falls, "keep_last=1", "top_k=3"]), [100, 150, 200]);
    assert_eq!(left(&dir, "all", &[falls, "keep_all=true"]), [50, 100, 150, 200]);
    assert_eq!(left(&dir, "steps", &[falls, "every_steps=30", "keep_last=4", "top_k=0"]), [120, 150, 180, 200]);
    // The worst counts as the best: the first epoch stays.
    assert_eq!(left(&dir, "max", &[falls, "mode=max", "keep_last=1"]), [50, 200]);
    assert_eq!(fs::read_to_string(dir.path("max/best")).unwrap(), "step-00000050\n");
    // Other epochs than the second are made only where they are the best, and the last is made in any case.
    assert_eq!(left(&dir, "second", &[falls, "mode=max", "every_epochs=2", "keep_all=true"]), [50, 100, 200]);
    assert_eq!(left(&dir, "never", &[falls, "mode=max", "every_epochs=0", "keep_all=true"]), [50, 200]);
    // A time so short that it is over at each step.
    let minutes = left(&dir, "minutes", &["every_minutes=1e-9", "keep_all=true"]);
    assert_eq!(minutes, (1..=200).collect::<Vec<u64>>());
}

#[test]
fn a_limit_on_size_keeps_the_newest_and_the_best() {
    let dir = Dir::with(TINY);
    left(&dir, "all", &["monitor=train.loss", "mode=max", "keep_all=true"]);
    let size = |step: u64| -> u64 {
        let files = fs::read_dir(dir.path("all").join(format!("step-{step:08}"))).unwrap();
        files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
    };
    // Three fit, and a little more.
    let limit = format!("max_total_size={}", size(50) + size(100) + size(150) + 2000);
    assert_eq!(left(&dir, "three", &["monitor=train.loss", "mode=max", "keep_all=true", &limit]), [50, 150, 200]);
    // Not even one fits: the best and the newest stay, and that is said.
    let settings = [
        "--set",
        "checkpoint.max_total_size=\"1 kB\"",
        "--set",
        "checkpoint.monitor=train.loss",
        "--set",
        "checkpoint.mode=max",
    ];
    let answer = dir.train("small", &settings);
    assert_eq!(steps(&dir, "small"), [50, 150]);
    let told = answer.stderr.lines().filter(|line| line.starts_with("small: checkpoints take ")).count();
    assert_eq!(told, 1, "{}", answer.stderr);
    assert!(fs::read_to_string(dir.path("small/recipe.toml")).unwrap().contains("max_total_size = \"1kB\""));
}

#[test]
fn weights_alone_predict_and_do_not_go_on() {
    let dir = Dir::with(TINY);
    assert_eq!(left(&dir, "run", &["weights_only=true", "monitor=train.loss"]), [150, 200]);
    dir.train("full", &["--epochs", "4", "--set", "checkpoint.monitor=train.loss"]);
    assert_eq!(dir.weights("run"), dir.weights("full"));
    let names = fs::read_dir(dir.path("run/step-00000200"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    assert_eq!(names, ["manifest.json", "model.bpk"]);
    dir.run(&["eval", "run", "--device", "flex"]).done();
    dir.run(&["export", "run", "weights.pth"]).done();
    assert!(
        dir.run(&["runs", "run", "--verify"]).done().stdout.ends_with("every checkpoint is what its manifest says\n")
    );
    for from in ["last", "best", "150"] {
        let error = dir.run(&["resume", "run", "--from", from, "--epochs", "9"]).error();
        let step = if from == "150" { 150 } else { 200 };
        assert!(
            error.contains(&format!(
                "run/step-00000{step}: this checkpoint holds weights only (checkpoint.weights_only)"
            )),
            "{error}"
        );
        assert!(error.contains(&format!("--init run/step-00000{step}/model.bpk`")), "{error}");
    }
    let error = dir.run(&["export", "run", "out.pth", "--checkpoint"]).error();
    assert!(error.contains("this checkpoint holds weights only"), "{error}");
    // The command that is told instead works.
    dir.train("new", &["--epochs", "1", "--init", "run/step-00000200/model.bpk"]);
}

#[test]
fn what_is_no_number_is_never_the_best() {
    let dir = Dir::with(TINY);
    dir.train("run", &["--set", "optimizer.lr=1e30"]);
    assert!(!dir.path("run/best").exists());
    assert_eq!(steps(&dir, "run"), [100, 150]);
    assert_eq!(problems(&dir.path("run")), [""; 0]);
    dir.run(&["resume", "run", "--epochs", "4", "--device", "flex"]).done();
}

#[test]
fn metrics_tell_what_saving_cost() {
    let dir = Dir::with(TINY);
    left(&dir, "run", &["every_epochs=2", "every_steps=60", "monitor=train.loss", "mode=max"]);
    let lines = dir.metrics("run");
    let told = |key: &str| -> Vec<bool> { lines.iter().map(|line| line[key].is_f64()).collect() };
    // The first epoch is the best, the third neither best nor due; but steps 60, 120 and 180 were saved in the second to fourth.
    assert_eq!(told("save_seconds"), [true, true, true, true]);
    assert_eq!(told("save_stall_seconds"), [true, true, true, true]);
    for line in &lines {
        let (stall, saving) = (line["save_stall_seconds"].as_f64().unwrap(), line["save_seconds"].as_f64().unwrap());
        assert!(stall >= 0.0 && saving > 0.0 && saving < 60.0, "{line}");
    }
    left(&dir, "none", &["every_epochs=0", "monitor=train.loss", "mode=max"]);
    let lines = dir.metrics("none");
    assert!(lines[1]["save_seconds"].is_null() && lines[1]["save_stall_seconds"].is_null(), "{}", lines[1]);
    assert!(lines[3]["save_seconds"].is_f64());
}
