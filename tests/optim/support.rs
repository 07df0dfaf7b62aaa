//! A two-layer network, PyTorch's numbers for it, and their comparison.

use std::path::Path;

use burn::Tensor;
use burn::module::{Module, Param};
use burn::nn::{Linear, LinearConfig};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Int, TensorData};
use rekindle::optim::{OptimizerConfig, ParameterInfo, ParameterPart, clip_grad_norm, clip_grad_value, cross_entropy};
use rekindle_state::{Key, StateDict, Value};
use serde_json::Value as Json;

pub use crate::support::numbers::{devices, distance, tensor_values};

/// `Sequential(Linear, Tanh, Linear)`.
#[derive(Module, Debug)]
pub struct Mlp {
    first: Linear,
    second: Linear,
}

/// PyTorch's names, in the order of `model.parameters()`.
pub const NAMES: [&str; 4] = ["0.weight", "0.bias", "2.weight", "2.bias"];

impl Mlp {
    /// A network with the values of a state dict as JSON.
    pub fn new(values: &Json, frozen: &[String], device: &Device) -> Self {
        Self::from_state_dict(&state_dict(values), frozen, device)
    }

    /// A network with the values of a state dict.
    pub fn from_state_dict(values: &StateDict, frozen: &[String], device: &Device) -> Self {
        let linear = |layer: &str| {
            let data = |name: &str| {
                let tensor = values.tensor(&format!("{layer}.{name}")).unwrap();
                TensorData::new(
                    tensor_values(tensor),
                    tensor.shape().iter().map(|&axis| axis as usize).collect::<Vec<_>>(),
                )
            };
            let weight = Tensor::<2>::from_data(data("weight"), device).transpose();
            let [inputs, outputs] = weight.dims();
            let mut linear = LinearConfig::new(inputs, outputs).init(device);
            linear.weight = param(linear.weight.id, weight, !frozen.contains(&format!("{layer}.weight")));
            let bias = Tensor::<1>::from_data(data("bias"), device);
            linear.bias = linear.bias.map(|old| param(old.id, bias, !frozen.contains(&format!("{layer}.bias"))));
            linear
        };
        Self { first: linear("0"), second: linear("2") }
    }

    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.second.forward(self.first.forward(x).tanh())
    }

    /// The table that a model gives to its optimizer.
    pub fn parameters(&self) -> Vec<ParameterInfo> {
        [("0", "first", &self.first), ("2", "second", &self.second)]
            .into_iter()
            .flat_map(|(torch, burn, linear)| {
                let [inputs, outputs] = linear.weight.dims();
                let bias = linear.bias.as_ref().map(|bias| bias.id).unwrap_or_default();
                [("weight", linear.weight.id, vec![outputs, inputs]), ("bias", bias, vec![outputs])].map(
                    |(name, id, shape)| ParameterInfo {
                        name: format!("{torch}.{name}"),
                        parts: vec![ParameterPart { id, path: format!("{burn}.{name}"), transposed: shape.len() == 2 }],
                        shape,
                    },
                )
            })
            .collect()
    }

    /// Values in PyTorch's layout, in PyTorch's order.
    pub fn values(&self) -> Vec<Vec<f32>> {
        [&self.first, &self.second]
            .into_iter()
            .flat_map(|linear| {
                let weight = linear.weight.val().transpose().into_data();
                let bias = linear.bias.as_ref().unwrap().val().into_data();
                [weight, bias].map(|data| data.iter::<f32>().collect())
            })
            .collect()
    }
}

fn param<const D: usize>(id: burn::module::ParamId, tensor: Tensor<D>, trained: bool) -> Param<Tensor<D>> {
    Param::initialized(id, tensor.detach().set_require_grad(trained))
}

/// What is done to gradients before a step.
#[derive(Clone, Copy)]
pub enum Clip {
    No,
    Norm(f64),
    Value(f64),
}

/// One step of training: the network after it, the loss before it, and the norm of the gradients if they were clipped by it.
pub fn train_step(
    model: Mlp,
    optimizer: &mut ModuleOptimizer,
    lr: burn::lr_scheduler::module_lr_scheduler::ModuleLearningRate,
    batch: &Json,
    clip: Clip,
    device: &Device,
) -> (Mlp, f64, f64) {
    let x = Tensor::<2>::from_data(TensorData::new(floats(&batch["x"]), shape(&batch["x"])), device);
    let classes: Vec<i64> = batch["y"].as_array().unwrap().iter().map(|class| class.as_i64().unwrap()).collect();
    let y = Tensor::<1, Int>::from_data(TensorData::new(classes.clone(), [classes.len()]), device);
    let loss = cross_entropy(model.forward(x), y);
    let value = f64::from(loss.clone().into_scalar::<f32>());
    let grads = GradientsParams::from_grads(loss.backward(), &model);
    let (grads, norm) = match clip {
        Clip::No => (grads, 0.0),
        Clip::Norm(norm) => clip_grad_norm(grads, &model, norm).unwrap(),
        Clip::Value(value) => (clip_grad_value(grads, &model, value), 0.0),
    };
    (optimizer.step(lr, model, grads), value, norm)
}

/// A JSON file under `tests/fixtures`.
pub fn fixture(name: &str) -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// An optimizer from its table as JSON, which reads as TOML does.
pub fn optimizer(table: &Json) -> OptimizerConfig {
    serde_json::from_value(table.clone()).unwrap()
}

pub fn entries(json: &Json) -> impl Iterator<Item = (&String, &Json)> {
    json.as_object().unwrap().iter()
}

pub fn shape(tensor: &Json) -> Vec<usize> {
    tensor["shape"].as_array().unwrap().iter().map(|axis| axis.as_u64().unwrap() as usize).collect()
}

pub fn floats(tensor: &Json) -> Vec<f32> {
    numbers(&tensor["values"]).into_iter().map(|value| value as f32).collect()
}

pub fn numbers(list: &Json) -> Vec<f64> {
    list.as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
}

pub fn strings(list: &Json) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|value| value.as_str().unwrap().to_string()).collect()
}

/// A state dict as PyTorch holds it, from its JSON.
pub fn state_dict(json: &Json) -> StateDict {
    entries(json)
        .map(|(key, value)| (key.parse().map_or_else(|_| Key::from(key.as_str()), Key::Int), state_value(value)))
        .collect()
}

fn state_value(json: &Json) -> Value {
    match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(value) => value.as_i64().map_or_else(|| Value::Float(value.as_f64().unwrap()), Value::Int),
        Json::String(value) => Value::Str(value.clone()),
        Json::Array(items) => Value::List(items.iter().map(state_value).collect()),
        Json::Object(object) if object.len() == 2 && object.contains_key("shape") && object.contains_key("values") => {
            let shape: Vec<u64> = shape(json).into_iter().map(|axis| axis as u64).collect();
            Value::Tensor(rekindle_state::Tensor::from_f32(&shape, &floats(json)).unwrap())
        }
        Json::Object(_) => Value::Dict(state_dict(json)),
    }
}

/// The same for a network's parameters and a state dict's.
pub fn model_distance(model: &Mlp, expected: &Json) -> f64 {
    NAMES
        .iter()
        .zip(model.values())
        .map(|(name, found)| distance(&found, &floats(&expected[*name])))
        .fold(0.0, f64::max)
}
