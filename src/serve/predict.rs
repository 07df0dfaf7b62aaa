//! Predictions: a body of any kind becomes inputs, outputs become what the client accepts.

use std::sync::Arc;

use rekindle_state::{DType, StateDict, Tensor, Value as Stored};
use serde_json::{Map, Value, json};

use super::batcher::Served;
use super::engine::{Answers, Description, Port};
use super::http::{Failure, Reply};
use super::routes::Call;
use super::{form, tensors};
use crate::data::mask;

/// Labels of each item, where the request does not say.
const TOP: usize = 5;
/// Element types that JSON has values for; of an input of unknown type the first one is taken.
const UNKNOWN: DType = DType::F32;

/// What a body holds.
enum Given {
    /// Image files.
    Images(Vec<Vec<u8>>),
    /// Inputs in the model's order.
    Tensors(Vec<Tensor>),
}

/// `POST /predict`.
pub(super) fn answer(call: &mut Call<'_, '_>) -> Result<Reply, Failure> {
    let model = call.model()?.clone();
    let top = match call.head.parameter("top") {
        Some(text) => text.parse().map_err(|_| Failure::wrong(format!("top: expected a number, found '{text}'")))?,
        None => TOP,
    };
    let accept = call.head.header("accept").unwrap_or_default().to_string();
    let description = model.description();
    let given = given(call, &description)?;
    let (outputs, originals) = match given {
        Given::Tensors(inputs) => (call.infer(&model, inputs)?, Vec::new()),
        Given::Images(files) => (images(call, &model, &description, &files)?, files),
    };
    let answer = Answer { name: &model.name, description: &description, outputs: &outputs, originals: &originals, top };
    answer.reply(&accept)
}

/// Reads the body, whatever it holds.
fn given(call: &mut Call<'_, '_>, description: &Description) -> Result<Given, Failure> {
    let content_type = call.head.header("content-type").unwrap_or_default().to_string();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if call.head.header("content-encoding").is_some_and(|coding| coding != "identity") {
        return Err(Failure(415, "compressed bodies are not read: send it plain".into()));
    }
    let kind = match kind.as_str() {
        "multipart/form-data" | "application/json" | "application/x-npy" | "application/x-safetensors" => kind,
        // What programs send that were not told a type.
        "" | "application/octet-stream" | "application/x-www-form-urlencoded" => String::new(),
        kind if kind.starts_with("image/") => "image".into(),
        other => {
            let text = format!(
                "'{other}' is not read: send an image, multipart/form-data with images, application/json, \
                 application/x-npy or application/x-safetensors"
            );
            return Err(Failure(415, text));
        }
    };
    let body = call.body.read()?;
    if body.is_empty() {
        return Err(Failure::wrong("the request has no body: send an image or tensors"));
    }
    let kind = if kind.is_empty() { kind_of(&body) } else { kind.as_str() };
    match kind {
        "multipart/form-data" => {
            let files = form::files(&content_type, &body).map_err(Failure::wrong)?;
            Ok(Given::Images(files.into_iter().map(<[u8]>::to_vec).collect()))
        }
        "application/json" => {
            let value: Value = serde_json::from_slice(&body)
                .map_err(|error| Failure::wrong(format!("the body is no JSON: {error}")))?;
            json_inputs(description, &value).map(Given::Tensors).map_err(Failure::wrong)
        }
        "image" => Ok(Given::Images(vec![body])),
        _ => tensors::from_file(body, &description.inputs).map(Given::Tensors).map_err(Failure::wrong),
    }
}

/// What a body is whose type is not said, by its first bytes.
fn kind_of(body: &[u8]) -> &'static str {
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    let header = body.first_chunk::<8>().map_or(u64::MAX, |length| u64::from_le_bytes(*length));
    match (first, body.get(8)) {
        _ if body.starts_with(b"\x93NUMPY") => "application/x-npy",
        (Some(b'{'), _) => "application/json",
        (_, Some(b'{')) if header < body.len() as u64 => "application/x-safetensors",
        _ => "image",
    }
}

/// Runs the model on images: together where it takes batches, else one after another.
fn images(
    call: &Call<'_, '_>,
    model: &Served,
    description: &Description,
    files: &[Vec<u8>],
) -> Result<Vec<Tensor>, Failure> {
    let Some(image) = &description.image else {
        return Err(Failure::wrong("the model takes no images: send tensors as application/json, .npy or safetensors"));
    };
    let items = files.iter().map(|file| image.read(file)).collect::<Result<Vec<Tensor>, String>>();
    let items = items.map_err(Failure::wrong)?;
    if description.batches || items.len() == 1 {
        return call.infer(model, vec![joined(&items).map_err(Failure::wrong)?]);
    }
    let mut answers = Vec::new();
    for item in items {
        answers.push(call.infer(model, vec![item])?);
    }
    let of = |port: usize| answers.iter().filter_map(|outputs| outputs.get(port).cloned()).collect::<Vec<_>>();
    (0..description.outputs.len()).map(|port| joined(&of(port)).map_err(Failure::inner)).collect()
}

