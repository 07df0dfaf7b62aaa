//! Kernels of our own behind Burn's tensors: the same numbers as Burn's operations give, forwards and backwards.

use burn::module::{Module, ModuleMapper, Param};
use burn::nn::conv::{Conv2d, Conv2dConfig};
use burn::nn::pool::{MaxPool2d, MaxPool2dConfig};
use burn::nn::{DropoutConfig, PaddingConfig2d};
use burn::optim::{GradientsParams, ModuleOptimizer};
use burn::tensor::activation::relu;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use rekindle::device::DeviceName;
use rekindle::kernels::{self, Activation, Window};
use rekindle::layers::{self, BatchNorm2d};
use rekindle::optim::{Adam, Rule};

fn hosts() -> [Device; 2] {
    [DeviceName::FLEX, DeviceName::NDARRAY].map(|name| name.open().unwrap().device)
}

/// Numbers from a stream that is the same each time.
struct Numbers(ChaCha8Rng);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        (self.0.next_u32() as usize) % limit
    }

    fn from(&mut self, lowest: usize, highest: usize) -> usize {
        lowest + self.below(highest + 1 - lowest)
    }

    fn tensor<const D: usize>(&mut self, shape: [usize; D], device: &Device) -> Tensor<D> {
        let count = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|_| self.0.next_u32() as f32 / u32::MAX as f32 * 2.0 - 1.0).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    }
}

/// Operands and options of one convolution.
struct Case {
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    window: Window,
    activation: Activation,
}

impl Case {
    fn random(seed: u64, device: &Device) -> Self {
        let mut numbers = Numbers(ChaCha8Rng::seed_from_u64(seed));
        let groups = [1, 1, 2][numbers.below(3)];
        let (taken, given) = (numbers.from(1, 4), numbers.from(1, 5));
        let kernel = [numbers.from(1, 4), numbers.from(1, 4)];
        let window = Window {
            stride: [numbers.from(1, 3), numbers.from(1, 3)],
            padding: [[numbers.below(3), numbers.below(3)], [numbers.below(3), numbers.below(3)]],
            dilation: [numbers.from(1, 2), numbers.from(1, 2)],
            groups,
        };
        let side = |axis: usize, extra: usize| (kernel[axis] - 1) * window.dilation[axis] + 1 + extra;
        let sides = [side(0, numbers.below(9)), side(1, numbers.below(9))];
        let batch = numbers.from(1, 3);
        Self {
            x: numbers.tensor([batch, taken * groups, sides[0], sides[1]], device),
            weight: numbers.tensor([given * groups, taken, kernel[0], kernel[1]], device),
            bias: (numbers.below(2) == 0).then(|| numbers.tensor([given * groups], device)),
            window,
            activation: if numbers.below(2) == 0 { Activation::Relu } else { Activation::None },
        }
    }

    fn ours(&self) -> Tensor<4> {
        kernels::conv2d(self.x.clone(), self.weight.clone(), self.bias.clone(), self.window, self.activation)
    }

    fn burns(&self) -> Tensor<4> {
        let Window { stride, padding, dilation, groups } = self.window;
        let options =
            ConvOptions::new_with_padding(stride, padding.map(|[before, after]| (before, after)), dilation, groups);
        let y = burn::tensor::module::conv2d(self.x.clone(), self.weight.clone(), self.bias.clone(), options);
        if self.activation == Activation::Relu { relu(y) } else { y }
    }

    /// The same operands, followed by autodiff.
    fn followed(self) -> Self {
        Self {
            x: self.x.require_grad(),
            weight: self.weight.require_grad(),
            bias: self.bias.map(Tensor::require_grad),
            ..self
        }
    }

    /// Gradients of input, weight and bias for a sum that weighs each output differently.
    fn gradients(&self, y: Tensor<4>) -> Vec<TensorData> {
        let factors = Numbers(ChaCha8Rng::seed_from_u64(7)).tensor(y.dims(), &self.x.device());
        let grads = (y * factors).sum().backward();
        let mut all = vec![self.x.grad(&grads).unwrap().into_data(), self.weight.grad(&grads).unwrap().into_data()];
        all.extend(self.bias.as_ref().map(|bias| bias.grad(&grads).unwrap().into_data()));
        all
    }
}

fn close(found: &TensorData, expected: &TensorData, what: &str) {
    assert_eq!(found.shape(), expected.shape(), "{what}");
    let most = expected.iter::<f32>().fold(1.0f32, |most, value| most.max(value.abs()));
    for (i, (found, expected)) in found.iter::<f32>().zip(expected.iter::<f32>()).enumerate() {
        assert!((found - expected).abs() <= 1e-5 * most, "{what}: value {i} is {found}, expected {expected}");
    }
}

