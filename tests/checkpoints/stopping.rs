//! Signals and errors in the middle of a training, and a second process on one run.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use image::{GrayImage, Luma};
use rekindle::checkpoint::{Run, Which};

use super::support::{TINY, problems, steps, wait_for};
use crate::support::program::{Answer, Dir};

fn spawn(dir: &Dir, arguments: &[&str]) -> Child {
    dir.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn signal(child: &Child, name: &str) {
    assert!(Command::new("kill").args([name, &child.id().to_string()]).status().unwrap().success());
}

/// A training that does not end by itself.
fn endless() -> Dir {
    Dir::with(&TINY.replace("epochs = 3", "epochs = 100000"))
}

#[cfg(unix)]
#[test]
fn a_signal_finishes_the_step_and_saves() {
    for name in ["-INT", "-TERM"] {
        let dir = endless();
        let child = spawn(
            &dir,
            &["train", "r.toml", "--device", "flex", "--run", "run", "--set", "checkpoint.weights_only=true"],
        );
        wait_for("a checkpoint", || dir.path("run/last").is_file());
        assert!(!dir.path("run/step-00000050/optimizer.bpk").exists());
        signal(&child, name);
        let answer = Answer::from(child.wait_with_output().unwrap());
        assert_eq!(answer.code, 130, "{}", answer.stderr);
        assert!(
            answer.stderr.ends_with("interrupted; everything is saved. Go on with:\n  rekindle resume run\n"),
            "{}",
            answer.stderr
        );
        // What is said holds even where the recipe asks for weights alone.
        let last = Run::open(&dir.path("run")).unwrap().find(Which::Last).unwrap();
        assert!(last.path.join("optimizer.bpk").is_file());
        let epoch = last.manifest().unwrap().epoch + 1;
        dir.run(&["resume", "run", "--device", "flex", "--epochs", &epoch.to_string()]).done();
    }
}

#[cfg(unix)]
#[test]
fn a_second_signal_stops_at_once() {
    // A step, and the save that follows it, take about a second each.
    let slow =
        TINY.replace("[16, 12, 12, 10]", "[3000, 3000, 3000, 10]").replace("batch_size = 4", "batch_size = 1000");
    let dir = Dir::with(&slow.replace("train = 200", "train = 6000"));
    let child = spawn(&dir, &["train", "r.toml", "--device", "flex", "--run", "run"]);
    wait_for("the run", || dir.path("run/recipe.toml").is_file());
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, "-INT");
    std::thread::sleep(Duration::from_millis(100));
    let second = Instant::now();
    signal(&child, "-INT");
    let answer = Answer::from(child.wait_with_output().unwrap());
    assert_eq!(answer.code, 130, "{}", answer.stderr);
    assert!(second.elapsed() < Duration::from_secs(2), "it took {:?} after the second signal", second.elapsed());
    assert!(!answer.stderr.contains("everything is saved"), "{}", answer.stderr);
    assert_eq!(steps(&dir, "run"), [0_u64; 0]);
}

#[cfg(unix)]
#[test]
fn a_second_process_is_refused_and_readers_are_not() {
    let dir = endless();
    let mut child = spawn(&dir, &["train", "r.toml", "--device", "flex", "--run", "run"]);
    wait_for("a checkpoint", || dir.path("run/last").is_file() && dir.path("run/best").is_file());
    let busy = format!(
        "run: another process (pid {}) is training in this run: wait until it is done, or stop it first",
        child.id()
    );
    for verb in [&["resume", "run", "--device", "flex"][..], &["train", "r.toml", "--device", "flex", "--run", "run"]] {
        let answer = dir.run(verb);
        assert_eq!((answer.code, answer.error()), (2, busy.clone()), "{}", answer.stderr);
    }
    // Whoever reads while the other writes finds everything whole, or a checkpoint that has just gone.
    for verb in [&["runs", "."][..], &["runs", "run"], &["eval", "run", "--device", "flex"], &["inspect", "run"]] {
        dir.run(verb).done();
    }
    // The lock ends with its process, however that ends.
    child.kill().unwrap();
    child.wait().unwrap();
    let epochs = Run::open(&dir.path("run")).unwrap().find(Which::Last).unwrap().manifest().unwrap().epoch + 1;
    dir.run(&["resume", "run", "--device", "flex", "--epochs", &epochs.to_string()]).done();
    assert_eq!(problems(&dir.path("run")), [""; 0]);
}

