//! An imported graph with the weights that its network has now: otherwise the file that it came from.

use std::collections::HashMap;
use std::path::Path;

use rekindle_onnx::Array;
use rekindle_state::onnx::proto::{StringStringEntryProto, TensorProto};
use rekindle_state::onnx::{External, tensor_value};

use super::Exported;
use crate::models::imported::Named;
use crate::models::{GraphConfig, Imported};
use crate::onnx::OnnxError;

/// The graph of the file at `config.path()` with other weights and more metadata. Weights outside the file come into it.
///
/// # Errors
/// When the file can no longer be read, or is not the one that the network was made of.
pub fn rewrite(
    network: &Imported,
    config: &GraphConfig,
    metadata: Vec<(String, String)>,
) -> Result<Exported, OnnxError> {
    let path = config.path();
    let changed = |reason: &str| OnnxError::Trace(format!("{}: {reason}", path.display()));
    let mut model = config.message().map_err(|error| OnnxError::Trace(error.to_string()))?;
    let mut weights: HashMap<&str, &Named> =
        network.parameters().iter().filter_map(|named| Some((config.stored(&named.name)?, named))).collect();
    let mut external = External::new(path.parent().unwrap_or(Path::new("")));
    for tensor in model.graph.iter_mut().flat_map(|graph| &mut graph.initializer) {
        match weights.remove(tensor.name.as_str()) {
            Some(named) => replace(tensor, named)?,
            None if tensor.data_location == 1 => embed(tensor, &mut external)?,
            None => {}
        }
    }
    if let Some(name) = weights.keys().next() {
        return Err(changed(&format!("the file no longer has the weight '{name}'")));
    }
    for (key, value) in metadata {
        model.metadata_props.retain(|entry| entry.key != key);
        model.metadata_props.push(StringStringEntryProto { key, value });
    }
    Ok(Exported {
        model,
        input: config.input_name().to_string(),
        item: config.item(),
        batch: config.batch(),
        values: Vec::new(),
    })
}

fn replace(tensor: &mut TensorProto, named: &Named) -> Result<(), OnnxError> {
    let (values, shape) = named.values.flat();
    let of_file: Vec<usize> = tensor.dims.iter().map(|&size| size as usize).collect();
    if shape != of_file {
        return Err(OnnxError::Trace(format!(
            "the weight '{}' is {shape:?} in the network and {of_file:?} in the file",
            named.name
        )));
    }
    let values: Vec<f32> = values.into_data().iter::<f32>().collect();
    let array = Array::vector(values).to_tensor().map_err(|error| OnnxError::Trace(error.to_string()))?;
    put(tensor, array.bytes()?.into_owned());
    Ok(())
}

fn embed(tensor: &mut TensorProto, external: &mut External) -> Result<(), OnnxError> {
    if let rekindle_state::Value::Tensor(values) = tensor_value(tensor, external)? {
        let bytes = values.bytes()?.into_owned();
        put(tensor, bytes);
    }
    Ok(())
}

/// Values as raw bytes in the file itself.
fn put(tensor: &mut TensorProto, bytes: Vec<u8>) {
    tensor.float_data.clear();
    tensor.external_data.clear();
    tensor.data_location = 0;
    tensor.raw_data = Some(bytes.into());
}
