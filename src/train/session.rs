//! A training with every decision made: new or resumed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use burn::module::Module;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use burn::train::logger::InMemoryMetricLogger;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};
use regex::Regex;

use super::TrainError;
use super::metrics::Score;
use super::progress::Silent;
use super::recipe::{self, Loaded, Recipe};
use super::saving::{Staging, WhenAsked};
use super::strategy::{Outcome, Standing, Strategy, step_seed};
use super::with_loss::WithLoss;
use crate::checkpoint::{CheckpointError, Contents, Policy, Run, Which};
use crate::data::{DataConfig, Loader, Split};
use crate::device::{self, DeviceName, OpenDevice};
use crate::models::import::{ImportOptions, Report, import};
use crate::models::{Architecture, Network, weights};
use crate::optim::{self, LossConfig, ParameterInfo};

/// What a session starts from.
pub enum Start {
    /// A recipe, into a new run directory.
    New {
        /// The recipe.
        loaded: Box<Loaded>,
        /// The run directory.
        dir: PathBuf,
    },
    /// A checkpoint of a run.
    Resume {
        /// The run directory.
        dir: PathBuf,
        /// The checkpoint.
        which: Which,
        /// Another number of epochs.
        epochs: Option<usize>,
    },
}

/// A training that is ready to run.
pub struct Session {
    strategy: Strategy,
    learner: Learner<Network>,
    /// What came of loading initial weights.
    pub report: Option<Report>,
    /// The device.
    pub device: OpenDevice,
}

impl Session {
    /// Makes everything ready: data, network, optimizer, run directory.
    ///
    /// # Errors
    /// With the part that is wrong.
    pub fn new(start: Start, device: DeviceName, stop: Arc<AtomicBool>) -> Result<Self, TrainError> {
        let device = device.open()?;
        match start {
            Start::New { loaded, dir } => Self::start(*loaded, &dir, device, stop),
            Start::Resume { dir, which, epochs } => Self::resume(&dir, which, epochs, device, stop),
        }
    }

    fn start(loaded: Loaded, dir: &Path, device: OpenDevice, stop: Arc<AtomicBool>) -> Result<Self, TrainError> {
        let Loaded { mut recipe, base, place } = loaded;
        anchor(&mut recipe, &base);
        let plan = Plan::new(recipe, &place)?;
        let network = fresh(&*plan.architecture, plan.recipe.train.seed);
        let (network, report) = match &plan.recipe.train.init {
            None => (network, None),
            Some(init) => {
                let options = ImportOptions { partial: init.partial, ..ImportOptions::default() };
                let (network, report) = import(network, &init.weights, &options)?;
                (network, Some(report))
            }
        };
        let text = toml::to_string(&plan.recipe).map_err(|error| plan.mismatch(format!("it cannot be written: {error}")))?;
        let create = || Run::create(dir, &text);
        let mut session = plan.session(network, None, Standing::default(), create, device, stop)?;
        session.report = report;
        Ok(session)
    }

    fn resume(dir: &Path, which: Which, epochs: Option<usize>, device: OpenDevice, stop: Arc<AtomicBool>) -> Result<Self, TrainError> {
        let run = Run::open(dir)?;
        run.clean()?;
        let checkpoint = run.find(which)?;
        let contents = checkpoint.read()?;
        let place = checkpoint.path.display().to_string();
        let mut recipe = recipe_of(&contents, &place)?;
        recipe.train.epochs = epochs.unwrap_or(recipe.train.epochs);
        let manifest = &contents.manifest;
        let standing = Standing {
            step: manifest.step,
            epoch: manifest.epoch,
            batch: manifest.batch,
            sums: manifest.sums,
            best: manifest.best.clone(),
            early: manifest.early_stopping.clone(),
            metrics: manifest.metrics.clone(),
        };
        run.forget_metrics_after(manifest.step)?;
        let plan = Plan::new(recipe, &place)?;
        let network = restored(&*plan.architecture, &contents, &place)?;
        plan.session(network, Some(contents), standing, || Ok(run), device, stop)
    }

