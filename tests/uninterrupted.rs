//! A run that is stopped at any step and resumed is, to the bit, the run that was not: for every recipe, on both CPU backends.
//!
//! Data sets that do not come with the program are stood in for by files of the same format.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use burn::module::Module;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use rekindle::checkpoint::{Contents, Manifest, Run, Which};
use rekindle::device::DeviceName;
use rekindle::prelude::{Deserialize, Forward, Io, ModelConfig, Registry, Serialize};
use rekindle::train::recipe::{self, EMBEDDED};
use rekindle::train::{Loaded, Outcome, Session, Snapshot, Start};
use rekindle_state::{Value, tensors};

use crate::support::alone;

/// Passes through the data.
const EPOCHS: usize = 3;
/// Steps of an epoch: 11 images in batches of 4, the last of which is smaller.
const STEPS: u64 = 3;

/// A network of one's own with Burn's batch normalisation, which keeps the newest batch aside until the next one.
#[derive(Module, Debug)]
struct Normed {
    conv: Conv2d,
    norm: BatchNorm,
    fc: Linear,
}

impl Forward for Normed {
    type Input = Tensor<4>;
    type Output = Tensor<2>;

    fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        self.fc.forward(self.norm.forward(self.conv.forward(x)).flatten(1, 3))
    }
}

#[derive(Serialize, Deserialize, Clone, Debug, Default)]
#[serde(deny_unknown_fields)]
struct NormedConfig {}

impl ModelConfig for NormedConfig {
    type Model = Normed;
    const NAME: &'static str = "normed";

    fn init(&self, device: &Device) -> Normed {
        Normed {
            conv: Conv2dConfig::new([1, 6], [3, 3]).with_stride([3, 3]).init(device),
            norm: BatchNormConfig::new(6).init(device),
            fc: LinearConfig::new(6 * 9 * 9, 10).init(device),
        }
    }

    fn io(&self) -> Io {
        Io::classifier([1, 28, 28], 10)
    }
}

pub fn registry() -> Registry {
    Registry::built_in().with::<NormedConfig>()
}

/// Beside the recipes of the program: batch normalisation; and everything else that has a state.
const MORE: [(&str, &str); 6] = [
    (
        "running_statistics",
        r#"
name = "running_statistics"
model = { name = "normed" }
[data]
name = "fashion-mnist-sample"
[optimizer]
name = "adam"
lr = 1e-3
[checkpoint]
every_steps = 1
keep_all = true
"#,
    ),
    (
        "batch_normalisation",
        r#"
name = "batch_normalisation"
model = { name = "vgg11_bn", widths = [4, 5, 6, 6, 6], hidden = [10, 8], classes = 10 }
[data]
name = "cifar-10"
augment = [{ random_crop = { size = 32, padding = 4 } }, "random_horizontal_flip"]
[optimizer]
name = "adamw"
lr = 1e-3
amsgrad = true
"#,
    ),
    (
        "everything",
        r#"
name = "everything"
model = { name = "fashion_classifier", classes = 10, hidden = [24, 20, 16, 12] }
[data]
name = "fashion-mnist-sample"
workers = 0
[optimizer]
name = "rmsprop"
lr = 0.0012345678901234567
momentum = 0.9
centered = true
groups = [{ match = "bias", lr = 3e-3 }]
[scheduler]
name = "cosine"
per = "step"
warmup = 4
[train]
clip_grad_norm = 0.5
freeze = ["^fc2.bias"]
early_stopping = { patience = 2 }
[checkpoint]
every_steps = 2
keep_last = 3
"#,
    ),
    (
        "plateau",
        r#"
name = "plateau"
model = { name = "fashion_classifier", classes = 10, hidden = [24, 20, 16, 12] }
[data]
name = "fashion-mnist-sample"
[optimizer]
name = "adam"
lr = 0.01
groups = [{ match = "bias", lr = 3e-3 }]
[scheduler]
name = "plateau"
# No epoch is good enough: the rate falls after the second and the third.
threshold = 0.9
patience = 0
factor = 0.5
"#,
    ),
    (
        "depthwise",
        r#"
name = "depthwise"
model = { name = "mobilenet_v3_small", width_mult = 0.25, classes = 10 }
[data]
name = "cifar-10"
[optimizer]
name = "sgd"
lr = 0.05
momentum = 0.9
"#,
    ),
    (
        "attention",
        r#"
name = "attention"
[model]
name = "swin_v2_t"
embed_dim = 12
depths = [2, 2]
num_heads = [2, 4]
window_size = [4, 4]
dropout = 0.1
attention_dropout = 0.1
classes = 10
[data]
name = "cifar-10"
[optimizer]
name = "adamw"
lr = 1e-3
"#,
    ),
];

