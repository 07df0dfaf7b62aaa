//! What a checkpoint costs: a training of VGG16 with Adam that saves after each epoch, 1.6 GB each time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;

use crate::checkpoint::Run;
use crate::device::DeviceName;
use crate::models::Registry;
use crate::train::{Loaded, Session, Start, recipe};

/// Small pictures, so that the time goes into saving; enough steps that a save is over before the next begins.
const RECIPE: &str = r#"name = "bench"
model = { name = "vgg16", classes = 1000, init_weights = false }
[data]
name = "fashion-mnist-sample"
batch_size = 1
workers = 0
resize = 32
channels = 3
limit = { train = 8, test = 1 }
[optimizer]
name = "adam"
lr = 1e-5
[train]
epochs = 4
[checkpoint]
keep_last = 1
top_k = 0
"#;

/// Seconds of each save.
pub struct Cost {
    /// From handing over until everything was hashed and on the disk.
    pub saving: Vec<f64>,
    /// For which training stood still.
    pub stall: Vec<f64>,
    /// Bytes of one checkpoint.
    pub bytes: f64,
}

/// Trains into a folder and reads what its metrics tell.
pub fn measure(registry: &Registry, folder: &Path, device: DeviceName) -> anyhow::Result<Cost> {
    let recipe = recipe::parse(registry, RECIPE, &[], "the recipe of the benchmark")?;
    let loaded = Box::new(Loaded { recipe, base: folder.to_path_buf(), place: "the recipe of the benchmark".into() });
    let dir = folder.join("run");
    let start = Start::New { loaded, dir: dir.clone(), numbered: false };
    Session::new(registry, start, device, Arc::new(AtomicBool::new(false)))?.run()?;
    let run = Run::open(&dir)?;
    let lines = run.metrics();
    let told = |key: &str| -> anyhow::Result<Vec<f64>> {
        lines.iter().map(|line| line[key].as_f64().with_context(|| format!("metrics.jsonl has no {key}"))).collect()
    };
    let bytes = run.checkpoints().first().map_or(0, |checkpoint| checkpoint.size()) as f64;
    let cost = Cost { saving: told("save_seconds")?, stall: told("save_stall_seconds")?, bytes };
    std::fs::remove_dir_all(&dir)?;
    Ok(cost)
}
