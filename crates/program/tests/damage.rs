//! Programs that are damaged: reading one gives a graph or an error, never a panic, and takes no more than it may.

#[path = "support/damage.rs"]
mod damage;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use damage::{Parts, Random, Reached, tried};
use rekindle_program::Mode;

fn survives(names: &[&str], rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("damaged.pt2");
    let modes = [Mode::AsExported, Mode::Eval, Mode::Train, Mode::TrainFrozenStatistics];
    let mut lowered = 0;
    for (which, name) in names.iter().enumerate() {
        let parts = Parts::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name));
        let mut random = Random(0x9e37_79b9_7f4a_7c15 + which as u64);
        for round in 0..rounds {
            std::fs::write(&path, parts.damaged(&mut random)).unwrap();
            let outcome = catch_unwind(AssertUnwindSafe(|| tried(&path, modes[round % modes.len()])));
            let (reached, took) = outcome.unwrap_or_else(|_| panic!("{name}: round {round} panics"));
            assert!(took.as_secs() < 20, "{name}: round {round} takes {took:?}");
            lowered += usize::from(reached >= Reached::Lowered);
        }
    }
    // Damage that is always seen at once would test nothing.
    assert!(lowered > names.len() * rounds / 50, "{lowered} damaged programs were lowered");
}

#[test]
fn damaged_exported_programs_do_not_panic() {
    survives(&["cond.pt2", "inplace_views.pt2", "pytree_buffers.pt2", "old_2.5.1_net.pt2", "lstm.pt2"], 200);
}

#[test]
fn damaged_torchscript_does_not_panic() {
    survives(&["dyn_traced.pt", "dyn_scripted.pt", "lstm_scripted.pt", "flow_scripted.pt"], 200);
}
