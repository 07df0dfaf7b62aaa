//! A graph that is run with a network's weights.

use std::fmt;
use std::sync::Arc;

use burn::tensor::{Device, Tensor};
use rekindle_onnx::graph::Weight;
use rekindle_onnx::{Array, DType, Session, Slot};

use super::source::{Source, Training};
use super::{Scores, Takes};
use crate::models::imported::{Computation, Kept, Named};
use crate::models::{FromInput, Input, ModelError, Output};
use crate::onnx::run::{BurnDevice, DeviceTensor};

/// A graph with what is known of its input and output.
pub(super) struct Graph {
    pub source: Source,
    pub input: String,
    pub takes: Takes,
    /// The number of items that the model takes at once, if it is fixed.
    pub batch: Option<usize>,
    pub scores: Scores,
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("input", &self.input)
            .field("batch", &self.batch)
            .field("scores", &self.scores)
            .finish_non_exhaustive()
    }
}

/// A model with its parameters, its nodes merged for inference.
struct Ready {
    device: Device,
    session: Session<BurnDevice>,
}

type Outputs = Vec<Slot<DeviceTensor>>;

impl Graph {
    /// Runs the model with its nodes as in the file, so that gradients reach every parameter.
    pub fn run(&self, parameters: &[Named], input: Input) -> Result<DeviceTensor, String> {
        let device = device_of(&input);
        let mut session = Session::new(self.source.model.clone(), BurnDevice::new(&device)).map_err(words)?;
        for (weight, named) in self.source.weights.iter().zip(parameters) {
            if let Some(id) = weight.id.filter(|_| !weight.counts) {
                session.constants_mut().replace(id, slot(named));
            }
        }
        first(self.outputs(&session, input)?, &device)
    }

    /// A step of training of a program: batches are normalised by their own statistics, which move the running ones.
    fn train(&self, training: &Training, parameters: &[Named], input: Input) -> Result<DeviceTensor, String> {
        let device = device_of(&input);
        // Every operator runs where random numbers can be drawn again after an interruption.
        let mut session = Session::new(training.model.clone(), BurnDevice::taking_all(&device)).map_err(words)?;
        for ((id, weight), named) in training.ids.iter().zip(&self.source.weights).zip(parameters) {
            if let Some(id) = id.filter(|_| !weight.counts) {
                session.constants_mut().replace(id, slot(named));
            }
        }
        let outputs = self.outputs(&session, input)?;
        for &(at, output) in &training.moved {
            let next = outputs.get(output).cloned().ok_or("the model does not give its next statistics")?;
            let next = next.into_tensor(|source| DeviceTensor::place(source, &device)).map_err(words)?;
            parameters[at].values.advance(next.flat());
        }
        for &at in &training.counted {
            let (count, _) = parameters[at].values.flat();
            parameters[at].values.advance(count + 1.0);
        }
        first(outputs, &device)
    }

    /// Runs a session on as many items as the model takes at once.
    fn outputs(&self, session: &Session<BurnDevice>, input: Input) -> Result<Outputs, String> {
        session.run_slots(vec![(self.input.clone(), slot_of(input)?)]).map_err(words)
    }

    /// The model with these parameters on a device, prepared for many runs.
    fn ready(&self, parameters: &[Named], device: Device) -> Result<Ready, String> {
        let accelerator = BurnDevice::new(&device);
        let weights = self.source.weights.iter().zip(parameters).filter(|(weight, _)| !weight.counts);
        let replaced = weights.filter_map(|(weight, named)| {
            let slot = slot(named);
            let (own, reader) = (slot.clone(), accelerator.clone());
            let read = move || own.value(&reader)?.array().cloned();
            let shape = slot.on_device().map_or(&[][..], DeviceTensor::shape).to_vec();
            Some((weight.id?, Weight::deferred(DType::F32, shape, Arc::new(read)), slot))
        });
        let replaced = replaced.collect();
        let session = Session::prepared_with(self.source.model.clone(), accelerator, replaced).map_err(words)?;
        Ok(Ready { device, session })
    }

    /// Runs the model on any number of items; pictures that it does not take at once one after another.
    fn run_all(
        &self,
        input: Input,
        run: impl Fn(Input) -> Result<DeviceTensor, String>,
    ) -> Result<DeviceTensor, String> {
        let x = match (input, self.batch) {
            (Input::Images(x), Some(batch)) if batch != x.dims()[0] => x,
            (input, _) => return run(input),
        };
        let (batch, [count, channels, height, width]) = (self.batch.unwrap_or(1), x.dims());
        let (mut parts, mut shape): (Vec<Tensor<2>>, Vec<usize>) = (Vec::new(), Vec::new());
        for start in (0..count).step_by(batch.max(1)) {
            let here = batch.min(count - start);
            let mut part = x.clone().narrow(0, start, here);
            if here < batch {
                let filler = Tensor::zeros([batch - here, channels, height, width], &x.device());
                part = Tensor::cat(vec![part, filler], 0);
            }
            let out = run(part.into())?;
            shape = out.shape().to_vec();
            let each = out.count() / batch;
            parts.push(out.view::<2>([batch, each]).narrow(0, 0, here));
        }
        shape[0] = count;
        Ok(DeviceTensor::new(Tensor::cat(parts, 0), shape, DType::F32))
    }

