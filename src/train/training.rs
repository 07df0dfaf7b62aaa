//! A training described in code: the same as a recipe, typed.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::recipe::{self, CheckpointSection, EarlyStopping, InitSection, Loaded, ModelSection, Recipe, TrainSection};
use super::{Observer, Observers, Session, Start, TrainError};
use crate::checkpoint::{Run, Which};
use crate::data::{DataConfig, DatasetName};
use crate::device::DeviceName;
use crate::distributed::Group;
use crate::models::{ModelConfig, Registry, entry};
use crate::optim::{LossConfig, OptimizerConfig, SchedulerConfig};

/// Where messages say that a setting comes from.
const PLACE: &str = "the training";

/// A training of a network, to be run into a folder. What is not said has the defaults of a recipe.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use burn::tensor::Device;
/// use rekindle::prelude::*;
///
/// rekindle::init()?;
/// let run = Training::of(CifarCnnConfig { in_channels: 1, ..CifarCnnConfig::default() })
///     .data(DatasetName::FASHION_MNIST_SAMPLE)
///     .optimizer(OptimizerConfig::new("adam", &Settings::new().with("lr", 1e-3))?)
///     .epochs(3)
///     .observe(|event: &Event| println!("{event:?}"))
///     .run("runs/small")?;
/// let model = run.best::<CifarCnnConfig>(&Device::flex())?;
/// model.save("small.pth")?;
/// model.export_onnx("small.onnx")?;
/// # Ok(())
/// # }
/// ```
pub struct Training<C> {
    config: C,
    recipe: Result<Recipe, TrainError>,
    device: DeviceName,
    observers: Observers,
    stop: Arc<AtomicBool>,
    group: Option<Arc<Group>>,
}

impl<C: ModelConfig> Training<C> {
    /// A training of a network, on Fashion-MNIST's sample with Adam unless something else is said.
    pub fn of(config: C) -> Self {
        let recipe = standard(&config);
        let (observers, stop) = (Observers::default(), Arc::default());
        Self { config, recipe, device: DeviceName::AUTO, observers, stop, group: None }
    }

    fn set(mut self, change: impl FnOnce(&mut Recipe)) -> Self {
        if let Ok(recipe) = &mut self.recipe {
            change(recipe);
        }
        self
    }

    /// The data set, by name or with what happens to its images.
    #[must_use]
    pub fn data(self, data: impl Into<DataConfig>) -> Self {
        self.set(|recipe| recipe.data = data.into())
    }

    /// Items in a batch.
    #[must_use]
    pub fn batch_size(self, items: usize) -> Self {
        self.set(|recipe| recipe.data.batch_size = items)
    }

    /// Batches whose gradients are added up for one step of the optimizer.
    #[must_use]
    pub fn accumulate(self, batches: usize) -> Self {
        self.set(|recipe| recipe.train.accumulate = batches)
    }

    /// Items of one step, over all ranks and accumulated batches, instead of those of a batch.
    #[must_use]
    pub fn global_batch(self, items: usize) -> Self {
        self.set(|recipe| recipe.train.global_batch = Some(items))
    }

    /// Batch normalisation with the statistics of all ranks' batches.
    #[must_use]
    pub fn sync_batch_norm(self) -> Self {
        self.set(|recipe| recipe.train.sync_batch_norm = true)
    }

    /// The optimizer with its parameter groups.
    #[must_use]
    pub fn optimizer(self, optimizer: OptimizerConfig) -> Self {
        self.set(|recipe| recipe.optimizer = optimizer)
    }

    /// How the learning rate changes.
    #[must_use]
    pub fn schedule(self, schedule: SchedulerConfig) -> Self {
        self.set(|recipe| recipe.scheduler = schedule)
    }

    /// The loss, where it is not the one that fits the network's output.
    #[must_use]
    pub fn loss(self, loss: LossConfig) -> Self {
        self.set(|recipe| recipe.train.loss = Some(loss))
    }

    /// Passes through the training set.
    #[must_use]
    pub fn epochs(self, epochs: usize) -> Self {
        self.set(|recipe| recipe.train.epochs = epochs)
    }

