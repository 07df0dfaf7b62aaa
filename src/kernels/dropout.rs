//! Dropout as an operation of the CPU backends.

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, NdArray, TensorMetadata, backend_extension};
use rekindle_kernels::Dropout;

use super::host::HostBackend;

/// Dropout by our kernels, of 32-bit floats.
#[backend_extension(Flex, NdArray, Autodiff)]
pub trait DropoutBackend: Backend {
    /// Drops values and scales the others.
    fn host_dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self>;
}

impl DropoutBackend for Flex {
    fn host_dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        forward::<Self>(&x, dropout)
    }
}

impl DropoutBackend for NdArray {
    fn host_dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        forward::<Self>(&x, dropout)
    }
}

fn forward<B: HostBackend>(x: &FloatTensor<B>, dropout: Dropout) -> FloatTensor<B> {
    let values = B::values(x);
    let mut output = vec![0.0; values.len()];
    dropout.apply(&values, &mut output);
    B::tensor(output, x.shape())
}

/// The backward pass.
#[derive(Debug)]
struct Dropping;

impl<B: HostBackend> Backward<B, 1> for Dropping {
    type State = Dropout;

    fn backward(self, ops: Ops<Dropout, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        unary::<B, _>(ops.parents, ops.node, grads, |grad| {
            let shape = grad.shape();
            let mut values = B::into_values(grad);
            ops.state.apply_in_place(&mut values);
            B::tensor(values, shape)
        });
    }
}

impl<B: DropoutBackend + HostBackend, C: CheckpointStrategy> DropoutBackend for Autodiff<B, C> {
    fn host_dropout(x: FloatTensor<Self>, dropout: Dropout) -> FloatTensor<Self> {
        let (x, node) = x.into_parts();
        match Backward::<B, 1>::prepare::<C>(Dropping, [node]).compute_bound().stateful() {
            OpsKind::Tracked(step) => step.finish(dropout, B::host_dropout(x, dropout)),
            OpsKind::UnTracked(step) => step.finish(B::host_dropout(x, dropout)),
        }
    }
}
