//! How a training begins: anew, from a checkpoint, or again because it died before its first one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use burn::tensor::Device;

use super::TrainError;
use super::changes::Changes;
use super::plan::Plan;
use super::ranks;
use super::ready::Here;
use super::recipe::{self, Loaded};
use super::restore::{drawn, recipe_of, restored};
use super::session::Session;
use super::standing::Standing;
use crate::checkpoint::{CheckpointError, Contents, Newest, RECIPE, Run, RunWriter, Which};
use crate::device::DeviceName;
use crate::distributed::Group;
use crate::models::Registry;
use crate::models::import::{ImportOptions, import};

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
