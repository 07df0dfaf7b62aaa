//! Batch and layer normalization as operations of the CPU backends.

use std::sync::{Arc, OnceLock};

use burn::backend::Dispatch;
use burn::tensor::{Shape, Tensor};
use rekindle_kernels::{BatchNorm, LayerNorm, Pointwise, Seen};

use super::operation::{Operation, OperationBackend, takes};

/// Mean and biased variance of each channel.
type Statistics = (Vec<f32>, Vec<f32>);

/// Operands: input, scale, shift, and perhaps what is added before the function.
#[derive(Debug)]
struct Batch {
    norm: BatchNorm,
    shape: Shape,
    /// Whether there is a fourth operand.
    added: bool,
    /// Of the batch, from the forward pass.
    statistics: Arc<OnceLock<Statistics>>,
}

impl Operation for Batch {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32> {
        let made = self.norm.forward(inputs[0], inputs[1], inputs[2], inputs.get(3).copied());
        self.statistics.get_or_init(|| (made.mean, made.variance));
        made.output
    }

    fn reads(&self, input: usize) -> bool {
        input < 3
    }

    fn reads_output(&self) -> bool {
        self.added
    }

    fn backward(&self, inputs: &[&[f32]], output: &[f32], grad: Vec<f32>, _: &[bool]) -> Vec<Vec<f32>> {
        let (mean, variance) = self.statistics.get().expect("the forward pass came before");
        let [input, weight, bias] = [inputs[0], inputs[1], inputs[2]];
        let seen = Seen { input, weight, bias, mean, variance, output: self.added.then_some(output) };
        let made = self.norm.backward(&seen, grad);
        [made.input, made.weight, made.bias].into_iter().chain(made.residual).collect()
    }
}

/// `function((x - mean) / deviation * weight + bias + residual)` by the statistics of the batch, for `x`
/// `[batch, channels, height, width]`, and these statistics. With a residual the function is a rectifier or none.
///
/// None where our kernels cannot run.
pub fn batch_norm(
    x: &Tensor<4>,
    [weight, bias]: [Tensor<1>; 2],
    epsilon: f64,
    residual: Option<&Tensor<4>>,
    function: Pointwise,
) -> Option<(Tensor<4>, Statistics)> {
    let [batch, channels, height, width] = x.dims();
    let fits = takes(x) && [&weight, &bias].into_iter().all(|each| takes(each) && each.dims() == [channels]);
    if !fits || residual.is_some_and(|residual| !takes(residual) || residual.dims() != x.dims()) {
        return None;
    }
    let norm = BatchNorm { batch, channels, pixels: height * width, epsilon: epsilon as f32, function };
    let statistics = Arc::default();
    let operation =
        Arc::new(Batch { norm, shape: x.shape(), added: residual.is_some(), statistics: Arc::clone(&statistics) });
    let (x, weight, bias) = (x.clone().into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    let output = Tensor::from_dispatch(match residual {
        Some(residual) => Dispatch::host_four(x, weight, bias, residual.clone().into_dispatch(), operation),
        None => Dispatch::host_three(x, weight, bias, operation),
    });
    Some((output, statistics.get()?.clone()))
}

/// Operands: input, scale, shift.
#[derive(Debug)]
struct Layer {
    norm: LayerNorm,
    shape: Shape,
    statistics: OnceLock<Vec<f32>>,
}

impl Operation for Layer {
    fn shape(&self) -> Shape {
        self.shape.clone()
    }

    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32> {
        let (output, statistics) = self.norm.forward(inputs[0], inputs[1], inputs[2]);
        self.statistics.get_or_init(|| statistics);
        output
    }

    fn reads(&self, input: usize) -> bool {
        input < 2
    }

    fn backward(&self, inputs: &[&[f32]], _: &[f32], grad: Vec<f32>, _: &[bool]) -> Vec<Vec<f32>> {
        let statistics = self.statistics.get().expect("the forward pass came before");
        let made = self.norm.backward(inputs[0], inputs[1], statistics, grad);
        vec![made.input, made.weight, made.bias]
    }
}

/// `(x - mean) / deviation * weight + bias` over the last axis; none where our kernels cannot run.
pub fn layer_norm<const D: usize>(x: &Tensor<D>, [weight, bias]: [Tensor<1>; 2], epsilon: f64) -> Option<Tensor<D>> {
    let features = x.dims()[D - 1];
    let fits = takes(x) && [&weight, &bias].into_iter().all(|each| takes(each) && each.dims() == [features]);
    if !fits {
        return None;
    }
    let norm = LayerNorm { rows: x.shape().num_elements() / features, features, epsilon: epsilon as f32 };
    let operation = Arc::new(Layer { norm, shape: x.shape(), statistics: OnceLock::new() });
    let operands = (x.clone().into_dispatch(), weight.into_dispatch(), bias.into_dispatch());
    Some(Tensor::from_dispatch(Dispatch::host_three(operands.0, operands.1, operands.2, operation)))
}
