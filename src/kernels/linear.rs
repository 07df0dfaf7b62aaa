//! Linear layers and their gradients as operations of the CPU backends.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, NdArray, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use rekindle_kernels::{Activation, Linear, LinearGradients};

use super::conv::rectified;
use super::gradients::register;
use super::host::HostBackend;

/// Nobody gets here with operands that do not fit.
const CHECKED: &str = "operands were compared with the sizes";

/// Linear layers by our kernels. Operands hold 32-bit floats and have the lengths that the sizes say.
#[backend_extension(Flex, NdArray, Autodiff)]
pub trait LinearBackend: Backend {
    /// A linear layer without a bias.
    fn host_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        layer: Linear,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// A linear layer with a bias.
    fn host_linear_biased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        layer: Linear,
        activation: Activation,
    ) -> FloatTensor<Self>;
}

macro_rules! on_host {
    ($backend:ty) => {
        impl LinearBackend for $backend {
            fn host_linear(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                layer: Linear,
                activation: Activation,
            ) -> FloatTensor<Self> {
                forward::<Self>(&x, &weight, None, layer, activation)
            }

            fn host_linear_biased(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                layer: Linear,
                activation: Activation,
            ) -> FloatTensor<Self> {
                forward::<Self>(&x, &weight, Some(&bias), layer, activation)
            }
        }
    };
}

on_host!(Flex);
on_host!(NdArray);

fn forward<B: HostBackend>(
    x: &FloatTensor<B>,
    weight: &FloatTensor<B>,
    bias: Option<&FloatTensor<B>>,
    layer: Linear,
    activation: Activation,
) -> FloatTensor<B> {
    let mut output = vec![0.0; layer.output_len()];
    let (bias, (weight, order)) = (bias.map(B::values), B::weight(weight));
    layer.forward(&B::values(x), &weight, order, bias.as_deref(), activation, &mut output).expect(CHECKED);
    B::tensor(output, Shape::from([layer.batch, layer.outputs]))
}

/// The backward pass of a linear layer; its operands are those that have gradients.
#[derive(Debug)]
struct Products;

/// What the backward pass needs of the forward pass.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    x: NodeId,
    weight: NodeId,
    /// Where a ReLU followed: what came out of it.
    rectified: Option<FloatTensor<B>>,
    layer: Linear,
}

/// The nodes that want a gradient.
struct Wanted {
    x: Option<NodeId>,
    weight: Option<NodeId>,
    bias: Option<NodeId>,
}

impl<B: HostBackend> Saved<B> {
    fn backward(self, wanted: Wanted, grad: FloatTensor<B>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let Self { layer, .. } = self;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(self.x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(self.weight);
        let room = |node: Option<NodeId>, len: usize| node.map(|_| vec![0.0; len]);
        let mut to_x = room(wanted.x, layer.input_len());
        let mut to_weight = room(wanted.weight, layer.weight_len());
        let mut to_bias = room(wanted.bias, layer.outputs);
        let (values, order) = B::weight(&weight);
        let gradients = LinearGradients {
            input: to_x.as_deref_mut(),
            weight: to_weight.as_deref_mut(),
            bias: to_bias.as_deref_mut(),
        };
        let output = self.rectified.as_ref().map(B::values);
        layer
            .backward(&B::values(&x), &values, order, output.as_deref(), &mut B::into_values(grad), gradients)
            .expect(CHECKED);
        let made = [
            (wanted.bias, to_bias, Shape::from([layer.outputs])),
            (wanted.weight, to_weight, weight.shape()),
            (wanted.x, to_x, x.shape()),
        ];
        for (node, values, shape) in made {
            if let (Some(node), Some(values)) = (node, values) {
                register::<B>(grads, node, B::tensor(values, shape));
            }
        }
    }
}

impl<B: HostBackend> Backward<B, 2> for Products {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x, weight] = ops.parents.map(|node| node.map(|node| node.id));
        let grad = grads.consume::<B>(&ops.node);
        ops.state.backward(Wanted { x, weight, bias: None }, grad, grads, checkpointer);
    }
}

impl<B: HostBackend> Backward<B, 3> for Products {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x, weight, bias] = ops.parents.map(|node| node.map(|node| node.id));
        let grad = grads.consume::<B>(&ops.node);
        ops.state.backward(Wanted { x, weight, bias }, grad, grads, checkpointer);
    }
}

impl<B: LinearBackend + HostBackend, C: CheckpointStrategy> LinearBackend for Autodiff<B, C> {
    fn host_linear(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        layer: Linear,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let step = Backward::<B, 2>::prepare::<C>(Products, [x.node(), weight.node()]).compute_bound();
        match step.stateful() {
            OpsKind::Tracked(mut step) => {
                let (x_node, weight_node) = (step.checkpoint(&x), step.checkpoint(&weight));
                let output = B::host_linear(x.into_primitive(), weight.into_primitive(), layer, activation);
                let saved = Saved { x: x_node, weight: weight_node, rectified: rectified(activation, &output), layer };
                step.finish(saved, output)
            }
            OpsKind::UnTracked(step) => {
                step.finish(B::host_linear(x.into_primitive(), weight.into_primitive(), layer, activation))
            }
        }
    }

    fn host_linear_biased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        layer: Linear,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let run = |x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>| {
            B::host_linear_biased(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), layer, activation)
        };
        let step = Backward::<B, 3>::prepare::<C>(Products, [x.node(), weight.node(), bias.node()]).compute_bound();
        match step.stateful() {
            OpsKind::Tracked(mut step) => {
                let (x_node, weight_node) = (step.checkpoint(&x), step.checkpoint(&weight));
                let output = run(x, weight, bias);
                let saved = Saved { x: x_node, weight: weight_node, rectified: rectified(activation, &output), layer };
                step.finish(saved, output)
            }
            OpsKind::UnTracked(step) => step.finish(run(x, weight, bias)),
        }
    }
}
