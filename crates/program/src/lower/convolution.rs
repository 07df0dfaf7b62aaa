//! Convolutions, and channels turned to pixels.

use rekindle_onnx::builder::{Attr, ValueName};

use super::layers::value_or_none;
use super::{Args, Int, Lower, Row, TensorId, Value, int, list};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("conv1d", conv),
    ("conv2d", conv),
    ("conv3d", conv),
    ("conv_transpose1d", conv_transpose),
    ("conv_transpose2d", conv_transpose),
    ("conv_transpose3d", conv_transpose),
    ("convolution", convolution),
    ("_convolution", convolution),
    ("pixel_shuffle", pixel_shuffle),
    ("pixel_unshuffle", pixel_unshuffle),
    ("channel_shuffle", channel_shuffle),
];

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
