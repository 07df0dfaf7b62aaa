//! Convolution and its gradients as operations of the CPU backends.

use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Flex, NdArray, TensorMetadata, backend_extension};
use burn::tensor::Shape;
use rekindle_kernels::{Activation, Conv2d};

use super::gradients::register;
use super::host::HostBackend;

/// Nobody gets here with operands that do not fit.
pub(crate) const CHECKED: &str = "operands were compared with the geometry";

/// Convolution by our kernels. Operands hold 32-bit floats and have the lengths that the geometry says.
#[backend_extension(Flex, NdArray, Autodiff)]
pub trait ConvBackend: Backend {
    /// A convolution without a bias.
    fn host_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Conv2d,
        activation: Activation,
    ) -> FloatTensor<Self>;

    /// A convolution with a bias.
    fn host_conv2d_biased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Conv2d,
        activation: Activation,
    ) -> FloatTensor<Self>;
}

macro_rules! on_host {
    ($backend:ty) => {
        impl ConvBackend for $backend {
            fn host_conv2d(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                geometry: Conv2d,
                activation: Activation,
            ) -> FloatTensor<Self> {
                forward::<Self>(&x, &weight, None, &geometry, activation)
            }

            fn host_conv2d_biased(
                x: FloatTensor<Self>,
                weight: FloatTensor<Self>,
                bias: FloatTensor<Self>,
                geometry: Conv2d,
                activation: Activation,
            ) -> FloatTensor<Self> {
                forward::<Self>(&x, &weight, Some(&bias), &geometry, activation)
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
    geometry: &Conv2d,
    activation: Activation,
) -> FloatTensor<B> {
    let mut output = vec![0.0; geometry.output_len()];
    let (x, weight, bias) = (B::values(x), B::values(weight), bias.map(B::values));
    let made = match geometry.is_depthwise() {
        true => geometry.depthwise(&x, &weight, bias.as_deref(), activation, &mut output),
        false => geometry.forward(&x, &weight, bias.as_deref(), activation, &mut output),
    };
    made.expect(CHECKED);
    B::tensor(output, output_shape(geometry))
}

/// The shape of what a convolution gives.
pub(super) fn output_shape(geometry: &Conv2d) -> Shape {
    let [height, width] = geometry.output();
    Shape::from([geometry.batch, geometry.out_channels, height, width])
}

/// The backward pass of a convolution; its operands are those that have gradients.
#[derive(Debug)]
struct Convolution;

/// What the backward pass needs of the forward pass.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    x: NodeId,
    weight: NodeId,
    /// Where a ReLU followed: what came out of it.
    rectified: Option<FloatTensor<B>>,
    geometry: Conv2d,
}

/// The nodes that want a gradient.
struct Wanted {
    x: Option<NodeId>,
    weight: Option<NodeId>,
    bias: Option<NodeId>,
}

impl<B: HostBackend> Saved<B> {
    fn backward(self, wanted: Wanted, grad: FloatTensor<B>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let Self { geometry, .. } = self;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(self.x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(self.weight);
        let grad = match self.rectified {
            Some(output) => {
                let mut values = B::into_values(grad);
                rekindle_kernels::relu_backward(&B::values(&output), &mut values);
                B::tensor(values, output_shape(&geometry))
            }
            None => grad,
        };
        let grad = B::values(&grad);
        if let Some(node) = wanted.bias {
            let mut bias = vec![0.0; geometry.out_channels];
            geometry.grad_bias(&grad, &mut bias).expect(CHECKED);
            register::<B>(grads, node, B::tensor(bias, Shape::from([geometry.out_channels])));
        }
        if geometry.is_depthwise() && (wanted.weight.is_some() || wanted.x.is_some()) {
            let (mut to_x, mut to_weight) = (vec![0.0; geometry.input_len()], vec![0.0; geometry.weight_len()]);
            let made =
                geometry.depthwise_backward(&B::values(&x), &B::values(&weight), &grad, &mut to_x, &mut to_weight);
            made.expect(CHECKED);
            for (node, values, shape) in [(wanted.weight, to_weight, weight.shape()), (wanted.x, to_x, x.shape())] {
                if let Some(node) = node {
                    grads.register::<B>(node, B::tensor(values, shape));
                }
            }
            return;
        }
        if let Some(node) = wanted.weight {
            let values = geometry.grad_weight(&B::values(&x), &grad).expect(CHECKED);
            register::<B>(grads, node, B::tensor(values, weight.shape()));
        }
        if let Some(node) = wanted.x {
            let values = geometry.grad_input(&grad, &B::values(&weight)).expect(CHECKED);
            register::<B>(grads, node, B::tensor(values, x.shape()));
        }
    }
}

impl<B: HostBackend> Backward<B, 2> for Convolution {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 2>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x, weight] = ops.parents.map(|node| node.map(|node| node.id));
        let grad = grads.consume::<B>(&ops.node);
        ops.state.backward(Wanted { x, weight, bias: None }, grad, grads, checkpointer);
    }
}

impl<B: HostBackend> Backward<B, 3> for Convolution {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x, weight, bias] = ops.parents.map(|node| node.map(|node| node.id));
        let grad = grads.consume::<B>(&ops.node);
        ops.state.backward(Wanted { x, weight, bias }, grad, grads, checkpointer);
    }
}

/// What of an output the backward pass wants to see.
pub(super) fn rectified<T: Clone>(activation: Activation, output: &T) -> Option<T> {
    match activation {
        Activation::None => None,
        Activation::Relu => Some(output.clone()),
    }
}

impl<B: ConvBackend + HostBackend, C: CheckpointStrategy> ConvBackend for Autodiff<B, C> {
    fn host_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        geometry: Conv2d,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let step = Backward::<B, 2>::prepare::<C>(Convolution, [x.node(), weight.node()]).compute_bound();
        match step.stateful() {
            OpsKind::Tracked(mut step) => {
                let (x_node, weight_node) = (step.checkpoint(&x), step.checkpoint(&weight));
                let output = B::host_conv2d(x.into_primitive(), weight.into_primitive(), geometry, activation);
                let saved =
                    Saved { x: x_node, weight: weight_node, rectified: rectified(activation, &output), geometry };
                step.finish(saved, output)
            }
            OpsKind::UnTracked(step) => {
                step.finish(B::host_conv2d(x.into_primitive(), weight.into_primitive(), geometry, activation))
            }
        }
    }

    fn host_conv2d_biased(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        geometry: Conv2d,
        activation: Activation,
    ) -> FloatTensor<Self> {
        let run = |x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>| {
            B::host_conv2d_biased(
                x.into_primitive(),
                weight.into_primitive(),
                bias.into_primitive(),
                geometry,
                activation,
            )
        };
        let step = Backward::<B, 3>::prepare::<C>(Convolution, [x.node(), weight.node(), bias.node()]).compute_bound();
        match step.stateful() {
            OpsKind::Tracked(mut step) => {
                let (x_node, weight_node) = (step.checkpoint(&x), step.checkpoint(&weight));
                let output = run(x, weight, bias);
                let saved =
                    Saved { x: x_node, weight: weight_node, rectified: rectified(activation, &output), geometry };
                step.finish(saved, output)
            }
            OpsKind::UnTracked(step) => step.finish(run(x, weight, bias)),
        }
    }
}
