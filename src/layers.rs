//! Layers that models call instead of Burn's own: convolution behind one function, and parts that Burn lacks or does otherwise.

use burn::module::{Flag, Module, Param, RunningState};
use burn::nn::activation::Activation as Function;
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::MaxPool2d;
use burn::nn::{Dropout, GateController, Initializer, Linear, LinearConfig, Lstm, PaddingConfig2d};
use burn::tensor::activation::relu;
use burn::tensor::{Device, Distribution, Tensor, TensorData};

use crate::distributed::{self, Scope};
use crate::kernels::{self, Activation, Norm, Packed, Pointwise, Shared, Window};

/// A two-dimensional convolution of `x` `[batch, in, height, width]` to `[batch, out, height', width']`.
///
/// Models call this and not the layer's own forward: it is the one place where a device may be given a faster kernel.
/// On the CPU backends that is a kernel of our own ([`kernels`]).
pub fn conv2d(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    convolved(layer, None, x, Activation::None)
}

/// A convolution and a ReLU, in one pass where the device can.
pub fn conv2d_relu(layer: &Conv2d, x: Tensor<4>) -> Tensor<4> {
    convolved(layer, None, x, Activation::Relu)
}

/// A convolution and a batch normalisation, which for inference on the CPU backends is folded into the weights; then perhaps a ReLU.
pub fn conv2d_norm(layer: &Conv2d, norm: &BatchNorm2d, x: Tensor<4>, activation: Activation) -> Tensor<4> {
    convolved(layer, Some(norm), x, activation)
}

/// A convolution and a batch normalisation, then a sum, then perhaps a ReLU: the end of a residual block.
pub fn conv2d_norm_added(
    layer: &Conv2d,
    norm: &BatchNorm2d,
    x: Tensor<4>,
    residual: Tensor<4>,
    activation: Activation,
) -> Tensor<4> {
    if norm.takes_statistics(&x.device()) {
        let y = conv2d(layer, x);
        return norm
            .trained(y.clone(), Some(&residual), function_of(activation))
            .unwrap_or_else(|| then(norm.forward(y) + residual, activation));
    }
    then(conv2d_norm(layer, norm, x, Activation::None) + residual, activation)
}

/// A convolution and a batch normalisation by the statistics of the batch, then a function of each value, in two passes; none in
/// evaluation, and where our kernels cannot run.
pub fn conv2d_norm_trained(
    layer: &Conv2d,
    norm: &BatchNorm2d,
    x: &Tensor<4>,
    function: Pointwise,
) -> Option<Tensor<4>> {
    let served = norm.takes_statistics(&x.device()) && kernels::serves(&x.device());
    served.then(|| norm.trained(conv2d(layer, x.clone()), None, function)).flatten()
}

fn convolved(layer: &Conv2d, norm: Option<&BatchNorm2d>, x: Tensor<4>, activation: Activation) -> Tensor<4> {
    let padding = match layer.padding {
        PaddingConfig2d::Valid => [[0, 0], [0, 0]],
        PaddingConfig2d::Explicit(top, left, bottom, right) => [[top, bottom], [left, right]],
        PaddingConfig2d::Same => return after(norm, layer.forward(x), activation),
    };
    let window = Window { stride: layer.stride, padding, dilation: layer.dilation, groups: layer.groups };
    let (weight, bias) = (layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()));
    let device = x.device();
    if !device.is_autodiff()
        && let Some(packed) = Packed::new(weight.clone(), bias.clone(), norm.map(|norm| norm.fixed(&device)))
        && let Some(y) = kernels::conv2d_kept(layer.weight.id, packed, &x, window, activation)
    {
        return y;
    }
    match norm {
        None => kernels::conv2d(x, weight, bias, window, activation),
        Some(_) => after(norm, kernels::conv2d(x, weight, bias, window, Activation::None), activation),
    }
}

/// What follows a convolution.
fn after(norm: Option<&BatchNorm2d>, y: Tensor<4>, activation: Activation) -> Tensor<4> {
    match norm {
        Some(norm) => norm.forward_then(y, activation),
        None => then(y, activation),
    }
}

/// An activation in a pass of its own.
fn then(y: Tensor<4>, activation: Activation) -> Tensor<4> {
    match activation {
        Activation::None => y,
        Activation::Relu => relu(y),
    }
}

fn function_of(activation: Activation) -> Pointwise {
    match activation {
        Activation::None => Pointwise::None,
        Activation::Relu => kernels::RELU,
    }
}

