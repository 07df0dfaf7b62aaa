//! A checkpoint as PyTorch users save one: a dictionary of the epoch, the model's and the optimizer's state, and the loss.

use burn::optim::OptimizerRecord;
use burn::tensor::Bytes;
use rekindle_state::{StateDict, Value};

use super::{Recipe, TrainError, recipe, recipe_of, restored, trained_parameters};
use crate::checkpoint::{Contents, Manifest};
use crate::models::{Network, weights};
use crate::optim::{self, Curve, Group, ParameterInfo, Per};

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
}

impl Snapshot {
    /// Rebuilds what a checkpoint holds.
    ///
    /// # Errors
    /// When the recipe cannot be used or the weights do not fit it.
    pub fn new(contents: &Contents, place: &str) -> Result<Self, TrainError> {
        let recipe = recipe_of(contents, place)?;
        let architecture = recipe::architecture(&recipe)?;
        let network = restored(&*architecture, contents, place)?;
        let parameters = trained_parameters(&network);
        let mut groups = recipe.optimizer.resolve(&parameters)?;
        advance(&mut groups, &recipe, &contents.manifest);
        Ok(Self { network, recipe, parameters, groups })
    }

    /// The model's state dict, with PyTorch's `_metadata`.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn model(&self) -> Result<StateDict, TrainError> {
        let mut dict = weights::to_state_dict(&self.network)?;
        dict.set_metadata(Some(weights::metadata(&self.network)));
        Ok(dict)
    }

    /// The optimizer's state dict.
    ///
    /// # Errors
    /// When the checkpoint's record does not fit the model.
    pub fn optimizer(&self, contents: &Contents, place: &str) -> Result<StateDict, TrainError> {
        let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(contents.optimizer()?.to_vec()));
        let record = record.map_err(|error| TrainError::Mismatch {
            place: place.to_string(),
            problem: format!("optimizer.bpk cannot be read: {error}"),
        })?;
        Ok(optim::to_state_dict(record, &self.parameters, &self.groups)?)
    }

    /// Everything in one dictionary: `epoch`, `step`, `model_state_dict`, `optimizer_state_dict`, `loss`, `metrics`, `architecture`.
    ///
    /// # Errors
    /// As for [`Snapshot::model`] and [`Snapshot::optimizer`].
    pub fn checkpoint(&self, contents: &Contents, place: &str) -> Result<StateDict, TrainError> {
        let manifest = &contents.manifest;
        let mut dict = StateDict::new();
        dict.insert("epoch", manifest.epoch as i64);
        dict.insert("step", i64::try_from(manifest.step).unwrap_or(i64::MAX));
        dict.insert("model_state_dict", self.model()?);
        dict.insert("optimizer_state_dict", self.optimizer(contents, place)?);
        if let Some(&loss) = manifest.metrics.get("train.loss").or_else(|| manifest.metrics.get("valid.loss")) {
            dict.insert("loss", loss);
        }
        let mut metrics = StateDict::new();
        for (name, &value) in &manifest.metrics {
            metrics.insert(name.as_str(), value);
        }
        dict.insert("metrics", metrics);
        dict.insert("architecture", Value::Str(self.recipe.model.title()));
        Ok(dict)
    }
}

/// Gives the groups the learning rates that a schedule has reached.
fn advance(groups: &mut [Group], recipe: &Recipe, manifest: &Manifest) {
    let done = manifest.step.saturating_sub(manifest.batch as u64);
    // Before the first epoch is over nothing says how long an epoch is; a schedule by epochs has not moved then.
    let steps_per_epoch = done.checked_div(manifest.epoch as u64).unwrap_or(u64::MAX);
    let schedule = recipe.scheduler.resolve(recipe.train.epochs as u64, steps_per_epoch);
    if matches!(schedule.curve, Curve::Constant) && schedule.warmup.is_none() {
        return;
    }
    let count = match recipe.scheduler.per {
        Per::Epoch => manifest.epoch as u64,
        Per::Step => manifest.step,
    };
    for group in groups {
        let base = group.lr;
        group.initial_lr = Some(base);
        group.lr = schedule.lr(base, count);
    }
}