/// Tensors of one shape, joined along the first axis.
fn joined(items: &[Tensor]) -> Result<Tensor, String> {
    let first = items.first().ok_or("there is nothing to join")?;
    let mut shape = first.shape().to_vec();
    if items.iter().any(|item| item.shape() != shape) {
        return Err("the images have different sizes: send each in a request of its own".into());
    }
    if let Some(axis) = shape.first_mut() {
        *axis *= items.len() as u64;
    }
    let mut bytes = Vec::new();
    for item in items {
        bytes.extend_from_slice(&item.bytes().map_err(|error| error.to_string())?);
    }
    Tensor::from_bytes(first.dtype(), &shape, bytes).map_err(|error| error.to_string())
}

/// `{"inputs": …}`: nested lists for a single input, or by name.
fn json_inputs(description: &Description, value: &Value) -> Result<Vec<Tensor>, String> {
    let inputs = value.get("inputs").ok_or("expected {\"inputs\": …}")?;
    let of = |port: &Port, value: &Value| {
        let tensor = tensors::from_json(value, port.dtype.unwrap_or(UNKNOWN), None);
        tensor.map_err(|error| format!("input '{}': {error}", port.name))
    };
    match (inputs, description.inputs.as_slice()) {
        (Value::Object(map), ports) => {
            let names: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            if let Some(unknown) = map.keys().find(|key| !names.contains(&key.as_str())) {
                return Err(format!("there is no input '{unknown}'; the inputs are {}", names.join(", ")));
            }
            let missing = |port: &Port| format!("the input '{}' is missing", port.name);
            ports.iter().map(|port| of(port, map.get(&port.name).ok_or_else(|| missing(port))?)).collect()
        }
        (_, [port]) => Ok(vec![of(port, inputs)?]),
        (_, ports) => Err(format!("expected an object with {} inputs by name", ports.len())),
    }
}

/// What a model said, and of what.
struct Answer<'a> {
    name: &'a str,
    description: &'a Arc<Description>,
    outputs: &'a [Tensor],
    /// The image files, where it was images.
    originals: &'a [Vec<u8>],
    /// How many labels of each item.
    top: usize,
}

impl Answer<'_> {
    /// In the form that the client accepts.
    fn reply(&self, accept: &str) -> Result<Reply, Failure> {
        let Some(first) = self.outputs.first() else { return Err(Failure::inner("the model gave nothing")) };
        let wants = |kind: &str| accept.split(',').any(|one| one.split(';').next().unwrap_or_default().trim() == kind);
        let inner = |error: rekindle_state::Error| Failure::inner(error.to_string());
        if wants("application/x-npy") {
            return Ok(Reply::new("application/x-npy", rekindle_state::npy_bytes(first).map_err(inner)?));
        }
        if wants("application/x-safetensors") {
            let mut named = StateDict::new();
            for (port, tensor) in self.description.outputs.iter().zip(self.outputs) {
                named.insert(port.name.as_str(), tensor.clone());
            }
            let file = rekindle_state::safetensors_bytes(&Stored::Dict(named)).map_err(inner)?;
            return Ok(Reply::new("application/x-safetensors", file));
        }
        let draws = matches!(self.description.answers, Answers::Images | Answers::Masks);
        if draws && wants("image/png") {
            return Ok(Reply::new("image/png", self.picture(first).map_err(Failure::inner)?));
        }
        Ok(Reply::json(&self.value(first).map_err(Failure::inner)?))
    }

    fn value(&self, first: &Tensor) -> Result<Value, String> {
        let mut value = json!({ "model": self.name, "version": self.description.version });
        match self.description.answers {
            Answers::Scores | Answers::Probabilities => value["predictions"] = self.classes(first)?,
            Answers::Masks => value["predictions"] = self.shares(first)?,
            Answers::Images | Answers::Tensors => {
                let mut map = Map::new();
                for (port, tensor) in self.description.outputs.iter().zip(self.outputs) {
                    map.insert(port.name.clone(), Value::Object(tensors::described(&port.name, tensor)?));
                }
                value["outputs"] = Value::Object(map);
            }
        }
        Ok(value)
    }

    /// The likeliest labels of each item.
    fn classes(&self, scores: &Tensor) -> Result<Value, String> {
        let items = scores.shape().first().map_or(1, |items| (*items as usize).max(1));
        let values = scores.to_f32().map_err(|error| error.to_string())?;
        let rows = values.chunks((values.len() / items).max(1));
        let probabilities = |row: &[f32]| match self.description.answers {
            Answers::Probabilities => row.to_vec(),
            _ => softmax(row),
        };
        Ok(rows.map(|row| self.ranked(&probabilities(row))).collect())
    }

    /// What share of each image has each class.
    fn shares(&self, maps: &Tensor) -> Result<Value, String> {
        let (classes, [items, ..]) = classes_of_pixels(maps)?;
        let count = maps.shape()[1] as usize;
        let pixels = (classes.len() / items.max(1)).max(1);
        let share = |item: &[u32]| {
            // Counted whole: a sum of shares would lose a little with each pixel.
            let mut counts = vec![0_usize; count];
            item.iter().for_each(|class| counts[*class as usize] += 1);
            self.ranked(&counts.iter().map(|count| *count as f32 / pixels as f32).collect::<Vec<f32>>())
        };
        Ok(classes.chunks(pixels).map(share).collect())
    }

    fn ranked(&self, probabilities: &[f32]) -> Value {
        let mut order: Vec<usize> = (0..probabilities.len()).collect();
        order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
        let label = |class: usize| {
            let label = self.description.labels.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
            json!({ "class": class, "label": label, "probability": tensors::short(probabilities[class]) })
        };
        json!({ "labels": order.into_iter().take(self.top).map(label).collect::<Vec<_>>() })
    }

    /// The first image of a batch as PNG; a mask holds the number of the class of each pixel, with a palette of colours.
    fn picture(&self, first: &Tensor) -> Result<Vec<u8>, String> {
        let image = self.description.image.as_ref().ok_or("the model takes no images")?;
        if self.description.answers == Answers::Masks {
            let (classes, [_, height, width]) = classes_of_pixels(first)?;
            let first = classes.iter().take(height * width);
            let values: Vec<u8> = first.map(|class| u8::try_from(*class).unwrap_or(u8::MAX)).collect();
            return mask::file(&values, [height, width]).map_err(|error| error.to_string());
        }
        let [_, _, height, width] = *first.shape() else { return Err("the answer is no image".into()) };
        let (height, width) = (height as usize, width as usize);
        let values = first.to_f32().map_err(|error| error.to_string())?;
        let byte = |value: &f32| (value * 255.0).round().clamp(0.0, 255.0) as u8;
        let luma: Vec<u8> = values.iter().take(height * width).map(byte).collect();
        match self.originals.first() {
            Some(original) => image.enlarged(original, &luma, height, width),
            None => image.grey(luma, height, width),
        }
    }
}

