//! Normalisations and softmax.

use burn::tensor::{Tensor, activation, module};
use rekindle_onnx::Result;
use rekindle_onnx::array::axis;
use rekindle_onnx::ops::{
    BatchNormalization, GroupNormalization, InstanceNormalization, LayerNormalization, RmsNormalization, Softmax,
};

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::DeviceTensor;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "Softmax" => |call| softmax(call, activation::softmax),
        "LogSoftmax" => |call| softmax(call, activation::log_softmax),
        "BatchNormalization" => batch,
        "InstanceNormalization" => instance,
        "GroupNormalization" => group,
        "LayerNormalization" => layer,
        "RMSNormalization" => root_mean_square,
        _ => return None,
    })
}

/// Along one axis; before version 13 along all from that axis on.
fn softmax(call: &mut Call<'_, '_>, function: fn(Tensor<3>, usize) -> Tensor<3>) -> Outputs {
    let (Some(op), Some(shape)) = (call.node.get::<Softmax>(), call.shape(0)) else { return Ok(None) };
    let (size, inner) = op.row(&shape)?;
    let x = call.take(0)?;
    let (dtype, outer) = (x.dtype(), x.count() / (size * inner));
    // With the axis last, kernels for rows apply.
    let out =
        if inner == 1 { function(x.view([1, outer, size]), 2) } else { function(x.view([outer, size, inner]), 1) };
    Ok(Some(vec![DeviceTensor::new(out, shape, dtype)]))
}

/// Batch, channels, and the product of the other axes.
fn channels(shape: &[usize]) -> Option<[usize; 3]> {
    (shape.len() >= 2).then(|| [shape[0], shape[1], shape[2..].iter().product()])
}

/// With the statistics given: that is inference, and training with frozen statistics. In training mode with those of the batch, and
/// the running statistics are moved.
fn batch(call: &mut Call<'_, '_>) -> Outputs {
    let node = call.node;
    let Some(shape) = call.shape(0) else { return Ok(None) };
    let Some(view) = channels(&shape) else { return Ok(None) };
    let Some(op) = node.get::<BatchNormalization>() else { return Ok(None) };
    let each = view[1];
    let old = node.version < if op.training { 14 } else { 7 };
    if op.each_place || old || (1..5).any(|input| call.shape(input) != Some(vec![each])) {
        return Ok(None);
    }
    let x = call.take(0)?;
    let dtype = x.dtype();
    let x: Tensor<3> = x.view(view);
    let [scale, shift, mean, variance] =
        [call.take(1)?, call.take(2)?, call.take(3)?, call.take(4)?].map(DeviceTensor::flat);
    if !op.training {
        let out = module::batch_norm::<3>(x, scale, shift, mean, variance, op.epsilon);
        return Ok(Some(vec![DeviceTensor::new(out, shape, dtype)]));
    }
    let across = |x: Tensor<3>| x.mean_dim(0).mean_dim(2);
    let own = across(x.clone());
    let centred = x - own.clone();
    let spread = across(centred.clone() * centred.clone());
    let wide = [1, each, 1];
    let out = centred / (spread.clone() + op.epsilon).sqrt() * scale.reshape(wide) + shift.reshape(wide);
    // The running statistics follow no gradient.
    let moved = |running: Tensor<1>, new: Tensor<3>| {
        let moved = running * op.momentum + new.detach().reshape([each]) * (1.0 - op.momentum);
        DeviceTensor::new(moved, vec![each], dtype)
    };
    Ok(Some(vec![DeviceTensor::new(out, shape, dtype), moved(mean, own), moved(variance, spread)]))
}

/// Values less their mean, over their deviation, along the last axis.
fn standard<const D: usize>(x: Tensor<D>, epsilon: f64) -> Tensor<D> {
    let centred = x.clone() - x.mean_dim(D - 1);
    let variance = (centred.clone() * centred.clone()).mean_dim(D - 1);
    centred / (variance + epsilon).sqrt()
}

fn instance(call: &mut Call<'_, '_>) -> Outputs {
    let Some(&InstanceNormalization { epsilon }) = call.node.get() else { return Ok(None) };
    let Some(shape) = call.shape(0).filter(|shape| shape.len() > 2) else { return Ok(None) };
    let Some(view) = channels(&shape) else { return Ok(None) };
    if [1, 2].iter().any(|&input| call.shape(input) != Some(vec![view[1]])) {
        return Ok(None);
    }
    let (x, scale, shift) = (call.take(0)?, call.take(1)?, call.take(2)?);
    let dtype = x.dtype();
    let each = [1, view[1], 1];
    let out = standard::<3>(x.view(view), epsilon) * scale.view(each) + shift.view(each);
    Ok(Some(vec![DeviceTensor::new(out, shape, dtype)]))
}

fn group(call: &mut Call<'_, '_>) -> Outputs {
    let Some(&GroupNormalization { epsilon, groups, of_groups }) = call.node.get() else { return Ok(None) };
    let Some(shape) = call.shape(0).filter(|shape| shape.len() > 2) else { return Ok(None) };
    let Some([items, channels, inner]) = channels(&shape) else { return Ok(None) };
    let scales = if of_groups { groups } else { channels };
    if groups == 0 || channels % groups != 0 || [1, 2].iter().any(|&input| call.shape(input) != Some(vec![scales])) {
        return Ok(None);
    }
    let (x, scale, shift) = (call.take(0)?, call.take(1)?, call.take(2)?);
    let dtype = x.dtype();
    let out = standard::<3>(x.view([items, groups, channels / groups * inner]), epsilon);
    let each = [1, scales, 1];
    let out = out.reshape([items, scales, channels / scales * inner]) * scale.view(each) + shift.view(each);
    Ok(Some(vec![DeviceTensor::new(out, shape, dtype)]))
}

/// The rows that a normalisation from an axis on works on, if scale and shift are as long as these.
fn rows(call: &Call<'_, '_>, from: i64) -> Result<Option<(Vec<usize>, [usize; 2])>> {
    let Some(shape) = call.shape(0).filter(|shape| !shape.is_empty()) else { return Ok(None) };
    let from = axis(from, shape.len())?;
    let size: usize = shape[from..].iter().product();
    let whole = |input: usize| call.shape(input).is_none_or(|own| own == shape[from..]);
    let fits = call.has(1) && whole(1) && whole(2) && !call.wants(1) && !call.wants(2);
    let outer = shape[..from].iter().product();
    Ok(fits.then_some((shape, [outer, size])))
}

fn layer(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<LayerNormalization>() else { return Ok(None) };
    let Some((shape, view)) = rows(call, op.axis)? else { return Ok(None) };
    let (x, scale, shift) = (call.take(0)?, call.take(1)?, call.take_optional(2)?);
    let dtype = x.dtype();
    let out = module::layer_norm::<2>(x.view(view), scale.flat(), shift.map(DeviceTensor::flat), op.epsilon);
    Ok(Some(vec![DeviceTensor::new(out, shape, dtype)]))
}

fn root_mean_square(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<RmsNormalization>() else { return Ok(None) };
    let Some((shape, view)) = rows(call, op.axis)? else { return Ok(None) };
    let (x, scale) = (call.take(0)?, call.take(1)?);
    let dtype = x.dtype();
    let x: Tensor<2> = x.view(view);
    let size = ((x.clone() * x.clone()).mean_dim(1) + op.epsilon).sqrt();
    Ok(Some(vec![DeviceTensor::new(x / size * scale.view([1, view[1]]), shape, dtype)]))
}
