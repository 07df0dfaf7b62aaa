//! An optimizer's state as `optimizer.state_dict()` writes it.

use burn::optim::OptimizerRecord;
use rekindle_state::{Key, StateDict, Tensor, Value};

use super::error::state;
use super::record::{transposed, unpack};
use super::state::STEP;
use super::{Group, OptimError, ParameterInfo, Rule};

/// The state dict that PyTorch's optimizer of the same kind would give: `{'state': {…}, 'param_groups': […]}`.
///
/// Parameters are numbered through the groups in their order. Those without a gradient have no state. `groups` carry the current
/// learning rates.
///
/// # Errors
/// When the record holds state of a parameter that no group has, or of another shape.
pub fn to_state_dict(
    record: OptimizerRecord,
    parameters: &[ParameterInfo],
    groups: &[Group],
) -> Result<StateDict, OptimError> {
    let mut records = unpack(record)?;
    let mut states = StateDict::new();
    let mut param_groups = Vec::with_capacity(groups.len());
    let mut number = 0_i64;
    for group in groups {
        let first = number;
        for &member in &group.members {
            let Some(parameter) = parameters.get(member) else {
                return state(format!("an optimizer group has parameter {member}, the model has {}", parameters.len()));
            };
            if let Some(host) = records.remove(&parameter.id.val()) {
                let mut entry = StateDict::new();
                if group.rule.counts() {
                    entry.insert(STEP, Tensor::from_f32(&[], &[host.step as f32])?);
                }
                for buffer in group.rule.buffers() {
                    if let Some((_, values)) = host.buffers.iter().find(|(found, _)| *found == buffer) {
                        entry.insert(buffer.name(), in_torch_layout(parameter, values)?);
                    }
                }
                if !entry.is_empty() {
                    states.insert(number, entry);
                }
            }
            number += 1;
        }
        param_groups.push(Value::Dict(group_dict(group, first..number)));
    }
    if !records.is_empty() {
        return state(format!(
            "the optimizer holds state of {} parameters that the model does not have: it was trained with another model",
            records.len()
        ));
    }
    Ok(StateDict::from_iter([
        (Key::from("state"), Value::Dict(states)),
        (Key::from("param_groups"), Value::List(param_groups)),
    ]))
}

/// A buffer with PyTorch's shape and order of axes.
fn in_torch_layout(parameter: &ParameterInfo, values: &[f32]) -> Result<Tensor, OptimError> {
    if values.len() != parameter.shape.iter().product::<usize>() {
        return state(format!(
            "the optimizer's state of '{}' has {} values, the parameter has shape {:?}",
            parameter.name,
            values.len(),
            parameter.shape
        ));
    }
    let shape: Vec<u64> = parameter.shape.iter().map(|&axis| axis as u64).collect();
    let tensor = match parameter.shape[..] {
        [_, columns] if parameter.transposed => Tensor::from_f32(&shape, &transposed(values, columns))?,
        _ => Tensor::from_f32(&shape, values)?,
    };
    Ok(tensor)
}

/// One of `param_groups`, with every key that torch 2.15 writes, in its order.
fn group_dict(group: &Group, params: std::ops::Range<i64>) -> StateDict {
    let mut dict = StateDict::new();
    dict.insert("lr", group.lr);
    match &group.rule {
        Rule::Sgd(sgd) => {
            dict.insert("momentum", sgd.momentum);
            dict.insert("dampening", sgd.dampening);
            dict.insert("weight_decay", sgd.weight_decay);
            dict.insert("nesterov", sgd.nesterov);
            dict.insert("maximize", sgd.maximize);
            dict.insert("foreach", Value::None);
            dict.insert("differentiable", false);
            dict.insert("fused", Value::None);
        }
        Rule::Adam(adam) => {
            dict.insert("betas", Value::Tuple(adam.betas.map(Value::Float).to_vec()));
            dict.insert("eps", adam.eps);
            dict.insert("weight_decay", adam.weight_decay);
            dict.insert("amsgrad", adam.amsgrad);
            dict.insert("maximize", adam.maximize);
            dict.insert("foreach", Value::None);
            dict.insert("capturable", false);
            dict.insert("differentiable", false);
            dict.insert("fused", Value::None);
            dict.insert("decoupled_weight_decay", adam.decoupled);
        }
        Rule::RmsProp(rms) => {
            dict.insert("momentum", rms.momentum);
            dict.insert("alpha", rms.alpha);
            dict.insert("eps", rms.eps);
            dict.insert("centered", rms.centered);
            dict.insert("weight_decay", rms.weight_decay);
            dict.insert("capturable", false);
            dict.insert("foreach", Value::None);
            dict.insert("maximize", rms.maximize);
            dict.insert("differentiable", false);
        }
    }
    if let Some(initial_lr) = group.initial_lr {
        dict.insert("initial_lr", initial_lr);
    }
    dict.insert("params", params.map(Value::Int).collect::<Vec<_>>());
    dict
}
