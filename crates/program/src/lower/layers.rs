//! Products and layers: linear, convolution, embedding, dropout, softmax.

use rekindle_onnx::DType;
use rekindle_onnx::builder::{Attr, ValueName};

use super::alias::View;
use super::{Args, Float, Int, Lower, Mode, Row, TensorId, Value, axis_of, int, list};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("linear", linear),
    ("conv1d", conv),
    ("conv2d", conv),
    ("conv3d", conv),
    ("conv_transpose1d", conv_transpose),
    ("conv_transpose2d", conv_transpose),
    ("conv_transpose3d", conv_transpose),
    ("convolution", convolution),
    ("_convolution", convolution),
    ("embedding", embedding),
    ("dropout", dropout),
    ("feature_dropout", feature_dropout),
    ("alpha_dropout", only_eval),
    ("feature_alpha_dropout", only_eval),
    ("native_dropout", native_dropout),
    ("softmax", |l, a| softmax(l, a, "Softmax")),
    ("_softmax", |l, a| softmax(l, a, "Softmax")),
    ("log_softmax", |l, a| softmax(l, a, "LogSoftmax")),
    ("_log_softmax", |l, a| softmax(l, a, "LogSoftmax")),
    ("_safe_softmax", safe_softmax),
    ("matmul", |l, a| product(l, a, "self", "other")),
    ("mm", |l, a| product(l, a, "self", "mat2")),
    ("bmm", |l, a| product(l, a, "self", "mat2")),
    ("mv", |l, a| product(l, a, "self", "vec")),
    ("dot", |l, a| product(l, a, "self", "tensor")),
    ("addmm", |l, a| add_product(l, a, "mat1", "mat2")),
    ("addmv", |l, a| add_product(l, a, "mat", "vec")),
    ("baddbmm", |l, a| add_product(l, a, "batch1", "batch2")),
    ("einsum", einsum),
    ("bilinear", bilinear),
    ("pixel_shuffle", pixel_shuffle),
    ("pixel_unshuffle", pixel_unshuffle),
    ("channel_shuffle", channel_shuffle),
    ("_weight_norm", weight_norm),
    ("cosine_similarity", cosine_similarity),
];

/// The value of an argument that may be left out; the empty name where it is.
pub(super) fn value_or_none(l: &mut Lower, tensor: Option<TensorId>) -> Result<ValueName> {
    tensor.map_or(Ok("".into()), |tensor| l.value(tensor))
}

fn linear(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, weight, bias) = (args.tensor("input")?, args.tensor("weight")?, args.optional("bias")?);
    let (value, w) = (l.value(x)?, l.value(weight)?);
    let bias = value_or_none(l, bias)?;
    // Gemm wants floats and takes the weight as it is stored, a row for each output.
    let value = if l.rank(x) == 2 && l.rank(weight) == 2 && l.dtype(x).is_float() {
        l.node("Gemm", &[&value, &w, &bias], &[("transB", int(1))])?
    } else {
        let w = if l.rank(weight) == 2 { l.transpose(&w, &[1, 0])? } else { w };
        let value = l.node("MatMul", &[&value, &w], &[])?;
        if bias.is_empty() { value } else { l.node("Add", &[&value, &bias], &[])? }
    };
    l.answer(value)
}

/// Runs on a batch of one where an input has no batch axis.
pub(super) fn batched(
    l: &mut Lower,
    x: TensorId,
    rank: usize,
    run: impl FnOnce(&mut Lower, &str) -> Result<ValueName>,
) -> Result<Vec<Value>> {
    let value = l.value(x)?;
    if l.rank(x) == rank {
        let value = run(l, &value)?;
        return l.answer(value);
    }
    if l.rank(x) + 1 != rank {
        return Err(Error::invalid(format!("expected an input of {rank} axes, found {}", l.rank(x))));
    }
    let axes = l.ints(&[0])?;
    let value = l.node("Unsqueeze", &[&value, &axes], &[])?;
    let value = run(l, &value)?;
    let value = l.node("Squeeze", &[&value, &axes], &[])?;
    l.answer(value)
}

struct Conv {
    stride: Vec<i64>,
    pads: Vec<i64>,
    dilation: Vec<i64>,
    groups: i64,
    /// Of a transposed convolution.
    output_padding: Option<Vec<i64>>,
}

