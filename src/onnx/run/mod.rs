//! ONNX graphs on a Burn device: the accelerator behind `rekindle-onnx`'s interpreter.
//!
//! The device takes float operators whose inputs are large or already there; whatever is special (odd types, empty tensors,
//! rare attributes) is left to the host, which knows every case. Integers, booleans and shapes stay on the host. All operators
//! are Burn's public tensor operations, so gradients flow through them on a device with autodiff. Prepared graphs on a CPU backend without
//! autodiff are run by the interpreter's own CPU runtime, as a whole.

mod attention;
mod call;
mod conv;
mod device;
mod einsum;
mod elementwise;
pub mod files;
mod fused;
mod index;
mod linear;
mod norm;
mod pool;
mod recurrent;
mod reduce;
mod resize;
mod shape;
mod tensor;

use rekindle_onnx::{Accelerator, Array, Error, FUSED, Node, Result, Slot};

use call::{Call, DeviceOp};
pub use device::BurnDevice;
pub use tensor::DeviceTensor;

/// What runs a node.
pub struct Plan {
    /// On any device.
    operator: Option<DeviceOp>,
    /// Whether a tensor's shape is all that matters.
    tells_shape: bool,
}

impl Accelerator for BurnDevice {
    type Tensor = DeviceTensor;
    type Plan = Plan;

    fn plan(&self, node: &Node) -> Plan {
        let operator = match node.domain.as_str() {
            "" => find(&node.operator),
            FUSED => fused::find(&node.operator),
            _ => None,
        };
        let tells_shape = node.domain.is_empty() && matches!(node.operator.as_str(), "Shape" | "Size");
        Plan { operator, tells_shape }
    }

    fn run(
        &self,
        node: &Node,
        plan: &Plan,
        inputs: &mut [Option<Slot<DeviceTensor>>],
    ) -> Result<Option<Vec<Slot<DeviceTensor>>>> {
        let followed =
            inputs.iter().flatten().any(|slot| slot.on_device().is_some_and(DeviceTensor::follows_gradients));
        if plan.tells_shape
            && let Some(answer) = shape::of_device_tensor(node, inputs)
        {
            return Ok(Some(vec![Slot::host(answer)]));
        }
        let mut call = Call::new(self, node, inputs);
        let outputs = match plan.operator {
            Some(operator) if call.is_worth_it() => {
                call.check()?;
                operator(&mut call)?
            }
            _ => None,
        };
        match outputs {
            Some(outputs) if followed => {
                Ok(Some(outputs.into_iter().map(|output| Slot::device(output.following_gradients())).collect()))
            }
            Some(outputs) => Ok(Some(outputs.into_iter().map(Slot::device).collect())),
            // On the host the gradient would be lost without a word.
            None if followed && !node.schema().is_some_and(|schema| schema.without_gradient) => {
                Err(Error::beyond("training through the operator"))
            }
            None => Ok(None),
        }
    }

    fn download(&self, tensor: &DeviceTensor) -> Result<Array> {
        tensor.download()
    }

    fn bytes(&self, tensor: &DeviceTensor) -> u64 {
        let each = if tensor.dtype() == rekindle_onnx::DType::F64 { 8 } else { 4 };
        (tensor.count() as u64).saturating_mul(each)
    }

    fn is_cpu(&self) -> bool {
        self.is_cpu
    }
}

fn find(operator: &str) -> Option<DeviceOp> {
    let families = [
        elementwise::find,
        linear::find,
        conv::find,
        pool::find,
        norm::find,
        reduce::find,
        shape::find,
        resize::find,
        recurrent::find,
        einsum::find,
        index::find,
        attention::find,
    ];
    families.iter().find_map(|family| family(operator))
}
