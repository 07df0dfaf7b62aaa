//! A checkpoint as PyTorch users save one: a dictionary of the epoch, the model's and the optimizer's state, and the loss.

use burn::optim::OptimizerRecord;
use burn::tensor::Bytes;
use rekindle_state::{Key, StateDict, Value};

use super::recipe::Mode;
use super::{Recipe, TrainError, recipe, recipe_of, restored, trained_parameters};
use crate::checkpoint::{Contents, Manifest};
use crate::models::{Architecture, GraphConfig, Network, Registry, weights};
use crate::optim::{self, Group, ParameterInfo, Per, Schedule};

/// A checkpoint with its network and parameter groups.
pub struct Snapshot {
    /// The network with its weights, on the CPU.
    pub network: Network,
    /// The recipe that it was trained with.
    pub recipe: Recipe,
    /// The table of parameters.
    pub parameters: Vec<ParameterInfo>,
    /// The parameter groups with the learning rates of the next step.
    pub groups: Vec<Group>,
    architecture: Architecture,
    /// The schedule and how often it was stepped, if the learning rate changes.
    schedule: Option<(Schedule, u64)>,
}

impl Snapshot {
    /// Rebuilds what a checkpoint holds.
    ///
    /// # Errors
    /// When the recipe cannot be used or the weights do not fit it.
    pub fn new(registry: &Registry, contents: &Contents, place: &str) -> Result<Self, TrainError> {
        let recipe = recipe_of(contents, place)?;
        let architecture = recipe::architecture(registry, &recipe)?;
        let network = restored(&architecture, contents, place)?;
        let parameters = trained_parameters(&network);
        let mut groups = recipe.optimizer.resolve(&parameters)?;
        let schedule = schedule(&recipe, &contents.manifest);
        if let Some((schedule, count)) = &schedule {
            for group in &mut groups {
                let base = group.lr;
                // PyTorch's class that follows a metric keeps none.
                group.initial_lr = (!schedule.curve.is_measured()).then(|| schedule.curve.initial_lr(base));
                group.lr = schedule.lr(base, *count);
            }
        }
        Ok(Self { network, recipe, parameters, groups, architecture, schedule })
    }

    /// The model's state dict, with PyTorch's `_metadata`.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn model(&self) -> Result<StateDict, TrainError> {
        let mut dict = weights::to_state_dict(&self.network)?;
        self.architecture.get::<GraphConfig>().map_or(Ok(()), |config| config.complete(&mut dict))?;
        dict.set_metadata(Some(weights::metadata(&self.network)));
        Ok(dict)
    }

    /// The optimizer's state dict, with the names of parameters as PyTorch keeps them for an optimizer of named parameters.
    ///
    /// # Errors
    /// When the checkpoint's record does not fit the model.
    pub fn optimizer(&self, contents: &Contents, place: &str) -> Result<StateDict, TrainError> {
        let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(contents.optimizer()?.to_vec()));
        let record = record.map_err(|error| TrainError::Mismatch {
            place: place.to_string(),
            problem: format!("optimizer.bpk cannot be read: {error}"),
        })?;
        let mut dict = optim::to_state_dict(record, &self.parameters, &self.groups)?;
        if let Some(Value::List(groups)) = dict.get_mut("param_groups") {
            for (group, settings) in groups.iter_mut().zip(&self.groups) {
                let members = settings.members.iter().filter_map(|&member| self.parameters.get(member));
                let names = members.map(|parameter| Value::Str(parameter.name.clone())).collect();
                if let Value::Dict(group) = group {
                    let keys = self.schedule.iter().flat_map(|(schedule, _)| schedule.curve.group_keys());
                    keys.for_each(|(key, rate)| drop(group.insert(key, rate)));
                    group.insert("param_names", Value::List(names));
                }
            }
        }
        Ok(dict)
    }

    /// Everything in one dictionary: `epoch`, `step` and `batch` (epochs, steps, and batches of an epoch under way that are done),
    /// `model_state_dict`, `optimizer_state_dict`, `scheduler_state_dict` where the learning rate changes, `loss`, `metrics`, `best`,
    /// `early_stopping`, `architecture`, `program`.
    ///
    /// # Errors
    /// As for [`Snapshot::model`] and [`Snapshot::optimizer`].
    pub fn checkpoint(&self, contents: &Contents, place: &str) -> Result<StateDict, TrainError> {
        let manifest = &contents.manifest;
        let mut dict = StateDict::new();
        dict.insert("epoch", whole(manifest.epoch as u64));
        dict.insert("step", whole(manifest.step));
        dict.insert("batch", whole(manifest.batch as u64));
        dict.insert("model_state_dict", self.model()?);
        dict.insert("optimizer_state_dict", self.optimizer(contents, place)?);
        if let Some((schedule, count)) = &self.schedule {
            // Of one that follows a metric, the rates as they are.
            let base_lrs: Vec<f64> = self.groups.iter().map(Group::base_lr).collect();
            let followed = schedule.curve.plateau().zip(self.recipe.scheduler.monitor());
            let state = match followed {
                Some((plateau, monitor)) => {
                    let seen = manifest.plateau.clone().unwrap_or_default();
                    plateau.to_state_dict(&seen, Mode::of(monitor) == Mode::Min, manifest.epoch as u64, &base_lrs)
                }
                None => schedule.to_state_dict(*count, &base_lrs),
            };
            dict.insert("scheduler_state_dict", state);
        }
        if let Some(&loss) = manifest.metrics.get("train.loss").or_else(|| manifest.metrics.get("valid.loss")) {
            dict.insert("loss", loss);
        }
        let named = |values: &mut dyn Iterator<Item = (&String, f64)>| -> StateDict {
            values.map(|(name, value)| (Key::from(name.as_str()), Value::Float(value))).collect()
        };
        dict.insert("metrics", named(&mut manifest.metrics.iter().map(|(name, &value)| (name, value))));
        if let Some(best) = &manifest.best {
            dict.insert("best", named(&mut std::iter::once((&best.metric, best.value))));
        }
        if let Some(early) = &manifest.early_stopping {
            let state = [("best", Value::Float(early.best)), ("bad_epochs", whole(early.bad_epochs as u64))];
            dict.insert("early_stopping", state.into_iter().collect::<StateDict>());
        }
        dict.insert("architecture", Value::Str(self.recipe.model.title()));
        dict.insert("program", Value::Str(manifest.program.clone()));
        Ok(dict)
    }
}

fn whole(count: u64) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

/// The schedule of a checkpoint's recipe, and how often it was stepped; none where the learning rate stays what it is.
fn schedule(recipe: &Recipe, manifest: &Manifest) -> Option<(Schedule, u64)> {
    let config = &recipe.scheduler;
    if config.is_constant() {
        return None;
    }
    let steps = manifest.batches.div_ceil(recipe.train.accumulate * manifest.ranks);
    let schedule = config.resolve(recipe.train.epochs as u64, steps as u64);
    let lowered = manifest.plateau.as_ref().map_or(0, |state| state.lowered);
    let count = if config.per == Per::Epoch { manifest.epoch as u64 } else { manifest.step };
    Some((Schedule { lowered, ..schedule }, count))
}