fn convolve(l: &mut Lower, args: &Args, conv: &Conv) -> Result<Vec<Value>> {
    let (x, weight, bias) = (args.tensor("input")?, args.tensor("weight")?, args.optional("bias")?);
    let (w, rank) = (l.value(weight)?, l.rank(weight));
    let bias = value_or_none(l, bias)?;
    let mut attributes = vec![
        ("strides", list(conv.stride.clone())),
        ("pads", list(conv.pads.clone())),
        ("dilations", list(conv.dilation.clone())),
        ("group", int(conv.groups)),
    ];
    let mut operator = "Conv";
    if let Some(more) = &conv.output_padding {
        attributes.push(("output_padding", list(more.clone())));
        operator = "ConvTranspose";
    }
    batched(l, x, rank, |l, value| l.node(operator, &[value, &w, &bias], &attributes))
}

fn twice(pads: &[i64]) -> Vec<i64> {
    [pads, pads].concat()
}

fn conv(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let weight = args.tensor("weight")?;
    let n = l.rank(weight).saturating_sub(2);
    let dilation = args.each("dilation", n)?;
    let pads = match args.get("padding") {
        Value::Str(kind) if kind == "same" => {
            let mut pads = vec![0; 2 * n];
            for axis in 0..n {
                let all = dilation[axis] * (l.size(weight, axis + 2)? as i64 - 1);
                (pads[axis], pads[n + axis]) = (all / 2, all - all / 2);
            }
            pads
        }
        Value::Str(kind) if kind == "valid" => vec![0; 2 * n],
        Value::Str(other) => return Err(Error::beyond(format!("padding '{other}'"))),
        _ => twice(&args.each("padding", n)?),
    };
    let (stride, groups) = (args.each("stride", n)?, args.int("groups")?);
    convolve(l, args, &Conv { stride, pads, dilation, groups, output_padding: None })
}

fn conv_transpose(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let n = l.rank(args.tensor("weight")?).saturating_sub(2);
    let conv = Conv {
        stride: args.each("stride", n)?,
        pads: twice(&args.each("padding", n)?),
        dilation: args.each("dilation", n)?,
        groups: args.int("groups")?,
        output_padding: Some(args.each("output_padding", n)?),
    };
    convolve(l, args, &conv)
}

fn convolution(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let n = l.rank(args.tensor("weight")?).saturating_sub(2);
    let transposed = args.bool("transposed")?;
    let conv = Conv {
        stride: args.each("stride", n)?,
        pads: twice(&args.each("padding", n)?),
        dilation: args.each("dilation", n)?,
        groups: args.int("groups")?,
        output_padding: if transposed { Some(args.each("output_padding", n)?) } else { None },
    };
    convolve(l, args, &conv)
}

fn embedding(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (weight, at) = (args.tensor("weight")?, args.tensor("indices")?);
    let (weight, at) = (l.value(weight)?, l.value(at)?);
    let value = l.node("Gather", &[&weight, &at], &[("axis", int(0))])?;
    l.answer(value)
}

/// Whether a layer that the program has in one mode is in training here.
pub(super) fn in_training(l: &Lower, exported: bool) -> bool {
    match l.mode {
        Mode::AsExported => exported,
        Mode::Eval => false,
        Mode::Train | Mode::TrainFrozenStatistics => true,
    }
}

/// Dropout of a value in training mode.
pub(super) fn drop_out(l: &mut Lower, value: &str, p: f64, outputs: usize) -> Result<Vec<ValueName>> {
    let ratio = l.number(p, DType::F32)?;
    let training = l.number(1.0, DType::Bool)?;
    l.nodes("Dropout", &[value, &ratio, &training], outputs, &[])
}

fn dropout(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let p = args.float("p")?;
    if !in_training(l, args.bool("train")?) || p == 0.0 {
        return Ok(vec![Value::Tensor(l.view(x, View::Whole)?)]);
    }
    let value = l.value(x)?;
    let value = drop_out(l, &value, p, 1)?.swap_remove(0);
    l.answer(value)
}

/// Drops whole channels: a mask for each channel, spread over what follows.
fn feature_dropout(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let p = args.float("p")?;
    if !in_training(l, args.bool("train")?) || p == 0.0 {
        return Ok(vec![Value::Tensor(l.view(x, View::Whole)?)]);
    }
    let (value, dtype, rank) = (l.value(x)?, l.dtype(x), l.rank(x));
    if rank < 2 {
        return Err(Error::invalid("channels are dropped from inputs of at least two axes"));
    }
    let shape = l.shape_of(&value)?;
    let [zero, two, axis] = [l.ints(&[0])?, l.ints(&[2])?, l.ints(&[0])?];
    let head = l.node("Slice", &[&shape, &zero, &two, &axis], &[])?;
    let ones = l.ints(&vec![1; rank - 2])?;
    let mask_shape = l.node("Concat", &[&head, &ones], &[("axis", int(0))])?;
    let one = l.number(1.0, dtype)?;
    let ones = l.node("Expand", &[&one, &mask_shape], &[])?;
    let mask = drop_out(l, &ones, p, 1)?.swap_remove(0);
    let value = l.node("Mul", &[&value, &mask], &[])?;
    l.answer(value)
}

