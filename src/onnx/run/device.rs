//! A Burn device as what runs operators.

use burn::tensor::Device;

use crate::kernels::Host;

/// Elements of float inputs that are on the host below which moving them to the device costs more than the work.
const WORTH_MOVING: usize = 256;

/// A Burn device that runs float operators.
#[derive(Debug, Clone)]
pub struct BurnDevice {
    pub(super) device: Device,
    pub(super) worth_moving: usize,
    /// Whether it is a CPU backend on which values need not follow gradients.
    pub(super) is_cpu: bool,
}

impl BurnDevice {
    /// Runs on a device.
    pub fn new(device: &Device) -> Self {
        Self::moving_from(device, WORTH_MOVING)
    }

    /// Takes every operator that the device has, however small its inputs are.
    pub fn taking_all(device: &Device) -> Self {
        Self::moving_from(device, 0)
    }

    fn moving_from(device: &Device, worth_moving: usize) -> Self {
        let is_cpu = Host::of(device).is_some() && !device.is_autodiff();
        Self { device: device.clone(), worth_moving, is_cpu }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }
}