    /// Trains until the end, an error or a signal.
    ///
    /// # Errors
    /// With the step and the reason.
    pub fn run(self) -> Result<(Outcome, Run), TrainError> {
        let Self { strategy, learner, .. } = self;
        let run = strategy.run.clone();
        let strategy = Arc::new(strategy);
        // Seeds are one for the whole process: no other training may draw from the same stream meanwhile.
        let _seeds = device::seed_lock();
        let staging = strategy.staging.clone();
        let training = SupervisedTraining::<Network>::new(
            run.path(),
            Arc::new(WithLoss::new(&strategy.train, strategy.loss)),
            Arc::new(WithLoss::new(&strategy.valid, strategy.loss)),
        )
        .with_application_logger(None)
        .with_metric_logger(InMemoryMetricLogger::default())
        .renderer(Box::new(Silent))
        .with_custom_checkpointers(staging.part(0), staging.part(1), staging.part(2))
        .with_checkpointing_strategy(WhenAsked)
        .num_epochs(strategy.recipe.train.epochs)
        .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
        let result = training.launch(learner);
        let outcome = strategy.outcome.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let step = strategy.standing.lock().unwrap_or_else(std::sync::PoisonError::into_inner).step;
        match (outcome, result.error) {
            (Some(outcome), _) => Ok((outcome?, run)),
            (None, error) => {
                let reason = error.map_or_else(|| "the learner did not start".to_string(), |error| error.to_string());
                Err(TrainError::Stopped { step, reason })
            }
        }
    }
}

/// Makes relative paths of a recipe absolute, so that a run does not depend on where it is resumed.
fn anchor(recipe: &mut Recipe, base: &Path) {
    let anchored = |path: &Path| fs::canonicalize(base.join(path)).unwrap_or_else(|_| path.to_path_buf());
    if let Some(dir) = &mut recipe.data.dir {
        *dir = anchored(dir);
    }
    if let Some(init) = &mut recipe.train.init {
        init.weights = anchored(&init.weights);
    }
}

/// The recipe that a checkpoint was trained with.
///
/// # Errors
/// When the manifest's recipe is not one.
pub fn recipe_of(contents: &Contents, place: &str) -> Result<Recipe, TrainError> {
    serde_json::from_value(contents.manifest.recipe.clone())
        .map_err(|error| TrainError::Mismatch { place: place.to_string(), problem: format!("its recipe cannot be used: {error}") })
}

/// A network with fresh weights on the CPU: the same for a seed whatever device it goes to.
pub fn fresh(architecture: &dyn Architecture, seed: u64) -> Network {
    let cpu = Device::flex();
    let _seeds = device::seed_lock();
    device::seed(&cpu, step_seed(seed, u64::MAX));
    architecture.build(&cpu).materialize()
}

/// A network with the weights of a checkpoint, on the CPU.
///
/// # Errors
/// When the record does not fit the network of the recipe.
pub fn restored(architecture: &dyn Architecture, contents: &Contents, place: &str) -> Result<Network, TrainError> {
    let broken = |error: burn::store::RecordError| TrainError::Mismatch {
        place: place.to_string(),
        problem: format!("model.bpk does not fit the recipe's model: {error}"),
    };
    let record = ModuleRecord::from_bytes(Bytes::from_bytes_vec(contents.model.clone())).map_err(broken)?;
    architecture.build(&Device::flex()).try_load_record(record).map_err(broken)
}

/// A recipe with its network's architecture, checked.
struct Plan {
    recipe: Recipe,
    architecture: Box<dyn Architecture>,
    loss: LossConfig,
    place: String,
}

impl Plan {
    fn new(recipe: Recipe, place: &str) -> Result<Self, TrainError> {
        let architecture = recipe::architecture(&recipe)?;
        let loss = recipe.loss(&*architecture);
        let plan = Self { recipe, architecture, loss, place: place.to_string() };
        if plan.architecture.classes().is_some() != plan.loss.takes_classes() {
            let gives = if plan.architecture.classes().is_some() { "classes" } else { "images" };
            return Err(plan.mismatch(format!("train.loss = \"{}\" does not fit a model that gives {gives}", plan.loss.name())));
        }
        Ok(plan)
    }

    fn mismatch(&self, problem: String) -> TrainError {
        TrainError::Mismatch { place: self.place.clone(), problem }
    }

    /// Checks that each pattern of `train.freeze` freezes something, and that something is left to train.
    fn check_freeze(&self, parameters: &[ParameterInfo]) -> Result<(), TrainError> {
        let patterns = patterns(&self.recipe.train.freeze);
        if let Some(idle) = patterns.iter().find(|pattern| !parameters.iter().any(|parameter| pattern.is_match(&parameter.name))) {
            let names: Vec<&str> = parameters.iter().take(4).map(|parameter| parameter.name.as_str()).collect();
            let names = names.join(", ");
            return Err(self.mismatch(format!("train.freeze: '{idle}' matches no parameter: the model's are {names}, …")));
        }
        let frozen = |parameter: &ParameterInfo| patterns.iter().any(|pattern| pattern.is_match(&parameter.name));
        if parameters.iter().all(frozen) {
            return Err(self.mismatch("train.freeze: every parameter of the model is frozen, nothing is left to train".into()));
        }
        Ok(())
    }

