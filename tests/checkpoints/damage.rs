//! Bytes of a checkpoint that are changed, cut off or removed: found, named, survived.

use std::fs;
use std::path::{Path, PathBuf};

use rekindle::checkpoint::Run;

use super::support::{Numbers, TINY, copy, problems};
use crate::support::program::Dir;

/// The files of a checkpoint.
const FILES: [&str; 4] = ["model.bpk", "optimizer.bpk", "scheduler.bpk", "manifest.json"];

/// A run with checkpoints of steps 50, 100 and 150; the last is the newest and the best.
fn run() -> (Dir, PathBuf) {
    let dir = Dir::with(TINY);
    dir.train("run", &["--set", "checkpoint.keep_last=3", "--set", "checkpoint.monitor=train.loss"]);
    let run = dir.path("run");
    assert_eq!(fs::read_to_string(run.join("best")).unwrap(), "step-00000150\n");
    (dir, run)
}

/// Checks that the damage of the newest checkpoint is found and named, and that the run goes on from the one before.
#[track_caller]
fn survives(run: &Path, file: &str, what: &str) {
    let found = problems(run);
    assert_eq!(found.len(), 1, "{file}, {what}: {found:?}");
    let place = run.join("step-00000150").join(file);
    let beginning = format!("{}: the checkpoint is damaged: ", place.display());
    assert!(found[0].starts_with(&beginning), "{file}, {what}: {found:?}");
    let newest = Run::open(run).unwrap().newest_whole().unwrap();
    assert_eq!(newest.contents.manifest.step, 100, "{file}, {what}");
    assert!(newest.passed_over[0].to_string().starts_with(&beginning), "{file}, {what}: {:?}", newest.passed_over);
    let refused = Run::open(run).unwrap().load(rekindle::checkpoint::Which::Best).unwrap_err().to_string();
    assert!(refused.starts_with(&beginning), "{refused}");
    assert!(refused.contains("; the checkpoint of step 100 is whole: "), "{refused}");
}

#[test]
fn a_changed_byte_anywhere_is_found() {
    let (_dir, run) = run();
    let mut numbers = Numbers(3);
    for file in FILES {
        let path = run.join("step-00000150").join(file);
        let whole = fs::read(&path).unwrap();
        // The ends, and a byte of each of 60 regions.
        let region = (whole.len() / 60).max(1);
        let inside = (0..whole.len())
            .step_by(region)
            .map(|start| (start + numbers.below(region as u64) as usize).min(whole.len() - 1));
        for at in inside.chain([0, whole.len() - 1]).collect::<Vec<_>>() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << numbers.below(8);
            fs::write(&path, &bytes).unwrap();
            survives(&run, file, &format!("byte {at}"));
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(problems(&run), [""; 0]);
}

#[test]
fn a_cut_an_end_and_a_hole_are_found() {
    let (_dir, run) = run();
    for file in FILES {
        let path = run.join("step-00000150").join(file);
        let whole = fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 3, whole.len() / 2, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            survives(&run, file, &format!("cut to {length}"));
        }
        fs::write(&path, [&whole[..], b"\0"].concat()).unwrap();
        survives(&run, file, "one byte more");
        // A block that never reached the disk.
        let mut bytes = whole.clone();
        let end = whole.len().min(4096);
        bytes[..end].fill(0);
        fs::write(&path, &bytes).unwrap();
        survives(&run, file, "a block of zeros");
        fs::remove_file(&path).unwrap();
        survives(&run, file, "removed");
        fs::create_dir(&path).unwrap();
        assert_eq!(problems(&run).len(), 1, "{file}: a folder in its place");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, &whole).unwrap();
    }
    // A manifest that is whole and belongs to another checkpoint.
    fs::copy(run.join("step-00000100/manifest.json"), run.join("step-00000150/manifest.json")).unwrap();
    survives(&run, "manifest.json", "another's");
}

