//! What a network does, as a list of Burn's operations, without computing anything.
//!
//! Every parameter is replaced by zeros on the capture device before the forward pass, so that a trace holds no copy of the
//! weights: their values are the state dict's. The forward pass runs in evaluation mode, since the capture device has no autodiff.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Display;
use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::backend::capture::{CaptureBackend, TensorId};
use burn::backend::ir::{OperationIr, TensorIr};
use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

use crate::error::{panic_text, without_panic_output};
use crate::models::tree::{self, Node};
use crate::models::{ModelError, Output, weights};
use crate::onnx::OnnxError;

/// A forward pass: operations in order, with what goes in and out.
#[derive(Debug)]
pub struct Trace {
    /// The operations that the outputs depend on.
    pub operations: Vec<OperationIr>,
    /// The input.
    pub input: TensorIr,
    /// The outputs.
    pub outputs: Vec<TensorIr>,
    /// Constants that the forward pass made.
    pub constants: BTreeMap<TensorId, TensorData>,
    /// Parameters by their tensors.
    pub parameters: HashMap<TensorId, weights::Leaf>,
}

/// What a forward pass may give.
pub trait Outputs {
    /// The tensors on the capture device.
    fn ids(self) -> Result<Vec<TensorId>, String>;
}

impl<const D: usize> Outputs for Tensor<D> {
    fn ids(self) -> Result<Vec<TensorId>, String> {
        Ok(vec![id(self)?])
    }
}

impl Outputs for Output {
    fn ids(self) -> Result<Vec<TensorId>, String> {
        match self {
            Self::Classes(scores) => scores.ids(),
            Self::Images(images) => images.ids(),
            Self::Sequences(sequences) => sequences.ids(),
        }
    }
}

impl<O: Outputs> Outputs for Result<O, ModelError> {
    fn ids(self) -> Result<Vec<TensorId>, String> {
        self.map_err(|error| error.to_string())?.ids()
    }
}

fn id<const D: usize>(tensor: Tensor<D>) -> Result<TensorId, String> {
    let primitive = tensor.try_into_primitive::<CaptureBackend>();
    primitive
        .map(|tensor| tensor.id())
        .map_err(|_| "a tensor of it is made on another device than its input is on".to_string())
}

impl Trace {
    /// Traces the forward pass for an input of this shape.
    ///
    /// # Errors
    /// When the forward pass looks at values, makes tensors on a device of its own, or panics.
    pub fn new<M: Module, O: Outputs, const I: usize>(
        module: &M,
        shape: [usize; I],
        forward: impl Fn(&M, Tensor<I>) -> O,
    ) -> Result<Self, OnnxError> {
        // A copy with running statistics of its own: clones share them.
        Self::consuming(module.valid(), shape, forward)
    }

    /// As [`Trace::new`] for a module that nobody else holds: its weights need not be drawn.
    ///
    /// # Errors
    /// As for [`Trace::new`].
    pub fn consuming<M: Module, O: Outputs, const I: usize>(
        module: M,
        shape: [usize; I],
        forward: impl Fn(&M, Tensor<I>) -> O,
    ) -> Result<Self, OnnxError> {
        let device = Device::capture();
        let mut found: Result<(TensorId, HashMap<TensorId, weights::Leaf>), String> =
            Err("nothing was traced".to_string());
        let captured = without_panic_output(|| {
            catch_unwind(AssertUnwindSafe(|| {
                device.capture_scope(|scope| {
                    let module = module.map(&mut Blank { device: &device });
                    let input = Tensor::<I>::from_data(TensorData::zeros::<f32, _>(shape), &device);
                    let traced = parameters(&module).and_then(|parameters| {
                        let input_id = id(input.clone())?;
                        let outputs = forward(&module, input).ids()?;
                        Ok((input_id, parameters, outputs))
                    });
                    match traced {
                        Ok((input, parameters, outputs)) => {
                            found = Ok((input, parameters));
                            scope.complete([input], outputs)
                        }
                        Err(problem) => {
                            found = Err(problem);
                            scope.complete([], [])
                        }
                    }
                })
            }))
        });
        let captured = captured.map_err(|panic| OnnxError::Trace(panic_text(&*panic)))?;
        let (input, parameters) = found.map_err(OnnxError::Trace)?;
        let captured = captured.map_err(|error| OnnxError::Trace(error.to_string()))?;
        let known: HashMap<TensorId, TensorIr> = captured
            .graph
            .operations
            .iter()
            .flat_map(OperationIr::nodes)
            .map(|tensor| (tensor.id, tensor.clone()))
            .collect();
        let tensor = |id: &TensorId| {
            known.get(id).cloned().ok_or_else(|| OnnxError::Trace("its output is no tensor of it".to_string()))
        };
        let outputs = captured.graph.outputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let operations = live(captured.graph.operations, &outputs, &parameters);
        let input = tensor(captured.graph.inputs.first().unwrap_or(&input))?;
        Ok(Self { operations, input, outputs, constants: captured.values, parameters })
    }
}

