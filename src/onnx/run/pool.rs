//! Pooling.

use burn::tensor::Tensor;
use burn::tensor::module::{avg_pool1d, avg_pool2d, max_pool1d, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, MaxPoolOptions};
use rekindle_onnx::Result;
use rekindle_onnx::ops::{self, AveragePool, MaxPool};

use super::call::{Call, DeviceOp, Outputs};
use super::conv::{Window, by_axes};
use super::tensor::DeviceTensor;
use crate::kernels;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "MaxPool" => |call| by_axes(call, pool1d::<true>, pool2d::<true>, pool3d::<true>),
        "AveragePool" => |call| by_axes(call, pool1d::<false>, pool2d::<false>, pool3d::<false>),
        "GlobalAveragePool" => |call| global(call, |x| x.mean_dim(1)),
        "GlobalMaxPool" => |call| global(call, |x| x.max_dim(1)),
        _ => return None,
    })
}

/// A pooling that Burn has: no positions, sizes rounded down.
struct Pool<const N: usize> {
    /// The shape of the input.
    input: Vec<usize>,
    window: Window<N>,
    /// Whether padding counts in averages.
    counted: bool,
    /// The shape of the output.
    shape: Vec<usize>,
}

impl<const N: usize> Pool<N> {
    fn of<const MAX: bool>(call: &Call<'_, '_>) -> Result<Option<Self>> {
        let settings = if MAX {
            call.node.get::<MaxPool>().map(|op| (&op.windows, false))
        } else {
            call.node.get::<AveragePool>().map(|op| (&op.windows, op.with_padding))
        };
        let (Some((windows, counted)), Some(input)) = (settings, call.shape(0)) else { return Ok(None) };
        if windows.ceil || call.wants(1) {
            return Ok(None);
        }
        let Some(window) = Window::<N>::of(&ops::Window::new(windows, &input[2..], None)?) else { return Ok(None) };
        // A window that lies in the padding entirely has no average, and Burn's averages know no dilation.
        let odd =
            (0..N).any(|axis| window.pads[axis].0 >= window.kernel[axis] || window.pads[axis].1 >= window.kernel[axis]);
        if odd || !MAX && window.dilation != [1; N] {
            return Ok(None);
        }
        let shape: Vec<usize> = input[..2].iter().copied().chain(window.out).collect();
        if !window.is_moderate(&input, shape.iter().product()) {
            return Ok(None);
        }
        Ok(Some(Self { input, window, counted, shape }))
    }
}

fn pool1d<const MAX: bool>(call: &mut Call<'_, '_>) -> Outputs {
    let Some(Pool::<1> { input, window, counted, shape }) = Pool::of::<MAX>(call)? else { return Ok(None) };
    let x = call.take(0)?;
    let dtype = x.dtype();
    let out = one::<MAX>(x.view_as(&input), [0].map(|axis| part(&window, axis)), counted);
    Ok(Some(vec![DeviceTensor::new(out, shape, dtype)]))
}

fn pool2d<const MAX: bool>(call: &mut Call<'_, '_>) -> Outputs {
    let Some(Pool::<2> { input, window, counted, shape }) = Pool::of::<MAX>(call)? else { return Ok(None) };
    let x = call.take(0)?;
    let dtype = x.dtype();
    let out = two::<MAX>(x.view_as(&input), [0, 1].map(|axis| part(&window, axis)), counted);
    Ok(Some(vec![DeviceTensor::new(out, shape, dtype)]))
}

/// Greatest values and means of a box are those over its planes, then over the line of these.
fn pool3d<const MAX: bool>(call: &mut Call<'_, '_>) -> Outputs {
    let Some(Pool::<3> { input, window, counted, shape }) = Pool::of::<MAX>(call)? else { return Ok(None) };
    let x = call.take(0)?;
    let dtype = x.dtype();
    let items = input[0] * input[1];
    let planes = x.view([items, input[2], input[3], input[4]]);
    let planes = two::<MAX>(planes, [1, 2].map(|axis| part(&window, axis)), counted);
    let inner = shape[3] * shape[4];
    let lines = planes.reshape([items, input[2], inner]).swap_dims(1, 2);
    let lines = one::<MAX>(lines, [0].map(|axis| part(&window, axis)), counted);
    Ok(Some(vec![DeviceTensor::new(lines.swap_dims(1, 2), shape, dtype)]))
}

/// Kernel, stride, padding and dilation of one axis.
type Part = (usize, usize, (usize, usize), usize);

fn part<const N: usize>(window: &Window<N>, axis: usize) -> Part {
    (window.kernel[axis], window.stride[axis], window.pads[axis], window.dilation[axis])
}

fn one<const MAX: bool>(x: Tensor<3>, parts: [Part; 1], counted: bool) -> Tensor<3> {
    let (kernel, stride, pads, dilation) =
        (parts.map(|p| p.0), parts.map(|p| p.1), parts.map(|p| p.2), parts.map(|p| p.3));
    if MAX {
        let options = MaxPoolOptions::new(kernel).with_stride(stride).with_padding_pairs(pads).with_dilation(dilation);
        return max_pool1d(x, options);
    }
    avg_pool1d(
        x,
        AvgPoolOptions::new(kernel).with_stride(stride).with_padding_pairs(pads).with_count_include_pad(counted),
    )
}

fn two<const MAX: bool>(x: Tensor<4>, parts: [Part; 2], counted: bool) -> Tensor<4> {
    let (kernel, stride, pads, dilation) =
        (parts.map(|p| p.0), parts.map(|p| p.1), parts.map(|p| p.2), parts.map(|p| p.3));
    if MAX {
        let even = pads.iter().all(|(before, after)| before == after);
        if let Some(y) =
            even.then(|| kernels::max_pool2d(&x, kernel, stride, pads.map(|pad| pad.0), dilation)).flatten()
        {
            return y;
        }
        let options = MaxPoolOptions::new(kernel).with_stride(stride).with_padding_pairs(pads).with_dilation(dilation);
        return max_pool2d(x, options);
    }
    avg_pool2d(
        x,
        AvgPoolOptions::new(kernel).with_stride(stride).with_padding_pairs(pads).with_count_include_pad(counted),
    )
}

/// Over all axes but batch and channels.
fn global(call: &mut Call<'_, '_>, function: fn(Tensor<2>) -> Tensor<2>) -> Outputs {
    let Some(input) = call.shape(0).filter(|shape| shape.len() > 2) else { return Ok(None) };
    let x = call.take(0)?;
    let (dtype, items) = (x.dtype(), input[0] * input[1]);
    let inner = x.count() / items;
    let shape = input.iter().enumerate().map(|(axis, &size)| if axis < 2 { size } else { 1 }).collect();
    Ok(Some(vec![DeviceTensor::new(function(x.view([items, inner])), shape, dtype)]))
}
