//! Gradients as soon as they are known, while the backward pass goes on.
//!
//! Burn hands gradients over when the whole backward pass is done. The operations of this module register theirs here, and somebody
//! may listen. A gradient that is heard is final only if nothing else adds to it: whoever listens compares it with what the backward
//! pass hands over in the end.

use std::cell::RefCell;

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Flex, NdArray};
use burn::tensor::Tensor;

use super::host::{Held, Host, HostBackend};

/// Is told the node of a tensor and its gradient.
type Listener = Box<dyn FnMut(NodeId, Held)>;

thread_local! {
    static LISTENER: RefCell<Option<Listener>> = const { RefCell::new(None) };
}

/// Does something while `listener` is told of each gradient that the operations of this module find on this thread.
pub fn listening<T>(listener: impl FnMut(NodeId, Held) + 'static, work: impl FnOnce() -> T) -> T {
    /// Also when the work panics.
    struct Stop;
    impl Drop for Stop {
        fn drop(&mut self) {
            LISTENER.set(None);
        }
    }
    LISTENER.set(Some(Box::new(listener)));
    let _stop = Stop;
    work()
}

/// The node that a tensor's gradient is registered for; none where the operations of this module do not run.
pub fn node<const D: usize>(tensor: Tensor<D>) -> Option<NodeId> {
    match Host::of(&tensor.device())? {
        Host::Flex => tensor.try_into_primitive::<Autodiff<Flex>>().ok().map(|tensor| tensor.id()),
        Host::NdArray => tensor.try_into_primitive::<Autodiff<NdArray>>().ok().map(|tensor| tensor.id()),
    }
}

/// Registers a gradient, and tells whoever listens.
pub(super) fn register<B: HostBackend>(grads: &mut Gradients, node: NodeId, gradient: FloatTensor<B>) {
    let heard = LISTENER.with_borrow(Option::is_some).then(|| B::held(gradient.clone()));
    grads.register::<B>(node, gradient);
    if let Some(heard) = heard {
        LISTENER.with_borrow_mut(|listener| listener.iter_mut().for_each(|listener| listener(node, heard.clone())));
    }
}
