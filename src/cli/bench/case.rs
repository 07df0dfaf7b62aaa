//! The cases by name, and what each of them runs.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::super::output::cannot;
use super::{files, graphs, networks, pipeline};
use crate::device::{DeviceName, OpenDevice};
use crate::models::Registry;

/// Something that can be run again and again.
pub type Work = Box<dyn FnMut() -> anyhow::Result<()>>;

/// What cases share.
pub struct Bench {
    /// The networks that there are.
    pub registry: Registry,
    /// The device that computes.
    pub device: OpenDevice,
    /// The same by name.
    pub device_name: DeviceName,
    /// The folder of Fashion-MNIST; where it was fetched to when not given.
    pub data: Option<PathBuf>,
    /// A scratch folder, removed at the end.
    pub folder: PathBuf,
}

impl Bench {
    /// Opens a device, and makes the scratch folder in the system's folder for them.
    ///
    /// # Errors
    /// When the device does not open or the folder cannot be made.
    pub fn new(registry: &Registry, device_name: DeviceName, data: Option<&Path>) -> anyhow::Result<Self> {
        let folder = std::env::temp_dir().join(format!("rekindle-bench-{}", std::process::id()));
        std::fs::create_dir_all(&folder).map_err(cannot("create the folder", &folder))?;
        let (registry, data) = (registry.clone(), data.map(Path::to_path_buf));
        Ok(Self { registry, device: device_name.open()?, device_name, data, folder })
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Best effort: what is left is in the system's temporary folder.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A thing that can be timed.
#[derive(Debug, Clone)]
pub struct Case {
    /// `forward/vgg16/1`.
    pub name: String,
    /// Left out unless it is named: it takes minutes on a CPU, gigabytes of disk, or data that was not fetched.
    pub long: bool,
    what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    /// A forward pass of a network, fresh or as a graph.
    Forward { model: &'static str, batch: usize, side: Option<usize>, graph: bool },
    /// A graph from a file.
    Graph(PathBuf, Vec<graphs::Axis>),
    /// A step of training.
    TrainStep { model: &'static str, batch: usize, optimizer: networks::Optimizer, side: Option<usize> },
    /// Work on a weight file.
    File(files::FileWork, files::Content),
    /// An epoch of a recipe.
    Epoch(&'static str),
    /// A process from its start to its first prediction.
    ColdStart,
    /// Checkpoints of a training of VGG16.
    Checkpoint,
}

/// What is timed unasked, a pass over every built-in network aside.
const SHORT: &[&str] = &[
    "list/vgg16",
    "load/vgg16",
    "save/vgg16",
    "save-unsynced/vgg16",
    "cold-start/super_resolution",
    "train-step/fashion_classifier/64/sgd",
    "train-step/fashion_classifier/64/adam",
    "train-step/the_model_class/64/sgd",
    "train-step/net/64/sgd",
    "train-step/cifar_cnn/64/sgd",
    "epoch/fashion_mnist_sample",
    "onnx/fashion_classifier/1",
    "onnx/the_model_class/1",
    "onnx/cifar_cnn/1",
    "onnx/super_resolution/1",
    "onnx/vgg16/1",
];
const LONG: &[&str] = &[
    "train-step/super_resolution/64/sgd",
    "train-step/vgg16/64/sgd",
    "train-step/resnet18/16/sgd/64",
    "train-step/mobilenet_v3_small/16/sgd/64",
    "train-step/efficientnet_b0/16/sgd/64",
    "train-step/vit_tiny/16/adam/64",
    "train-step/lstm_classifier/64/adam",
    "epoch/fashion_mnist",
    "save-checkpoint/vgg16",
];
/// Batches of forward passes.
const BATCHES: [usize; 2] = [1, 64];
/// Networks of which a pass over any batch is timed unasked.
const SMALL: [&str; 4] = ["the_model_class", "net", "fashion_classifier", "cifar_cnn"];
/// Networks of which a pass over one image is timed unasked. All others are timed when they are named.
const LARGE: [&str; 2] = ["super_resolution", "vgg16"];

/// Every case with a name of its own.
pub(super) fn cases(registry: &Registry) -> Vec<Case> {
    let mut cases = Vec::new();
    for model in registry.entries() {
        for batch in BATCHES {
            let other = !SMALL.contains(&model.name) && !LARGE.contains(&model.name);
            let long = other || (batch > 1 && LARGE.contains(&model.name));
            cases.extend(parse(registry, &format!("forward/{}/{batch}", model.name)).map(|what| Case { long, ..what }));
        }
    }
    cases.extend(SHORT.iter().filter_map(|name| parse(registry, name)));
    cases.extend(LONG.iter().filter_map(|name| parse(registry, name)).map(|case| Case { long: true, ..case }));
    cases
}

/// The case of a whole name.
///
/// # Errors
/// When there is none.
pub fn named(registry: &Registry, name: &str) -> anyhow::Result<Case> {
    parse(registry, name).with_context(|| format!("there is no benchmark '{name}'"))
}

/// Reads a whole name, also with other numbers than those that are timed unasked.
pub(super) fn parse(registry: &Registry, name: &str) -> Option<Case> {
    let model = |name: &str| registry.find(name).ok().map(|entry| entry.name);
    let number = |text: &str| text.parse().ok().filter(|&number: &usize| number > 0);
    let side = |side: &[&str]| match side {
        [side] => number(side).map(Some),
        _ => Some(None),
    };
    let parts: Vec<&str> = name.split('/').collect();
    let what = match parts.as_slice() {
        [kind @ ("forward" | "onnx"), name, batch, last @ ..] if last.len() <= 1 => {
            What::Forward { model: model(name)?, batch: number(batch)?, side: side(last)?, graph: *kind == "onnx" }
        }
        ["train-step", name, batch, optimizer, last @ ..] if last.len() <= 1 => What::TrainStep {
            model: networks::OTHERS.into_iter().find(|other| other == name).or_else(|| model(name))?,
            batch: number(batch)?,
            optimizer: networks::Optimizer::parse(optimizer)?,
            side: side(last)?,
        },
        ["epoch", name] => {
            What::Epoch(["fashion_mnist_sample", "fashion_mnist"].into_iter().find(|known| known == name)?)
        }
        ["cold-start", "super_resolution"] => What::ColdStart,
        ["save-checkpoint", "vgg16"] => What::Checkpoint,
        [work, content] => What::File(files::FileWork::parse(work)?, files::Content::parse(content)?),
        _ => return None,
    };
    Some(Case { name: name.to_string(), long: false, what })
}

impl Case {
    /// A graph in a file.
    pub(super) fn of_graph(path: &Path, axes: &[graphs::Axis]) -> Self {
        let stem = path.file_stem().map_or_else(|| "graph".into(), |stem| stem.to_string_lossy());
        Self { name: format!("onnx/{stem}"), long: false, what: What::Graph(path.to_path_buf(), axes.to_vec()) }
    }

    /// Whether it trains and saves by itself, and tells more than one time.
    pub(super) fn is_checkpoint(&self) -> bool {
        matches!(self.what, What::Checkpoint)
    }

    /// Whether no device takes part.
    pub(super) fn is_of_files(&self) -> bool {
        matches!(self.what, What::File(..))
    }

    /// Whether another process does the work.
    pub(super) fn runs_elsewhere(&self) -> bool {
        matches!(self.what, What::ColdStart)
    }

    /// Sets everything up.
    ///
    /// # Errors
    /// When a file cannot be written or read, data is not there, or a network does not take such inputs.
    pub fn prepare(&self, bench: &Bench) -> anyhow::Result<Work> {
        match &self.what {
            What::Forward { model, batch, side, graph: false } => networks::forward(model, *batch, *side, bench),
            What::Forward { model, batch, side, graph: true } => graphs::exported(model, *batch, *side, bench),
            What::Graph(path, axes) => graphs::from_file(path, axes, &bench.device),
            What::TrainStep { model, batch, optimizer, side } => {
                networks::train_step(model, *batch, *side, *optimizer, bench)
            }
            What::File(work, content) => files::prepare(*work, *content, &bench.folder),
            What::Epoch(recipe) => pipeline::epoch(recipe, bench),
            What::ColdStart => pipeline::cold_start(bench),
            What::Checkpoint => anyhow::bail!("{} cannot be run step by step", self.name),
        }
    }

    /// How much of what one run does.
    pub(super) fn amount(&self) -> (f64, &'static str) {
        match &self.what {
            What::Forward { batch, .. } | What::TrainStep { batch, .. } => (*batch as f64, "images/s"),
            What::Graph(..) => (1.0, "runs/s"),
            // Listing reads no weights: its time does not grow with them.
            What::File(files::FileWork::List, _) => (1.0, "files/s"),
            What::File(_, content) => (content.megabytes(), "MB/s"),
            What::Epoch(recipe) => (if *recipe == "fashion_mnist" { 60_000.0 } else { 6_000.0 }, "images/s"),
            What::ColdStart => (1.0, "starts/s"),
            What::Checkpoint => (1.0, "MB/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listed_name_is_a_case() {
        let registry = Registry::built_in();
        let cases = cases(&registry);
        assert_eq!(cases.len(), registry.entries().len() * BATCHES.len() + SHORT.len() + LONG.len());
        let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), cases.len(), "two cases have one name");
    }

    #[test]
    fn names_with_other_numbers_are_cases_and_nonsense_is_none() {
        let registry = Registry::built_in();
        for name in [
            "forward/super_resolution/3/48",
            "train-step/net/2/adam",
            "train-step/vit_tiny/2/sgd/32",
            "load/10MB",
            "onnx/cifar_cnn/7",
        ] {
            assert_eq!(named(&registry, name).unwrap().name, name);
        }
        for name in [
            "forward/vgg16",
            "forward/vgg16/0",
            "forward/nothing/1",
            "load/MB",
            "train-step/net/2/lion",
            "epoch/net",
            "x/y/z",
        ] {
            assert!(parse(&registry, name).is_none(), "{name}");
        }
    }
}
