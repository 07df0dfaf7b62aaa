//! What Burn computes at every operation of a captured forward pass: the yardstick for finding where a written graph first differs.

use std::collections::HashMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use burn::backend::Flex;
use burn::backend::ir::{TensorIr, TensorStatus};
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Bool, Int, Tensor, TensorData};
use burn_router::TensorInterpreter;

use super::Values;
use crate::error::{panic_text, without_panic_output};
use crate::models::weights;
use crate::onnx::export::Trace;

/// Runs a trace on flex with a module's own parameters, and shows every value in order: its place among all outputs of the
/// operations, and what it is. Stops when `look` says so.
///
/// # Errors
/// When an operation fails.
pub fn replay<M: Module>(
    module: &M,
    trace: &Trace,
    input: &Values,
    mut look: impl FnMut(usize, Values) -> bool,
) -> Result<(), String> {
    let run = || {
        let mut interpreter = TensorInterpreter::<Flex>::new(Default::default());
        let mut parameters = Parameters { data: Vec::new() };
        module.visit(&mut parameters);
        let data: HashMap<String, TensorData> =
            weights::leaves(module).into_iter().map(|leaf| leaf.path).zip(parameters.data).collect();
        for (tensor, entry) in &trace.parameters {
            if let Some(data) = data.get(&entry.path) {
                interpreter.register_tensor_data_id(*tensor, data.clone());
            }
        }
        for (id, data) in trace.constants.iter().filter(|(id, _)| **id != trace.input.id) {
            interpreter.register_tensor_data_id(*id, data.clone());
        }
        interpreter.register_tensor_data_id(trace.input.id, TensorData::new(input.data.clone(), input.shape.clone()));
        let mut place = 0;
        for operation in &trace.operations {
            interpreter.register_op(operation.clone());
            for output in operation.outputs() {
                // Only looked at: the operations that follow need it.
                let tensor = TensorIr { status: TensorStatus::ReadOnly, ..output.clone() };
                let data = at_once(interpreter.read_tensor_async(tensor)).ok_or("a value is not there at once")?;
                let data = data.map_err(|error| format!("{error:?}"))?;
                let values = Values { shape: data.shape().to_vec(), data: data.iter::<f32>().collect() };
                if !look(place, values) {
                    return Ok(());
                }
                place += 1;
            }
        }
        Ok(())
    };
    let found = without_panic_output(|| catch_unwind(AssertUnwindSafe(run)));
    found.unwrap_or_else(|panic| Err(panic_text(&*panic)))
}

/// The result of a future that waits for nothing, as flex's are.
fn at_once<T>(mut future: Pin<Box<dyn Future<Output = T> + Send>>) -> Option<T> {
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

/// The values of parameters in the order of [`weights::leaves`].
struct Parameters {
    data: Vec<TensorData>,
}

impl ModuleVisitor for Parameters {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.data.push(param.val().into_data());
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.data.push(param.val().into_data());
    }
    fn visit_bool<const D: usize>(&mut self, param: &Param<Tensor<D, Bool>>) {
        self.data.push(param.val().into_data());
    }
}
