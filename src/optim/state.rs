//! What an optimizer remembers of one parameter, under PyTorch's names.

use burn::Tensor;
use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::Device;

use crate::kernels;

/// The count of updates and the running averages of one parameter.
///
/// The names in Burn's optimizer record are those of PyTorch's `state_dict()`; each rule uses some of them.
#[derive(Debug, Clone, Default)]
pub struct State<const D: usize> {
    pub(super) step: u64,
    buffers: [Option<Tensor<D>>; Buffer::ALL.len()],
}

/// A running average, by its role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Buffer {
    /// SGD and RMSprop: the velocity.
    Momentum,
    /// Adam: mean of gradients.
    ExpAvg,
    /// Adam: mean of squared gradients.
    ExpAvgSq,
    /// Adam with AMSGrad: largest mean of squared gradients so far.
    MaxExpAvgSq,
    /// RMSprop: mean of squared gradients.
    SquareAvg,
    /// Centered RMSprop: mean of gradients.
    GradAvg,
}

impl Buffer {
    pub(super) const ALL: [Self; 6] =
        [Self::Momentum, Self::ExpAvg, Self::ExpAvgSq, Self::MaxExpAvgSq, Self::SquareAvg, Self::GradAvg];

    /// PyTorch's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Momentum => "momentum_buffer",
            Self::ExpAvg => "exp_avg",
            Self::ExpAvgSq => "exp_avg_sq",
            Self::MaxExpAvgSq => "max_exp_avg_sq",
            Self::SquareAvg => "square_avg",
            Self::GradAvg => "grad_avg",
        }
    }
}

/// The name of the count of updates, PyTorch's too.
pub(super) const STEP: &str = "step";

impl<const D: usize> State<D> {
    /// Whether a buffer is there.
    pub(super) fn has(&self, buffer: Buffer) -> bool {
        self.buffers[buffer as usize].is_some()
    }

    /// Takes a buffer out, so that it can be updated in place.
    pub(super) fn take(&mut self, buffer: Buffer) -> Option<Tensor<D>> {
        self.buffers[buffer as usize].take()
    }

    /// Puts an updated buffer back.
    pub(super) fn put(&mut self, buffer: Buffer, tensor: Tensor<D>) {
        self.buffers[buffer as usize] = Some(tensor);
    }

    /// The same state on another device.
    pub(super) fn on_device(self, device: &Device) -> Self {
        Self { step: self.step, buffers: self.buffers.map(|buffer| buffer.map(|tensor| tensor.to_device(device))) }
    }
}

impl<const D: usize> RecordState for State<D> {
    fn state_flatten(&self, prefix: &str, out: &mut StateSink) {
        out.push_scalar(prefix, STEP, self.step.into());
        for (buffer, tensor) in Buffer::ALL.iter().zip(&self.buffers) {
            if let Some(tensor) = tensor {
                out.push_tensor(prefix, buffer.name(), kernels::data(tensor));
            }
        }
    }

    fn state_unflatten(prefix: &str, src: &mut StateSource, device: &Device) -> Option<Self> {
        let step = u64::try_from(src.take_scalar(prefix, STEP)?).ok()?;
        let buffers = Buffer::ALL
            .map(|buffer| src.take_tensor(prefix, buffer.name()).map(|data| Tensor::from_data(data, device)));
        Some(Self { step, buffers })
    }
}
