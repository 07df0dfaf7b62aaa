//! What the tests of checkpoints share.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rekindle::checkpoint::Run;

use crate::support::program::Dir;

/// A network so small that an epoch of 50 steps takes a tenth of a second.
pub const TINY: &str = r#"name = "tiny"
model = { name = "fashion_classifier", classes = 10, hidden = [16, 12, 12, 10], dropout = 0.1 }

[data]
name = "fashion-mnist-sample"
batch_size = 4
workers = 0
limit = { train = 200, test = 20 }

[optimizer]
name = "adam"

[train]
epochs = 3
"#;

/// Numbers that only look random: the same in each run of the tests.
pub struct Numbers(pub u64);

impl Numbers {
    /// A number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Steps of all checkpoints of a run.
#[track_caller]
pub fn steps(dir: &Dir, run: &str) -> Vec<u64> {
    Run::open(&dir.path(run)).unwrap().checkpoints().iter().map(|checkpoint| checkpoint.step).collect()
}

/// Everything that is wrong with a run, in sentences.
pub fn problems(run: &Path) -> Vec<String> {
    Run::open(run).unwrap().verify().iter().map(ToString::to_string).collect()
}

/// Names in a run that no finished save leaves there.
pub fn strays(run: &Path) -> Vec<String> {
    let names = fs::read_dir(run).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with('.') && name != ".lock").collect()
}

/// Waits for something, at most two minutes.
#[track_caller]
pub fn wait_for(what: &str, mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Copies a folder with everything in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, target) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
