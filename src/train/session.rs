//! A training with every decision made: new or resumed.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use burn::tensor::Device;
use burn::train::logger::InMemoryMetricLogger;
use burn::train::{Learner, SupervisedTraining, TrainingStrategy};

use super::TrainError;
use super::changes::Changes;
use super::events::{Event, Observer, Observers};
use super::plan::{Plan, Position};
use super::recipe::{self, Loaded};
use super::restore::{drawn, recipe_of, restored};
use super::saving::{Staging, WhenAsked};
use super::silent::Silent;
use super::strategy::{Outcome, Standing, Strategy};
use super::tensorboard::TensorBoard;
use super::with_loss::WithLoss;
use crate::checkpoint::{CheckpointError, Contents, Newest, Policy, RECIPE, Run, RunWriter, Which};
use crate::data::Split;
use crate::device::{self, DeviceName, OpenDevice};
use crate::models::import::{ImportOptions, Report, import};
use crate::models::{Network, Registry};
use crate::tasks::Metric;

/// What a session starts from.
pub enum Start {
    /// A recipe, into a new run directory.
    New {
        /// The recipe.
        loaded: Box<Loaded>,
        /// The run directory.
        dir: PathBuf,
        /// Whether a number is put behind its name when it is there already.
        numbered: bool,
    },
    /// A checkpoint of a run.
    Resume {
        /// The run directory.
        dir: PathBuf,
        /// The checkpoint.
        which: Which,
        /// Keys of the recipe that change, as `train.epochs=10`.
        set: Vec<String>,
    },
}

/// A training that is ready to run.
pub struct Session {
    strategy: Strategy,
    learner: Learner<Network>,
    /// What came of loading initial weights.
    pub report: Option<Report>,
    /// What was found on the way and should be told: newer checkpoints that cannot be used.
    pub notes: Vec<String>,
    /// The device.
    pub device: OpenDevice,
}

