//! Convolutions and products of 8-bit codes.

use rekindle_kernels::{ByteConvWeights, ByteMatrix, Codes, Memory, Requantize, Residual, Rounded, Target};

use super::codes::{is_codes, quantization};
use super::conv::{geometry, unfit};
use crate::cpu::fuse::Following;
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::quantized::{Layer, LayerKind};
use crate::cpu::run::Context;
use crate::cpu::tensor::{Source, Tensor};
use crate::graph::Node;
use crate::{Array, DType, Result};

/// What values of one byte are packed for, beside what they are packed for as floats.
const PURPOSE: u64 = 16;

/// The codes of an array.
fn codes(array: &Array) -> Option<Codes<'_>> {
    array.values::<u8>().map(Codes::Unsigned).or_else(|| array.values::<i8>().map(Codes::Signed))
}

/// Scale and zero point of the values on the left.
enum Left {
    Known {
        scale: f32,
        zero: i32,
    },
    /// Made in each run.
    Read {
        scale: Source,
        zero: Option<(Source, DType)>,
    },
}

impl Left {
    fn of(p: &mut Planner<'_>, node: &Node) -> Result<Option<Self>> {
        let Some(scale) = p.input(node, 1)?.filter(|own| own.dtype == DType::F32 && own.len() == 1) else {
            return Ok(None);
        };
        let zero = p.input(node, 2)?;
        if zero.as_ref().is_some_and(|zero| !is_codes(zero) || zero.len() != 1) {
            return Ok(None);
        }
        let known = (p.constant(node, 1)?, p.constant(node, 2)?);
        Ok(Some(match known {
            (Some(scale), known) if known.is_some() || zero.is_none() => {
                let zero = known.map_or(Ok(0.0), |zero| zero.float())?;
                Self::Known { scale: scale.float()? as f32, zero: zero as i32 }
            }
            _ => Self::Read { scale: scale.source(), zero: zero.map(|zero| (zero.source(), zero.dtype)) },
        }))
    }

    fn read(&self, context: &Context<'_>) -> Result<(f32, i32)> {
        match self {
            Self::Known { scale, zero } => Ok((*scale, *zero)),
            Self::Read { scale, zero } => {
                let zero = match zero {
                    None => 0,
                    Some((source, DType::U8)) => i32::from(context.read::<u8>(source)?[0]),
                    Some((source, _)) => i32::from(context.read::<i8>(source)?[0]),
                };
                Ok((context.floats(scale)?[0], zero))
            }
        }
    }
}

/// What a layer makes of sums.
struct Then {
    left: Left,
    /// The scales of the weights, over that of the result.
    scales: Vec<f32>,
    addends: Option<Vec<i32>>,
    bias: Option<Vec<f32>>,
    rounded: Option<Rounded>,
    residual: Option<Source>,
    function: rekindle_kernels::Pointwise,
    columns: usize,
    len: usize,
}