/// A folder for runs, and a stand-in for CIFAR-10.
pub struct Bench {
    scratch: tempfile::TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let cifar = scratch.path().join("cifar");
        fs::create_dir(&cifar).unwrap();
        let mut state = 1_u32;
        for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
            let mut bytes = Vec::new();
            for label in 0..4 {
                bytes.push(label);
                for _ in 0..3072 {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    bytes.push((state >> 24) as u8);
                }
            }
            fs::write(cifar.join(format!("{name}.bin")), bytes).unwrap();
        }
        Self { scratch }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    pub fn loaded(&self, text: &str, more: &[String]) -> Box<Loaded> {
        let published = recipe::parse(&registry(), text, &[], "recipe").unwrap();
        let dir = match published.data.name.as_str() {
            "cifar-10" | "super-resolution" => self.path("cifar"),
            _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/fashion-mnist-sample"),
        };
        let mut overrides = vec![
            format!("train.epochs={EPOCHS}"),
            "data.batch_size=4".to_string(),
            "data.limit={ train = 11, test = 4 }".to_string(),
        ];
        if published.data.name.as_str() != "fashion-mnist-sample" {
            overrides.push(format!("data.dir={}", dir.display()));
        }
        overrides.extend_from_slice(more);
        let recipe = recipe::parse(&registry(), text, &overrides, "recipe").unwrap();
        Box::new(Loaded { recipe, base: PathBuf::new(), place: "recipe".into() })
    }

    /// Trains from a start, and stops after a step if one is given.
    fn train(&self, start: Start, device: &str, stop_after: Option<u64>) -> (Outcome, Run) {
        let stop = Arc::new(AtomicBool::new(false));
        let session = Session::new(&registry(), start, device.parse::<DeviceName>().unwrap(), stop.clone()).unwrap();
        let session = session.on_step(move |step| {
            if stop_after == Some(step) {
                stop.store(true, Ordering::Relaxed);
            }
        });
        session.run().unwrap()
    }

    fn new_run(&self, text: &str, more: &[String], run: &str, device: &str, stop_after: Option<u64>) -> (Outcome, Run) {
        let start = Start::New { loaded: self.loaded(text, more), dir: self.path(run), numbered: false };
        self.train(start, device, stop_after)
    }

    fn resume(&self, run: &str, device: &str, stop_after: Option<u64>) -> (Outcome, Run) {
        self.train(Start::Resume { dir: self.path(run), which: Which::Last, set: Vec::new() }, device, stop_after)
    }
}

/// Everything of a run's end that has to be the same: each tensor's bytes of weights and optimizer state by name; the manifest
/// without times and places; and the metrics of every epoch.
#[derive(Debug, PartialEq)]
pub struct End {
    pub tensors: BTreeMap<String, Vec<u8>>,
    manifest: String,
    metrics: Vec<String>,
}

impl End {
    pub fn of(run: &Run) -> Self {
        let contents = run.find(Which::Last).unwrap().read().unwrap();
        let tensors = tensors_of(&contents);
        assert!(
            tensors.keys().any(|name| name.starts_with("optimizer_state_dict/state/")),
            "the optimizer has no state"
        );
        let Manifest { step, epoch, batch, metrics, sums, best, early_stopping, recipe, .. } = contents.manifest;
        let manifest = format!("{:?}", (step, epoch, batch, metrics, sums, best, early_stopping, recipe));
        // Times aside, line by line as they were written.
        let text = fs::read_to_string(run.path().join("metrics.jsonl")).unwrap();
        let told = |line: &str| {
            let line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
            line.iter()
                .filter(|(key, _)| !key.contains("seconds"))
                .map(|(key, value)| format!("{key}={value} "))
                .collect()
        };
        Self { tensors, manifest, metrics: text.lines().map(told).collect() }
    }