/// A max pool of `x` `[batch, channels, height, width]`, by a kernel of our own where the device can.
pub fn max_pool2d(layer: &MaxPool2d, x: Tensor<4>) -> Tensor<4> {
    let padding = match layer.padding {
        PaddingConfig2d::Valid => Some([0, 0]),
        PaddingConfig2d::Explicit(top, left, bottom, right) if (top, left) == (bottom, right) => Some([top, left]),
        _ => None,
    };
    let ours = padding
        .filter(|_| !layer.ceil_mode)
        .and_then(|padding| kernels::max_pool2d(&x, layer.kernel_size, layer.stride, padding, layer.dilation));
    ours.unwrap_or_else(|| layer.forward(x))
}

/// A linear layer on `x` `[batch, in]`, to `[batch, out]`, by a kernel of our own on the CPU backends.
pub fn linear(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    kernels::linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()), Activation::None)
}

/// A linear layer and a ReLU, in one pass where the device can.
pub fn linear_relu(layer: &Linear, x: Tensor<2>) -> Tensor<2> {
    kernels::linear(x, layer.weight.val(), layer.bias.as_ref().map(|bias| bias.val()), Activation::Relu)
}

/// The hidden states `[batch, steps, hidden]` of an LSTM over `x` `[batch, steps, inputs]` that begins with zeros: a few passes over
/// the whole sequences, forwards and backwards, on the CPU backends. `layer` takes the batch first.
pub fn lstm(layer: &Lstm, x: Tensor<3>) -> Tensor<3> {
    let usual = matches!(layer.gate_activation, Function::Sigmoid(_))
        && matches!([&layer.cell_activation, &layer.hidden_activation], [Function::Tanh(_), Function::Tanh(_)]);
    let plain = usual && layer.batch_first && !layer.reverse && layer.clip.is_none();
    let ours = layer.forget_gate.as_ref().filter(|_| plain && kernels::serves(&x.device())).and_then(|forget| {
        let gates = [&layer.input_gate, forget, &layer.cell_gate, &layer.output_gate];
        let beside = |of: fn(&GateController) -> &Linear| {
            let weights = gates.iter().map(|gate| of(gate).weight.val()).collect();
            let biases = gates.iter().map(|gate| of(gate).bias.as_ref().map(|bias| bias.val())).collect();
            (Tensor::cat(weights, 1), Option::<Vec<_>>::map(biases, |biases| Tensor::cat(biases, 0)))
        };
        let (of_input, input_bias) = beside(|gate| &gate.input_transform);
        let (of_hidden, hidden_bias) = beside(|gate| &gate.hidden_transform);
        let bias = match (input_bias, hidden_bias) {
            (Some(input), Some(hidden)) => input + hidden,
            (one, other) => one.or(other).unwrap_or_else(|| Tensor::zeros([4 * layer.d_hidden], &x.device())),
        };
        kernels::lstm(&x, &Tensor::cat(vec![of_input, of_hidden], 0), &bias)
    });
    ours.unwrap_or_else(|| layer.forward(x, None).0)
}

/// A convolution with square kernel and symmetric padding, initialised as `torch.nn.Conv2d` is.
pub fn conv2d_config(channels: [usize; 2], kernel: usize, padding: usize) -> Conv2dConfig {
    Conv2dConfig::new(channels, [kernel, kernel])
        .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
}

/// A linear layer, initialised as `torch.nn.Linear` is: weight and bias uniform in ±1/√inputs.
pub fn linear_config(inputs: usize, outputs: usize) -> LinearConfig {
    LinearConfig::new(inputs, outputs)
}

/// Weights drawn from a normal distribution with mean 0, as `torch.nn.init.normal_` draws them.
pub fn normal(std: f64) -> Initializer {
    Initializer::Normal { mean: 0.0, std }
}

/// Weights drawn from a uniform distribution in ±`bound`, as `torch.nn.init.uniform_` draws them.
pub fn uniform(bound: f64) -> Initializer {
    Initializer::Uniform { min: -bound, max: bound }
}

/// A dropout of single values, by a kernel of our own where the device can.
pub fn dropout<const D: usize>(layer: &Dropout, x: Tensor<D>) -> Tensor<D> {
    let trains = layer.training.is_enabled() && x.device().is_autodiff() && layer.prob > 0.0;
    let ours = if trains { kernels::dropout(&x, layer.prob) } else { None };
    ours.unwrap_or_else(|| layer.forward(x))
}

/// Sets values to zero, each with probability `prob`, and scales the others by 1/(1-prob).
pub fn dropped(x: Tensor<1>, prob: f64) -> Tensor<1> {
    if prob >= 1.0 {
        return x * 0.0;
    }
    kernels::dropout(&x, prob).unwrap_or_else(|| {
        let keep = 1.0 - prob;
        let mask = Tensor::<1>::random(x.dims(), Distribution::Bernoulli(keep), &x.device());
        x * (mask * (1.0 / keep))
    })
}

