//! Convolutions of quantized values: exact sums of products, as 64-bit floats hold those of 8-bit integers.

use super::conv::{Conv, convolved};
use super::{Inputs, one};
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("ConvInteger", &[10], (2, 4)).attributes(&[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "pads",
            "strides",
        ]),
        conv_integer,
    ),
    Entry::new(
        Schema::new("QLinearConv", &[10], (8, 9)).attributes(&[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "pads",
            "strides",
        ]),
        qlinear_conv,
    ),
];

fn conv_integer(node: &RawNode) -> Parsed {
    let conv = Conv::parse(node)?;
    eval(move |inputs| {
        let (x, w) = (inputs.array(0)?, inputs.array(1)?);
        let (shape, sums) = sums(&conv, (x, inputs.optional(2)?), (w, inputs.optional(3)?), None)?;
        one(Array::of_floats(DType::I32, shape, sums)?)
    })
}

fn qlinear_conv(node: &RawNode) -> Parsed {
    let conv = Conv::parse(node)?;
    eval(move |inputs| quantized(&conv, inputs))
}

fn quantized(conv: &Conv, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (x, w) = (inputs.array(0)?, inputs.array(3)?);
    let (x_scale, y_scale) = (inputs.array(1)?.float()? as f32, inputs.array(6)?.float()? as f32);
    let zero = inputs.optional(7)?;
    let dtype = zero.map_or(x.dtype(), Array::dtype);
    let (least, greatest) =
        dtype.int_range().ok_or_else(|| Error::invalid(format!("expected a quantized type, found {dtype}")))?;
    let zero = zero.map_or(Ok(0.0), Array::float)?;
    let (shape, sums) = sums(conv, (x, inputs.optional(2)?), (w, inputs.optional(5)?), inputs.optional(8)?)?;
    let w_scales = per_channel(inputs.array(4)?, w)?;
    let plane: usize = shape[2..].iter().product();
    let scaled = sums.into_iter().enumerate().map(|(i, sum)| {
        let w_scale = w_scales[i / plane % w_scales.len()] as f32;
        let value = sum as f32 * (x_scale * w_scale / y_scale);
        (f64::from(value.round_ties_even()) + zero).clamp(least as f64, greatest as f64)
    });
    one(Array::of_floats(dtype, shape, scaled.collect())?)
}

/// Shape and values of the convolution of values less their zero points.
fn sums(
    conv: &Conv,
    (x, x_zero): (&Array, Option<&Array>),
    (w, w_zero): (&Array, Option<&Array>),
    bias: Option<&Array>,
) -> Result<(Vec<usize>, Vec<f64>)> {
    let x_zero = x_zero.map_or(Ok(0.0), Array::float)?;
    let x_values: Vec<f64> = x.floats()?.into_iter().map(|value| value - x_zero).collect();
    let mut w_values = w.floats()?;
    if let Some(zero) = w_zero {
        let zeros = per_channel(zero, w)?;
        let size = w_values.len() / zeros.len();
        if size > 0 {
            w_values
                .chunks_mut(size)
                .zip(&zeros)
                .for_each(|(values, zero)| values.iter_mut().for_each(|value| *value -= zero));
        }
    }
    let (window, sums) = convolved(conv, x, w, &x_values, &w_values, bias)?;
    Ok(([&[x.shape()[0], w.shape()[0]], &window.out[..]].concat(), sums))
}

/// One value for all output channels or one for each.
fn per_channel(values: &Array, w: &Array) -> Result<Vec<f64>> {
    if values.len() != 1 && (values.is_empty() || w.shape().first() != Some(&values.len())) {
        return Err(Error::invalid(format!(
            "{} scales or zero points for weights of shape {:?}",
            values.len(),
            w.shape()
        )));
    }
    values.floats()
}