fn only_eval(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    if in_training(l, args.bool("train")?) && args.float("p")? != 0.0 {
        return Err(Error::beyond(format!("{} in training", args.operator)));
    }
    Ok(vec![Value::Tensor(l.view(x, View::Whole)?)])
}

fn native_dropout(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let p = args.float("p")?;
    let exported = matches!(args.get("train"), Value::Bool(true) | Value::None);
    let value = l.value(x)?;
    if !in_training(l, exported) || p == 0.0 {
        let kept = l.node("Equal", &[&value, &value], &[])?;
        let value = l.node("Identity", &[&value], &[])?;
        return Ok(vec![Value::Tensor(l.tensor_or_unknown(value)), Value::Tensor(l.tensor_or_unknown(kept))]);
    }
    let values = drop_out(l, &value, p, 2)?;
    Ok(values.into_iter().map(|value| Value::Tensor(l.tensor_or_unknown(value))).collect())
}

fn softmax(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let dtype = args.dtype("dtype")?.unwrap_or_else(|| super::types::floating(l.dtype(x)));
    let value = l.value_as(x, dtype)?;
    if l.rank(x) == 0 {
        let one = l.number(if operator == "Softmax" { 1.0 } else { 0.0 }, dtype)?;
        let value = l.node("Identity", &[&one], &[])?;
        return l.answer(value);
    }
    let value = l.node(operator, &[&value], &[("axis", int(axis as i64))])?;
    l.answer(value)
}

/// As softmax; a row of nothing but -inf becomes zeros.
fn safe_softmax(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let dtype = args.dtype("dtype")?.unwrap_or_else(|| super::types::floating(l.dtype(x)));
    let value = l.value_as(x, dtype)?;
    let soft = l.node("Softmax", &[&value], &[("axis", int(axis as i64))])?;
    let axes = l.ints(&[axis as i64])?;
    let most = l.node("ReduceMax", &[&value, &axes], &[("keepdims", int(1))])?;
    let none = l.number(f64::NEG_INFINITY, dtype)?;
    let empty = l.node("Equal", &[&most, &none], &[])?;
    let zero = l.number(0.0, dtype)?;
    let value = l.node("Where", &[&empty, &zero, &soft], &[])?;
    l.answer(value)
}

fn product(l: &mut Lower, args: &Args, a: &str, b: &str) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor(a)?, args.tensor(b)?);
    let (a, b) = (l.value(a)?, l.value(b)?);
    let value = l.node("MatMul", &[&a, &b], &[])?;
    l.answer(value)
}

fn is_one(value: &Value) -> bool {
    match value {
        Value::None | Value::Int(Int::Known(1)) => true,
        Value::Float(Float::Known(float)) => (float - 1.0).abs() == 0.0,
        _ => false,
    }
}

fn add_product(l: &mut Lower, args: &Args, a: &str, b: &str) -> Result<Vec<Value>> {
    let (x, a, b) = (args.tensor("self")?, args.tensor(a)?, args.tensor(b)?);
    let dtype = l.dtype(x);
    let (alpha, beta) = (args.get("alpha").clone(), args.get("beta").clone());
    let (va, vb) = (l.value(a)?, l.value(b)?);
    let zero =
        matches!(&beta, Value::Int(Int::Known(0))) || matches!(&beta, Value::Float(Float::Known(beta)) if *beta == 0.0);
    if is_one(&alpha) && is_one(&beta) && l.rank(a) == 2 && l.rank(b) == 2 && dtype.is_float() && l.rank(x) <= 2 {
        let x = l.value(x)?;
        let value = l.node("Gemm", &[&va, &vb, &x], &[])?;
        return l.answer(value);
    }
    let mut value = l.node("MatMul", &[&va, &vb], &[])?;
    if !is_one(&alpha) {
        let alpha = l.scalar(&alpha, dtype)?;
        value = l.node("Mul", &[&value, &alpha], &[])?;
    }
    if !zero {
        let mut x = l.value(x)?;
        if !is_one(&beta) {
            let beta = l.scalar(&beta, dtype)?;
            x = l.node("Mul", &[&x, &beta], &[])?;
        }
        value = l.node("Add", &[&x, &value], &[])?;
    }
    l.answer(value)
}

