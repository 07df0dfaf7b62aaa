//! KServe's open inference protocol, version 2, over HTTP, with its extension for binary tensors.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rekindle_state::Tensor;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::batcher::Refusal;
use super::engine::{Description, Port};
use super::http::{Failure, Reply};
use super::routes::Call;
use super::tensors;

/// How many bytes of a body are its JSON, before the binary tensors.
const JSON_LENGTH: &str = "inference-header-content-length";

/// `GET /v2`: the server.
pub(super) fn server(_: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    Ok(Reply::json(&json!({ "name": "rekindle", "version": version, "extensions": ["binary_tensor_data"] })))
}

pub(super) fn live(_: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "live": true })))
}

pub(super) fn ready(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    if call.app.stopping.load(Ordering::Relaxed) {
        return Err(Refusal::Stopping.into());
    }
    Ok(Reply::json(&json!({ "ready": true })))
}

pub(super) fn model(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    let served = call.model()?;
    Ok(Reply::json(&metadata(&served.name, &served.description())))
}

pub(super) fn model_ready(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    Ok(Reply::json(&json!({ "name": call.model()?.name, "ready": true })))
}

/// A model as the protocol describes it; an open axis is -1. A type or shape that the model leaves open is that of the most usual
/// input.
pub(super) fn metadata(name: &str, description: &Description) -> Value {
    let size = |size: &Option<usize>| size.map_or(-1, |size| size as i64);
    let port = |port: &Port| {
        let shape: Vec<i64> = port.shape.as_ref().map_or(vec![-1], |shape| shape.iter().map(size).collect());
        json!({ "name": port.name, "datatype": port.dtype.map_or("FP32", tensors::protocol_name), "shape": shape })
    };
    json!({
        "name": name,
        "versions": ["1"],
        "platform": "rekindle",
        "inputs": description.inputs.iter().map(port).collect::<Vec<_>>(),
        "outputs": description.outputs.iter().map(port).collect::<Vec<_>>(),
    })
}