#[test]
fn a_convolution_is_burns() {
    for device in hosts() {
        for seed in 0..60 {
            let case = Case::random(seed, &device);
            close(&case.ours().into_data(), &case.burns().into_data(), &format!("seed {seed} on {device:?}"));
        }
    }
}

/// Operands of one linear layer; its weight may be the transpose of what lies in memory, or lie askew.
fn linear_case(seed: u64, device: &Device) -> (Tensor<2>, Tensor<2>, Option<Tensor<1>>, Activation) {
    let mut numbers = Numbers(ChaCha8Rng::seed_from_u64(seed));
    let [batch, inputs, outputs] = [numbers.from(1, 20), numbers.from(1, 40), numbers.from(1, 60)];
    let weight = match seed % 3 {
        0 => numbers.tensor([inputs, outputs], device),
        1 => numbers.tensor([outputs, inputs], device).transpose(),
        _ => numbers.tensor([inputs + 2, outputs + 3], device).slice([1..inputs + 1, 2..outputs + 2]),
    };
    let bias = seed.is_multiple_of(2).then(|| numbers.tensor([outputs], device));
    (
        numbers.tensor([batch, inputs], device),
        weight,
        bias,
        if seed % 5 < 3 { Activation::Relu } else { Activation::None },
    )
}

#[test]
fn a_linear_layer_and_its_gradients_are_burns() {
    for device in hosts() {
        for seed in 0..60 {
            let what = format!("seed {seed} on {device:?}");
            let (x, weight, bias, activation) = linear_case(seed, &device);
            let burns = |x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>| {
                let y = burn::tensor::module::linear(x, weight, bias);
                if activation == Activation::Relu { relu(y) } else { y }
            };
            let expected = burns(x.clone(), weight.clone(), bias.clone()).into_data();
            close(&kernels::linear(x, weight, bias, activation).into_data(), &expected, &what);

            let (x, weight, bias, _) = linear_case(seed, &device.clone().autodiff());
            let (x, weight, bias) = (x.require_grad(), weight.require_grad(), bias.map(Tensor::require_grad));
            let gradients = |y: Tensor<2>| -> Vec<TensorData> {
                let factors = Numbers(ChaCha8Rng::seed_from_u64(7)).tensor(y.dims(), &x.device());
                let grads = (y * factors).sum().backward();
                let mut all = vec![x.grad(&grads).unwrap().into_data(), weight.grad(&grads).unwrap().into_data()];
                all.extend(bias.as_ref().map(|bias| bias.grad(&grads).unwrap().into_data()));
                all
            };
            let ours = gradients(kernels::linear(x.clone(), weight.clone(), bias.clone(), activation));
            for (found, expected) in ours.iter().zip(gradients(burns(x.clone(), weight.clone(), bias.clone()))) {
                close(found, &expected, &what);
            }
        }
    }
}

#[test]
fn data_of_a_tensor_are_burns_and_stay_where_they_are() {
    for device in hosts() {
        let mut numbers = Numbers(ChaCha8Rng::seed_from_u64(3));
        let whole = numbers.tensor([6, 5], &device);
        for tensor in [
            whole.clone(),
            whole.clone().slice([2..4, 0..5]),
            whole.clone().slice([1..6, 1..3]),
            whole.clone().transpose(),
        ] {
            kernels::data(&tensor).assert_eq(&tensor.to_data(), true);
        }
        let (first, second) = (kernels::data(&whole), kernels::data(&whole));
        assert_eq!(first.as_bytes().as_ptr(), second.as_bytes().as_ptr(), "{device:?}");
        // What changes the tensor leaves its data alone.
        drop(second);
        let changed = whole.clone().add_scalar(1.0);
        drop(whole);
        let (changed, first) =
            (changed.into_data().try_into_vec::<f32>().unwrap(), first.try_into_vec::<f32>().unwrap());
        assert!(changed.iter().zip(&first).all(|(changed, first)| *changed == first + 1.0), "{device:?}");
    }
}

#[test]
fn gradients_of_a_convolution_are_burns() {
    for device in hosts() {
        let device = device.autodiff();
        for seed in 100..150 {
            let case = Case::random(seed, &device).followed();
            let (ours, burns) = (case.gradients(case.ours()), case.gradients(case.burns()));
            for (i, (ours, burns)) in ours.iter().zip(&burns).enumerate() {
                close(ours, burns, &format!("seed {seed}, gradient {i} on {device:?}"));
            }
        }
    }
}