fn einsum(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let equation = args.text("equation")?.unwrap_or_default().replace(' ', "");
    let mut values = Vec::new();
    for tensor in args.tensors("tensors")? {
        values.push(l.value(tensor)?);
    }
    let inputs: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    let value = l.node("Einsum", &inputs, &[("equation", Attr::String(equation))])?;
    l.answer(value)
}

fn bilinear(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let [a, b, w] = ["input1", "input2", "weight"].map(|name| args.tensor(name));
    let (a, b, w) = (l.value(a?)?, l.value(b?)?, l.value(w?)?);
    let value = l.node("Einsum", &[&a, &w, &b], &[("equation", Attr::Text("...i,oij,...j->...o"))])?;
    let bias = args.optional("bias")?;
    let value = match bias {
        Some(bias) => {
            let bias = l.value(bias)?;
            l.node("Add", &[&value, &bias], &[])?
        }
        None => value,
    };
    l.answer(value)
}

fn pixel_shuffle(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, factor) = (args.tensor("self")?, args.int("upscale_factor")?);
    batched(l, x, 4, |l, value| {
        l.node("DepthToSpace", &[value], &[("blocksize", int(factor)), ("mode", Attr::Text("CRD"))])
    })
}

fn pixel_unshuffle(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, factor) = (args.tensor("self")?, args.int("downscale_factor")?);
    let channels = l.size(x, l.rank(x).saturating_sub(3))? as i64;
    // SpaceToDepth orders blocks before channels, PyTorch channels before blocks.
    batched(l, x, 4, |l, value| {
        let deep = l.node("SpaceToDepth", &[value], &[("blocksize", int(factor))])?;
        let batch = l.size_value(&deep, 0)?;
        let (high, wide) = (l.size_value(&deep, 2)?, l.size_value(&deep, 3)?);
        let known = Int::Known;
        let apart = l.vector(&[batch.clone(), known(factor * factor), known(channels), high.clone(), wide.clone()])?;
        let apart = l.reshape(&deep, &apart)?;
        let turned = l.transpose(&apart, &[0, 2, 1, 3, 4])?;
        let whole = l.vector(&[batch, known(channels * factor * factor), high, wide])?;
        l.reshape(&turned, &whole)
    })
}

fn channel_shuffle(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, groups) = (args.tensor("self")?, args.int("groups")?);
    let channels = l.size(x, 1)? as i64;
    if groups < 1 || channels % groups != 0 {
        return Err(Error::invalid(format!("{channels} channels in {groups} groups")));
    }
    let value = l.value(x)?;
    // 0 keeps the size of the batch.
    let apart = l.ints(&[0, groups, channels / groups, -1])?;
    let apart = l.node("Reshape", &[&value, &apart], &[])?;
    let turned = l.transpose(&apart, &[0, 2, 1, 3])?;
    let shape = l.shape_of(&value)?;
    let value = l.reshape(&turned, &shape)?;
    l.answer(value)
}

fn weight_norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (v, g) = (args.tensor("v")?, args.tensor("g")?);
    let dim = axis_of(args.int("dim")?, l.rank(v))?;
    let axes: Vec<i64> = (0..l.rank(v)).filter(|&axis| axis != dim).map(|axis| axis as i64).collect();
    let (v, g, axes) = (l.value(v)?, l.value(g)?, l.ints(&axes)?);
    let norm = l.node("ReduceL2", &[&v, &axes], &[("keepdims", int(1))])?;
    let scale = l.node("Div", &[&g, &norm], &[])?;
    let value = l.node("Mul", &[&v, &scale], &[])?;
    l.answer(value)
}

fn cosine_similarity(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("x1")?, args.tensor("x2")?);
    let dim = l.axis(a, args.int("dim")?)?;
    let (dtype, eps) = (l.dtype(a), args.float("eps")?);
    let (a, b, axes) = (l.value(a)?, l.value(b)?, l.ints(&[dim as i64])?);
    let eps = l.number(eps, dtype)?;
    let mut parts = Vec::new();
    for x in [&a, &b] {
        let norm = l.node("ReduceL2", &[x, &axes], &[("keepdims", int(1))])?;
        let norm = l.node("Max", &[&norm, &eps], &[])?;
        parts.push(l.node("Div", &[x, &norm], &[])?);
    }
    let product = l.node("Mul", &[&parts[0], &parts[1]], &[])?;
    let value = l.node("ReduceSum", &[&product, &axes], &[("keepdims", int(0))])?;
    l.answer(value)
}