/// The modules of a network that nobody else holds; its weights need not be drawn.
pub fn modules<M: Module + Display>(module: M, class: &str) -> Vec<Node> {
    let device = Device::capture();
    let mut found = Vec::new();
    let scope = device.capture_scope(|scope| {
        // Burn's display asks weights for their shapes, and draws those that are not there yet.
        found = tree::modules(&module.map(&mut Blank { device: &device }), class);
        scope.complete([], [])
    });
    // What was captured is not used.
    drop(scope);
    found
}

/// Operations that the outputs depend on; what fills the parameters is none of them.
fn live(
    operations: Vec<OperationIr>,
    outputs: &[TensorIr],
    parameters: &HashMap<TensorId, weights::Leaf>,
) -> Vec<OperationIr> {
    let mut needed: HashSet<TensorId> = outputs.iter().map(|output| output.id).collect();
    let mut kept: Vec<OperationIr> = Vec::new();
    for operation in operations.into_iter().rev() {
        if matches!(operation, OperationIr::Init(_) | OperationIr::Drop(_)) {
            continue;
        }
        let wanted =
            operation.outputs().any(|output| needed.contains(&output.id) && !parameters.contains_key(&output.id));
        if wanted {
            needed.extend(operation.inputs().map(|input| input.id));
            kept.push(operation);
        }
    }
    kept.reverse();
    kept
}

/// Puts zeros on the capture device in the place of every parameter.
struct Blank<'a> {
    device: &'a Device,
}

impl ModuleMapper for Blank<'_> {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        Param::initialized(param.id, Tensor::zeros(param.lazy_shape(), self.device))
    }

    // Of the type that is written, which need not be the capture device's own.
    fn map_int<const D: usize>(&mut self, param: Param<Tensor<D, Int>>) -> Param<Tensor<D, Int>> {
        Param::initialized(param.id, Tensor::zeros(param.lazy_shape(), (self.device, param.val().dtype())))
    }

    fn map_bool<const D: usize>(&mut self, param: Param<Tensor<D, Bool>>) -> Param<Tensor<D, Bool>> {
        let data = TensorData::new(vec![false; param.lazy_shape().num_elements()], param.lazy_shape());
        Param::initialized(param.id, Tensor::from_data(data, self.device))
    }
}

/// The parameters of a module on the capture device.
fn parameters<M: Module>(module: &M) -> Result<HashMap<TensorId, weights::Leaf>, String> {
    let mut tensors = Tensors { ids: Vec::new() };
    module.visit(&mut tensors);
    let ids = tensors.ids.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(ids.into_iter().zip(weights::leaves(module)).collect())
}

/// The tensors of parameters in the order of [`weights::leaves`].
struct Tensors {
    ids: Vec<Result<TensorId, String>>,
}

impl ModuleVisitor for Tensors {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.ids.push(id(param.val()));
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        let primitive = param.val().try_into_primitive::<CaptureBackend>();
        self.ids.push(primitive.map(|tensor| tensor.id()).map_err(|_| "a parameter is on another device".to_string()));
    }

    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        let primitive = param.val().try_into_primitive::<CaptureBackend>();
        self.ids.push(primitive.map(|tensor| tensor.id()).map_err(|_| "a parameter is on another device".to_string()));
    }
}
