//! Normalization: of batches, layers, groups and instances.

use rekindle_onnx::DType;
use rekindle_onnx::builder::{Attr, ValueName};

use super::dropout::in_training;
use super::{Args, Lower, Mode, Row, TensorId, Value, filled, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("batch_norm", |l, a| batch_norm(l, a, a.bool("training")?, 1)),
    ("native_batch_norm", |l, a| batch_norm(l, a, a.bool("training")?, 3)),
    ("_native_batch_norm_legit", |l, a| batch_norm(l, a, a.bool("training")?, 3)),
    ("_native_batch_norm_legit_no_training", |l, a| batch_norm(l, a, false, 3)),
    ("_native_batch_norm_legit_functional", |l, a| batch_norm(l, a, a.bool("training")?, 5)),
    ("cudnn_batch_norm", |l, a| batch_norm(l, a, a.bool("training")?, 3)),
    ("instance_norm", instance_norm),
    ("layer_norm", layer_norm),
    ("native_layer_norm", layer_norm),
    ("group_norm", group_norm),
    ("native_group_norm", group_norm),
    ("rms_norm", rms_norm),
];

/// A vector of channels as a shape that spreads over `rank` axes, channels at axis 1.
fn spread(l: &mut Lower, value: &str, rank: usize) -> Result<ValueName> {
    let mut shape = vec![1; rank.max(2) - 1];
    shape[0] = -1;
    let shape = l.ints(&shape)?;
    l.reshape(value, &shape)
}

/// A vector of channels, or so many times the same number.
fn channels(l: &mut Lower, tensor: Option<TensorId>, count: usize, other: f64, dtype: DType) -> Result<ValueName> {
    match tensor {
        Some(tensor) => l.value_as(tensor, dtype),
        None => l.constant(&filled(dtype, &[count], other)?),
    }
}

fn batch_norm(l: &mut Lower, args: &Args, exported: bool, outputs: usize) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let (weight, bias) = (args.optional("weight")?, args.optional("bias")?);
    let (mean, variance) = (args.optional("running_mean")?, args.optional("running_var")?);
    let (eps, momentum) = (args.float("eps")?, args.float("momentum")?);
    let (dtype, rank) = (l.dtype(x), l.rank(x));
    let value = l.value(x)?;
    let mut results = Vec::new();
    let by_batch = in_training(l, exported) && l.mode != Mode::TrainFrozenStatistics;
    if let (Some(mean), Some(variance), false) = (mean, variance, by_batch) {
        let count = l.size(mean, 0)?;
        let scale = channels(l, weight, count, 1.0, dtype)?;
        let shift = channels(l, bias, count, 0.0, dtype)?;
        let (m, v) = (l.value_as(mean, dtype)?, l.value_as(variance, dtype)?);
        let eps = [("epsilon", Attr::Float(eps as f32))];
        let value = l.node("BatchNormalization", &[&value, &scale, &shift, &m, &v], &eps)?;
        results.push(l.answer(value)?.swap_remove(0));
        // Statistics that were saved for the gradient, which no program reads; and the running ones as they were.
        if outputs > 1 {
            results.extend([Value::None, Value::None]);
        }
        if outputs == 5 {
            results.extend([Value::Tensor(mean), Value::Tensor(variance)]);
        }
        return Ok(results);
    }
    let axes: Vec<i64> = (0..rank as i64).filter(|&axis| axis != 1).collect();
    let axes = l.ints(&axes)?;
    let keep = [("keepdims", int(1))];
    let batch_mean = l.node("ReduceMean", &[&value, &axes], &keep)?;
    let apart = l.node("Sub", &[&value, &batch_mean], &[])?;
    let squares = l.node("Mul", &[&apart, &apart], &[])?;
    let batch_variance = l.node("ReduceMean", &[&squares, &axes], &keep)?;
    let eps = l.number(eps, dtype)?;
    let padded = l.node("Add", &[&batch_variance, &eps], &[])?;
    let deviation = l.node("Sqrt", &[&padded], &[])?;
    let mut out = l.node("Div", &[&apart, &deviation], &[])?;
    if let Some(weight) = weight {
        let weight = l.value_as(weight, dtype)?;
        let weight = spread(l, &weight, rank)?;
        out = l.node("Mul", &[&out, &weight], &[])?;
    }
    if let Some(bias) = bias {
        let bias = l.value_as(bias, dtype)?;
        let bias = spread(l, &bias, rank)?;
        out = l.node("Add", &[&out, &bias], &[])?;
    }
    results.push(l.answer(out)?.swap_remove(0));
    if outputs > 1 {
        results.extend([Value::None, Value::None]);
    }
    if let (Some(mean), Some(variance)) = (mean, variance) {
        // The running variance is of the unbiased one: n / (n - 1) times that of the batch, n values for each channel.
        let shape = l.shape_of(&value)?;
        let all = l.node("ReduceProd", &[&shape], &[("keepdims", int(0))])?;
        let own = l.size_value(&value, 1)?;
        let own = l.int_value(&own)?;
        let n = l.node("Div", &[&all, &own], &[])?;
        let n = l.cast(&n, DType::I64, DType::F32)?;
        let one = l.number(1.0, DType::F32)?;
        let less = l.node("Sub", &[&n, &one], &[])?;
        let factor = l.node("Div", &[&n, &less], &[])?;
        let factor = l.cast(&factor, DType::F32, dtype)?;
        let unbiased = l.node("Mul", &[&batch_variance, &factor], &[])?;
        let flat = l.ints(&[-1])?;
        for (running, batch) in [(mean, batch_mean), (variance, unbiased)] {
            let own = l.dtype(running);
            let batch = l.reshape(&batch, &flat)?;
            let batch = l.cast(&batch, dtype, own)?;
            let old = l.value(running)?;
            let (keep, take) = (l.number(1.0 - momentum, own)?, l.number(momentum, own)?);
            let old = l.node("Mul", &[&old, &keep], &[])?;
            let new = l.node("Mul", &[&batch, &take], &[])?;
            let new = l.node("Add", &[&old, &new], &[])?;
            if outputs == 5 {
                results.push(l.answer(new)?.swap_remove(0));
            } else {
                l.write(running, new)?;
            }
        }
    }
    Ok(results)
}

