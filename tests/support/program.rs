//! The real program, run in a folder of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use rekindle_state::tensors;
use serde_json::Value;
use tempfile::TempDir;

/// A few hundred images of the sample that is in the program.
pub const RECIPE: &str = r#"name = "small"
model = { name = "fashion_classifier", classes = 10, hidden = [64, 32, 32, 16] }

[data]
name = "fashion-mnist-sample"
batch_size = 20
limit = { train = 300, test = 100 }
normalize = { mean = [0.2860], std = [0.3530] }

[optimizer]
name = "adam"
lr = 2e-3

[train]
epochs = 3
"#;

/// A folder with a recipe in it, where the program is run.
pub struct Dir(TempDir);

/// What the program answered.
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Dir {
    pub fn new() -> Self {
        Self::with(RECIPE)
    }

    pub fn with(recipe: &str) -> Self {
        let dir = Self(tempfile::tempdir().unwrap());
        fs::write(dir.path("r.toml"), recipe).unwrap();
        dir
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle"));
        command.current_dir(self.0.path()).args(arguments).env_remove("BURN_DEVICE");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Answer {
        self.command(arguments).output().unwrap().into()
    }

    /// Trains on flex into a run, which must end well.
    #[track_caller]
    pub fn train(&self, run: &str, more: &[&str]) -> Answer {
        self.run(&[&["train", "r.toml", "--device", "flex", "--run", run], more].concat()).done()
    }

    /// The error of a training that must not start.
    #[track_caller]
    pub fn refused(&self, more: &[&str]) -> String {
        let answer = self.run(&[&["train", "r.toml", "--run", "refused"], more].concat());
        assert_eq!(answer.code, 2, "{}{}", answer.stdout, answer.stderr);
        assert_eq!(answer.stdout, "");
        assert!(!self.path("refused/recipe.toml").exists(), "a run that was refused left its folder");
        answer.error()
    }

    /// Names and bytes of every tensor of a checkpoint's file.
    pub fn tensors(&self, run: &str, pointer: &str, file: &str) -> BTreeMap<String, Vec<u8>> {
        let checkpoint = fs::read_to_string(self.path(run).join(pointer)).unwrap();
        let file = rekindle_state::open(self.path(run).join(checkpoint.trim()).join(file)).unwrap();
        tensors(&file.content.root)
            .into_iter()
            .map(|(name, tensor)| (name, tensor.bytes().unwrap().into_owned()))
            .collect()
    }

    pub fn weights(&self, run: &str) -> BTreeMap<String, Vec<u8>> {
        self.tensors(run, "last", "model.bpk")
    }

    /// The optimizer's state without its names, which hold numbers drawn anew for each run.
    pub fn optimizer(&self, run: &str) -> Vec<Vec<u8>> {
        let mut state: Vec<Vec<u8>> = self.tensors(run, "last", "optimizer.bpk").into_values().collect();
        state.sort();
        state
    }

    pub fn metrics(&self, run: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.path(run).join("metrics.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Learning rates of the epochs of a run.
    pub fn rates(&self, run: &str) -> Vec<f64> {
        self.metrics(run).iter().map(|line| line["lr"].as_f64().unwrap()).collect()
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Answer {
    #[track_caller]
    pub fn done(self) -> Self {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        self
    }

    /// The line that begins with `error:`, without that.
    #[track_caller]
    pub fn error(&self) -> String {
        let mut errors = self
            .stderr
            .lines()
            .filter_map(|line| line.strip_prefix("error: "))
            .filter(|line| !line.starts_with("XDG_RUNTIME_DIR"));
        errors.next().unwrap_or_else(|| panic!("no error in: {}", self.stderr)).to_string()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}