    /// Determines initial weights, order, augmentation and dropout.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        self.set(|recipe| recipe.train.seed = seed)
    }

    /// Largest norm of all gradients together.
    #[must_use]
    pub fn clip_grad_norm(self, norm: f64) -> Self {
        self.set(|recipe| recipe.train.clip_grad_norm = Some(norm))
    }

    /// Parameters that do not move: a regular expression on their names. May be called several times.
    #[must_use]
    pub fn freeze(self, pattern: impl Into<String>) -> Self {
        self.set(|recipe| recipe.train.freeze.push(pattern.into()))
    }

    /// Weights to start from; `partial` passes over names and shapes that do not fit.
    #[must_use]
    pub fn init(self, weights: impl Into<PathBuf>, partial: bool) -> Self {
        self.set(|recipe| recipe.train.init = Some(InitSection { weights: weights.into(), partial }))
    }

    /// When to stop before the last epoch.
    #[must_use]
    pub fn early_stopping(self, stopping: EarlyStopping) -> Self {
        self.set(|recipe| recipe.train.early_stopping = Some(stopping))
    }

    /// When checkpoints are written and which are kept.
    #[must_use]
    pub fn checkpoints(self, checkpoints: CheckpointSection) -> Self {
        self.set(|recipe| recipe.checkpoint = checkpoints)
    }

    /// The device; the best one that is here unless something else is said.
    #[must_use]
    pub fn device(mut self, device: DeviceName) -> Self {
        self.device = device;
        self
    }

    /// Trains as one of several ranks: each describes the same training, and gives its group ([`crate::distributed::connect`] in
    /// a program that `mpirun` starts). Rank 0 alone writes; the run that is given is its.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use rekindle::distributed;
    /// use rekindle::prelude::*;
    ///
    /// rekindle::init()?;
    /// let mut training = Training::of(CifarCnnConfig::default()).data(DatasetName::CIFAR_10).global_batch(512);
    /// if let Some(group) = distributed::connect()? {
    ///     training = training.ranks(group.into());
    /// }
    /// training.run("runs/together")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ranks(mut self, group: Arc<Group>) -> Self {
        self.group = Some(group);
        self
    }

    /// Listens to the training. May be called several times.
    #[must_use]
    pub fn observe(self, observer: impl Observer + 'static) -> Self {
        self.observers.add(observer);
        self
    }

    /// A flag that stops the training after its step: everything is saved then, and [`Training::resume`] goes on.
    #[must_use]
    pub fn stop_on(mut self, flag: Arc<AtomicBool>) -> Self {
        self.stop = flag;
        self
    }

    /// Trains into a new folder.
    ///
    /// # Errors
    /// When a setting is impossible, the data does not fit the network, or the training breaks off.
    pub fn run(self, dir: impl AsRef<Path>) -> Result<Run, TrainError> {
        let registry = self.registry();
        let Self { recipe, device, observers, stop, group, .. } = self;
        let mut recipe = recipe?;
        let dir = dir.as_ref();
        if let Some(name) = dir.file_name() {
            recipe.name = name.to_string_lossy().into_owned();
        }
        // By way of its text, so that everything is checked as for a recipe from a file.
        let text = toml::to_string(&recipe).map_err(|error| mismatch(format!("it cannot be written: {error}")))?;
        let recipe = recipe::parse(&registry, &text, &[], PLACE)?;
        let loaded = Box::new(Loaded { recipe, base: PathBuf::new(), place: PLACE.to_string() });
        let start = Start::New { loaded, dir: dir.to_path_buf(), numbered: false };
        trained(&registry, start, device, stop, group, observers)
    }

    /// Goes on with a run of this network where it stopped; gives the run when all its epochs are done. What the builder says of
    /// data, optimizer and schedule is not used: these are the run's.
    ///
    /// # Errors
    /// When the folder is no run of this network, or the training breaks off.
    pub fn resume(self, dir: impl AsRef<Path>) -> Result<Run, TrainError> {
        let registry = self.registry();
        let Self { device, observers, stop, group, .. } = self;
        let start = Start::Resume { dir: dir.as_ref().to_path_buf(), which: Which::Last, set: Vec::new() };
        trained(&registry, start, device, stop, group, observers)
    }

    fn registry(&self) -> Registry {
        let config = self.config.clone();
        Registry::built_in().with_entry(entry(C::NAME, "", move || config.clone()))
    }
}

fn trained(
    registry: &Registry,
    start: Start,
    device: DeviceName,
    stop: Arc<AtomicBool>,
    group: Option<Arc<Group>>,
    observers: Observers,
) -> Result<Run, TrainError> {
    let session = Session::of_rank(registry, start, device, stop, group.clone())?;
    let session = if session.is_first() { session.observed_by(observers) } else { session };
    let (_, run) = session.run()?;
    // What rank 0 writes is there when it comes here.
    if let Some(group) = group {
        group.gather(&[])?;
    }
    Ok(run)
}

fn mismatch(problem: String) -> TrainError {
    TrainError::Mismatch { place: PLACE.to_string(), problem }
}

/// A recipe for a network where nothing is said.
fn standard<C: ModelConfig>(config: &C) -> Result<Recipe, TrainError> {
    let keys = match serde_json::to_value(config) {
        Ok(serde_json::Value::Object(keys)) => keys,
        Ok(_) => return Err(mismatch(format!("the configuration of '{}' has no named fields", C::NAME))),
        Err(error) => return Err(mismatch(format!("the configuration of '{}' cannot be written: {error}", C::NAME))),
    };
    Ok(Recipe {
        name: C::NAME.to_string(),
        model: ModelSection { name: C::NAME.to_string(), config: keys },
        data: DataConfig::new(DatasetName::FASHION_MNIST_SAMPLE),
        optimizer: OptimizerConfig::new("adam", &Default::default())?,
        scheduler: SchedulerConfig::default(),
        train: TrainSection::default(),
        checkpoint: CheckpointSection::default(),
    })
}
