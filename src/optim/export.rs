//! An optimizer's state as `optimizer.state_dict()` writes it.

use burn::optim::OptimizerRecord;
use rekindle_state::{Key, StateDict, Tensor, Value};

use super::error::state;
use super::record::unpack;
use super::state::STEP;
use super::{Group, OptimError, ParameterInfo};

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
            let hosts: Vec<_> = parameter.parts.iter().map(|part| records.remove(&part.id.val())).collect();
            // A part that never had a gradient has seen zeros where PyTorch sees the whole.
            if let Some(step) = hosts.iter().flatten().map(|host| host.step).max() {
                let mut entry = StateDict::new();
                if group.rule.counts() {
                    entry.insert(STEP, Tensor::from_f32(&[], &[step as f32])?);
                }
                for name in group.rule.scalars() {
                    let found = hosts.iter().flatten().flat_map(|host| &host.scalars).find(|(found, _)| found == name);
                    if let Some((_, value)) = found {
                        entry.insert(*name, Tensor::from_f32(&[], &[*value as f32])?);
                    }
                }
                for buffer in group.rule.buffers() {
                    let values = hosts.iter().map(|host| {
                        let (_, values) = host.as_ref()?.buffers.iter().find(|(found, _)| *found == buffer)?;
                        Some(&values[..])
                    });
                    let values: Vec<Option<&[f32]>> = values.collect();
                    if values.iter().any(Option::is_some) {
                        entry.insert(buffer.0, in_torch_layout(parameter, &values)?);
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

/// A buffer with PyTorch's shape and order of axes, from those of the parameter's parts.
fn in_torch_layout(parameter: &ParameterInfo, parts: &[Option<&[f32]>]) -> Result<Tensor, OptimError> {
    let Some(values) = parameter.join(parts) else {
        return state(format!(
            "the optimizer's state of '{}' has {} values, the parameter has shape {:?}",
            parameter.name,
            parts.iter().flatten().map(|values| values.len()).sum::<usize>(),
            parameter.shape
        ));
    };
    let shape: Vec<u64> = parameter.shape.iter().map(|&axis| axis as u64).collect();
    Ok(Tensor::from_f32(&shape, &values)?)
}

/// One of `param_groups`, with every key that torch 2.15 writes, in its order.
fn group_dict(group: &Group, params: std::ops::Range<i64>) -> StateDict {
    let mut dict = StateDict::new();
    dict.insert("lr", group.lr);
    group.rule.group().into_iter().for_each(|(key, value)| drop(dict.insert(key, value)));
    if let Some(initial_lr) = group.initial_lr {
        dict.insert("initial_lr", initial_lr);
    }
    dict.insert("params", params.map(Value::Int).collect::<Vec<_>>());
    dict
}