#[derive(Deserialize)]
struct Asked {
    id: Option<String>,
    inputs: Vec<Input>,
    #[serde(default)]
    outputs: Vec<Output>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    shape: Vec<u64>,
    datatype: String,
    data: Option<Value>,
    #[serde(default)]
    parameters: Map<String, Value>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// `POST /v2/models/{name}/infer`.
pub(super) fn infer(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    let served: Arc<_> = call.model()?.clone();
    let json_length = json_length(call.head.header(JSON_LENGTH))?;
    if call.head.header("content-encoding").is_some_and(|coding| coding != "identity") {
        return Err(Failure(415, "compressed bodies are not read: send it plain".into()));
    }
    let body = call.body.read()?;
    let (text, binary) = match json_length {
        None => (&body[..], &[][..]),
        Some(length) => body
            .split_at_checked(length)
            .ok_or_else(|| Failure::wrong(format!("{JSON_LENGTH} says {length} bytes, the body has {}", body.len())))?,
    };
    let asked: Asked =
        serde_json::from_slice(text).map_err(|error| Failure::wrong(format!("the request cannot be read: {error}")))?;
    let description = served.description();
    let inputs = inputs(&description, &asked.inputs, binary).map_err(Failure::wrong)?;
    let outputs = call.infer(&served, inputs)?;
    answer(&served.name, &description, &asked, &outputs)
}

fn json_length(value: Option<&str>) -> Result<Option<usize>, Failure> {
    let Some(value) = value else { return Ok(None) };
    let length =
        value.parse().map_err(|_| Failure::wrong(format!("{JSON_LENGTH}: expected a number, found '{value}'")))?;
    Ok(Some(length))
}

/// The inputs in the model's order: their data from the JSON, or from the bytes behind it in the order of the request.
fn inputs(description: &Description, given: &[Input], mut binary: &[u8]) -> Result<Vec<Tensor>, String> {
    let mut named: Vec<(&str, Tensor)> = Vec::new();
    for input in given {
        let at = |error: String| format!("input '{}': {error}", input.name);
        let dtype = tensors::of_protocol_name(&input.datatype)
            .ok_or_else(|| at(format!("the datatype '{}' is not supported", input.datatype)))?;
        let size = input.parameters.get("binary_data_size").map(|size| size.as_u64().unwrap_or(u64::MAX));
        let tensor = match (size, &input.data) {
            (Some(size), None) => {
                let size = usize::try_from(size).unwrap_or(usize::MAX);
                let (bytes, rest) = binary
                    .split_at_checked(size)
                    .ok_or_else(|| at(format!("binary_data_size is {size}, {} bytes are left", binary.len())))?;
                binary = rest;
                let values = input.shape.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
                if values.and_then(|values| values.checked_mul(dtype.size() as u64)) != Some(bytes.len() as u64) {
                    return Err(at(format!("the shape {:?} of {dtype} does not take {size} bytes", input.shape)));
                }
                Tensor::from_bytes(dtype, &input.shape, bytes.to_vec()).map_err(|error| at(error.to_string()))?
            }
            (None, Some(data)) => tensors::from_json(data, dtype, Some(&input.shape)).map_err(at)?,
            (Some(_), Some(_)) => return Err(at("it has data and binary_data_size, expected one of them".into())),
            (None, None) => return Err(at("it has neither data nor binary_data_size".into())),
        };
        named.push((&input.name, tensor));
    }
    if let Some((unknown, _)) = named.iter().find(|(name, _)| description.inputs.iter().all(|port| port.name != *name))
    {
        let names: Vec<&str> = description.inputs.iter().map(|port| port.name.as_str()).collect();
        return Err(format!("there is no input '{unknown}'; the inputs are {}", names.join(", ")));
    }
    let of = |port: &Port| {
        let found = named.iter().find(|(name, _)| *name == port.name);
        found.map(|(_, tensor)| tensor.clone()).ok_or_else(|| format!("the input '{}' is missing", port.name))
    };
    description.inputs.iter().map(of).collect()
}

fn answer(name: &str, description: &Description, asked: &Asked, outputs: &[Tensor]) -> Result<Reply, Failure> {
    let flag = |map: &Map<String, Value>, key: &str| map.get(key).and_then(Value::as_bool);
    let all_binary = flag(&asked.parameters, "binary_data_output").unwrap_or(false);
    let ports: Vec<&str> = description.outputs.iter().map(|port| port.name.as_str()).collect();
    let wanted: Vec<(&str, bool)> = if asked.outputs.is_empty() {
        ports.iter().map(|name| (*name, all_binary)).collect()
    } else {
        asked
            .outputs
            .iter()
            .map(|o| (o.name.as_str(), flag(&o.parameters, "binary_data").unwrap_or(all_binary)))
            .collect()
    };
    let (mut list, mut binary) = (Vec::new(), Vec::new());
    for (output, is_binary) in wanted {
        let place = ports.iter().position(|port| *port == output);
        let tensor = place.and_then(|place| outputs.get(place)).ok_or_else(|| {
            Failure::wrong(format!("there is no output '{output}'; the outputs are {}", ports.join(", ")))
        })?;
        list.push(if is_binary {
            let bytes = tensor.bytes().map_err(|error| Failure::inner(error.to_string()))?;
            binary.extend_from_slice(&bytes);
            let parameters = json!({ "binary_data_size": bytes.len() });
            let datatype = tensors::protocol_name(tensor.dtype());
            json!({ "name": output, "shape": tensor.shape(), "datatype": datatype, "parameters": parameters })
        } else {
            Value::Object(tensors::described(output, tensor).map_err(Failure::inner)?)
        });
    }
    let mut value = json!({ "model_name": name, "model_version": "1", "outputs": list });
    if let Some(id) = &asked.id {
        value["id"] = json!(id);
    }
    if binary.is_empty() {
        return Ok(Reply::json(&value));
    }
    let mut bytes = value.to_string().into_bytes();
    let length = bytes.len();
    bytes.extend(binary);
    let mut reply = Reply::new("application/octet-stream", bytes);
    reply.headers.push(("Inference-Header-Content-Length", length.to_string()));
    Ok(reply)
}