#[test]
fn gradients_are_burns_when_activations_are_recomputed() {
    for device in hosts() {
        let device = device.autodiff().gradient_checkpointing();
        for seed in 200..220 {
            let case = Case::random(seed, &device).followed();
            // An input that is cheap to compute again is computed again.
            let through = |case: &Case| Case {
                x: relu(case.x.clone()),
                weight: case.weight.clone(),
                bias: case.bias.clone(),
                ..*case
            };
            let (ours, burns) = (case.gradients(through(&case).ours()), case.gradients(through(&case).burns()));
            for (ours, burns) in ours.iter().zip(&burns) {
                close(ours, burns, &format!("seed {seed} on {device:?}"));
            }
        }
    }
}

#[test]
fn only_what_wants_a_gradient_gets_one() {
    for device in hosts() {
        let device = device.autodiff();
        let case = Case::random(3, &device);
        let case = Case { weight: case.weight.require_grad(), ..case };
        let grads = case.ours().sum().backward();
        assert!(case.x.grad(&grads).is_none());
        close(
            &case.weight.grad(&grads).unwrap().into_data(),
            &case.weight.grad(&case.burns().sum().backward()).unwrap().into_data(),
            "weight",
        );
        let plain = Case::random(3, &device);
        close(&plain.ours().into_data(), &plain.burns().into_data(), "nothing wants a gradient");
    }
}

#[test]
fn operands_need_not_lie_in_order() {
    for device in hosts() {
        let case = Case::random(5, &device);
        let turned = |tensor: Tensor<4>| tensor.swap_dims(2, 3);
        let Window { stride: [a, b], padding: [c, d], dilation: [e, f], groups } = case.window;
        let window = Window { stride: [b, a], padding: [d, c], dilation: [f, e], groups };
        let case = Case { x: turned(case.x), weight: turned(case.weight), window, ..case };
        close(&case.ours().into_data(), &case.burns().into_data(), "turned");
    }
}

/// A layer that counts from one number, and its input.
fn layer(device: &Device) -> (Conv2d, Tensor<4>) {
    let mut numbers = Numbers(ChaCha8Rng::seed_from_u64(11));
    let mut layer = Conv2dConfig::new([3, 5], [3, 3]).with_padding(PaddingConfig2d::Explicit(1, 1, 1, 1)).init(device);
    layer.weight = Param::from_tensor(numbers.tensor([5, 3, 3, 3], device));
    layer.bias = Some(Param::from_tensor(numbers.tensor([5], device)));
    (layer, numbers.tensor([2, 3, 8, 9], device))
}

/// Doubles every parameter, in place where the backend can.
struct Double;

impl ModuleMapper for Double {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor * 2.0)
    }
}

#[test]
fn packed_weights_follow_their_layer() {
    for device in hosts() {
        let (mut layer, x) = layer(&device);
        for round in 0..4 {
            let expected = layer.forward(x.clone());
            close(
                &layers::conv2d(&layer, x.clone()).into_data(),
                &expected.into_data(),
                &format!("round {round} on {device:?}"),
            );
            // Twice, so that what is kept is used.
            let expected = relu(layer.forward(x.clone()));
            close(
                &layers::conv2d_relu(&layer, x.clone()).into_data(),
                &expected.into_data(),
                &format!("round {round} on {device:?}"),
            );
            layer = layer.map(&mut Double);
        }
    }
}

#[test]
fn a_layer_keeps_up_with_inputs_of_other_sizes() {
    for device in hosts() {
        let (layer, x) = layer(&device);
        for size in [8, 3, 8, 5] {
            let x = x.clone().narrow(2, 0, size);
            close(
                &layers::conv2d(&layer, x.clone()).into_data(),
                &layer.forward(x).into_data(),
                &format!("{size} rows on {device:?}"),
            );
        }
    }
}

#[test]
fn a_folded_batch_norm_is_the_batch_norm() {
    for device in hosts() {
        let (layer, x) = layer(&device);
        let mut numbers = Numbers(ChaCha8Rng::seed_from_u64(13));
        let mut norm = BatchNorm2d::new(5, &device);
        norm.weight = Param::from_tensor(numbers.tensor([5], &device));
        norm.bias = Param::from_tensor(numbers.tensor([5], &device));
        for round in 0..3 {
            norm.running_mean.update(numbers.tensor([5], &device));
            norm.running_var.update(numbers.tensor([5], &device).square() + 0.1);
            norm.running_mean.value_sync();
            norm.running_var.value_sync();
            for activation in [Activation::None, Activation::Relu] {
                let apart = norm.forward(layer.forward(x.clone()));
                let apart = if activation == Activation::Relu { relu(apart) } else { apart };
                let folded = layers::conv2d_norm(&layer, &norm, x.clone(), activation);
                close(&folded.into_data(), &apart.into_data(), &format!("round {round} on {device:?}"));
            }
        }
    }
}