fn softmax(scores: &[f32]) -> Vec<f32> {
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f32> = scores.iter().map(|score| (score - greatest).exp()).collect();
    let sum: f32 = exponentials.iter().sum();
    exponentials.into_iter().map(|value| value / sum).collect()
}

/// The likeliest class of each pixel of maps `[batch, classes, height, width]`; the number of images, height and width.
fn classes_of_pixels(maps: &Tensor) -> Result<(Vec<u32>, [usize; 3]), String> {
    let [items, classes, height, width] = *maps.shape() else { return Err("the answer is no map of scores".into()) };
    let values = maps.to_f32().map_err(|error| error.to_string())?;
    let [items, classes, height, width] = [items, classes, height, width].map(|size| size as usize);
    let plane = height * width;
    let mut found = Vec::with_capacity(items * plane);
    for item in values.chunks((classes * plane).max(1)) {
        for pixel in 0..plane {
            // The first of equal ones, as the network's own answer has it.
            let mut best = 0;
            for class in 1..classes {
                if item[class * plane + pixel] > item[best * plane + pixel] {
                    best = class;
                }
            }
            found.push(best as u32);
        }
    }
    Ok((found, [items, height, width]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_without_a_type_are_known_by_their_first_bytes() {
        let tensor = Tensor::from_f32(&[1], &[1.0]).unwrap();
        let mut dict = StateDict::new();
        dict.insert("x", tensor.clone());
        assert_eq!(kind_of(&rekindle_state::npy_bytes(&tensor).unwrap()), "application/x-npy");
        assert_eq!(
            kind_of(&rekindle_state::safetensors_bytes(&Stored::Dict(dict)).unwrap()),
            "application/x-safetensors"
        );
        assert_eq!(kind_of(b" \n{\"inputs\": 1}"), "application/json");
        assert_eq!(kind_of(b"\x89PNG\r\n\x1a\n"), "image");
        assert_eq!(kind_of(b""), "image");
    }

    #[test]
    fn the_first_of_equal_classes_is_a_pixels_class() {
        let maps = Tensor::from_f32(&[1, 3, 1, 2], &[0.0, 5.0, 1.0, 5.0, 1.0, 2.0]).unwrap();
        assert_eq!(classes_of_pixels(&maps).unwrap(), (vec![1, 0], [1, 1, 2]));
        assert_eq!(softmax(&[0.0, 0.0]), [0.5, 0.5]);
    }
}
