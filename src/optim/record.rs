//! Burn's optimizer record, taken apart and put together by name.
//!
//! A record holds a tensor `ID.NAME` and a scalar `ID.step` for each parameter, the rank of the parameter as `ID.__rank`, and its
//! module path as metadata `ID`.

use std::collections::BTreeMap;

use burn::optim::OptimizerRecord;
use burn::tensor::{Bytes, DType, TensorData};
use burn_pack::{Reader, Writer};

use super::rule::{Rule, state_keys};
use super::state::{Buffer, STEP};
use super::{OptimError, ParameterInfo};

/// State of one parameter in host memory.
#[derive(Debug, Default)]
pub(super) struct HostState {
    pub step: u64,
    pub scalars: Vec<(&'static str, f64)>,
    pub buffers: Vec<(Buffer, Vec<f32>)>,
}

/// Reads a record: states by the number of their parameter, in Burn's layout.
pub(super) fn unpack(record: OptimizerRecord) -> Result<BTreeMap<u64, HostState>, OptimError> {
    let reader = Reader::from_bytes(record.into_bytes()?)?;
    let mut states: BTreeMap<u64, HostState> = BTreeMap::new();
    let (buffers, scalars) = state_keys();
    for (name, value) in reader.scalars() {
        let Some((id, name)) = name.split_once('.').and_then(|(id, name)| Some((id.parse().ok()?, name))) else {
            continue;
        };
        let Ok(value) = u64::try_from(*value) else { continue };
        if name == STEP {
            states.entry(id).or_default().step = value;
        } else if let Some(scalar) = scalars.iter().find(|scalar| **scalar == name) {
            states.entry(id).or_default().scalars.push((scalar, f64::from_bits(value)));
        }
    }
    for tensor in reader.into_tensors()? {
        let (name, dtype, shape, _, bytes) = tensor.into_parts()?;
        let parts = name.split_once('.').and_then(|(id, name)| Some((id.parse().ok()?, name)));
        let known = parts.and_then(|(id, name)| Some((id, *buffers.iter().find(|buffer| buffer.0 == name)?)));
        let Some((id, buffer)) = known else {
            return Err(OptimError::Record(format!("'{name}' is no state of {}", Rule::torch_names().join(", "))));
        };
        let values = TensorData::from_bytes(bytes, shape, dtype).iter::<f32>().collect();
        states.entry(id).or_default().buffers.push((buffer, values));
    }
    Ok(states)
}

/// Writes a record from states beside their parameters, in PyTorch's layout.
pub(super) fn pack(states: Vec<(&ParameterInfo, HostState)>) -> Result<OptimizerRecord, OptimError> {
    let mut tensors = Vec::new();
    let mut scalars = Vec::new();
    let mut paths = Vec::new();
    for (parameter, state) in states {
        for part in &parameter.parts {
            let id = part.id.val();
            scalars.push((format!("{id}.{STEP}"), state.step));
            scalars.push((format!("{id}.__rank"), parameter.shape.len() as u64));
            scalars.extend(state.scalars.iter().map(|(name, value)| (format!("{id}.{name}"), value.to_bits())));
            paths.push((id.to_string(), &part.path));
        }
        for (buffer, values) in state.buffers {
            for (part, values) in parameter.parts.iter().zip(parameter.split(&values)) {
                let id = part.id.val();
                let bytes = Bytes::from_bytes_vec(values.iter().flat_map(|value| value.to_le_bytes()).collect());
                tensors.push(burn_pack::Tensor::new(
                    format!("{id}.{}", buffer.0),
                    DType::F32,
                    parameter.part_shape(part),
                    Some(id),
                    bytes,
                ));
            }
        }
    }
    let mut writer = Writer::new(tensors);
    for (key, value) in scalars {
        writer = writer.with_scalar(&key, value.into());
    }
    for (key, path) in paths {
        writer = writer.with_metadata(&key, path);
    }
    Ok(OptimizerRecord::from_bytes(writer.into_bytes()?)?)
}
