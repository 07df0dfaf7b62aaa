//! What an optimizer remembers of one parameter, under PyTorch's names.

use burn::Tensor;
use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::Device;

use super::rule::state_keys;
use crate::kernels;

/// The count of updates, numbers and tensors of one parameter.
///
/// The names in Burn's optimizer record are those of PyTorch's `state_dict()`; each rule uses some of them.
#[derive(Debug, Clone, Default)]
pub struct State<const D: usize> {
    pub(super) step: u64,
    scalars: Vec<(&'static str, f64)>,
    buffers: Vec<(Buffer, Tensor<D>)>,
}

/// A tensor of a state that has the parameter's shape, by PyTorch's name: a running average, a velocity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer(pub &'static str);

/// The name of the count of updates, PyTorch's too.
pub(super) const STEP: &str = "step";

impl<const D: usize> State<D> {
    /// Whether nothing was remembered yet.
    pub(super) fn is_empty(&self) -> bool {
        self.step == 0 && self.scalars.is_empty() && self.buffers.is_empty()
    }

    /// Whether a buffer is there.
    pub(super) fn has(&self, buffer: Buffer) -> bool {
        self.buffers.iter().any(|(found, _)| *found == buffer)
    }

    /// Takes a buffer out, so that it can be updated in place.
    pub(super) fn take(&mut self, buffer: Buffer) -> Option<Tensor<D>> {
        let place = self.buffers.iter().position(|(found, _)| *found == buffer)?;
        Some(self.buffers.swap_remove(place).1)
    }

    /// Puts an updated buffer back.
    pub(super) fn put(&mut self, buffer: Buffer, tensor: Tensor<D>) {
        self.buffers.push((buffer, tensor));
    }

    /// A number.
    pub(super) fn scalar(&self, name: &str) -> Option<f64> {
        self.scalars.iter().find(|(found, _)| *found == name).map(|(_, value)| *value)
    }

    /// Changes a number.
    pub(super) fn set_scalar(&mut self, name: &'static str, value: f64) {
        self.scalars.retain(|(found, _)| *found != name);
        self.scalars.push((name, value));
    }

    /// The same state on another device.
    pub(super) fn on_device(self, device: &Device) -> Self {
        let buffers = self.buffers.into_iter().map(|(buffer, tensor)| (buffer, tensor.to_device(device))).collect();
        Self { buffers, ..self }
    }
}

impl<const D: usize> RecordState for State<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, STEP, self.step.into());
        let (buffers, scalars) = state_keys();
        for name in scalars {
            if let Some(value) = self.scalar(name) {
                out.push_scalar(prefix, name, value.to_bits().into());
            }
        }
        for buffer in buffers {
            if let Some((_, tensor)) = self.buffers.iter().find(|(found, _)| found == buffer) {
                out.push_tensor(prefix, buffer.0, kernels::data(tensor));
            }
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let (buffers, scalars) = state_keys();
        let step = u64::try_from(src.take_scalar(prefix, STEP)?).ok()?;
        let mut state = Self { step, ..Self::default() };
        for name in scalars {
            if let Some(bits) = src.take_scalar(prefix, name).and_then(|bits| u64::try_from(bits).ok()) {
                state.set_scalar(name, f64::from_bits(bits));
            }
        }
        for &buffer in buffers {
            if let Some(data) = src.take_tensor(prefix, buffer.0) {
                state.put(buffer, Tensor::from_data(data, device));
            }
        }
        Some(state)
    }
}
