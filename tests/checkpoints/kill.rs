//! The program is killed at random moments while it saves every few steps, and each time the run goes on from a whole checkpoint.
//!
//! `REKINDLE_KILLS=200 cargo test --release --test main kill -- --nocapture` does it 200 times.

use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rekindle::checkpoint::{Run, RunWriter, Which};

use super::support::{Numbers, TINY, problems, steps, strays, wait_for};
use crate::support::program::{Answer, Dir};

fn kills() -> u64 {
    std::env::var("REKINDLE_KILLS").ok().map_or(20, |kills| kills.parse().expect("REKINDLE_KILLS is a number"))
}

/// Starts the program on the run, new or not.
fn start(dir: &Dir) -> Child {
    let train = ["train", "r.toml", "--device", "flex", "--run", "run"];
    let resume = ["resume", "run", "--device", "flex"];
    let arguments: &[&str] = if dir.path("run/recipe.toml").exists() { &resume } else { &train };
    dir.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The step of the newest checkpoint.
fn newest(dir: &Dir) -> Option<u64> {
    Some(Run::open(&dir.path("run")).ok()?.find(Which::Last).ok()?.step)
}

#[cfg(unix)]
#[test]
fn a_killed_run_goes_on_from_a_whole_checkpoint() {
    let kills = kills();
    // No end of epochs, so that every kill hits a training.
    let dir = Dir::with(&format!(
        "{}\n[checkpoint]\nevery_steps = 2\nkeep_last = 3\n",
        TINY.replace("epochs = 3", "epochs = 100000")
    ));
    let run = dir.path("run");
    let (mut numbers, mut left, mut replaced, mut last) = (Numbers(7), 0, 0, 0);
    let started = Instant::now();
    for kill in 0..kills {
        let mut child = start(&dir);
        // Half of the kills at any moment, the other half just after a checkpoint has appeared, when the next is on its way.
        if kill % 2 == 0 {
            std::thread::sleep(Duration::from_millis(numbers.below(700)));
        } else {
            wait_for("a checkpoint", || newest(&dir).is_some_and(|step| step > last));
            std::thread::sleep(Duration::from_micros(numbers.below(20_000)));
        }
        child.kill().unwrap();
        let answer = Answer::from(child.wait_with_output().unwrap());
        assert_eq!(
            (answer.code, answer.stderr.contains("error:")),
            (-1, false),
            "kill {kill}: it had ended: {}",
            answer.stderr
        );
        if !run.join("recipe.toml").exists() {
            continue;
        }
        assert_eq!(problems(&run), [""; 0], "kill {kill}");
        let step = newest(&dir).unwrap_or(0);
        assert!(step >= last, "kill {kill}: the checkpoint of step {last} is lost, the newest is of {step}");
        let stray = strays(&run);
        left += usize::from(!stray.is_empty());
        replaced += usize::from(stray.iter().any(|name| name.starts_with(".replaced")));
        // What is open is locked; what was killed is not, and opening it again clears away what is not whole.
        let before = steps(&dir, "run");
        drop(RunWriter::open(&run).unwrap());
        assert_eq!(strays(&run), [""; 0], "kill {kill}");
        assert_eq!(steps(&dir, "run"), before, "kill {kill}: opening it changed its checkpoints");
        assert!(step < 8 || before.len() >= 3, "kill {kill}: only {before:?} are left");
        last = step;
    }
    assert!(last > 0, "no checkpoint was made");
    // A kill now and then hit a save, or this shows nothing.
    assert!(left > 0, "{kills} kills left nothing unfinished");
    eprintln!(
        "{kills} kills in {:?} to step {last}; {left} left something unfinished ({replaced} a replaced checkpoint)",
        started.elapsed()
    );

    // Killed so often, the run ends with the bits of one that never was.
    let epochs = (last / 50 + 1).to_string();
    dir.run(&["resume", "run", "--device", "flex", "--epochs", &epochs]).done();
    dir.run(&[
        "train",
        "r.toml",
        "--device",
        "flex",
        "--run",
        "whole",
        "--epochs",
        &epochs,
        "--set",
        "checkpoint.every_steps=1000000",
    ])
    .done();
    assert_eq!(dir.weights("run"), dir.weights("whole"));
    assert_eq!(dir.optimizer("run"), dir.optimizer("whole"));
    let told = |run: &str| -> Vec<_> {
        dir.metrics(run).iter().map(|line| (line["step"].clone(), line["train.loss"].clone())).collect()
    };
    assert_eq!(told("run"), told("whole"));
    assert_eq!(strays(&run), [""; 0]);
    assert!(
        dir.run(&["runs", "run", "--verify"]).done().stdout.ends_with("every checkpoint is what its manifest says\n")
    );
}

#[test]
fn a_replaced_checkpoint_is_there_at_every_moment() {
    let dir = Dir::with(TINY);
    dir.train("run", &["--epochs", "1"]);
    let (run, published) = (dir.path("run"), dir.path("run/step-00000050"));
    let aside = dir.path("run/.replaced-step-00000050");
    // The program died between moving the old one aside and moving the new one in.
    fs::rename(&published, &aside).unwrap();
    fs::create_dir(dir.path("run/.unfinished-step-00000050")).unwrap();
    // Who only reads finds it where it is.
    assert_eq!(problems(&run), [""; 0]);
    dir.run(&["eval", "run", "--device", "flex"]).done();
    assert!(aside.exists());
    drop(RunWriter::open(&run).unwrap());
    assert_eq!(strays(&run), [""; 0]);
    assert!(published.join("manifest.json").is_file());

    // It died after that: the new one counts, and the old one goes.
    super::support::copy(&published, &aside);
    fs::write(aside.join("model.bpk"), "old").unwrap();
    drop(RunWriter::open(&run).unwrap());
    assert_eq!(strays(&run), [""; 0]);
    assert_eq!(problems(&run), [""; 0]);
}

#[test]
fn a_run_that_died_before_its_first_checkpoint_starts_again() {
    let dir = Dir::with(TINY);
    dir.train("whole", &["--epochs", "1"]);
    fs::create_dir(dir.path("run")).unwrap();
    fs::copy(dir.path("whole/recipe.toml"), dir.path("run/recipe.toml")).unwrap();
    let answer = dir.run(&["resume", "run", "--device", "flex", "--epochs", "1"]).done();
    assert!(
        answer.stderr.contains("\nrun: there is no checkpoint yet: starting from the run's recipe\n"),
        "{}",
        answer.stderr
    );
    assert_eq!(dir.weights("run"), dir.weights("whole"));
}

#[test]
fn the_newest_checkpoint_counts_where_a_pointer_lags_behind() {
    let dir = Dir::with(TINY);
    dir.train("run", &["--set", "checkpoint.keep_last=3"]);
    // The program died after it had published a checkpoint and before it had said so.
    fs::write(dir.path("run/last"), "step-00000050\n").unwrap();
    let found = Run::open(&dir.path("run")).unwrap();
    assert_eq!(found.find(Which::Last).unwrap().step, 150);
    // After going back, the newest is the one that was saved last, and not the one of the highest step.
    dir.run(&["resume", "run", "--from", "50", "--epochs", "2", "--device", "flex"]).done();
    assert_eq!(steps(&dir, "run"), [50, 100, 150]);
    assert_eq!(found.find(Which::Last).unwrap().step, 100);
    assert_eq!(dir.metrics("run").iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [50, 100]);
}

#[test]
fn the_best_pointer_follows_where_it_lags_behind() {
    let dir = Dir::with(TINY);
    // A loss that falls in each epoch, and the highest counts: the first epoch stays the best.
    dir.train(
        "run",
        &["--set", "checkpoint.monitor=train.loss", "--set", "checkpoint.mode=max", "--set", "checkpoint.keep_last=1"],
    );
    assert_eq!(steps(&dir, "run"), [50, 150]);
    // The next save removes step 150; a pointer that still names it must not stay behind.
    fs::write(dir.path("run/best"), "step-00000150\n").unwrap();
    dir.run(&["resume", "run", "--epochs", "4", "--device", "flex"]).done();
    assert_eq!(steps(&dir, "run"), [50, 200]);
    assert_eq!(fs::read_to_string(dir.path("run/best")).unwrap(), "step-00000050\n");
    assert_eq!(problems(&dir.path("run")), [""; 0]);
}
