//! Convolutions over one and two axes, with what follows them.

use rekindle_kernels::{ChannelsLastWeights, Conv2d, Epilogue, Pixels, Pointwise, Residual};

use crate::cpu::fuse::{Following, merged};
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::ops::{Conv, Window, Windows};
use crate::{DType, Error, Result};

/// An error of a kernel whose sizes were checked when it was planned.
pub(super) fn unfit(error: rekindle_kernels::ShapeError) -> Error {
    Error::invalid(error.to_string())
}

/// Kernel, stride, dilation and padding of a window over one or two axes, the missing first one being 1.
pub(super) struct Sliding {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: [[usize; 2]; 2],
    pub output: [usize; 2],
}

impl Sliding {
    /// The windows of an operator on an image; none with padding that cuts off, or over more axes.
    ///
    /// # Errors
    /// When they do not fit the image.
    pub fn of(windows: &Windows, image: &[usize], kernel: Option<&[usize]>) -> Result<Option<Self>> {
        let window = Window::new(windows, image, kernel)?;
        let pair = |values: &[usize], one: usize| match *values {
            [x] => Some([one, x]),
            [y, x] => Some([y, x]),
            _ => None,
        };
        let unsigned = |values: &[i64]| values.iter().map(|&value| usize::try_from(value).ok()).collect();
        let (begin, end): (Option<Vec<usize>>, Option<Vec<usize>>) = (unsigned(&window.begin), unsigned(&window.end));
        let (Some(begin), Some(end)) = (begin, end) else { return Ok(None) };
        let (Some([top, left]), Some([bottom, right])) = (pair(&begin, 0), pair(&end, 0)) else { return Ok(None) };
        let sizes = [&window.kernel, &window.steps, &window.dilations, &window.out].map(|values| pair(values, 1));
        let [Some(kernel), Some(stride), Some(dilation), Some(output)] = sizes else { return Ok(None) };
        let padding = [[top, bottom], [left, right]];
        Ok((!kernel.contains(&0)).then_some(Self { kernel, stride, dilation, padding, output }))
    }
}

/// The geometry of a convolution over one or two axes, and how many these are.
pub(super) fn geometry(conv: &Conv, x: &[usize], weight: &[usize]) -> Result<Option<(Conv2d, usize)>> {
    let (axes, input) = match *x {
        [_, _, width] => (1, [1, width]),
        [_, _, height, width] => (2, [height, width]),
        _ => return Ok(None),
    };
    if weight.len() != axes + 2 {
        return Ok(None);
    }
    let Some(sliding) = Sliding::of(&conv.windows, &x[2..], Some(&weight[2..]))? else { return Ok(None) };
    let Sliding { kernel, stride, dilation, padding, .. } = sliding;
    let (batch, in_channels, out_channels, groups) = (x[0], x[1], weight[0], conv.groups);
    let shape = Conv2d { batch, in_channels, out_channels, input, kernel, stride, padding, dilation, groups };
    if shape.check().is_err() || weight[1] != in_channels / groups {
        return Ok(None);
    }
    Ok(Some((shape, axes)))
}

pub(super) fn conv(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let weight_id = node.inputs.get(1).copied().flatten();
    let Some(weight) = p.weight(weight_id).filter(|weight| weight.dtype == DType::F32) else { return Ok(false) };
    let Some((conv, own)) = merged::<Conv>(node) else { return Ok(false) };
    let (Some(id), Some(weight_id)) = (node.inputs[0], weight_id) else { return Ok(false) };
    let Some((shape, axes)) = geometry(conv, &x.shape, &weight.shape)? else { return Ok(false) };
    let bias = match node.inputs.get(2).copied().flatten() {
        None => None,
        Some(_) => match p.constant(node, 2)?.filter(|bias| bias.shape() == [shape.out_channels]) {
            Some(bias) => match bias.values::<f32>() {
                Some(values) => Some(values.to_vec()),
                None => return Ok(false),
            },
            None => return Ok(false),
        },
    };
    let winograd = u64::from(ChannelsLastWeights::alike(&shape, &Conv2d { batch: 1 << 20, ..shape }));
    let packed = p.source.packed.get(weight_id, winograd, || {
        ChannelsLastWeights::new(&shape, weight.array()?.expect::<f32>()?).map_err(unfit)
    })?;
    let [height, width] = shape.output();
    let out_shape = match axes {
        1 => vec![shape.batch, shape.out_channels, width],
        _ => vec![shape.batch, shape.out_channels, height, width],
    };
    // One axis is the second of two: its channels are last only inside of this step.
    let x = if axes == 1 { p.as_image(id, &x)? } else { p.channels_last(id, &x)? };
    let image_shape = vec![shape.batch, shape.out_channels, height, width];
    let following = if axes == 2 {
        Following::of(p, node, own, &out_shape, true)?
    } else {
        Following { function: own, residual: None, output: node.outputs[0], nodes: Vec::new() }
    };
    let out = p.allocate(DType::F32, image_shape, true)?;
    emit(p, shape, packed, &x, bias, &following, &out)?;
    if axes == 1 {
        p.free(&x);
        let line = p.as_line(&out, out_shape)?;
        p.free(&out);
        following.finish(p, line);
    } else {
        following.finish(p, out);
    }
    Ok(true)
}

fn emit(
    p: &mut Planner<'_>,
    shape: Conv2d,
    packed: std::sync::Arc<ChannelsLastWeights>,
    x: &Tensor,
    bias: Option<Vec<f32>>,
    following: &Following,
    out: &Tensor,
) -> Result<()> {
    let (input, len) = (x.source(), out.len());
    let residual = following.residual.as_ref().map(|(_, tensor)| tensor.source());
    let function: Pointwise = following.function;
    let (inputs, channels) = (shape.in_channels, shape.out_channels);
    p.emit(
        Box::new(move |context, outputs| {
            let residual = residual.as_ref().map(|residual| context.floats(residual)).transpose()?;
            let epilogue = Epilogue {
                bias: bias.as_deref(),
                residual: residual.map(|values| Residual { values, stride: channels }),
                function,
            };
            let pixels = Pixels { values: context.floats(&input)?, stride: inputs };
            packed.forward(&shape, pixels, &epilogue, outputs[0].values_mut(len), channels).map_err(unfit)
        }),
        &[out],
    )
}