/// Sets whole channels to zero in training (`torch.nn.Dropout2d`), each with probability `prob`; the others are scaled by 1/(1-prob).
#[derive(Module, Debug)]
pub struct Dropout2d {
    /// Probability that a channel of a sample is set to zero.
    pub prob: f64,
    /// Whether training behaviour is on; off in evaluation mode.
    pub training: Param<Flag>,
}

impl Dropout2d {
    /// A dropout of whole channels; `prob` is in 0 to 1, checked by the model's configuration.
    pub fn new(prob: f64) -> Self {
        Self { prob, training: Param::from_bool(true) }
    }

    /// `[batch, channels, height, width]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let device = x.device();
        if !self.training.is_enabled() || !device.is_autodiff() || self.prob == 0.0 {
            return x;
        }
        let [batch, channels, _, _] = x.dims();
        let keep = 1.0 - self.prob;
        let mask = Tensor::<4>::random([batch, channels, 1, 1], Distribution::Bernoulli(keep), &device);
        x * (mask * (1.0 / keep))
    }
}

/// Batch normalisation over `[batch, channels, height, width]` with the parameters and rules of `torch.nn.BatchNorm2d`.
///
/// Burn's own layer updates the running variance with the biased estimate; PyTorch uses the unbiased one, and counts batches.
#[derive(Module, Debug)]
pub struct BatchNorm2d {
    /// Scale of each channel.
    pub weight: Param<Tensor<1>>,
    /// Shift of each channel.
    pub bias: Param<Tensor<1>>,
    /// Mean of each channel, used in evaluation.
    pub running_mean: RunningState<Tensor<1>>,
    /// Unbiased variance of each channel, used in evaluation.
    pub running_var: RunningState<Tensor<1>>,
    /// Batches seen in training; int64 in files.
    pub num_batches_tracked: RunningState<Tensor<1>>,
    /// Whether training behaviour is on; off in evaluation mode.
    pub training: Param<Flag>,
    /// Weight of a new batch in the running statistics.
    pub momentum: f64,
    /// Added to the variance.
    pub epsilon: f64,
}