    /// Opens the data of a split and checks that it fits the network.
    fn loader(&self, split: Split, device: &Device) -> Result<Loader, TrainError> {
        let data: &DataConfig = &self.recipe.data;
        let loader = data.loader(Path::new(""), split, self.recipe.train.seed, device)?;
        check_fit(&*self.architecture, &loader, &self.place)?;
        Ok(loader)
    }

    fn session(
        self,
        network: Network,
        contents: Option<Contents>,
        standing: Standing,
        run: impl FnOnce() -> Result<Run, CheckpointError>,
        device: OpenDevice,
        stop: Arc<AtomicBool>,
    ) -> Result<Session, TrainError> {
        let training_device = device.device.clone().autodiff();
        let train = self.loader(Split::Train, &training_device)?;
        let valid = self.loader(Split::Test, &device.device)?;
        let recipe = &self.recipe;
        let network = network.train().fork(&training_device);
        let parameters = trained_parameters(&network);
        self.check_freeze(&parameters)?;
        let network = weights::freeze(network, &patterns(&recipe.train.freeze));
        let groups = recipe.optimizer.resolve(&parameters)?;
        let steps = train.num_batches() as u64;
        let schedule = recipe.scheduler.resolve(recipe.train.epochs as u64, steps);
        let interval = recipe.scheduler.interval(steps);
        let scheduler = optim::module_scheduler(&groups, &parameters, &schedule, interval, standing.step)?;
        let optimizer = optim::module_optimizer(&groups, &parameters)?;
        let optimizer = match &contents {
            None => optimizer,
            Some(contents) => load_optimizer(optimizer, contents, &self.place)?,
        };
        let section = &recipe.checkpoint;
        let policy = Policy {
            keep_last: section.keep_last,
            top_k: section.top_k,
            monitor: section.monitor.clone(),
            minimize: section.mode() == recipe::Mode::Min,
        };
        let score = if self.architecture.classes().is_some() { Score::Accuracy } else { Score::Psnr };
        let learner = Learner::new(network, optimizer, scheduler);
        // Last, so that a recipe that cannot be trained leaves no folder behind.
        let run = run()?;
        let strategy = Strategy {
            loss: self.loss,
            score,
            train,
            valid,
            device: training_device,
            device_name: device.name.clone(),
            staging: Staging::new(run.clone(), policy),
            run,
            stop,
            standing: Mutex::new(standing),
            outcome: Mutex::default(),
            recipe: self.recipe,
        };
        Ok(Session { strategy, learner, report: None, device })
    }
}

/// The recipe's patterns, which were checked when it was read.
fn patterns(patterns: &[String]) -> Vec<Regex> {
    patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
}

/// The table of parameters (buffers left out) that optimizers work by.
pub fn trained_parameters(network: &Network) -> Vec<ParameterInfo> {
    let entries = weights::entries(network).into_iter().filter(|entry| entry.trained);
    entries
        .map(|entry| ParameterInfo { id: entry.id, path: entry.path, name: entry.name, shape: entry.shape, transposed: entry.transposed })
        .collect()
}

fn load_optimizer(optimizer: ModuleOptimizer, contents: &Contents, place: &str) -> Result<ModuleOptimizer, TrainError> {
    let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(contents.optimizer.clone()))
        .map_err(|error| TrainError::Mismatch { place: place.to_string(), problem: format!("optimizer.bpk cannot be read: {error}") })?;
    Ok(optimizer.load_record(record))
}

/// Checks that images of a data set can pass a network, and that its answers are of the set's kind.
///
/// # Errors
/// With what does not fit.
pub fn check_fit(architecture: &dyn Architecture, loader: &Loader, place: &str) -> Result<(), TrainError> {
    let mismatch = |problem: String| Err(TrainError::Mismatch { place: place.to_string(), problem });
    let shape = loader.input_shape();
    architecture.check_input([shape.channels, shape.height, shape.width])?;
    let dataset = loader.dataset();
    match (architecture.classes(), dataset.target_shape()) {
        (Some(classes), None) if dataset.num_classes() > classes => {
            mismatch(format!("the data has {} classes, the model only {classes}: set model.classes", dataset.num_classes()))
        }
        (Some(_), Some(_)) => mismatch(format!("the model gives classes, the data ({}) pairs of images", dataset.name())),
        (None, None) => mismatch(format!("the model gives images, the data ({}) classes", dataset.name())),
        (None, Some(target)) => match architecture.upscale_factor() {
            Some(factor) if (target.height, target.width) != (shape.height * factor, shape.width * factor) => mismatch(format!(
                "the model enlarges {}×{} by {factor}, the data has targets of {}×{}: set data.upscale_factor and model.upscale_factor alike",
                shape.height, shape.width, target.height, target.width
            )),
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}