impl Session {
    /// Makes everything ready: data, network, optimizer, run directory.
    ///
    /// # Errors
    /// With the part that is wrong.
    pub fn new(
        registry: &Registry,
        start: Start,
        device: DeviceName,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TrainError> {
        let device = device.open()?;
        match start {
            Start::New { loaded, dir, numbered } => {
                let create = |recipe: &str| {
                    if numbered { RunWriter::create_numbered(&dir, recipe) } else { RunWriter::create(&dir, recipe) }
                };
                Self::start(registry, *loaded, create, device, stop)
            }
            Start::Resume { dir, which, set } => Self::resume(registry, &dir, which, &set, device, stop),
        }
    }

    fn start(
        registry: &Registry,
        loaded: Loaded,
        create: impl FnOnce(&str) -> Result<RunWriter, CheckpointError>,
        device: OpenDevice,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TrainError> {
        let Loaded { mut recipe, base, place } = loaded;
        recipe.anchor(&base);
        let plan = Plan::new(registry, recipe, &place)?;
        // What is loaded is never drawn.
        let network = plan.architecture.build(&Device::flex());
        let (network, report) = match &plan.recipe.train.init {
            None => (network, None),
            Some(init) => {
                let options = ImportOptions { partial: init.partial, ..ImportOptions::default() };
                let (network, report) = import(network, &Run::model_file(&init.weights)?, &options)?;
                (network, Some(report))
            }
        };
        let network = drawn(network, plan.recipe.train.seed);
        let text =
            toml::to_string(&plan.recipe).map_err(|error| plan.mismatch(format!("it cannot be written: {error}")))?;
        let mut session = plan.session(network, None, Standing::default(), || create(&text), device, stop)?;
        session.report = report;
        Ok(session)
    }

    fn resume(
        registry: &Registry,
        dir: &Path,
        which: Which,
        set: &[String],
        device: OpenDevice,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TrainError> {
        let writer = RunWriter::open(dir)?;
        if writer.checkpoints().is_empty() && which == Which::Last {
            return Self::restart(registry, writer, set, device, stop);
        }
        let (contents, passed_over) = match which {
            Which::Last => {
                let Newest { contents, passed_over } = writer.newest_whole()?;
                (contents, passed_over)
            }
            _ => {
                let (_, contents) = writer.load(which)?;
                contents.optimizer()?;
                (contents, Vec::new())
            }
        };
        let place = contents.path.display().to_string();
        let recipe = recipe_of(&contents, &place)?;
        let batch_size = recipe.data.batch_size;
        let mut recipe = if set.is_empty() { recipe } else { recipe::changed(registry, &recipe, set, &place)? };
        // From the command line, a path starts from where the user is.
        recipe.anchor(Path::new(""));
        let manifest = &contents.manifest;
        let changes = Changes::new(manifest, &recipe, &device.name);
        let standing = Standing {
            step: manifest.step,
            epoch: manifest.epoch,
            // In batches of another size, the same images have been seen, or up to a batch fewer.
            batch: manifest.batch * batch_size / recipe.data.batch_size,
            sums: manifest.sums,
            best: manifest.best.clone(),
            early: manifest.early_stopping.clone(),
            metrics: manifest.metrics.clone(),
        };
        let mut notes: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
        if !notes.is_empty() {
            notes.push(format!("going on from {place}, the newest checkpoint that is whole"));
        }
        let told = changes.sentences(&recipe);
        if !told.is_empty() {
            notes.push(told.join("; "));
        }
        let plan = Plan::new(registry, recipe, &place)?;
        changes.check(&plan, &place)?;
        let network = restored(&plan.architecture, &contents, &place)?;
        let mut session = plan.session(network, Some(contents), standing, || Ok(writer), device, stop)?;
        session.notes = notes;
        Ok(session)
    }

    /// A run that died before its first checkpoint starts again from its recipe.
    fn restart(
        registry: &Registry,
        writer: RunWriter,
        set: &[String],
        device: OpenDevice,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, TrainError> {
        let loaded = recipe::load(registry, &writer.path().join(RECIPE), set)?;
        let note = format!("{}: there is no checkpoint yet: starting from the run's recipe", writer.path().display());
        let mut session = Self::start(registry, loaded, |_| Ok(writer), device, stop)?;
        session.notes.push(note);
        Ok(session)
    }

    /// Listens to the training. May be called several times.
    #[must_use]
    pub fn observe(self, observer: impl Observer + 'static) -> Self {
        self.strategy.observers.add(observer);
        self
    }

    /// Tells these observers of the training, too.
    pub(super) fn observed_by(self, observers: Observers) -> Self {
        self.observe(move |event: &Event| observers.tell(event))
    }

    /// The run directory.
    pub fn path(&self) -> &Path {
        self.strategy.run.path()
    }

    /// What the training is measured by.
    pub fn metric(&self) -> &'static Metric {
        &self.strategy.objective.task.kind().metric
    }

    /// Calls something with the number of each step (from 1), on the thread that trains: its gradients are known, and the weights
    /// have not moved yet. A panic in it ends the training as a panic of the step itself does.
    #[must_use]
    pub fn on_step(mut self, observer: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.strategy.observer = Some(Box::new(observer));
        self
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
            Arc::new(WithLoss::new(&strategy.train, &strategy.objective)),
            Arc::new(WithLoss::new(&strategy.valid, &strategy.objective)),
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

impl Plan {
    fn session(
        self,
        network: Network,
        contents: Option<Contents>,
        standing: Standing,
        run: impl FnOnce() -> Result<RunWriter, CheckpointError>,
        device: OpenDevice,
        stop: Arc<AtomicBool>,
    ) -> Result<Session, TrainError> {
        let training_device = device.device.clone().autodiff();
        let train = self.loader(Split::Train, &training_device)?;
        let valid = self.loader(Split::Test, &device.device)?;
        let state = contents.as_ref().map(Contents::optimizer).transpose()?;
        let learner = self.learner(
            network,
            state,
            Position { step: standing.step, epoch: standing.epoch, batch: standing.batch },
            train.num_batches(),
            &training_device,
        )?;
        let section = &self.recipe.checkpoint;
        let policy = Policy {
            keep_last: (!section.keep_all).then_some(section.keep_last),
            top_k: section.top_k,
            monitor: section.monitor.clone(),
            minimize: section.mode() == recipe::Mode::Min,
            max_total: section.max_total_size.map(|size| size.0),
        };
        // Last, so that a recipe that cannot be trained leaves no folder behind.
        let writer = Arc::new(run()?);
        let observers = Observers::default();
        if self.recipe.train.tensorboard {
            let path = writer.run().path();
            let events = TensorBoard::create(path, standing.step);
            observers.add(events.map_err(|error| CheckpointError::io("write events for TensorBoard", path, &error))?);
        }
        let strategy = Strategy {
            objective: self.objective,
            train,
            valid,
            device: training_device,
            device_name: device.name.clone(),
            backend: device.backend,
            run: writer.run().clone(),
            staging: Staging::new(writer, policy, observers.clone()),
            observers,
            stop,
            observer: None,
            standing: Mutex::new(standing),
            outcome: Mutex::default(),
            recipe: self.recipe,
        };
        Ok(Session { strategy, learner, report: None, notes: Vec::new(), device })
    }
}