    #[track_caller]
    pub fn assert_is(&self, other: &Self, what: &str) {
        let different: Vec<&String> =
            self.tensors.keys().filter(|name| self.tensors.get(*name) != other.tensors.get(*name)).collect();
        assert!(different.is_empty(), "{what}: other bytes in {different:?}");
        assert_eq!(self.tensors.len(), other.tensors.len(), "{what}");
        assert_eq!(self.manifest, other.manifest, "{what}");
        assert_eq!(self.metrics, other.metrics, "{what}");
    }
}

/// The bytes of each tensor of a checkpoint: weights, statistics, state of the optimizer.
fn tensors_of(contents: &Contents) -> BTreeMap<String, Vec<u8>> {
    let snapshot = Snapshot::new(&registry(), contents, "the run").unwrap();
    let dict = Value::Dict(snapshot.checkpoint(contents, "the run").unwrap());
    tensors(&dict).into_iter().map(|(name, tensor)| (name, tensor.bytes().unwrap().into_owned())).collect()
}

/// A step to stop after that is drawn anew in each run of the tests; a failure names it.
fn some_step() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    1 + RandomState::new().hash_one(0) % (EPOCHS as u64 * STEPS - 1)
}

fn check(name: &str, text: &str, device: &str) {
    let bench = Bench::new();
    let (end, whole) = bench.new_run(text, &[], "whole", device, None);
    assert_ne!(end, Outcome::Interrupted, "{name} on {device}");
    let unbroken = whole.clone();
    let whole = End::of(&whole);

    // In the middle of the first epoch and of a later one, after the last batch of an epoch, and anywhere.
    let random = some_step();
    let mut stops = vec![vec![1, STEPS + 2], vec![STEPS], vec![random]];
    if device == "ndarray" {
        stops.remove(1);
    }
    for (number, stops) in stops.iter().enumerate() {
        let run = format!("stopped-{number}");
        let what = format!("{name} on {device}, stopped after steps {stops:?}");
        for (time, &stop) in stops.iter().enumerate() {
            let (outcome, stopped) = match time {
                0 => bench.new_run(text, &[], &run, device, Some(stop)),
                _ => bench.resume(&run, device, Some(stop)),
            };
            assert_eq!(outcome, Outcome::Interrupted, "{what}");
            let last = stopped.find(Which::Last).unwrap();
            assert_eq!(last.step, stop, "{what}");
            // What was saved in passing is what is saved when nothing comes after it.
            if let Ok(passing) = unbroken.find(Which::Step(stop)).and_then(|passing| passing.read()) {
                assert!(tensors_of(&passing) == tensors_of(&last.read().unwrap()), "{what}: saved in passing");
            }
        }
        let (outcome, resumed) = bench.resume(&run, device, None);
        assert_eq!(outcome, end, "{what}");
        End::of(&resumed).assert_is(&whole, &what);
    }

    // The same weights without the rest of the state are not the same run.
    if device == "flex" {
        let (_, stopped) = bench.new_run(text, &[], "cold", device, Some(STEPS));
        let weights = stopped.find(Which::Last).unwrap().path.join("model.bpk");
        let init = format!("train.init.weights={}", weights.display());
        let (_, cold) = bench.new_run(text, &[init, format!("train.epochs={}", EPOCHS - 1)], "cold-2", device, None);
        let cold = End::of(&cold).tensors;
        let weights = |tensors: &BTreeMap<String, Vec<u8>>| -> Vec<Vec<u8>> {
            tensors
                .iter()
                .filter(|(name, _)| name.starts_with("model_state_dict/"))
                .map(|(_, bytes)| bytes.clone())
                .collect()
        };
        assert_ne!(weights(&cold), weights(&whole.tensors), "{name}: the optimizer's state makes no difference");
    }
}

/// Checks every recipe on a device.
fn check_all(test: &str, device: &str) {
    alone(&format!("uninterrupted::{test}"), || {
        EMBEDDED.iter().chain(&MORE).for_each(|(name, text)| check(name, text, device));
    });
}

#[test]
fn every_recipe_resumes_to_the_bit_on_flex() {
    check_all("every_recipe_resumes_to_the_bit_on_flex", "flex");
}

#[test]
fn every_recipe_resumes_to_the_bit_on_ndarray() {
    check_all("every_recipe_resumes_to_the_bit_on_ndarray", "ndarray");
}