/// A folder of pictures of two classes, of which one cannot be decoded.
fn broken_pictures(dir: &Dir) {
    for class in ["a", "b"] {
        for split in ["train", "test"] {
            let folder = dir.path("pictures").join(split).join(class);
            fs::create_dir_all(&folder).unwrap();
            for i in 0..20_u8 {
                let value = if class == "a" { i } else { 255 - i };
                GrayImage::from_pixel(28, 28, Luma([value])).save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    fs::write(dir.path("pictures/train/b/7.png"), "no picture").unwrap();
}

#[test]
fn an_error_in_the_data_saves_what_was_done() {
    let recipe = TINY
        .replace("classes = 10", "classes = 2")
        .replace("name = \"fashion-mnist-sample\"", "name = \"folder\"\ndir = \"pictures\"");
    let recipe = recipe
        .replace("batch_size = 4", "batch_size = 2")
        .replace("limit = { train = 200, test = 20 }", "grayscale = true");
    let dir = Dir::with(&recipe);
    broken_pictures(&dir);
    let answer = dir.run(&["train", "r.toml", "--device", "flex", "--run", "run"]);
    assert_eq!(answer.code, 2);
    let error = answer.error();
    let found = steps(&dir, "run");
    assert_eq!(found.len(), 1, "{error}");
    assert!(error.contains("pictures/train/b/7.png: "), "{error}");
    let rest = format!("; the newest checkpoint is of step {}: `rekindle resume run` goes on from there", found[0]);
    assert!(error.ends_with(&rest), "{error}");
    // The picture is mended, and the run ends as if it had always been whole.
    fs::copy(dir.path("pictures/train/b/6.png"), dir.path("pictures/train/b/7.png")).unwrap();
    dir.run(&["resume", "run", "--device", "flex"]).done();
    dir.train("whole", &[]);
    assert_eq!(dir.weights("run"), dir.weights("whole"));

    fs::write(dir.path("pictures/train/b/7.png"), "no picture").unwrap();
    let answer =
        dir.run(&["train", "r.toml", "--device", "flex", "--run", "off", "--set", "checkpoint.on_exception=false"]);
    assert!(answer.error().ends_with("; no checkpoint had been made yet"), "{}", answer.stderr);
    assert_eq!(steps(&dir, "off"), [0_u64; 0]);
}

#[cfg(unix)]
#[test]
fn a_signal_during_validation_does_not_wait_for_its_end() {
    // Validation takes many times as long as training.
    let recipe =
        TINY.replace("train = 200, test = 20", "train = 8, test = 1000").replace("batch_size = 4", "batch_size = 1");
    let dir = Dir::with(&recipe.replace("[16, 12, 12, 10]", "[1500, 1500, 1500, 10]"));
    // On a busy machine, validation may be over before the signal comes; then another run is tried.
    let stopped = (0..5).map(|turn| {
        let run = format!("run-{turn}");
        let child =
            spawn(&dir, &["train", "r.toml", "--device", "flex", "--run", &run, "--set", "checkpoint.every_steps=7"]);
        wait_for("the last step but one", || dir.path(&run).join("last").is_file());
        std::thread::sleep(Duration::from_millis(50));
        signal(&child, "-INT");
        let answer = Answer::from(child.wait_with_output().unwrap());
        assert_eq!(answer.code, 130, "{}", answer.stderr);
        let manifest = Run::open(&dir.path(&run)).unwrap().find(Which::Last).unwrap().manifest().unwrap();
        (manifest.epoch, manifest.batch, manifest.step)
    });
    let stopped: Vec<_> = stopped.take_while(|found| *found != (0, 8, 8)).collect();
    assert!(stopped.len() < 5, "{stopped:?}");
}
