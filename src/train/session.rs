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
use super::nccl;
use super::plan::{Plan, Position};
use super::ranks;
use super::recipe::{self, Loaded};
use super::restore::{drawn, recipe_of, restored};
use super::saving::{Staging, WhenAsked};
use super::silent::Silent;
use super::standing::Standing;
use super::strategy::{Outcome, Strategy};
use super::tensorboard::TensorBoard;
use super::with_loss::WithLoss;
use crate::checkpoint::{CheckpointError, Contents, Newest, RECIPE, Run, RunWriter, Which};
use crate::data::Split;
use crate::device::{self, DeviceName, OpenDevice};
use crate::distributed::Group;
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
        Self::of_rank(registry, start, device, stop, None)
    }

    /// The same as one of several ranks that train together: each calls this and [`Session::run`], with the same start. Rank 0
    /// alone writes.
    ///
    /// # Errors
    /// With the part that is wrong, on every rank: also when ranks were started with different things.
    pub fn of_rank(
        registry: &Registry,
        start: Start,
        device: DeviceName,
        stop: Arc<AtomicBool>,
        group: Option<Arc<Group>>,
    ) -> Result<Self, TrainError> {
        let device = match &group {
            Some(group) => group.agree(device.open())?,
            None => device.open()?,
        };
        let here = Here { device, stop, group };
        match start {
            Start::New { loaded, dir, numbered } => {
                let create = |recipe: &str| {
                    if numbered { RunWriter::create_numbered(&dir, recipe) } else { RunWriter::create(&dir, recipe) }
                };
                Self::start(registry, *loaded, create, here)
            }
            Start::Resume { dir, which, set } => Self::resume(registry, &dir, which, &set, here),
        }
    }

    fn start(
        registry: &Registry,
        loaded: Loaded,
        create: impl FnOnce(&str) -> Result<RunWriter, CheckpointError>,
        here: Here,
    ) -> Result<Self, TrainError> {
        let made = here.agree(|| {
            let Loaded { mut recipe, base, place } = loaded;
            recipe.anchor(&base);
            let ranks = here.ranks();
            recipe.divide(ranks).map_err(|problem| TrainError::Mismatch { place: place.clone(), problem })?;
            let plan = Plan::new(registry, recipe, &place)?;
            // What is loaded is never drawn.
            let network = plan.architecture.build(&Device::flex());
            let (network, report) = match plan.recipe.train.init.as_ref().filter(|_| here.is_first()) {
                None => (network, None),
                Some(init) => {
                    let options = ImportOptions { partial: init.partial, ..ImportOptions::default() };
                    let (network, report) = import(network, &Run::model_file(&init.weights)?, &options)?;
                    (network, Some(report))
                }
            };
            let network = drawn(network, plan.recipe.train.seed);
            let text = toml::to_string(&plan.recipe);
            let text = text.map_err(|error| plan.mismatch(format!("it cannot be written: {error}")))?;
            Ok((plan, network, report, text))
        });
        let (plan, network, report, text) = made?;
        let network = match &here.group {
            Some(group) => {
                ranks::check_recipe(group, &plan.recipe)?;
                ranks::same_weights(group, network)?
            }
            None => network,
        };
        let mut session = plan.session(network, None, Standing::default(), || create(&text), here)?;
        session.report = report;
        Ok(session)
    }

    fn resume(registry: &Registry, dir: &Path, which: Which, set: &[String], here: Here) -> Result<Self, TrainError> {
        let found = here.agree(|| if here.is_first() { Found::look(dir, which).map(Some) } else { Ok(None) })?;
        let restart = found.as_ref().is_some_and(|found| matches!(found, Found::Nothing(_)));
        let restart = match &here.group {
            Some(group) => group.any(restart)?,
            None => restart,
        };
        if restart {
            let writer = found.map(Found::into_writer);
            return Self::restart(registry, dir, writer, set, here);
        }
        let (writer, contents, passed_over) = match found {
            Some(Found::Checkpoint { writer, contents, passed_over }) => (Some(writer), Some(*contents), passed_over),
            _ => (None, None, Vec::new()),
        };
        let contents = match (&here.group, contents) {
            (Some(group), contents) => ranks::same_contents(group, contents)?,
            (None, Some(contents)) => contents,
            (None, None) => return Err(CheckpointError::NoRun { path: dir.to_path_buf() }.into()),
        };
        let place = contents.path.display().to_string();
        let mut notes: Vec<String> = passed_over.iter().map(ToString::to_string).collect();
        if !notes.is_empty() {
            notes.push(format!("going on from {place}, the newest checkpoint that is whole"));
        }
        let made = here.agree(|| {
            let recipe = recipe_of(&contents, &place)?;
            let batch_size = recipe.data.batch_size;
            let mut recipe = if set.is_empty() { recipe } else { recipe::changed(registry, &recipe, set, &place)? };
            // From the command line, a path starts from where the user is.
            recipe.anchor(Path::new(""));
            recipe.divide(here.ranks()).map_err(|problem| TrainError::Mismatch { place: place.clone(), problem })?;
            let manifest = &contents.manifest;
            let changes = Changes::new(manifest, &recipe, &here.device.name, here.ranks());
            let standing = Standing {
                step: manifest.step,
                epoch: manifest.epoch,
                // In batches of another size, the same images have been seen, or up to a batch fewer.
                batch: manifest.batch * batch_size / recipe.data.batch_size,
                sums: manifest.sums,
                best: manifest.best.clone(),
                early: manifest.early_stopping.clone(),
                plateau: manifest.plateau.clone(),
                metrics: manifest.metrics.clone(),
            };
            let told = changes.sentences(&recipe);
            let plan = Plan::new(registry, recipe, &place)?;
            changes.check(&plan, &place)?;
            let network = restored(&plan.architecture, &contents, &place)?;
            Ok((plan, network, standing, told))
        });
        let (plan, network, standing, told) = made?;
        if let Some(group) = &here.group {
            ranks::check_recipe(group, &plan.recipe)?;
        }
        if !told.is_empty() {
            notes.push(told.join("; "));
        }
        let create = || writer.ok_or_else(|| CheckpointError::NoRun { path: dir.to_path_buf() });
        let mut session = plan.session(network, Some(contents), standing, create, here)?;
        session.notes = notes;
        Ok(session)
    }

    /// A run that died before its first checkpoint starts again from its recipe.
    fn restart(
        registry: &Registry,
        dir: &Path,
        writer: Option<RunWriter>,
        set: &[String],
        here: Here,
    ) -> Result<Self, TrainError> {
        // The folder need not be there on every machine: the recipe is that of rank 0's.
        let text = here.agree(|| match &writer {
            Some(writer) => {
                let path = writer.path().join(RECIPE);
                std::fs::read(&path).map_err(|error| CheckpointError::io("read it", &path, &error).into())
            }
            None => Ok(Vec::new()),
        })?;
        let text = match &here.group {
            Some(group) => group.broadcast(&text)?,
            None => text,
        };
        let place = dir.join(RECIPE).display().to_string();
        let recipe = here.agree(|| Ok(recipe::parse(registry, &String::from_utf8_lossy(&text), set, &place)?))?;
        let loaded = Loaded { recipe, base: dir.to_path_buf(), place };
        let note = format!("{}: there is no checkpoint yet: starting from the run's recipe", dir.display());
        let create = |_: &str| writer.ok_or_else(|| CheckpointError::NoRun { path: dir.to_path_buf() });
        let mut session = Self::start(registry, loaded, create, here)?;
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

    /// Whether this process writes and prints: of several ranks, rank 0 does.
    pub fn is_first(&self) -> bool {
        self.strategy.share.rank == 0
    }

    /// Processes that train together.
    pub fn ranks(&self) -> usize {
        self.strategy.share.ranks
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
        let _seeds = strategy.group.as_ref().is_none_or(|group| group.is_first()).then(device::seed_lock);
        let training = SupervisedTraining::<Network>::new(
            run.path(),
            Arc::new(WithLoss::new(&strategy.train, &strategy.objective)),
            Arc::new(WithLoss::new(&strategy.valid, &strategy.objective)),
        )
        .with_application_logger(None)
        .with_metric_logger(InMemoryMetricLogger::default())
        .renderer(Box::new(Silent))
        .with_checkpointing_strategy(WhenAsked)
        .num_epochs(strategy.recipe.train.epochs)
        .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
        let training = match &strategy.staging {
            Some(staging) => training.with_custom_checkpointers(staging.part(0), staging.part(1), staging.part(2)),
            None => training,
        };
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

/// What a process brings to a session.
struct Here {
    device: OpenDevice,
    stop: Arc<AtomicBool>,
    group: Option<Arc<Group>>,
}

impl Here {
    /// Ranks that train together.
    fn ranks(&self) -> usize {
        self.group.as_ref().map_or(1, |group| group.size())
    }

    /// Whether this rank writes.
    fn is_first(&self) -> bool {
        self.group.as_ref().is_none_or(|group| group.is_first())
    }

    /// Does something that may fail on one rank and not on others: all of them fail then.
    fn agree<T>(&self, make: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
        match &self.group {
            Some(group) => Ok(group.agree(make())?),
            None => make(),
        }
    }
}

/// What a run directory holds to go on from.
enum Found {
    /// The run died before its first checkpoint.
    Nothing(RunWriter),
    /// A checkpoint, and newer ones that cannot be used.
    Checkpoint { writer: RunWriter, contents: Box<Contents>, passed_over: Vec<CheckpointError> },
}

impl Found {
    fn look(dir: &Path, which: Which) -> Result<Self, TrainError> {
        let writer = RunWriter::open(dir)?;
        if writer.checkpoints().is_empty() && which == Which::Last {
            return Ok(Self::Nothing(writer));
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
        Ok(Self::Checkpoint { writer, contents: Box::new(contents), passed_over })
    }

    fn into_writer(self) -> RunWriter {
        match self {
            Self::Nothing(writer) | Self::Checkpoint { writer, .. } => writer,
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
        here: Here,
    ) -> Result<Session, TrainError> {
        let share = ranks::share(here.group.as_deref());
        let window = self.recipe.train.accumulate * share.ranks;
        let made = here.agree(|| {
            if self.recipe.train.sync_batch_norm {
                ranks::check_norms(&network).map_err(|problem| self.mismatch(problem))?;
            }
            let training_device = here.device.device.clone().autodiff();
            let train = self.loader(Split::Train, &training_device)?;
            let valid = self.loader(Split::Test, &here.device.device)?;
            let state = contents.as_ref().map(Contents::optimizer).transpose()?;
            let learner = self.learner(
                network,
                state,
                Position {
                    step: standing.step,
                    epoch: standing.epoch,
                    batch: standing.batch.div_ceil(window),
                    lowered: standing.lowered(),
                },
                train.num_batches().div_ceil(window),
                &training_device,
            )?;
            Ok((training_device, train, valid, learner))
        });
        let (training_device, train, valid, learner) = made?;
        if let Some(group) = &here.group {
            ranks::check_data(group, [&train, &valid])?;
        }
        let policy = self.recipe.checkpoint.clone();
        // Last, so that a recipe that cannot be trained leaves no folder behind.
        let writer = here.agree(|| Ok(if here.is_first() { Some(Arc::new(run()?)) } else { None }))?;
        let path = writer.as_ref().map(|writer| writer.path().to_path_buf()).unwrap_or_default();
        let path = match &here.group {
            Some(group) => PathBuf::from(
                String::from_utf8_lossy(&group.broadcast(path.to_string_lossy().as_bytes())?).into_owned(),
            ),
            None => path,
        };
        let observers = Observers::default();
        if let Some(writer) = writer.as_ref().filter(|_| self.recipe.train.tensorboard) {
            let path = writer.run().path();
            let events = TensorBoard::create(path, standing.step);
            observers.add(events.map_err(|error| CheckpointError::io("write events for TensorBoard", path, &error))?);
        }
        let devices = match &here.group {
            Some(group) => nccl::devices(group, &here.device)?,
            None => None,
        };
        let strategy = Strategy {
            objective: self.objective,
            train,
            valid,
            device: training_device,
            device_name: here.device.name.clone(),
            run: Run::at(&path),
            staging: writer.map(|writer| Staging::new(writer, policy, observers.clone())),
            group: here.group,
            devices,
            share,
            window,
            observers,
            stop: here.stop,
            observer: None,
            standing: Mutex::new(standing),
            outcome: Mutex::default(),
            recipe: self.recipe,
        };
        Ok(Session { strategy, learner, report: None, notes: Vec::new(), device: here.device })
    }
}
