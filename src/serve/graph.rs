//! Graphs (ONNX models, programs of PyTorch) as engines: any inputs and outputs that are tensors.

use std::path::Path;

use rekindle_onnx::graph::Kind;
use rekindle_onnx::{Array, Axis, Port as GraphPort, Session, Value};
use rekindle_program::Mode;
use rekindle_state::{DType, Tensor};

use super::{Answers, Description, Engine, Images, Loaded, Port, network};
use crate::data::prepare::Preparation;
use crate::device::OpenDevice;
use crate::models::{self, Architecture, GraphConfig, Item};
use crate::onnx::metadata::Told;
use crate::onnx::open;
use crate::onnx::run::{BurnDevice, files};

/// Opens a graph to serve it on a device. `normalize` says how images are normalized where the file doesn't.
///
/// # Errors
/// When it cannot be run, or takes or gives something else than tensors.
pub fn loaded(path: &Path, normalize: Option<&str>, device: &OpenDevice) -> Result<Loaded, String> {
    let model = open::open(path, None, Mode::AsExported).map_err(|error| error.to_string())?.model;
    let at = |problem: String| format!("{}: {problem}", path.display());
    let graph = &model.graph;
    let wanted: Vec<&GraphPort> = graph.inputs.iter().filter(|port| !port.optional).collect();
    let inputs =
        wanted.iter().map(|port| described(port, "takes")).collect::<Result<Vec<Port>, String>>().map_err(at)?;
    let outputs = graph.outputs.iter().map(|port| described(port, "gives"));
    let outputs = outputs.collect::<Result<Vec<Port>, String>>().map_err(at)?;
    // What it is as a network of images, if it is one: tried, because the file alone doesn't say.
    let of_images = |architecture: &Architecture| matches!(architecture.io().input, Item::Image(_));
    let architecture = models::open(path).and_then(Result::ok).filter(of_images);
    let told = Told::read(&model.metadata);
    let image = match wanted.as_slice() {
        [port] => images(port, &told, normalize).map_err(at)?,
        _ => None,
    };
    let ports = || wanted.iter().copied().chain(&graph.outputs);
    let batches = ports().all(|port| first_axis(port).is_some_and(|axis| !matches!(axis, Axis::Size(_))))
        && (architecture.is_some() || ports().all(|port| first_axis(port).is_some_and(is_batch)));
    let description = Description {
        version: path.display().to_string(),
        answers: architecture.as_ref().map_or(Answers::Tensors, answers),
        labels: told.classes,
        inputs,
        outputs,
        image,
        batches,
    };
    let names = wanted.iter().map(|port| port.name.clone()).collect();
    let session = Session::prepared(model, BurnDevice::new(&device.device)).map_err(|error| at(error.to_string()))?;
    Ok(Loaded { description, engine: Box::new(Running { session, names }) })
}

fn answers(architecture: &Architecture) -> Answers {
    match network::answers(architecture) {
        Answers::Scores if architecture.get::<GraphConfig>().is_some_and(GraphConfig::gives_probabilities) => {
            Answers::Probabilities
        }
        answers => answers,
    }
}

/// A port as clients see it.
fn described(port: &GraphPort, verb: &str) -> Result<Port, String> {
    let name = port.name.clone();
    match &port.kind {
        Kind::Array(dtype, axes) => {
            let stored = |dtype: &rekindle_onnx::DType| {
                let stored = DType::ALL.iter().find(|stored| stored.name() == dtype.name()).copied();
                stored.ok_or_else(|| format!("the model {verb} values of {dtype} ('{name}'), which are not served"))
            };
            let dtype = dtype.as_ref().map(stored).transpose()?;
            let size = |axis: &Axis| if let Axis::Size(size) = axis { Some(*size) } else { None };
            let shape = axes.as_ref().map(|axes| axes.iter().map(size).collect());
            Ok(Port { name, dtype, shape })
        }
        Kind::Other(kind) => Err(format!("the model {verb} {kind} ('{name}'), and only tensors are served")),
        Kind::Unknown => Ok(Port { name, dtype: None, shape: None }),
    }
}

fn first_axis(port: &GraphPort) -> Option<&Axis> {
    if let Kind::Array(_, Some(axes)) = &port.kind { axes.first() } else { None }
}

/// Whether an axis is that of the batch, by its name: requests of a model whose first axis is another one (steps, points) are not joined.
fn is_batch(axis: &Axis) -> bool {
    let Axis::Named(name) = axis else { return false };
    let name = name.to_ascii_lowercase();
    name.contains("batch") || matches!(name.as_str(), "n" | "b" | "bs")
}

/// How image files become the input, where it is one of images.
fn images(port: &GraphPort, told: &Told, normalize: Option<&str>) -> Result<Option<Images>, String> {
    let Ok([Some(channels @ (1 | 3)), height, width]) = files::image_shape(port) else { return Ok(None) };
    let size = [channels, height.unwrap_or(1).max(1), width.unwrap_or(1).max(1)];
    let preparation =
        Preparation::new(size, told.normalize_for(channels), normalize).map_err(|error| error.to_string())?;
    let preparation = if height.is_some() && width.is_some() { preparation } else { preparation.any_size() };
    Ok(Some(Images::new(preparation)))
}

/// A graph on its device.
struct Running {
    session: Session<BurnDevice>,
    /// Of the inputs.
    names: Vec<String>,
}

impl Engine for Running {
    fn run(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        let mut named = Vec::new();
        for (name, tensor) in self.names.iter().zip(&inputs) {
            let array = Array::from_tensor(tensor).map_err(|error| format!("input '{name}': {error}"))?;
            named.push((name.clone(), Value::from(array)));
        }
        let outputs = self.session.run(named).map_err(|error| error.to_string())?;
        let tensor = |value: &Value| match value {
            Value::Array(array) => array.to_tensor().map_err(|error| error.to_string()),
            other => Err(format!("the model gave {}, and only tensors are served", other.kind())),
        };
        outputs.iter().map(tensor).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_axes_of_batches_are_joined() {
        for name in ["batch", "batch_size", "N", "unk_batch"] {
            assert!(is_batch(&Axis::Named(name.into())), "{name}");
        }
        for axis in [Axis::Named("sequence".into()), Axis::Any, Axis::Size(1), Axis::Named("points".into())] {
            assert!(!is_batch(&axis), "{axis:?}");
        }
    }
}
