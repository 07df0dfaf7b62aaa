//! Burn's optimizer record, taken apart and put together by name.
//!
//! A record holds a tensor `ID.NAME` and a scalar `ID.step` for each parameter, the rank of the parameter as `ID.__rank`, and its
//! module path as metadata `ID`.

use std::collections::BTreeMap;

use burn::optim::OptimizerRecord;
use burn::tensor::{Bytes, DType, TensorData};
use burn_pack::{Reader, Writer};

use super::state::{Buffer, STEP};
use super::{OptimError, ParameterInfo};

/// State of one parameter in host memory, laid out as Burn keeps it.
#[derive(Debug, Default)]
pub(super) struct HostState {
    pub step: u64,
    pub buffers: Vec<(Buffer, Vec<f32>)>,
}

/// Reads a record: states by the number of their parameter.
pub(super) fn unpack(record: OptimizerRecord) -> Result<BTreeMap<u64, HostState>, OptimError> {
    let reader = Reader::from_bytes(record.into_bytes()?)?;
    let mut states: BTreeMap<u64, HostState> = BTreeMap::new();
    for (name, value) in reader.scalars() {
        if let Some(id) = name.strip_suffix(STEP).and_then(|name| name.strip_suffix('.')).and_then(|id| id.parse().ok())
            && let Ok(step) = u64::try_from(*value)
        {
            states.entry(id).or_default().step = step;
        }
    }
    for tensor in reader.into_tensors()? {
        let (name, dtype, shape, _, bytes) = tensor.into_parts()?;
        let parts = name.split_once('.').and_then(|(id, name)| Some((id.parse().ok()?, name)));
        let known =
            parts.and_then(|(id, name)| Some((id, Buffer::ALL.into_iter().find(|buffer| buffer.name() == name)?)));
        let Some((id, buffer)) = known else {
            return Err(OptimError::Record(format!("'{name}' is no state of SGD, Adam, AdamW or RMSprop")));
        };
        let values = TensorData::from_bytes(bytes, shape, dtype).iter::<f32>().collect();
        states.entry(id).or_default().buffers.push((buffer, values));
    }
    Ok(states)
}

/// Writes a record from states beside their parameters.
pub(super) fn pack(states: Vec<(&ParameterInfo, HostState)>) -> Result<OptimizerRecord, OptimError> {
    let mut tensors = Vec::new();
    let mut scalars = Vec::new();
    let mut paths = Vec::new();
    for (parameter, state) in states {
        let id = parameter.id.val();
        let mut shape = parameter.shape.clone();
        if parameter.transposed {
            shape.reverse();
        }
        scalars.push((format!("{id}.{STEP}"), state.step));
        scalars.push((format!("{id}.__rank"), shape.len() as u64));
        paths.push((id.to_string(), &parameter.path));
        for (buffer, values) in state.buffers {
            let bytes = Bytes::from_bytes_vec(values.iter().flat_map(|value| value.to_le_bytes()).collect());
            tensors.push(burn_pack::Tensor::new(
                format!("{id}.{}", buffer.name()),
                DType::F32,
                shape.clone(),
                Some(id),
                bytes,
            ));
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

/// The values of a matrix of `rows` rows with its axes exchanged.
pub(super) fn transposed(values: &[f32], rows: usize) -> Vec<f32> {
    let columns = values.len().checked_div(rows).unwrap_or(0);
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}
