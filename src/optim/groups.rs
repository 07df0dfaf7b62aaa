//! Parameter groups, and Burn's optimizer made from them.

use burn::module::{ParamGroup, ParamId};
use burn::optim::ModuleOptimizer;

use super::error::config;
use super::{OptimError, ParameterInfo, Rule};

/// One of a PyTorch optimizer's `param_groups`.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// The learning rate now.
    pub lr: f64,
    /// The learning rate that a schedule started from; PyTorch has it only when there is a schedule.
    pub initial_lr: Option<f64>,
    /// The update rule with its hyper-parameters.
    pub rule: Rule,
    /// Positions of the parameters in the model's table.
    pub members: Vec<usize>,
}

impl Group {
    /// The learning rate that a schedule scales.
    pub fn base_lr(&self) -> f64 {
        self.initial_lr.unwrap_or(self.lr)
    }

    /// Burn's name for the same parameters.
    pub(super) fn param_group(&self, parameters: &[ParameterInfo]) -> ParamGroup {
        let members = self.members.iter().filter_map(|&index| parameters.get(index));
        let ids: Vec<ParamId> = members.flat_map(|parameter| &parameter.parts).map(|part| part.id).collect();
        ParamGroup::from_ids(ids)
    }
}

/// Burn's optimizer for some groups.
///
/// # Errors
/// When there are no groups.
pub fn module_optimizer(groups: &[Group], parameters: &[ParameterInfo]) -> Result<ModuleOptimizer, OptimError> {
    let Some((first, others)) = groups.split_first() else {
        return config("an optimizer needs at least one parameter group");
    };
    // Burn's first group holds every parameter that no later one claims.
    let optimizer = ModuleOptimizer::from(first.rule.clone());
    Ok(others.iter().fold(optimizer, |optimizer, group| {
        optimizer.with_group(group.param_group(parameters), group.rule.clone(), None)
    }))
}
