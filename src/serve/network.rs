//! Networks of the registry, of recipes and of runs as engines.

use burn::module::Module;
use burn::tensor::{Device, Tensor as Burn, TensorData};
use rekindle_state::{DType, Tensor};

use super::{Answers, Description, Engine, Images, Loaded, Port};
use crate::data::prepare::Preparation;
use crate::device::OpenDevice;
use crate::models::{Architecture, Input, Item, Network};

/// A network with what is known of its images.
pub struct Parts {
    /// Its configuration.
    pub architecture: Architecture,
    /// With weights.
    pub network: Network,
    /// How images become inputs.
    pub preparation: Preparation,
    /// Names of classes.
    pub labels: Vec<String>,
    /// What it is: the checkpoint or file.
    pub version: String,
}

/// A network that is ready to be served on a device.
pub fn loaded(parts: Parts, device: &OpenDevice) -> Loaded {
    let Parts { architecture, network, preparation, labels, version } = parts;
    let item = &architecture.io().input;
    let image = match item {
        Item::Image(_) => Some(Images::new(preparation)),
        Item::Sequence(shape) => Some(Images::new(preparation).as_item(shape.map(|size| size as u64).to_vec())),
        Item::Features(count) => Some(Images::new(preparation).as_item(vec![*count as u64])),
        Item::Ids(_) | Item::Several(_) => None,
    };
    let description = Description {
        version,
        inputs: inputs(&architecture),
        outputs: vec![Port { name: "output".into(), dtype: Some(DType::F32), shape: output(&architecture) }],
        answers: answers(&architecture),
        labels,
        image,
        batches: true,
    };
    let network = network.fork(&device.device).valid();
    Loaded { description, engine: Box::new(Running { architecture, network, device: device.device.clone() }) }
}

/// What the first output of an architecture's networks means.
pub(super) fn answers(architecture: &Architecture) -> Answers {
    let task = architecture.task();
    match (task.classes(), task.labels(), task.upscale_factor()) {
        (Some(_), ..) => Answers::Scores,
        (None, Some(_), _) => Answers::Masks,
        (None, None, Some(_)) => Answers::Images,
        (None, None, None) => Answers::Tensors,
    }
}

fn inputs(architecture: &Architecture) -> Vec<Port> {
    let items = match &architecture.io().input {
        Item::Several(items) => items.as_slice(),
        item => std::slice::from_ref(item),
    };
    let port = |(at, item): (usize, &Item)| {
        let name = if items.len() == 1 { "input".to_string() } else { format!("input{at}") };
        let (dtype, sizes) = match item {
            Item::Image(shape) => (DType::F32, image_sizes(architecture, *shape)),
            Item::Sequence(shape) => (DType::F32, shape.map(Some).to_vec()),
            Item::Features(count) => (DType::F32, vec![Some(*count)]),
            Item::Ids(count) => (DType::I64, vec![Some(*count)]),
            Item::Several(_) => (DType::F32, vec![]),
        };
        let shape = std::iter::once(None).chain(sizes).collect();
        Port { name, dtype: Some(dtype), shape: Some(shape) }
    };
    items.iter().enumerate().map(port).collect()
}

/// Channels, height and width. A network that takes a larger image than its usual one takes images of any size that it checks itself.
fn image_sizes(architecture: &Architecture, [channels, height, width]: [usize; 3]) -> Vec<Option<usize>> {
    let any = [1, 32].iter().any(|more| architecture.check_input([channels, height + more, width + more]).is_ok());
    let side = |side: usize| (!any).then_some(side);
    vec![Some(channels), side(height), side(width)]
}

fn output(architecture: &Architecture) -> Option<Vec<Option<usize>>> {
    let task = architecture.task();
    match answers(architecture) {
        Answers::Scores | Answers::Probabilities => Some(vec![None, task.classes()]),
        Answers::Masks => Some(vec![None, task.labels(), None, None]),
        Answers::Images => Some(vec![None; 4]),
        Answers::Tensors => None,
    }
}

/// A network on its device.
struct Running {
    architecture: Architecture,
    network: Network,
    device: Device,
}

impl Engine for Running {
    fn run(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, String> {
        let items = match &self.architecture.io().input {
            Item::Several(items) => items.as_slice(),
            item => std::slice::from_ref(item),
        };
        let made = items.iter().zip(&inputs).map(|(item, tensor)| self.input(item, tensor));
        let mut made = made.collect::<Result<Vec<Input>, String>>()?;
        let input = if made.len() == 1 { made.remove(0) } else { Input::Several(made) };
        let output = self.network.forward(input).map_err(|error| error.to_string())?;
        let shape: Vec<u64> = output.shape().into_iter().map(|size| size as u64).collect();
        let output = Tensor::from_f32(&shape, &output.values()).map_err(|error| error.to_string())?;
        Ok(vec![output])
    }
}

impl Running {
    fn input(&self, item: &Item, tensor: &Tensor) -> Result<Input, String> {
        let words = |error: rekindle_state::Error| error.to_string();
        let shape: Vec<usize> = tensor.shape().iter().map(|size| *size as usize).collect();
        if let Item::Ids(_) = item {
            let values = tensor.to_i64().map_err(words)?;
            return Ok(Input::Ids(Burn::from_data(TensorData::new(values, shape), &self.device)));
        }
        let data = TensorData::new(tensor.to_f32().map_err(words)?, shape.clone());
        match (item, shape.as_slice()) {
            (Item::Image(_), [_, channels, height, width]) => {
                self.architecture.check_input([*channels, *height, *width]).map_err(|error| error.to_string())?;
                Ok(Input::Images(Burn::from_data(data, &self.device)))
            }
            (Item::Sequence(_), [_, _, _]) => Ok(Input::Sequences(Burn::from_data(data, &self.device))),
            (Item::Features(_), [_, _]) => Ok(Input::Features(Burn::from_data(data, &self.device))),
            _ => Err(format!("the network takes {item}, found an input of shape {shape:?}")),
        }
    }
}
