//! Kernels of our own behind the tensors of the two CPU backends.
//!
//! Burn runs its operations through a backend's own code; an extension of a backend adds operations to it. The ones here hand the
//! values of a tensor to [`rekindle_kernels`], as slices and without a copy, and take part in backpropagation like Burn's. They are
//! there on flex and ndarray. Functions of this module take tensors of any device: where our kernels cannot run (a GPU, the graph
//! capture that export uses, values of other types than 32-bit floats), Burn's own operation does the work.

#![allow(deprecated, reason = "burn-ndarray is deprecated upstream, and kept beside flex on purpose")]

mod attention;
mod conv;
mod dropout;
mod gradients;
mod host;
mod lent;
mod linear;
mod lstm;
mod norm;
mod operation;
mod packed;
mod planes;
mod pointwise;
mod pool;
mod together;

use burn::backend::Dispatch;
use burn::tensor::activation::relu;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Device, Distribution, Tensor};

pub use attention::attention;
pub use gradients::{listening, node};
pub use lstm::lstm;
pub use norm::{batch_norm, layer_norm};
pub use packed::{Norm, Packed, conv2d_constant, conv2d_kept};
pub use planes::{mean_of_planes, scaled_planes};
pub use pointwise::pointwise;
pub use rekindle_kernels::{Activation, Pointwise, RELU};
use rekindle_kernels::{Conv2d, Dropout, Linear, MaxPool2d};
pub use together::{Shared, norm_together};

use conv::ConvBackend;
use dropout::DropoutBackend;
pub use host::{Held, Host};
pub use lent::{data, lend, lent_at_most};
use linear::LinearBackend;
use pool::PoolBackend;

/// How the kernel of a convolution moves over its input: down, then across.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Pixels from one output to the next.
    pub stride: [usize; 2],
    /// Zeros around the input, before and after.
    pub padding: [[usize; 2]; 2],
    /// Pixels from one tap to the next.
    pub dilation: [usize; 2],
    /// Groups of channels that don't see one another.
    pub groups: usize,
}

/// Whether our kernels run on a device, with or without autodiff.
pub fn serves(device: &Device) -> bool {
    Host::of(device).is_some()
}

/// Does a step of training on a device. Where our kernels run on it, their threads wait actively for what is next: to wake them takes
/// longer than many an operation.
pub fn step<T>(device: &Device, work: impl FnOnce() -> T) -> T {
    if serves(device) { rekindle_kernels::scope(work) } else { work() }
}

/// A convolution of `x` `[batch, in, height, width]` with `weight` `[out, in / groups, height, width]`, then an activation.
pub fn conv2d(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    window: Window,
    activation: Activation,
) -> Tensor<4> {
    let floats = x.dtype() == DType::F32
        && weight.dtype() == DType::F32
        && bias.as_ref().is_none_or(|bias| bias.dtype() == DType::F32);
    let fits = floats && serves(&x.device()) && bias.as_ref().is_none_or(|bias| bias.dims()[0] == weight.dims()[0]);
    let Some(geometry) = geometry(x.dims(), weight.dims(), window).filter(|_| fits) else {
        return of_burn(x, weight, bias, window, activation);
    };
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::host_conv2d_biased(x, weight, bias.into_dispatch(), geometry, activation),
        None => Dispatch::host_conv2d(x, weight, geometry, activation),
    })
}

/// The same with Burn's operations.
fn of_burn(
    x: Tensor<4>,
    weight: Tensor<4>,
    bias: Option<Tensor<1>>,
    window: Window,
    activation: Activation,
) -> Tensor<4> {
    let padding = window.padding.map(|[before, after]| (before, after));
    let options = ConvOptions::new_with_padding(window.stride, padding, window.dilation, window.groups);
    activated(burn::tensor::module::conv2d(x, weight, bias, options), activation)
}

/// The geometry of a convolution; none when operands do not fit, which is for Burn to say.
pub(crate) fn geometry(x: [usize; 4], weight: [usize; 4], window: Window) -> Option<Conv2d> {
    let ([batch, in_channels, height, width], [out_channels, taken, down, across]) = (x, weight);
    let Window { stride, padding, dilation, groups } = window;
    let (input, kernel) = ([height, width], [down, across]);
    let geometry = Conv2d { batch, in_channels, out_channels, input, kernel, stride, padding, dilation, groups };
    (geometry.check().is_ok() && batch > 0 && in_channels == taken * groups).then_some(geometry)
}

/// A linear layer on `x` `[batch, in]` with `weight` `[in, out]`, then an activation.
///
/// A weight that is the transpose of what lies in memory is read as it lies.
pub fn linear(x: Tensor<2>, weight: Tensor<2>, bias: Option<Tensor<1>>, activation: Activation) -> Tensor<2> {
    let floats = x.dtype() == DType::F32
        && weight.dtype() == DType::F32
        && bias.as_ref().is_none_or(|bias| bias.dtype() == DType::F32);
    let ([batch, taken], [inputs, outputs]) = (x.dims(), weight.dims());
    let layer = Linear { batch, inputs, outputs };
    let sizes = batch > 0
        && taken == inputs
        && bias.as_ref().is_none_or(|bias| bias.dims()[0] == outputs)
        && layer.check().is_ok();
    if !(floats && sizes && serves(&x.device())) {
        return activated(burn::tensor::module::linear(x, weight, bias), activation);
    }
    let (x, weight) = (x.into_dispatch(), weight.into_dispatch());
    Tensor::from_dispatch(match bias {
        Some(bias) => Dispatch::host_linear_biased(x, weight, bias.into_dispatch(), layer, activation),
        None => Dispatch::host_linear(x, weight, layer, activation),
    })
}

/// An activation in a pass of its own, with Burn's operation.
fn activated<const D: usize>(y: Tensor<D>, activation: Activation) -> Tensor<D> {
    match activation {
        Activation::None => y,
        Activation::Relu => relu(y),
    }
}

/// The greatest value of each window of `x` `[batch, channels, height, width]`; none where our kernels cannot run.
///
/// Padding is the same before and after an axis.
pub fn max_pool2d(
    x: &Tensor<4>,
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
    dilation: [usize; 2],
) -> Option<Tensor<4>> {
    let [batch, channels, height, width] = x.dims();
    let pool = MaxPool2d { planes: batch * channels, input: [height, width], kernel, stride, padding, dilation };
    let served = x.dtype() == DType::F32 && pool.planes > 0 && serves(&x.device()) && pool.check().is_ok();
    served.then(|| Tensor::from_dispatch(Dispatch::host_max_pool2d(x.clone().into_dispatch(), pool)))
}

/// Drops values of `x` with probability `prob`, and scales the others; none where our kernels cannot run.
///
/// Which ones is drawn from the device's random numbers.
pub fn dropout<const D: usize>(x: &Tensor<D>, prob: f64) -> Option<Tensor<D>> {
    let device = x.device();
    if x.dtype() != DType::F32 || !serves(&device) {
        return None;
    }
    // 16 bits each of four numbers.
    let drawn = Tensor::<1>::random([4], Distribution::Uniform(0.0, 65536.0), &device.without_autodiff()).into_data();
    let seed = drawn.iter::<f32>().fold(0, |seed, bits| seed << 16 | u64::from(bits as u16));
    let dropout = Dropout { seed, kept: 1.0 - prob };
    Some(Tensor::from_dispatch(Dispatch::host_dropout(x.clone().into_dispatch(), dropout)))
}
