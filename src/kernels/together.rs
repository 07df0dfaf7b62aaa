//! Batch normalisation with the statistics of all ranks, as an operation of every backend.
//!
//! Its backward pass sums what ranks know of the gradients of mean and variance, as `torch.nn.SyncBatchNorm` does.

#[cfg(any(feature = "wgpu", feature = "cuda"))]
use burn::backend::Cube;
use burn::backend::autodiff::NodeId;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{Device, FloatTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, NdArray, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor, TensorData, try_read_sync};

use crate::distributed;

/// What a rank knows of a normalisation besides its tensors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Shared {
    /// Values of a channel that the statistics are of, on all ranks.
    pub count: f64,
    /// Those of this rank.
    pub own: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

/// Normalises `x` `[batch, channels, height, width]` by statistics `[channels]` that are functions of every rank's `x`.
///
/// The backward pass asks the other ranks: see [`distributed::within`].
pub fn norm_together(
    x: Tensor<4>,
    weight: Tensor<1>,
    bias: Tensor<1>,
    [mean, variance]: [Tensor<1>; 2],
    shared: Shared,
) -> Tensor<4> {
    Tensor::from_dispatch(Dispatch::norm_together(
        x.into_dispatch(),
        weight.into_dispatch(),
        bias.into_dispatch(),
        mean.into_dispatch(),
        variance.into_dispatch(),
        shared,
    ))
}

/// Batch normalisation with statistics of all ranks.
#[backend_extension(Flex, NdArray, Cube: cfg(any(feature = "wgpu", feature = "cuda")), Autodiff)]
pub trait TogetherBackend: Backend {
    /// Normalises by the statistics.
    fn norm_together(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        shared: Shared,
    ) -> FloatTensor<Self> {
        Self::batch_norm(x, weight, bias, mean, variance, shared.epsilon)
    }
}

impl TogetherBackend for Flex {}
impl TogetherBackend for NdArray {}
#[cfg(any(feature = "wgpu", feature = "cuda"))]
impl TogetherBackend for Cube {}

/// The backward pass; its operands are input, weight and bias.
#[derive(Debug)]
struct Normalisation;

/// What the backward pass needs of the forward pass.
#[derive(Debug, Clone)]
struct Saved<B: Backend> {
    x: NodeId,
    weight: NodeId,
    mean: FloatTensor<B>,
    variance: FloatTensor<B>,
    shared: Shared,
}

impl<B: Backend> Backward<B, 3> for Normalisation {
    type State = Saved<B>;

    fn backward(self, ops: Ops<Saved<B>, 3>, grads: &mut Gradients, checkpointer: &mut Checkpointer) {
        let [x_node, weight_node, bias_node] = ops.parents.map(|node| node.map(|node| node.id));
        let grad = grads.consume::<B>(&ops.node);
        let Saved { x, weight, mean, variance, shared } = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        // As if the statistics were of this rank's values alone.
        let alone = B::batch_norm_train_backward(
            x.clone(),
            weight.clone(),
            mean.clone(),
            variance.clone(),
            shared.epsilon,
            grad,
        );
        let host =
            [&alone.beta_grad, &alone.gamma_grad, &weight, &mean, &variance].map(|tensor| read::<B>(tensor.clone()));
        if let Some([scale, shift]) = correction(&host, shared)
            && let Some(node) = x_node
        {
            // What their being of all ranks' values changes is linear in the input, channel by channel.
            let device = x.device();
            let scaled = B::float_mul(x, channels::<B>(scale, &device));
            let change = B::float_add(scaled, channels::<B>(shift, &device));
            grads.register::<B>(node, B::float_add(alone.x_grad, change));
        } else if let Some(node) = x_node {
            grads.register::<B>(node, B::float_zeros(x.shape(), &x.device(), x.dtype().into()));
        }
        if let Some(node) = weight_node {
            grads.register::<B>(node, alone.gamma_grad);
        }
        if let Some(node) = bias_node {
            grads.register::<B>(node, alone.beta_grad);
        }
    }
}

/// What is added to the gradient of the input, as `scale * x + shift`. None where the batch counts nothing.
fn correction([to_bias, to_weight, weight, mean, variance]: &[Vec<f64>; 5], shared: Shared) -> Option<[Vec<f32>; 2]> {
    let Some(ranks) = distributed::current() else { return Some([vec![0.0; mean.len()], vec![0.0; mean.len()]]) };
    let share = ranks.share();
    let told: Vec<f64> = to_bias.iter().chain(to_weight).map(|grad| grad * share).collect();
    let mut sums = vec![0.0; told.len()];
    for there in ranks.gather(&told) {
        sums.iter_mut().zip(there).for_each(|(sum, there)| *sum += there);
    }
    if share == 0.0 {
        return None;
    }
    let (bias_sums, weight_sums) = sums.split_at(mean.len());
    let channel = |c: usize| {
        let inverse = 1.0 / (variance[c] + shared.epsilon).sqrt();
        // The mean of a gradient over all ranks' values instead of over this rank's.
        let change = |own: f64, all: f64| own / shared.own - all / share / shared.count;
        let scale = weight[c] * inverse * inverse * change(to_weight[c], weight_sums[c]);
        let shift = weight[c] * inverse * change(to_bias[c], bias_sums[c]) - scale * mean[c];
        (scale as f32, shift as f32)
    };
    let (scale, shift) = (0..mean.len()).map(channel).unzip();
    Some([scale, shift])
}

/// The values of a small tensor; not a number where the device does not give them, which the loss then shows.
fn read<B: Backend>(tensor: FloatTensor<B>) -> Vec<f64> {
    let len = tensor.shape().num_elements();
    let data = try_read_sync(B::float_into_data(tensor)).and_then(Result::ok);
    data.map_or_else(|| vec![f64::NAN; len], |data| data.iter::<f64>().collect())
}

/// One value for each channel, to be broadcast over `[batch, channels, height, width]`.
fn channels<B: Backend>(values: Vec<f32>, device: &Device<B>) -> FloatTensor<B> {
    let shape = Shape::from([1, values.len(), 1, 1]);
    B::float_from_data(TensorData::new(values, shape), device)
}

impl<B: TogetherBackend, C: CheckpointStrategy> TogetherBackend for Autodiff<B, C> {
    fn norm_together(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
        mean: FloatTensor<Self>,
        variance: FloatTensor<Self>,
        shared: Shared,
    ) -> FloatTensor<Self> {
        let (mean, variance) = (mean.into_primitive(), variance.into_primitive());
        let run = |x: FloatTensor<Self>, weight: FloatTensor<Self>, bias: FloatTensor<Self>| {
            let (mean, variance) = (mean.clone(), variance.clone());
            B::norm_together(x.into_primitive(), weight.into_primitive(), bias.into_primitive(), mean, variance, shared)
        };
        let step = Normalisation.prepare::<C>([x.node(), weight.node(), bias.node()]).compute_bound();
        match step.stateful() {
            OpsKind::Tracked(mut step) => {
                let (x_node, weight_node) = (step.checkpoint(&x), step.checkpoint(&weight));
                let output = run(x, weight, bias);
                let saved = Saved { x: x_node, weight: weight_node, mean, variance, shared };
                step.finish(saved, output)
            }
            OpsKind::UnTracked(step) => step.finish(run(x, weight, bias)),
        }
    }
}
