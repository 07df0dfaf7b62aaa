//! ONNX graphs on a Burn device: the accelerator behind `rekindle-onnx`'s interpreter.
//!
//! The device takes float operators whose inputs are large or already there; whatever is special (odd types, empty tensors,
//! rare attributes) is left to the host, which knows every case. Integers, booleans and shapes stay on the host. All operators
//! are Burn's public tensor operations, so gradients flow through them on a device with autodiff.

mod call;
mod conv;
mod elementwise;
pub mod files;
mod linear;
mod norm;
mod pool;
mod reduce;
mod resize;
mod shape;
mod tensor;

use burn::tensor::Device;
use rekindle_onnx::{Accelerator, Array, Node, Result, Slot};

use call::Call;
pub use tensor::DeviceTensor;

/// The outputs of an operator, or `None` where the host has to run it.
type Outputs = Result<Option<Vec<DeviceTensor>>>;

/// An operator on the device.
type DeviceOp = fn(&mut Call<'_, '_>) -> Outputs;

/// Elements of float inputs that are on the host below which moving them to the device costs more than the work.
const WORTH_MOVING: usize = 256;

/// A Burn device that runs float operators.
#[derive(Debug, Clone)]
pub struct BurnDevice {
    device: Device,
    worth_moving: usize,
}

impl BurnDevice {
    /// Runs on a device.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone(), worth_moving: WORTH_MOVING }
    }

    /// Takes every operator that the device has, however small its inputs are.
    pub fn taking_all(device: &Device) -> Self {
        Self { device: device.clone(), worth_moving: 0 }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }
}

impl Accelerator for BurnDevice {
    type Tensor = DeviceTensor;

    fn run(&self, node: &Node, inputs: &mut [Option<Slot<DeviceTensor>>]) -> Result<Option<Vec<Slot<DeviceTensor>>>> {
        if !node.domain.is_empty() {
            return Ok(None);
        }
        if let Some(answer) = shape::of_device_tensor(node, inputs)? {
            return Ok(Some(vec![Slot::host(answer)]));
        }
        let Some(operator) = find(&node.operator) else { return Ok(None) };
        let mut call = Call::new(self, node, inputs);
        if !call.is_worth_it() {
            return Ok(None);
        }
        Ok(operator(&mut call)?.map(|outputs| outputs.into_iter().map(Slot::device).collect()))
    }

    fn download(&self, tensor: &DeviceTensor) -> Result<Array> {
        tensor.download()
    }
}

fn find(operator: &str) -> Option<DeviceOp> {
    let families = [elementwise::find, linear::find, conv::find, pool::find, norm::find, reduce::find, shape::find, resize::find];
    families.iter().find_map(|family| family(operator))
}