/// Statistics of each image and channel: PyTorch's arguments are those of a batch norm.
fn instance_norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let (weight, bias) = (args.optional("weight")?, args.optional("bias")?);
    let (dtype, eps) = (l.dtype(x), args.float("eps")?);
    if !args.bool("use_input_stats")? {
        return batch_norm(l, args, false, 1);
    }
    if !args.get("running_mean").is_none() && args.float("momentum")? != 0.0 {
        return Err(Error::beyond("instance_norm that keeps running statistics"));
    }
    let count = l.size(x, 1)?;
    let (scale, shift) = (channels(l, weight, count, 1.0, dtype)?, channels(l, bias, count, 0.0, dtype)?);
    let value = l.value(x)?;
    let eps = [("epsilon", Attr::Float(eps as f32))];
    let value = l.node("InstanceNormalization", &[&value, &scale, &shift], &eps)?;
    l.answer(value)
}

fn layer_norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let shape = args.ints("normalized_shape")?;
    let (weight, bias) = (args.optional("weight")?, args.optional("bias")?);
    let dtype = l.dtype(x);
    let sizes: Vec<usize> = shape.iter().map(|&size| size as usize).collect();
    let value = l.value(x)?;
    let scale = match weight {
        Some(weight) => l.value(weight)?,
        None => l.constant(&filled(dtype, &sizes, 1.0)?)?,
    };
    let shift = super::layers::value_or_none(l, bias)?;
    let attributes = [("axis", int(-(shape.len() as i64))), ("epsilon", Attr::Float(args.float("eps")? as f32))];
    let value = l.node("LayerNormalization", &[&value, &scale, &shift], &attributes)?;
    let mut results = l.answer(value)?;
    if args.operator == "native_layer_norm" {
        results.extend([Value::None, Value::None]);
    }
    Ok(results)
}

fn group_norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let groups = if args.operator == "group_norm" { args.int("num_groups")? } else { args.int("group")? };
    let (weight, bias) = (args.optional("weight")?, args.optional("bias")?);
    let (dtype, rank, eps) = (l.dtype(x), l.rank(x), args.float("eps")?);
    let value = l.value(x)?;
    let count = usize::try_from(groups).map_err(|_| Error::invalid(format!("{groups} groups")))?;
    let apart = l.ints(&[0, groups, -1])?;
    // 0 keeps the size of the batch.
    let apart = l.node("Reshape", &[&value, &apart], &[])?;
    let (one, zero) = (l.constant(&filled(dtype, &[count], 1.0)?)?, l.constant(&filled(dtype, &[count], 0.0)?)?);
    let eps = [("epsilon", Attr::Float(eps as f32))];
    let normal = l.node("InstanceNormalization", &[&apart, &one, &zero], &eps)?;
    let shape = l.shape_of(&value)?;
    let mut out = l.reshape(&normal, &shape)?;
    if let Some(weight) = weight {
        let weight = l.value(weight)?;
        let weight = spread(l, &weight, rank)?;
        out = l.node("Mul", &[&out, &weight], &[])?;
    }
    if let Some(bias) = bias {
        let bias = l.value(bias)?;
        let bias = spread(l, &bias, rank)?;
        out = l.node("Add", &[&out, &bias], &[])?;
    }
    let mut results = l.answer(out)?;
    if args.operator == "native_group_norm" {
        results.extend([Value::None, Value::None]);
    }
    Ok(results)
}

fn rms_norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let dtype = l.dtype(x);
    let epsilon = match dtype {
        DType::F64 => f64::EPSILON,
        DType::F32 => f64::from(f32::EPSILON),
        other => return Err(Error::beyond(format!("rms_norm of {other}"))),
    };
    let eps = args.optional_float("eps")?.unwrap_or(epsilon);
    let axes: Vec<i64> = (1..=args.ints("normalized_shape")?.len() as i64).map(|axis| -axis).collect();
    let (value, axes, eps) = (l.value(x)?, l.ints(&axes)?, l.number(eps, dtype)?);
    let squares = l.node("Mul", &[&value, &value], &[])?;
    let mean = l.node("ReduceMean", &[&squares, &axes], &[("keepdims", int(1))])?;
    let padded = l.node("Add", &[&mean, &eps], &[])?;
    let root = l.node("Sqrt", &[&padded], &[])?;
    let mut out = l.node("Div", &[&value, &root], &[])?;
    if let Some(weight) = args.optional("weight")? {
        let weight = l.value(weight)?;
        out = l.node("Mul", &[&out, &weight], &[])?;
    }
    l.answer(out)
}