/// What packed weights do with codes.
type Run = Box<dyn Fn(Codes<'_>, &Requantize<'_>, Target<'_>) -> Result<()> + Send + Sync>;

pub(super) fn layer(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(layer) = node.get::<Layer>() else { return Ok(false) };
    let Some(x) = p.input(node, 0)?.filter(is_codes) else { return Ok(false) };
    let (Some(id), Some(weight_id)) = (node.inputs[0], node.inputs[3]) else { return Ok(false) };
    let Some(weight) = p.weight(Some(weight_id)) else { return Ok(false) };
    let Some(left) = Left::of(p, node)? else { return Ok(false) };
    let (Some(scales), Some(zeros)) = (p.constant(node, 4)?, p.constant(node, 5)?) else { return Ok(false) };
    let zeros: Vec<i32> = zeros.ints()?.into_iter().map(|zero| zero as i32).collect();
    let purpose = PURPOSE + ((node.inputs[5].unwrap_or_default() as u64) << 8);
    let (x, shape, image, run): (Tensor, Vec<usize>, bool, Run) = match &layer.kind {
        LayerKind::Conv(conv) => {
            let Some((geometry, axes)) = geometry(conv, &x.shape, &weight.shape)? else { return Ok(false) };
            let packed = p.source.packed.get(weight_id, purpose, || {
                let array = weight.array()?;
                let codes = codes(&array).ok_or_else(|| crate::Error::invalid("weights that are no codes"))?;
                ByteConvWeights::new(&geometry, codes, &zeros).map_err(unfit)
            })?;
            let [height, width] = geometry.output();
            let (batch, channels) = (geometry.batch, geometry.out_channels);
            let (x, shape) = if axes == 1 {
                (p.as_image(id, &x)?, vec![batch, channels, width])
            } else {
                (p.channels_last(id, &x)?, vec![batch, channels, height, width])
            };
            let run: Run =
                Box::new(move |codes, then, target| packed.forward(&geometry, codes, then, target).map_err(unfit));
            (x, shape, true, run)
        }
        LayerKind::MatMul { turned } => {
            let x = p.plain(id, &x)?;
            let Some((&depth, before)) = x.shape.split_last() else { return Ok(false) };
            let &[b0, b1] = weight.shape.as_slice() else { return Ok(false) };
            let (inputs, columns) = if *turned { (b1, b0) } else { (b0, b1) };
            if inputs != depth || columns == 0 {
                return Ok(false);
            }
            let strides = if *turned { [1, depth] } else { [columns, 1] };
            let packed = p.source.packed.get(weight_id, purpose + 1 + u64::from(*turned), || {
                let array = weight.array()?;
                let codes = codes(&array).ok_or_else(|| crate::Error::invalid("weights that are no codes"))?;
                Ok(ByteMatrix::new(codes, depth, columns, strides, &zeros))
            })?;
            let rows: usize = before.iter().product();
            let shape: Vec<usize> = before.iter().copied().chain([columns]).collect();
            let run: Run = Box::new(move |codes, then, target| {
                packed.multiply(codes, depth, rows, then, target, columns);
                Ok(())
            });
            (x, shape, false, run)
        }
    };
    let columns = if image { shape[1] } else { shape[shape.len() - 1] };
    let mut scales: Vec<f32> = match scales.values::<f32>() {
        Some(values) if values.len() == 1 || values.len() == columns => values.to_vec(),
        _ => return Ok(false),
    };
    let Some((addends, mut bias)) = bias(p, node, columns)? else { return Ok(false) };
    let (dtype, rounded) = match node.inputs.get(6).copied().flatten() {
        None => (DType::F32, None),
        Some(_) => {
            let Some(by) = quantization(p, node, [6, 7])? else { return Ok(false) };
            scales.iter_mut().chain(bias.iter_mut().flatten()).for_each(|value| *value /= by.scale);
            let (least, greatest) = if by.signed { (-128, 127) } else { (0, 255) };
            let (least, greatest) = ((least - by.zero) as f32, (greatest - by.zero) as f32);
            let bound = |value: f32| (value / by.scale).round_ties_even().clamp(least, greatest);
            let rounded = Rounded { zero: by.zero, least: bound(layer.low), greatest: bound(layer.high) };
            (if by.signed { DType::I8 } else { DType::U8 }, Some(rounded))
        }
    };
    // One axis is the second of two: its channels are last only inside of this step.
    let line = image && shape.len() == 3;
    let following = if rounded.is_some() || line {
        Following {
            function: rekindle_kernels::Pointwise::None,
            residual: None,
            output: node.outputs.first().copied().flatten(),
            nodes: Vec::new(),
        }
    } else {
        Following::of(p, node, rekindle_kernels::Pointwise::None, &shape, image)?
    };
    if let Left::Known { scale, .. } = left {
        scales.iter_mut().for_each(|own| *own *= scale);
    }
    let placed = if line { vec![shape[0], shape[1], 1, shape[2]] } else { shape.clone() };
    let out = p.allocate(dtype, placed, image)?;
    let working = p.allocate(DType::F32, vec![scales.len()], false)?;
    let residual = following.residual.as_ref().map(|(_, tensor)| tensor.source());
    let (len, function) = (out.len(), following.function);
    let then = Then { left, scales, addends, bias, rounded, residual, function, columns, len };
    let (source, signed) = (x.source(), x.dtype == DType::I8);
    p.emit(
        Box::new(move |context, outputs| {
            let values = if signed {
                Codes::Signed(context.read::<i8>(&source)?)
            } else {
                Codes::Unsigned(context.read::<u8>(&source)?)
            };
            then.run(context, values, outputs, &run)
        }),
        &[&out, &working],
    )?;
    p.free(&working);
    if line {
        p.free(&x);
        let turned = p.as_line(&out, shape)?;
        p.free(&out);
        following.finish(p, turned);
    } else {
        following.finish(p, out);
    }
    Ok(true)
}

impl Then {
    fn run(&self, context: &Context<'_>, values: Codes<'_>, outputs: &mut [Memory], run: &Run) -> Result<()> {
        let [out, working] = outputs else { unreachable!("two outputs were given") };
        let (scale, zero) = self.left.read(context)?;
        let scales = match self.left {
            Left::Known { .. } => &self.scales[..],
            Left::Read { .. } => {
                let scaled = working.values_mut::<f32>(self.scales.len());
                scaled.iter_mut().zip(&self.scales).for_each(|(scaled, own)| *scaled = own * scale);
                scaled
            }
        };
        let then = Requantize { zero, addends: self.addends.as_deref(), scales, bias: self.bias.as_deref() };
        let target = match self.rounded {
            Some(rounded) => Target::Codes { out: out.values_mut(self.len), rounded },
            None => Target::Floats {
                out: out.values_mut(self.len),
                residual: match &self.residual {
                    Some(source) => Some(Residual { values: context.floats(source)?, stride: self.columns }),
                    None => None,
                },
                function: self.function,
            },
        };
        run(values, &then, target)
    }
}

/// What is added to sums, and to what they count; `None` if it is nothing that kernels add.
#[allow(clippy::type_complexity)]
fn bias(p: &mut Planner<'_>, node: &Node, columns: usize) -> Result<Option<(Option<Vec<i32>>, Option<Vec<f32>>)>> {
    if node.inputs.get(8).copied().flatten().is_none() {
        return Ok(Some((None, None)));
    }
    let Some(array) = p.constant(node, 8)?.filter(|bias| bias.len() == columns) else { return Ok(None) };
    Ok(match (array.values::<i32>(), array.values::<f32>()) {
        (Some(values), _) => Some((Some(values.to_vec()), None)),
        (_, Some(values)) => Some((None, Some(values.to_vec()))),
        _ => None,
    })
}
