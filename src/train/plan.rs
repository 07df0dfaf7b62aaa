//! A recipe with its network's architecture, and what is made of them: loaders, and the learner that trains.

use std::path::Path;

use burn::lr_scheduler::module_lr_scheduler::ModuleLrScheduler;
use burn::module::Module;
use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn::tensor::{Bytes, Device};
use burn::train::Learner;
use regex::Regex;

use super::TrainError;
use super::recipe::{self, Recipe};
use super::restore::{check_fit, trained_parameters};
use crate::data::{DataConfig, Loader, Split};
use crate::models::{Architecture, Network, Registry, weights};
use crate::optim::{self, ParameterInfo, Per, Schedule};
use crate::tasks::Objective;

/// A recipe with its network's architecture, checked.
pub struct Plan {
    /// The recipe.
    pub recipe: Recipe,
    /// Its network.
    pub architecture: Architecture,
    /// The network's task with the recipe's loss, or the one that fits the network.
    pub objective: Objective,
    /// Where the recipe comes from, for messages.
    pub place: String,
}

/// How far a training has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// Optimizer steps done.
    pub step: u64,
    /// Epochs completed.
    pub epoch: usize,
    /// Batches done in the epoch after those.
    pub batch: usize,
    /// How often a schedule that follows a metric has lowered the rate.
    pub lowered: u64,
}

impl Position {
    /// How often Burn's learner would have stepped a scheduler, had every epoch had this many batches.
    pub(super) fn calls(self, per: Per, batches: usize) -> u64 {
        match per {
            // An epoch that had another number of batches is an epoch all the same.
            Per::Epoch => (self.epoch * batches + self.batch) as u64,
            Per::Step => self.step,
        }
    }
}

impl Plan {
    /// Checks that the parts of a recipe fit each other.
    ///
    /// # Errors
    /// With what does not.
    pub fn new(registry: &Registry, recipe: Recipe, place: &str) -> Result<Self, TrainError> {
        let architecture = recipe::architecture(registry, &recipe)?;
        let objective = recipe.objective(&architecture);
        let plan = Self { recipe, architecture, objective, place: place.to_string() };
        let Objective { task, loss } = &plan.objective;
        task.check_loss(*loss).map_err(|problem| plan.mismatch(format!("train.loss = {problem}")))?;
        Ok(plan)
    }

    pub(super) fn mismatch(&self, problem: String) -> TrainError {
        TrainError::Mismatch { place: self.place.clone(), problem }
    }

    /// Checks that each pattern of `train.freeze` freezes something, and that something is left to train.
    fn check_freeze(&self, parameters: &[ParameterInfo]) -> Result<(), TrainError> {
        let patterns = patterns(&self.recipe.train.freeze);
        if let Some(idle) =
            patterns.iter().find(|pattern| !parameters.iter().any(|parameter| pattern.is_match(&parameter.name)))
        {
            let names: Vec<&str> = parameters.iter().take(4).map(|parameter| parameter.name.as_str()).collect();
            let names = names.join(", ");
            return Err(
                self.mismatch(format!("train.freeze: '{idle}' matches no parameter: the model's are {names}, …"))
            );
        }
        let frozen = |parameter: &ParameterInfo| patterns.iter().any(|pattern| pattern.is_match(&parameter.name));
        if parameters.iter().all(frozen) {
            return Err(
                self.mismatch("train.freeze: every parameter of the model is frozen, nothing is left to train".into())
            );
        }
        Ok(())
    }

    /// Whether a parameter is kept from moving.
    pub(super) fn is_frozen(&self, name: &str) -> bool {
        patterns(&self.recipe.train.freeze).iter().any(|pattern| pattern.is_match(name))
    }

    /// Opens the data of a split and checks that it fits the network.
    pub(super) fn loader(&self, split: Split, device: &Device) -> Result<Loader, TrainError> {
        let data: &DataConfig = &self.recipe.data;
        let loader = data.loader(Path::new(""), split, self.recipe.train.seed, device)?;
        check_fit(&self.architecture, &loader, &self.place)?;
        Ok(loader)
    }

    /// The learner that trains a network from a position on, with the optimizer's state (`optimizer.bpk`) if it has one already.
    ///
    /// # Errors
    /// When the optimizer does not fit the network, or its state cannot be read.
    pub fn learner(
        &self,
        network: Network,
        state: Option<&[u8]>,
        at: Position,
        batches: usize,
        device: &Device,
    ) -> Result<Learner<Network>, TrainError> {
        let calls = at.calls(self.recipe.scheduler.per, batches);
        // The scheduler's last step is taken again, so that the learner knows the rate that it has come to.
        let before = calls.saturating_sub(1);
        let Parts { network, optimizer, scheduler } = self.parts(network, before, at.lowered, batches, device)?;
        let optimizer = match state {
            None => optimizer,
            Some(bytes) => {
                let record = OptimizerRecord::from_bytes(Bytes::from_bytes_vec(bytes.to_vec()));
                optimizer.load_record(
                    record.map_err(|error| self.mismatch(format!("optimizer.bpk cannot be read: {error}")))?,
                )
            }
        };
        let mut learner = Learner::new(network, optimizer, scheduler);
        if calls > 0 {
            learner.lr_step();
        }
        Ok(learner)
    }

    /// What a learner is made of: the scheduler after some calls, the optimizer without any state yet.
    pub(super) fn parts(
        &self,
        network: Network,
        calls: u64,
        lowered: u64,
        batches: usize,
        device: &Device,
    ) -> Result<Parts, TrainError> {
        let recipe = &self.recipe;
        let network = network.train().fork(device);
        let parameters = trained_parameters(&network);
        self.check_freeze(&parameters)?;
        let network = weights::freeze(network, &patterns(&recipe.train.freeze));
        let groups = recipe.optimizer.resolve(&parameters)?;
        let scheduler = scheduler(recipe, &parameters, [calls, lowered], batches)?;
        let optimizer = optim::module_optimizer(&groups, &parameters)?;
        Ok(Parts { network, optimizer, scheduler })
    }
}

/// The scheduler of a recipe after some calls, its rate lowered so often where it follows a metric.
pub(super) fn scheduler(
    recipe: &Recipe,
    parameters: &[ParameterInfo],
    [calls, lowered]: [u64; 2],
    batches: usize,
) -> Result<ModuleLrScheduler, TrainError> {
    let groups = recipe.optimizer.resolve(parameters)?;
    let steps = batches as u64;
    let schedule = Schedule { lowered, ..recipe.scheduler.resolve(recipe.train.epochs as u64, steps) };
    let interval = recipe.scheduler.interval(steps);
    Ok(optim::module_scheduler(&groups, parameters, &schedule, interval, calls)?)
}

/// The parts of a learner.
pub(super) struct Parts {
    pub(super) network: Network,
    pub(super) optimizer: ModuleOptimizer,
    pub(super) scheduler: ModuleLrScheduler,
}

/// The recipe's patterns, which were checked when it was read.
pub(super) fn patterns(patterns: &[String]) -> Vec<Regex> {
    patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
}
