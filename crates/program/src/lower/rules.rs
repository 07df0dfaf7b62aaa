//! Types and sizes of a node's outputs by rule, for nodes that may be large.

use rekindle_onnx::DType;
use rekindle_onnx::array::{axis as axis_at, broadcast_shape};
use rekindle_state::onnx::proto::{AttributeProto, NodeProto};

use super::facts::{Seen, elements_of};

fn attribute<'n>(node: &'n NodeProto, name: &str) -> Option<&'n AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn int(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |attribute| attribute.i)
}

fn ints(node: &NodeProto, name: &str) -> Option<Vec<i64>> {
    attribute(node, name).map(|attribute| attribute.ints.clone())
}

type Sized = (DType, Vec<usize>);

/// Type and sizes by rule, for nodes that may be large.
pub(super) fn rule(node: &NodeProto, inputs: &[Seen<'_>], outputs: usize) -> Option<Vec<Sized>> {
    let seen = |at: usize| inputs.get(at).and_then(|seen| seen.as_ref());
    let shape = |at: usize| seen(at).map(|(_, probe)| probe.shape.clone());
    let (dtype, first) = match seen(0) {
        Some((dtype, probe)) => (*dtype, probe.shape.clone()),
        None => return None,
    };
    let data = |at: usize| seen(at).and_then(|(_, probe)| probe.data.as_ref()?.ints().ok());
    let one = |dtype: DType, shape: Vec<usize>| Some(vec![(dtype, shape)]);
    match node.op_type.as_str() {
        "Relu"
        | "Sigmoid"
        | "Tanh"
        | "Exp"
        | "Log"
        | "Sqrt"
        | "Neg"
        | "Abs"
        | "Sin"
        | "Cos"
        | "Tan"
        | "Asin"
        | "Acos"
        | "Atan"
        | "Sinh"
        | "Cosh"
        | "Asinh"
        | "Acosh"
        | "Atanh"
        | "Erf"
        | "Floor"
        | "Ceil"
        | "Round"
        | "Sign"
        | "Reciprocal"
        | "Softplus"
        | "Softsign"
        | "HardSigmoid"
        | "HardSwish"
        | "LeakyRelu"
        | "Elu"
        | "Selu"
        | "Celu"
        | "Gelu"
        | "Mish"
        | "ThresholdedRelu"
        | "Softmax"
        | "LogSoftmax"
        | "Identity"
        | "Clip"
        | "CumSum"
        | "Trilu"
        | "InstanceNormalization"
        | "GroupNormalization"
        | "LpNormalization"
        | "Not"
        | "BitwiseNot"
        | "PRelu"
        | "ScatterND"
        | "ScatterElements" => one(dtype, first),
        "LayerNormalization" if outputs == 1 => one(dtype, first),
        "BatchNormalization" => {
            let mut results = vec![(dtype, first)];
            for at in [3, 4] {
                if let Some((dtype, probe)) = seen(at) {
                    results.push((*dtype, probe.shape.clone()));
                }
            }
            results.truncate(outputs);
            Some(results)
        }
        "Dropout" => {
            let mut results = vec![(dtype, first.clone()), (DType::Bool, first)];
            results.truncate(outputs);
            Some(results)
        }
        "IsNaN" | "IsInf" => one(DType::Bool, first),
        "Cast" => one(DType::from_number(int(node, "to", 0) as i32)?, first),
        "RandomNormalLike" | "RandomUniformLike" | "Bernoulli" => one(dtype, first),
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Min" | "Max" | "And" | "Or" | "Xor" | "BitwiseAnd"
        | "BitwiseOr" | "BitwiseXor" | "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual" => {
            let second = shape(1)?;
            let both = broadcast_shape(&[&first, &second]).ok()?;
            let compares =
                matches!(node.op_type.as_str(), "Equal" | "Less" | "LessOrEqual" | "Greater" | "GreaterOrEqual");
            one(if compares { DType::Bool } else { dtype }, both)
        }
        "Where" => {
            let (a, b) = (shape(1)?, shape(2)?);
            one(seen(1)?.0, broadcast_shape(&[&first, &a, &b]).ok()?)
        }
        "MatMul" => one(dtype, matmul(&first, &shape(1)?)?),
        "Gemm" => {
            let second = shape(1)?;
            let (m, n) = (
                if int(node, "transA", 0) != 0 { *first.get(1)? } else { *first.first()? },
                if int(node, "transB", 0) != 0 { *second.first()? } else { *second.get(1)? },
            );
            one(dtype, vec![m, n])
        }
        "Transpose" => {
            let order = ints(node, "perm")?;
            one(dtype, order.iter().map(|&axis| first.get(axis as usize).copied()).collect::<Option<_>>()?)
        }
        "Reshape" => {
            let wanted = data(1)?;
            let total = elements_of(&first);
            let keep = int(node, "allowzero", 0) == 0;
            let mut result = Vec::with_capacity(wanted.len());
            for (at, &size) in wanted.iter().enumerate() {
                result.push(match size {
                    0 if keep => *first.get(at)?,
                    -1 => usize::MAX,
                    size => usize::try_from(size).ok()?,
                });
            }
            if let Some(open) = result.iter().position(|&size| size == usize::MAX) {
                let rest: usize = result
                    .iter()
                    .enumerate()
                    .filter(|(at, _)| *at != open)
                    .fold(1_usize, |all, (_, &size)| all.saturating_mul(size));
                result[open] = total.checked_div(rest).unwrap_or(0);
            }
            (elements_of(&result) == total).then_some(vec![(dtype, result)])
        }
        "Expand" => {
            let wanted: Vec<usize> = data(1)?.iter().map(|&size| usize::try_from(size).ok()).collect::<Option<_>>()?;
            one(dtype, broadcast_shape(&[&first, &wanted]).ok()?)
        }
        "Unsqueeze" => {
            let axes = data(1)?;
            let rank = first.len() + axes.len();
            let mut new = Vec::new();
            for axis in axes {
                new.push(axis_at(axis as i64, rank).ok()?);
            }
            let mut rest = first.into_iter();
            one(
                dtype,
                (0..rank).map(|axis| if new.contains(&axis) { Some(1) } else { rest.next() }).collect::<Option<_>>()?,
            )
        }
        "Squeeze" => {
            let mut gone = Vec::new();
            for axis in data(1)? {
                let axis = axis_at(axis as i64, first.len()).ok()?;
                (first[axis] == 1).then(|| gone.push(axis))?;
            }
            one(dtype, first.iter().enumerate().filter(|(at, _)| !gone.contains(at)).map(|(_, &size)| size).collect())
        }
        "Concat" => {
            let axis = axis_at(int(node, "axis", 0), first.len()).ok()?;
            let mut result = first;
            for at in 1..inputs.len() {
                result[axis] += shape(at)?.get(axis)?;
            }
            one(dtype, result)
        }
        "Gather" => {
            let axis = axis_at(int(node, "axis", 0), first.len()).ok()?;
            let mut result = first[..axis].to_vec();
            result.extend(shape(1)?);
            result.extend(&first[axis + 1..]);
            one(dtype, result)
        }
        "GatherElements" => one(dtype, shape(1)?),
        "GatherND" if int(node, "batch_dims", 0) == 0 => {
            let at = shape(1)?;
            let (&picked, outer) = at.split_last()?;
            one(dtype, outer.iter().chain(first.get(picked..)?).copied().collect())
        }
        "RoiAlign" => {
            let (high, wide) = (int(node, "output_height", 1), int(node, "output_width", 1));
            let sizes = [*shape(1)?.first()?, *first.get(1)?, high as usize, wide as usize];
            one(dtype, sizes.to_vec())
        }
        "DFT" if seen(1).is_none() => {
            let axis = data(2)?.first().copied()?;
            let axis = axis_at(axis as i64, first.len()).ok()?;
            let mut result = first;
            if int(node, "onesided", 0) != 0 {
                result[axis] = result[axis] / 2 + 1;
            }
            *result.last_mut()? = 2;
            one(dtype, result)
        }
        "Slice" => slice(first, &data(1)?, &data(2)?, data(3), data(4)).and_then(|shape| one(dtype, shape)),
        "Split" => {
            // Equal parts, as all splits that are made here are.
            let axis = axis_at(int(node, "axis", 0), first.len()).ok()?;
            (attribute(node, "num_outputs").is_some() && first[axis] % outputs == 0).then_some(())?;
            let mut part = first;
            part[axis] /= outputs;
            Some(vec![(dtype, part); outputs])
        }
        "Pad" => {
            let pads = data(1)?;
            (pads.len() == 2 * first.len() && seen(3).is_none()).then_some(())?;
            let padded = first
                .iter()
                .enumerate()
                .map(|(axis, &size)| usize::try_from(size as i128 + pads[axis] + pads[first.len() + axis]).ok());
            one(dtype, padded.collect::<Option<_>>()?)
        }
        "Tile" => {
            let times = data(1)?;
            (times.len() == first.len()).then_some(())?;
            let tiled = first.iter().zip(times).map(|(&size, times)| size.checked_mul(usize::try_from(times).ok()?));
            one(dtype, tiled.collect::<Option<_>>()?)
        }
        "Conv" | "DeformConv" => conv(node, &first, &shape(1)?).and_then(|shape| one(dtype, shape)),
        "ConvTranspose" => conv_transpose(node, &first, &shape(1)?).and_then(|shape| one(dtype, shape)),
        "MaxPool" | "AveragePool" => {
            let shape = pool(node, &first)?;
            let mut results = vec![(dtype, shape.clone()), (DType::I64, shape)];
            results.truncate(outputs);
            Some(results)
        }
        "GlobalAveragePool" | "GlobalMaxPool" => {
            one(dtype, first.iter().enumerate().map(|(at, &size)| if at < 2 { size } else { 1 }).collect())
        }
        name if name.starts_with("Reduce") => {
            let axes = data(1);
            let keep = int(node, "keepdims", 1) != 0;
            let mut gone = vec![axes.is_none(); first.len()];
            for axis in axes.into_iter().flatten() {
                gone[axis_at(axis as i64, first.len()).ok()?] = true;
            }
            let sizes = first.iter().zip(gone);
            one(
                dtype,
                sizes.filter(|(_, gone)| keep || !gone).map(|(&size, gone)| if gone { 1 } else { size }).collect(),
            )
        }
        "ArgMax" | "ArgMin" => {
            let axis = axis_at(int(node, "axis", 0), first.len()).ok()?;
            let mut result = first;
            if int(node, "keepdims", 1) != 0 {
                result[axis] = 1;
            } else {
                result.remove(axis);
            }
            one(DType::I64, result)
        }
        "DepthToSpace" => {
            let block = usize::try_from(int(node, "blocksize", 1)).ok()?;
            let [n, c, h, w] = first.as_slice() else { return None };
            one(dtype, vec![*n, c / (block * block), h * block, w * block])
        }
        _ => None,
    }
}

fn matmul(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    match (a, b) {
        ([k], [l]) => (k == l).then(Vec::new),
        ([k], [rest @ .., l, n]) => (k == l).then(|| rest.iter().copied().chain([*n]).collect()),
        ([rest @ .., m, k], [l]) => (k == l).then(|| rest.iter().copied().chain([*m]).collect()),
        ([more @ .., m, k], [rest @ .., l, n]) if k == l => {
            let mut shape = broadcast_shape(&[more, rest]).ok()?;
            shape.extend([*m, *n]);
            Some(shape)
        }
        _ => None,
    }
}

fn slice(
    mut shape: Vec<usize>,
    starts: &[i128],
    ends: &[i128],
    axes: Option<Vec<i128>>,
    steps: Option<Vec<i128>>,
) -> Option<Vec<usize>> {
    for (at, (&start, &end)) in starts.iter().zip(ends).enumerate() {
        let axis = axes.as_ref().map_or(Some(at as i128), |axes| axes.get(at).copied())?;
        let axis = axis_at(axis as i64, shape.len()).ok()?;
        let step = steps.as_ref().map_or(Some(1), |steps| steps.get(at).copied())?;
        let size = shape[axis] as i128;
        let bound = |at: i128| if at < 0 { at + size } else { at };
        shape[axis] = if step > 0 {
            let (start, end) = (bound(start).clamp(0, size), bound(end).clamp(0, size));
            ((end - start).max(0) + step - 1) / step
        } else if step < 0 {
            let (start, end) = (bound(start).clamp(-1, size - 1), bound(end).clamp(-1, size - 1));
            ((start - end).max(0) - step - 1) / -step
        } else {
            return None;
        } as usize;
    }
    Some(shape)
}

/// Attributes of a window for each spatial axis: kernel, stride, pads before and after, dilation.
fn window(node: &NodeProto, kernel: &[usize]) -> Option<Vec<[i64; 5]>> {
    let n = kernel.len();
    let strides = ints(node, "strides").unwrap_or_else(|| vec![1; n]);
    let pads = ints(node, "pads").unwrap_or_else(|| vec![0; 2 * n]);
    let dilations = ints(node, "dilations").unwrap_or_else(|| vec![1; n]);
    let axis = |at: usize| {
        Some([kernel[at] as i64, *strides.get(at)?, *pads.get(at)?, *pads.get(n + at)?, *dilations.get(at)?])
    };
    (0..n).map(axis).collect()
}

fn conv(node: &NodeProto, x: &[usize], w: &[usize]) -> Option<Vec<usize>> {
    let mut shape = vec![*x.first()?, *w.first()?];
    for (&size, [kernel, stride, before, after, dilation]) in x.get(2..)?.iter().zip(window(node, w.get(2..)?)?) {
        let room = size as i64 + before + after - dilation * (kernel - 1) - 1;
        (room >= 0 && stride > 0).then_some(())?;
        shape.push((room / stride + 1) as usize);
    }
    Some(shape)
}

fn conv_transpose(node: &NodeProto, x: &[usize], w: &[usize]) -> Option<Vec<usize>> {
    let groups = usize::try_from(int(node, "group", 1)).ok()?;
    let more = ints(node, "output_padding").unwrap_or_else(|| vec![0; x.len()]);
    let mut shape = vec![*x.first()?, w.get(1)? * groups];
    let windows = window(node, w.get(2..)?)?;
    for ((&size, [kernel, stride, before, after, dilation]), more) in x.get(2..)?.iter().zip(windows).zip(more) {
        let size = (size as i64 - 1) * stride - before - after + dilation * (kernel - 1) + more + 1;
        shape.push(usize::try_from(size).ok()?);
    }
    Some(shape)
}

fn pool(node: &NodeProto, x: &[usize]) -> Option<Vec<usize>> {
    let kernel: Vec<usize> = ints(node, "kernel_shape")?.iter().map(|&size| size as usize).collect();
    let ceil = int(node, "ceil_mode", 0) != 0;
    let mut shape = x.get(..2)?.to_vec();
    for (&size, [kernel, stride, before, after, dilation]) in x.get(2..)?.iter().zip(window(node, &kernel)?) {
        let room = size as i64 + before + after - dilation * (kernel - 1) - 1;
        (room >= 0 && stride > 0).then_some(())?;
        let mut count = if ceil { (room + stride - 1) / stride + 1 } else { room / stride + 1 };
        // The last window begins inside the input or the padding before it.
        if ceil && (count - 1) * stride >= size as i64 + before {
            count -= 1;
        }
        shape.push(count as usize);
    }
    Some(shape)
}
