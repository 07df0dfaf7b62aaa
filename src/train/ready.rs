//! The last decisions before a training runs, which ranks take together: learner, data, run directory.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::TrainError;
use super::events::Observers;
use super::nccl;
use super::plan::{Plan, Position};
use super::ranks;
use super::saving::Staging;
use super::session::Session;
use super::standing::Standing;
use super::strategy::Strategy;
use super::tensorboard::TensorBoard;
use crate::checkpoint::{CheckpointError, Contents, Run, RunWriter};
use crate::data::Split;
use crate::device::OpenDevice;
use crate::distributed::Group;
use crate::models::Network;

/// What a process brings to a session.
pub(super) struct Here {
    pub(super) device: OpenDevice,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) group: Option<Arc<Group>>,
}

impl Here {
    /// Ranks that train together.
    pub(super) fn ranks(&self) -> usize {
        self.group.as_ref().map_or(1, |group| group.size())
    }

    /// Whether this rank writes.
    pub(super) fn is_first(&self) -> bool {
        self.group.as_ref().is_none_or(|group| group.is_first())
    }

    /// Does something that may fail on one rank and not on others: all of them fail then.
    pub(super) fn agree<T>(&self, make: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
        match &self.group {
            Some(group) => Ok(group.agree(make())?),
            None => make(),
        }
    }
}

impl Plan {
    /// The session that trains it, of a network and of what a checkpoint holds besides; `run` makes or opens the run directory.
    pub(super) fn session(
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