#[test]
fn the_program_names_what_is_damaged_and_goes_on() {
    let (dir, run) = run();
    let model = run.join("step-00000150/model.bpk");
    let mut bytes = fs::read(&model).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    fs::write(&model, bytes).unwrap();

    let verified = dir.run(&["runs", "run", "--verify"]);
    assert_eq!(verified.code, 1);
    assert!(
        verified.stderr.starts_with("run/step-00000150/model.bpk: the checkpoint is damaged: its sha256 is "),
        "{}",
        verified.stderr
    );
    let json = dir.run(&["runs", "run", "--verify", "--json"]).json();
    assert_eq!(json[0]["damaged"].as_array().unwrap().len(), 1, "{json}");

    for verb in [&["eval", "run"][..], &["export", "run", "out.pth"], &["inspect", "run"]] {
        let refused = dir.run(verb);
        assert_eq!(refused.code, 2, "{verb:?}: {}", refused.stdout);
        let error = refused.error();
        assert!(error.starts_with("run/step-00000150/model.bpk: the checkpoint is damaged: its sha256 is "), "{error}");
        assert!(error.ends_with("; the checkpoint of step 100 is whole: run/step-00000100"), "{error}");
    }
    dir.run(&["eval", "run", "--from", "100", "--device", "flex"]).done();
    dir.run(&["eval", "run/step-00000100", "--device", "flex"]).done();
    let refused = dir.run(&["resume", "run", "--from", "150"]);
    assert!(
        refused.error().ends_with("; the checkpoint of step 100 is whole: run/step-00000100"),
        "{}",
        refused.stderr
    );

    let answer = dir.run(&["resume", "run", "--device", "flex"]).done();
    assert!(
        answer.stderr.contains("\nrun/step-00000150/model.bpk: the checkpoint is damaged: its sha256 is "),
        "{}",
        answer.stderr
    );
    let note = "\ngoing on from run/step-00000100, the newest checkpoint that is whole\n";
    assert!(answer.stderr.contains(note), "{}", answer.stderr);
    // The damaged one was trained again and has been replaced.
    assert_eq!(problems(&run), [""; 0]);
    dir.train("straight", &["--set", "checkpoint.monitor=train.loss"]);
    assert_eq!(dir.weights("run"), dir.weights("straight"));
    assert_eq!(dir.optimizer("run"), dir.optimizer("straight"));
}

#[test]
fn pointers_that_name_nothing_are_told_and_passed_over() {
    let (dir, run) = run();
    for text in ["step-00000777\n", "", "garbage\n", "../run\n"] {
        let copied = dir.path("copied");
        copy(&run, &copied);
        for pointer in ["last", "best"] {
            fs::write(copied.join(pointer), text).unwrap();
        }
        let found = problems(&copied);
        assert_eq!(found.len(), 2, "{text:?}: {found:?}");
        let beginning =
            format!("{}: it names '{}', and there is no such checkpoint", copied.join("last").display(), text.trim());
        assert_eq!(found[0], beginning);
        assert_eq!(dir.run(&["runs", "copied", "--verify"]).code, 1);
        dir.run(&["eval", "copied", "--device", "flex"]).done();
        let answer = dir.run(&["resume", "copied", "--device", "flex", "--epochs", "4"]).done();
        let told = answer.stderr.contains("\ncopied: 'last' names step-00000777, which is not there\n");
        assert_eq!(told, text.contains("777"), "{}", answer.stderr);
        assert_eq!(fs::read_to_string(copied.join("last")).unwrap(), "step-00000200\n");
        fs::remove_dir_all(&copied).unwrap();
    }
    // Without pointers, the manifests say which is which.
    fs::remove_file(run.join("last")).unwrap();
    fs::remove_file(run.join("best")).unwrap();
    assert_eq!(problems(&run), [""; 0]);
    let found = dir.run(&["eval", "run", "--device", "flex", "--json"]).done().json();
    assert_eq!(found["model"], "run/step-00000150");
}

#[test]
fn a_run_without_a_whole_checkpoint_says_what_is_wrong_with_each() {
    let (dir, run) = run();
    for step in [50, 100, 150] {
        fs::write(run.join(format!("step-{step:08}/optimizer.bpk")), "short").unwrap();
    }
    let answer = dir.run(&["resume", "run"]);
    assert_eq!(answer.code, 2);
    let error = answer.error();
    assert!(
        error.starts_with(
            "run: there is no checkpoint to go on from: run/step-00000150/optimizer.bpk: the checkpoint is damaged: "
        ),
        "{error}"
    );
    assert_eq!(
        error.matches("optimizer.bpk: the checkpoint is damaged: it has 5 bytes, the manifest says ").count(),
        3,
        "{error}"
    );
    let refused = dir.run(&["eval", "run"]).error();
    assert!(refused.ends_with("; no other checkpoint of the run is whole"), "{refused}");
    // Nothing was thrown away.
    assert_eq!(problems(&run).len(), 3);
}
