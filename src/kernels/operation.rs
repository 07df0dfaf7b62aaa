//! Operations on the values of a few tensors, with gradients of their own, on the CPU backends.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, NdArray, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};

use super::host::HostBackend;

/// One result from the values of one to four tensors, and the gradients of these.
pub trait Operation: Debug + Send + Sync {
    /// The shape of the result.
    fn shape(&self) -> Shape;

    /// The result.
    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32>;

    /// Whether the backward pass reads an input: those that it doesn't are not kept, and empty there.
    fn reads(&self, _input: usize) -> bool {
        true
    }

    /// Whether the backward pass reads the result.
    fn reads_output(&self) -> bool {
        false
    }

    /// The gradients of all inputs from that of the result; that of an input that is not `wanted` may be empty.
    fn backward(&self, inputs: &[&[f32]], output: &[f32], grad: Vec<f32>, wanted: &[bool]) -> Vec<Vec<f32>>;
}

/// The backward pass.
#[derive(Debug)]
struct Step;

/// What the backward pass needs of the forward pass.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    operation: Arc<dyn Operation>,
    inputs: Vec<Option<FloatTensor<B>>>,
    shapes: Vec<Shape>,
    output: Option<FloatTensor<B>>,
}

fn forward<B: HostBackend>(inputs: &[FloatTensor<B>], operation: &dyn Operation) -> FloatTensor<B> {
    let values: Vec<Cow<'_, [f32]>> = inputs.iter().map(B::values).collect();
    let values: Vec<&[f32]> = values.iter().map(|values| &**values).collect();
    B::tensor(operation.forward(&values), operation.shape())
}

impl<B: HostBackend> Saved<B> {
    fn new<const N: usize>(
        operation: Arc<dyn Operation>,
        inputs: [FloatTensor<B>; N],
        output: &FloatTensor<B>,
    ) -> Self {
        Self {
            shapes: inputs.iter().map(TensorMetadata::shape).collect(),
            output: operation.reads_output().then(|| output.clone()),
            inputs: inputs.into_iter().enumerate().map(|(at, x)| operation.reads(at).then_some(x)).collect(),
            operation,
        }
    }
}

impl<B: HostBackend, const N: usize> Backward<B, N> for Step {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, N>, grads: &mut Gradients, _: &mut Checkpointer) {
        let Saved { operation, inputs, shapes, output } = ops.state;
        let grad = B::into_values(grads.consume::<B>(&ops.node));
        let held: Vec<Cow<'_, [f32]>> =
            inputs.iter().map(|tensor| tensor.as_ref().map_or(Cow::Borrowed(&[][..]), B::values)).collect();
        let held: Vec<&[f32]> = held.iter().map(|values| &**values).collect();
        let output = output.as_ref().map_or(Cow::Borrowed(&[][..]), B::values);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let made = operation.backward(&held, &output, grad, &wanted);
        for ((node, values), shape) in ops.parents.into_iter().zip(made).zip(shapes) {
            if let Some(node) = node {
                grads.register::<B>(node.id, B::tensor(values, shape));
            }
        }
    }
}

macro_rules! arities {
    ($($name:ident $count:literal $($x:ident)*;)*) => {
        /// Operations of so many tensors. Operands hold 32-bit floats and have the lengths that the operation expects.
        #[backend_extension(Flex, NdArray, Autodiff)]
        pub trait OperationBackend: Backend {
            $(
                /// The result of an operation.
                fn $name($($x: FloatTensor<Self>,)* operation: Arc<dyn Operation>) -> FloatTensor<Self>;
            )*
        }

        impl OperationBackend for Flex {
            $(fn $name($($x: FloatTensor<Self>,)* operation: Arc<dyn Operation>) -> FloatTensor<Self> {
                forward::<Self>(&[$($x),*], &*operation)
            })*
        }

        impl OperationBackend for NdArray {
            $(fn $name($($x: FloatTensor<Self>,)* operation: Arc<dyn Operation>) -> FloatTensor<Self> {
                forward::<Self>(&[$($x),*], &*operation)
            })*
        }

        impl<B: OperationBackend + HostBackend, C: CheckpointStrategy> OperationBackend for Autodiff<B, C> {
            $(fn $name($($x: FloatTensor<Self>,)* operation: Arc<dyn Operation>) -> FloatTensor<Self> {
                let step = Backward::<B, $count>::prepare::<C>(Step, [$($x.node()),*]).compute_bound();
                let inputs = [$($x.into_primitive()),*];
                let output = forward::<B>(&inputs, &*operation);
                match step.stateful() {
                    OpsKind::Tracked(step) => step.finish(Saved::new(operation, inputs, &output), output),
                    OpsKind::UnTracked(step) => step.finish(output),
                }
            })*
        }
    };
}

arities! {
    host_one 1 a;
    host_two 2 a b;
    host_three 3 a b c;
    host_four 4 a b c d;
}

/// Whether operations of this module take a tensor.
pub(super) fn takes<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && super::serves(&x.device()) && x.dims().iter().all(|&size| size > 0)
}

/// The result of an operation on one tensor.
pub(super) fn one<const A: usize, const D: usize>(a: Tensor<A>, operation: impl Operation + 'static) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::host_one(a.into_dispatch(), Arc::new(operation)))
}

/// The result of an operation on two tensors.
pub(super) fn two<const A: usize, const B: usize, const D: usize>(
    a: Tensor<A>,
    b: Tensor<B>,
    operation: impl Operation + 'static,
) -> Tensor<D> {
    Tensor::from_dispatch(Dispatch::host_two(a.into_dispatch(), b.into_dispatch(), Arc::new(operation)))
}
