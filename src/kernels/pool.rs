//! Max pooling as an operation of the CPU backends.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, NdArray, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use rekindle_kernels::MaxPool2d;

use super::conv::CHECKED;
use super::host::HostBackend;

/// Max pooling by our kernels, of 32-bit floats `[batch, channels, height, width]` as many as the geometry says.
#[backend_extension(Flex, NdArray, Autodiff)]
pub trait PoolBackend: Backend {
    /// The greatest value of each window.
    fn host_max_pool2d(x: FloatTensor<Self>, pool: MaxPool2d) -> FloatTensor<Self>;
}

impl PoolBackend for Flex {
    fn host_max_pool2d(x: FloatTensor<Self>, pool: MaxPool2d) -> FloatTensor<Self> {
        forward::<Self>(&x, &pool)
    }
}

impl PoolBackend for NdArray {
    fn host_max_pool2d(x: FloatTensor<Self>, pool: MaxPool2d) -> FloatTensor<Self> {
        forward::<Self>(&x, &pool)
    }
}

fn forward<B: HostBackend>(x: &FloatTensor<B>, pool: &MaxPool2d) -> FloatTensor<B> {
    let (shape, [height, width]) = (x.shape(), pool.output());
    let mut output = vec![0.0; pool.output_len()];
    pool.forward(&B::values(x), &mut output).expect(CHECKED);
    B::tensor(output, Shape::from([shape[0], shape[1], height, width]))
}

/// The backward pass.
#[derive(Debug)]
struct Pooling;

/// What the backward pass needs of the forward pass.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    x: NodeId,
    output: FloatTensor<B>,
    pool: MaxPool2d,
}

impl<B: HostBackend> Backward<B, 1> for Pooling {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 1>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [node] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let Saved { x, output, pool } = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        if let Some(node) = node {
            let mut values = vec![0.0; pool.input_len()];
            pool.backward(&B::values(&x), &B::values(&output), &B::values(&grad), &mut values).expect(CHECKED);
            grads.register::<B>(node.id, B::tensor(values, x.shape()));
        }
    }
}

impl<B: PoolBackend + HostBackend, C: CheckpointStrategy> PoolBackend for Autodiff<B, C> {
    fn host_max_pool2d(x: FloatTensor<Self>, pool: MaxPool2d) -> FloatTensor<Self> {
        match Pooling.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(mut step) => {
                let node = step.checkpoint(&x);
                let output = B::host_max_pool2d(x.into_primitive(), pool);
                step.finish(Saved { x: node, output: output.clone(), pool }, output)
            }
            OpsKind::UnTracked(step) => step.finish(B::host_max_pool2d(x.into_primitive(), pool)),
        }
    }
}