#[test]
fn a_batch_norm_in_training_is_not_folded() {
    for device in hosts() {
        let device = device.autodiff();
        let (layer, x) = layer(&device);
        let x = x + Tensor::random([2, 3, 8, 9], Distribution::Default, &device);
        let norms = [(); 2].map(|()| BatchNorm2d::new(5, &device));
        let apart = relu(norms[0].forward(layer.forward(x.clone())));
        close(&layers::conv2d_norm(&layer, &norms[1], x, Activation::Relu).into_data(), &apart.into_data(), "output");
        let [expected, found] = norms.map(|norm| norm.running_var.value_sync().into_data());
        close(&found, &expected, "running variance");
    }
}

#[test]
fn other_types_go_burns_way() {
    let device = Device::flex();
    let case = Case::random(9, &device);
    let wide = |case: &Case| {
        let cast = |tensor: Tensor<4>| tensor.cast(burn::tensor::DType::F64);
        let bias = case.bias.clone().map(|bias| bias.cast(burn::tensor::DType::F64));
        Case { x: cast(case.x.clone()), weight: cast(case.weight.clone()), bias, ..*case }
    };
    let y = wide(&case).ours();
    assert_eq!(y.dtype(), burn::tensor::DType::F64);
    close(&y.into_data(), &case.burns().into_data(), "float64");
}

/// Max pools that Burn's operation can do too.
fn pools() -> Vec<MaxPool2d> {
    let pool = |kernel: usize, stride: usize, padding: usize| {
        MaxPool2dConfig::new([kernel, kernel + 1])
            .with_strides([stride, stride])
            .with_padding(PaddingConfig2d::Explicit(padding, padding, padding, padding))
            .init()
    };
    vec![
        pool(2, 2, 0),
        pool(3, 3, 0),
        pool(5, 4, 0),
        pool(3, 2, 1),
        MaxPool2dConfig::new([2, 2]).with_strides([3, 2]).init(),
    ]
}

#[test]
fn a_max_pool_and_its_gradient_are_burns() {
    for device in hosts() {
        let device = device.autodiff();
        for (i, pool) in pools().into_iter().enumerate() {
            let mut numbers = Numbers(ChaCha8Rng::seed_from_u64(i as u64));
            let x = numbers.tensor::<4>([2, 3, 11, 14], &device).require_grad();
            let gradient = |y: Tensor<4>| {
                let factors = Numbers(ChaCha8Rng::seed_from_u64(7)).tensor(y.dims(), &device);
                x.grad(&(y * factors).sum().backward()).unwrap().into_data()
            };
            let (ours, burns) = (layers::max_pool2d(&pool, x.clone()), pool.forward(x.clone()));
            close(&ours.clone().into_data(), &burns.clone().into_data(), &format!("pool {i} on {device:?}"));
            close(&gradient(ours), &gradient(burns), &format!("gradient of pool {i} on {device:?}"));
        }
    }
}

#[test]
fn a_step_of_an_optimizer_leaves_shared_tensors_alone() {
    for device in hosts() {
        let (layer, x) = layer(&device.autodiff());
        let before = layer.weight.val().into_data();
        let kept = layer.clone();
        let mut optimizer = ModuleOptimizer::from(Rule::Adam(Adam::new(false)));
        let grads = GradientsParams::from_grads(layers::conv2d(&layer, x).sum().backward(), &layer);
        let layer = optimizer.step(0.1, layer, grads);
        assert_ne!(layer.weight.val().into_data(), before);
        assert_eq!(kept.weight.val().into_data(), before);
    }
}

#[test]
fn dropout_masks_gradients_as_it_masks_values() {
    for device in hosts() {
        let device = device.autodiff();
        let _seeds = rekindle::device::seed_lock();
        let run = |seed: u64| {
            device.seed(seed);
            let x = Tensor::<2>::ones([50, 80], &device).require_grad();
            let y = layers::dropout(&DropoutConfig::new(0.25).init(), x.clone());
            let grads = y.clone().sum().backward();
            (y.into_data(), x.grad(&grads).unwrap().into_data())
        };
        let (values, grads) = run(1);
        assert_eq!(values, grads, "on {device:?}");
        let dropped = values.iter::<f32>().filter(|value| *value == 0.0).count();
        assert!((850..1150).contains(&dropped), "{dropped} of 4,000 values were dropped");
        assert_eq!(run(1).0, values, "the seed decides");
        assert_ne!(run(2).0, values, "the seed decides");
        let plain = Tensor::<2>::ones([5, 8], &device.clone().without_autodiff());
        assert_eq!(layers::dropout(&DropoutConfig::new(0.25).init(), plain.clone()).into_data(), plain.into_data());
    }
}