impl BatchNorm2d {
    /// Scale 1, shift 0, PyTorch's momentum 0.1 and epsilon 1e-5.
    pub fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([channels], device),
            bias: Initializer::Zeros.init([channels], device),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            num_batches_tracked: RunningState::new(Tensor::zeros([1], device)),
            training: Param::from_bool(true),
            momentum: 0.1,
            epsilon: 1e-5,
        }
    }

    /// `[batch, channels, height, width]` to the same.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        self.forward_then(x, Activation::None)
    }

    /// The normalisation and an activation, in one pass where the device can.
    pub fn forward_then(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        match self.trained(x.clone(), None, function_of(activation)) {
            Some(y) => y,
            None => then(self.normalised(x), activation),
        }
    }

    /// Whether the statistics of the batch are taken and not the running ones.
    fn takes_statistics(&self, device: &Device) -> bool {
        self.training.is_enabled() && device.is_autodiff()
    }

    /// The normalisation by the statistics of the batch, a sum and a function in one pass; none in evaluation, and where our kernels
    /// cannot run.
    fn trained(&self, x: Tensor<4>, residual: Option<&Tensor<4>>, function: Pointwise) -> Option<Tensor<4>> {
        let device = x.device();
        // Statistics of several ranks are taken by operations of Burn's.
        if !self.takes_statistics(&device) || distributed::current().is_some() {
            return None;
        }
        let [batch, channels, height, width] = x.dims();
        let parameters = [self.weight.val(), self.bias.val()];
        let (y, (mean, variance)) = kernels::batch_norm(&x, parameters, self.epsilon, residual, function)?;
        let samples = (batch * height * width) as f64;
        let unbiased = (samples / (samples - 1.0).max(1.0)) as f32;
        let device = device.without_autodiff();
        let update = |state: &RunningState<Tensor<1>>, batch: Vec<f32>| {
            let kept: Vec<f32> = state.value_sync().into_data().iter().collect();
            let (old, new) = ((1.0 - self.momentum) as f32, self.momentum as f32);
            let values: Vec<f32> = kept.iter().zip(batch).map(|(kept, batch)| kept * old + batch * new).collect();
            set(state, Tensor::from_data(TensorData::new(values, [channels]), &device));
        };
        update(&self.running_mean, mean);
        update(&self.running_var, variance.into_iter().map(|variance| variance * unbiased).collect());
        let counted = self.num_batches_tracked.value_sync().into_data().iter::<f32>().sum::<f32>() + 1.0;
        set(&self.num_batches_tracked, Tensor::from_data(TensorData::new(vec![counted], [1]), &device));
        Some(y)
    }

    /// The same in operations of Burn's, and the normalisation of evaluation.
    fn normalised(&self, x: Tensor<4>) -> Tensor<4> {
        let device = x.device();
        if !self.takes_statistics(&device) {
            let mean = self.running_mean.value().to_device(&device);
            let var = self.running_var.value().to_device(&device);
            return burn::tensor::module::batch_norm(x, self.weight.val(), self.bias.val(), mean, var, self.epsilon);
        }
        let [batch, _, height, width] = x.dims();
        let samples = (batch * height * width) as f64;
        if let Some(ranks) = distributed::current() {
            return self.together(x, samples, &ranks);
        }
        let result = burn::tensor::module::batch_norm_train(x, self.weight.val(), self.bias.val(), self.epsilon);
        self.count(result.mean, result.variance, samples, &device);
        result.output
    }

    /// Training with the statistics of all ranks' batches.
    fn together(&self, x: Tensor<4>, samples: f64, ranks: &Scope) -> Tensor<4> {
        let device = x.device();
        let plain = |tensor: Tensor<1>| tensor.without_autodiff();
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let own = x.clone().without_autodiff();
        let own = burn::tensor::module::batch_norm_train(own, plain(weight.clone()), plain(bias.clone()), self.epsilon);
        // A batch that counts nothing keeps step with the others.
        let counted = if ranks.share() > 0.0 { samples } else { 0.0 };
        let values = |tensor: Tensor<1>| tensor.into_data().iter::<f64>().collect::<Vec<_>>();
        let all = ranks.gather(&[vec![counted], values(own.mean), values(own.variance)].concat());
        let Statistics { count, mean, variance } = Statistics::of(&all);
        let tensor = |values: &[f64]| {
            let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
            Tensor::<1>::from_floats(&values[..], &device.clone().without_autodiff())
        };
        let (mean, variance) = (tensor(&mean), tensor(&variance));
        let shared = Shared { count, own: samples, epsilon: self.epsilon };
        let output = kernels::norm_together(x, weight, bias, [mean.clone(), variance.clone()], shared);
        self.count(mean, variance, count, &device);
        output
    }

    /// Adds the statistics of a batch to the running ones.
    fn count(&self, mean: Tensor<1>, variance: Tensor<1>, samples: f64, device: &Device) {
        let unbiased = variance.detach() * (samples / (samples - 1.0).max(1.0));
        self.update(&self.running_mean, mean.detach().to_device(device), device);
        self.update(&self.running_var, unbiased.to_device(device), device);
        let counted = self.num_batches_tracked.value_sync().to_device(device) + 1.0;
        set(&self.num_batches_tracked, counted.detach());
    }

    /// The normalisation of evaluation mode.
    fn fixed(&self, device: &Device) -> Norm {
        Norm {
            weight: self.weight.val(),
            bias: self.bias.val(),
            mean: self.running_mean.value().to_device(device),
            variance: self.running_var.value().to_device(device),
            epsilon: self.epsilon,
        }
    }

    fn update(&self, state: &RunningState<Tensor<1>>, batch: Tensor<1>, device: &Device) {
        let kept = state.value_sync().to_device(device) * (1.0 - self.momentum);
        set(state, (kept + batch * self.momentum).detach());
    }
}

/// Statistics of the batches of several ranks.
struct Statistics {
    /// Values of each channel.
    count: f64,
    mean: Vec<f64>,
    /// Biased variance.
    variance: Vec<f64>,
}

impl Statistics {
    /// Of what every rank tells: the number of its values, their means and variances.
    fn of(ranks: &[Vec<f64>]) -> Self {
        let channels = ranks[0].len() / 2;
        let part = |rank: &[f64], c: usize| (rank[0], rank[1 + c], rank[1 + channels + c]);
        let count: f64 = ranks.iter().map(|rank| rank[0]).sum();
        let over = |value: &dyn Fn(f64, f64) -> f64, c: usize| {
            let sum: f64 = ranks.iter().map(|rank| part(rank, c)).map(|(n, mean, var)| n * value(mean, var)).sum();
            sum / count
        };
        let mean: Vec<f64> = (0..channels).map(|c| over(&|mean, _| mean, c)).collect();
        let spread = |c: usize| over(&|own, variance| variance + (own - mean[c]).powi(2), c);
        let variance = (0..channels).map(spread).collect();
        Self { count, mean, variance }
    }
}

/// Sets a running value at once. Burn's update alone waits for the next one, and records and state dicts would lack the last batch.
fn set(state: &RunningState<Tensor<1>>, value: Tensor<1>) {
    state.update(value);
    state.value_sync();
}