    /// Runs the model, prepared where no gradients are asked for.
    fn run_best(&self, parameters: &[Named], kept: &Kept, input: Input) -> Result<DeviceTensor, String> {
        let device = device_of(&input);
        // Pictures may lie elsewhere than the parameters that learn from them.
        if !device.is_autodiff() && !parameters.iter().any(|named| named.values.is_autodiff()) {
            if kept.get().is_none() {
                let ready = self.ready(parameters, device.clone())?;
                // Another thread may have been first: its work is as good.
                let _ = kept.set(Box::new(ready));
            }
            let ready = kept.get().and_then(|kept| kept.downcast_ref::<Ready>()).filter(|ready| ready.device == device);
            return match ready {
                Some(ready) => self.run_all(input, |input| first(self.outputs(&ready.session, input)?, &ready.device)),
                None => self.run_all(input, |input| self.run(parameters, input)),
            };
        }
        match self.source.training() {
            Some(training) => {
                let training = training?;
                self.run_all(input, |input| self.train(training, parameters, input))
            }
            None => self.run_all(input, |input| self.run(parameters, input)),
        }
    }

    /// The input in the form that the model takes: pictures are the features of their values, or a sequence of their rows.
    fn fitted(&self, input: Input) -> Result<Input, ModelError> {
        let other = |found: Input, expected: &str| ModelError::Input {
            name: "the graph".to_string(),
            expected: expected.to_string(),
            found: found.describe(),
        };
        match self.takes {
            Takes::Images => Tensor::<4>::from_input(input).map(Input::from).map_err(|it| other(it, Tensor::<4>::WHAT)),
            Takes::Sequences => {
                Tensor::<3>::from_input(input).map(Input::from).map_err(|it| other(it, Tensor::<3>::WHAT))
            }
            Takes::Features => {
                Tensor::<2>::from_input(input).map(Input::from).map_err(|it| other(it, Tensor::<2>::WHAT))
            }
            Takes::Ids => Tensor::<2, burn::tensor::Int>::from_input(input)
                .map(Input::from)
                .map_err(|it| other(it, Tensor::<2, burn::tensor::Int>::WHAT)),
        }
    }
}

fn device_of(input: &Input) -> Device {
    match input {
        Input::Images(x) => x.device(),
        Input::Sequences(x) => x.device(),
        Input::Features(x) => x.device(),
        Input::Ids(x) => x.device(),
        Input::Several(inputs) => inputs.first().map_or_else(Device::flex, device_of),
    }
}

fn slot_of(input: Input) -> Result<Slot<DeviceTensor>, String> {
    fn floats<const D: usize>(x: Tensor<D>) -> Slot<DeviceTensor> {
        let shape = x.dims().to_vec();
        Slot::device(DeviceTensor::new(x, shape, DType::F32))
    }
    Ok(match input {
        Input::Images(x) => floats(x),
        Input::Sequences(x) => floats(x),
        Input::Features(x) => floats(x),
        Input::Ids(x) => {
            let shape = x.dims().to_vec();
            Slot::host(Array::new(shape, x.into_data().iter::<i64>().collect::<Vec<i64>>()).map_err(words)?)
        }
        Input::Several(_) => return Err("it takes one input".to_string()),
    })
}

fn first(outputs: Outputs, device: &Device) -> Result<DeviceTensor, String> {
    let first = outputs.into_iter().next().ok_or("the model has no output")?;
    first.into_tensor(|source| DeviceTensor::place(source, device)).map_err(words)
}

fn words(error: rekindle_onnx::Error) -> String {
    error.to_string()
}

fn slot(named: &Named) -> Slot<DeviceTensor> {
    let (values, shape) = named.values.flat();
    Slot::device(DeviceTensor::new(values, shape, DType::F32).following_gradients())
}

impl Computation for Graph {
    /// What the model takes and gives was tried when it was opened, for one size of images; of others it may take not all.
    fn forward(&self, parameters: &[Named], kept: &Kept, input: Input) -> Result<Output, ModelError> {
        let input = self.fitted(input)?;
        let what = input.describe();
        let out = self
            .run_best(parameters, kept, input)
            .map_err(|error| ModelError::Graph(format!("the graph cannot be run on {what}: {error}")))?;
        Ok(match *out.shape() {
            [batch, channels, height, width] if height * width > 1 => {
                Output::Images(out.view([batch, channels, height, width]))
            }
            [batch, steps, features] => Output::Sequences(out.view([batch, steps, features])),
            [batch, ..] => {
                let classes = out.count() / batch.max(1);
                let scores: Tensor<2> = out.view([batch, classes]);
                Output::Classes(if self.scores == Scores::Probabilities {
                    scores.clamp_min(f32::MIN_POSITIVE).log()
                } else {
                    scores
                })
            }
            [] => return Err(ModelError::Graph("the graph gives one number for a whole batch".to_string())),
        })
    }
}
