//! Kernels of training behind Burn's tensors: the same numbers and gradients as Burn's operations give.

use burn::nn::{Linear, LstmConfig};
use burn::tensor::activation::{hard_sigmoid, hard_swish, relu, relu6, sigmoid, silu, softmax, tanh};
use burn::tensor::module::adaptive_avg_pool2d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use rekindle::device::DeviceName;
use rekindle::kernels::{self, Activation, Window};
use rekindle::layers::{self, BatchNorm2d};
use rekindle::models::blocks::Activation as Function;

fn devices() -> [Device; 2] {
    [DeviceName::FLEX, DeviceName::NDARRAY].map(|name| name.open().unwrap().device.autodiff())
}

fn tensor<const D: usize>(shape: [usize; D], step: f32, device: &Device) -> Tensor<D> {
    let values: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32 * step).sin() * 2.0 + 0.1).collect();
    Tensor::from_data(TensorData::new(values, shape), device).require_grad()
}

fn close(found: &TensorData, expected: &TensorData, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let most = expected.iter::<f32>().fold(1.0f32, |most, value| most.max(value.abs()));
    for (i, (found, expected)) in found.iter::<f32>().zip(expected.iter::<f32>()).enumerate() {
        assert!((found - expected).abs() <= 3e-5 * most, "{what}: value {i} is {found}, expected {expected}");
    }
}

/// Something of a tensor and of up to three others, as two ways compute it.
fn compare<const D: usize, const E: usize>(
    what: &str,
    x: &Tensor<D>,
    others: &[&Tensor<1>],
    ours: impl Fn() -> Tensor<E>,
    burns: impl Fn() -> Tensor<E>,
) {
    let results = [ours(), burns()].map(|y| {
        let factors = tensor(y.dims(), 0.37, &x.device()).detach();
        let grads = (y.clone() * factors).sum().backward();
        let mut all = vec![y.into_data(), x.grad(&grads).unwrap().into_data()];
        all.extend(others.iter().map(|other| other.grad(&grads).unwrap().into_data()));
        all
    });
    for (at, (found, expected)) in results[0].iter().zip(&results[1]).enumerate() {
        close(found, expected, &format!("{what}, {at} on {:?}", x.device()));
    }
}

fn of_burn<const D: usize>(function: Function, x: Tensor<D>) -> Tensor<D> {
    match function {
        Function::Identity => x,
        Function::Relu => relu(x),
        Function::Relu6 => relu6(x),
        Function::Silu => silu(x),
        Function::HardSwish => hard_swish(x),
        Function::HardSigmoid => hard_sigmoid(x, 1.0 / 6.0, 0.5),
        Function::Sigmoid => sigmoid(x),
        // Burn's own has the gradient of the approximation by a tanh on one of the backends.
        Function::Gelu => ((x.clone() * std::f64::consts::FRAC_1_SQRT_2).erf() + 1.0) * x * 0.5,
        Function::Tanh => tanh(x),
    }
}

const FUNCTIONS: [Function; 9] = [
    Function::Identity,
    Function::Relu,
    Function::Relu6,
    Function::Silu,
    Function::HardSwish,
    Function::HardSigmoid,
    Function::Sigmoid,
    Function::Gelu,
    Function::Tanh,
];

#[test]
fn functions_of_values_are_burns() {
    for device in devices() {
        let x = tensor([3, 5, 7], 0.7, &device);
        for function in FUNCTIONS {
            compare(&function.to_string(), &x, &[], || function.forward(x.clone()), || of_burn(function, x.clone()));
        }
    }
}

/// A normalisation whose running statistics are not the first ones.
fn norm(channels: usize, device: &Device) -> BatchNorm2d {
    let mut norm = BatchNorm2d::new(channels, device);
    norm.weight = norm.weight.map(|_| tensor([channels], 1.3, device).detach().require_grad());
    norm.bias = norm.bias.map(|_| tensor([channels], 2.3, device).detach().require_grad());
    norm
}

#[test]
fn a_batch_norm_and_what_follows_it_are_burns() {
    for device in devices() {
        for shape in [[4, 3, 2, 2], [2, 5, 9, 11], [16, 20, 1, 1]] {
            let (x, residual) = (tensor(shape, 0.7, &device), tensor(shape, 0.21, &device));
            let norm = norm(shape[1], &device);
            let (weight, bias) = (norm.weight.val(), norm.bias.val());
            let burns = |x: Tensor<4>| {
                burn::tensor::module::batch_norm_train(x, weight.clone(), bias.clone(), norm.epsilon).output
            };
            let ours = |residual: Option<&Tensor<4>>, function: kernels::Pointwise| {
                let parameters = [weight.clone(), bias.clone()];
                kernels::batch_norm(&x, parameters, norm.epsilon, residual, function).unwrap().0
            };
            let relu_of_sum = || ours(Some(&residual), kernels::RELU);
            let parameters = [&weight, &bias];
            compare("norm", &x, &parameters, || norm.forward(x.clone()), || burns(x.clone()));
            compare("norm and sum", &x, &parameters, relu_of_sum, || relu(burns(x.clone()) + residual.clone()));
            compare("norm and sum", &residual, &parameters, relu_of_sum, || relu(burns(x.clone()) + residual.clone()));
            for function in [Function::Relu, Function::HardSwish, Function::Silu] {
                let pointwise = match function {
                    Function::Relu => kernels::RELU,
                    Function::HardSwish => kernels::Pointwise::HardSwish,
                    _ => kernels::Pointwise::Silu,
                };
                let both = (|| ours(None, pointwise), || of_burn(function, burns(x.clone())));
                compare(&function.to_string(), &x, &parameters, both.0, both.1);
            }
        }
    }
}

#[test]
fn running_statistics_are_pytorchs() {
    for device in devices() {
        let norm = norm(2, &device);
        let x = Tensor::from_data(TensorData::new(vec![1.0f32, 3.0, 10.0, 14.0], [2, 2, 1, 1]), &device);
        norm.forward(x.clone());
        norm.forward(x);
        // Means of 5.5 and 8.5, unbiased variances of 40.5 and 60.5; a tenth of each batch, from 0 and 1.
        let values = |tensor: Tensor<1>| tensor.into_data().iter::<f32>().collect::<Vec<_>>();
        let near = |found: Vec<f32>, expected: [f32; 2]| {
            let near = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < 1e-4);
            assert!(near && found.len() == 2, "{found:?} {expected:?}");
        };
        near(values(norm.running_mean.value()), [5.5 * 0.19, 8.5 * 0.19]);
        near(values(norm.running_var.value()), [0.81 + 40.5 * 0.19, 0.81 + 60.5 * 0.19]);
        assert_eq!(values(norm.num_batches_tracked.value()), [2.0]);
    }
}

#[test]
fn means_and_factors_of_planes_are_burns() {
    for device in devices() {
        for shape in [[2, 3, 1, 1], [3, 4, 5, 7], [1, 2, 40, 40]] {
            let x = tensor(shape, 0.7, &device);
            let factors = tensor([shape[0], shape[1], 1, 1], 0.9, &device);
            let ours = || kernels::scaled_planes(&x, &factors).unwrap();
            compare("scaled", &x, &[], ours, || x.clone() * factors.clone());
            compare("scaled", &factors, &[], ours, || x.clone() * factors.clone());
            let mean = || kernels::mean_of_planes(&x).unwrap();
            compare("mean", &x, &[], mean, || adaptive_avg_pool2d(x.clone(), [1, 1]));
        }
    }
}

#[test]
fn a_layer_norm_is_burns() {
    for device in devices() {
        for shape in [[1, 1, 5], [3, 4, 19], [2, 20, 64]] {
            let (x, weight, bias) =
                (tensor(shape, 0.7, &device), tensor([shape[2]], 1.3, &device), tensor([shape[2]], 2.3, &device));
            let ours = || kernels::layer_norm(&x, [weight.clone(), bias.clone()], 1e-5).unwrap();
            let burns = || burn::tensor::module::layer_norm(x.clone(), weight.clone(), Some(bias.clone()), 1e-5);
            compare("layer norm", &x, &[&weight, &bias], ours, burns);
        }
    }
}

#[test]
fn attention_is_that_of_its_definition() {
    for device in devices() {
        for [batch, length, heads, width] in [[1, 1, 1, 2], [3, 17, 2, 8], [1, 140, 1, 4]] {
            let qkv = tensor([batch * length, 3 * heads * width], 0.7, &device);
            let burns = || {
                let split = qkv.clone().reshape([batch, length, 3, heads, width]).permute([2, 0, 3, 1, 4]);
                let [q, k, v] =
                    [0, 1, 2].map(|part| split.clone().narrow(0, part, 1).reshape([batch, heads, length, width]));
                let weights = softmax(q.matmul(k.transpose()) * (width as f64).powf(-0.5), 3);
                weights.matmul(v).swap_dims(1, 2).reshape([batch * length, heads * width])
            };
            compare("attention", &qkv, &[], || kernels::attention(&qkv, [batch, length], heads).unwrap(), burns);
        }
    }
}

#[test]
fn a_depthwise_convolution_is_burns() {
    for device in devices() {
        for (channels, side, kernel, stride) in [(3, 7, 3, 1), (20, 9, 5, 2), (40, 2, 3, 1), (16, 33, 3, 2)] {
            let x = tensor([2, channels, side, side], 0.7, &device);
            let weight = tensor([channels, 1, kernel, kernel], 0.3, &device);
            let bias = tensor([channels], 0.9, &device);
            let padding = kernel / 2;
            let window = Window { stride: [stride; 2], padding: [[padding; 2]; 2], dilation: [1; 2], groups: channels };
            let ours = || kernels::conv2d(x.clone(), weight.clone(), Some(bias.clone()), window, Activation::Relu);
            let burns = || {
                let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], channels);
                relu(burn::tensor::module::conv2d(x.clone(), weight.clone(), Some(bias.clone()), options))
            };
            compare("depthwise", &x, &[&bias], ours, burns);
            compare("depthwise", &weight, &[&bias], ours, burns);
        }
    }
}

#[test]
fn an_lstm_is_burns() {
    for device in devices() {
        for (biased, [batch, steps, inputs, hidden]) in [(true, [3, 7, 5, 6]), (false, [1, 1, 2, 3])] {
            let layer = LstmConfig::new(inputs, hidden, biased).init(&device);
            let x = tensor([batch, steps, inputs], 0.7, &device);
            compare("lstm", &x, &[], || layers::lstm(&layer, x.clone()), || layer.forward(x.clone(), None).0);
            let gates = [&layer.input_gate, layer.forget_gate.as_ref().unwrap(), &layer.output_gate, &layer.cell_gate];
            for part in gates.iter().flat_map(|gate| [&gate.input_transform, &gate.hidden_transform]) {
                let Linear { weight, bias, .. } = part;
                let biases: Vec<Tensor<1>> = bias.iter().map(|bias| bias.val()).collect();
                let biases: Vec<&Tensor<1>> = biases.iter().collect();
                let both = (|| layers::lstm(&layer, x.clone()), || layer.forward(x.clone(), None).0);
                compare("lstm", &weight.val(), &biases, both.0, both.1);
            }
        }
    }
}
