//! Floats as small integers with a scale, and back.

use super::{Inputs, around, dtype_attribute, one};
use crate::array::{Rounding, axis, count};
use crate::operator::{Entry, Parsed, RawNode, Schema, eval};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("QuantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], (2, 3)).attributes(&[
            "axis@13",
            "block_size@21",
            "output_dtype@21",
            "precision@23",
            "saturate@19",
        ]),
        quantize,
    ),
    Entry::new(
        Schema::new("DequantizeLinear", &[10, 13, 19, 21, 23, 24, 25, 28], (2, 3)).attributes(&[
            "axis@13",
            "block_size@21",
            "output_dtype@23",
        ]),
        dequantize,
    ),
    Entry::plain(Schema::new("DynamicQuantizeLinear", &[11], (1, 1)), dynamic),
];

/// Which scale belongs to each element: one for all, one for each position of an axis, or one for each block along it.
enum Scales {
    One,
    Axis { size: usize, inner: usize },
    Blocks { size: usize, inner: usize, block: usize, blocks: usize },
}

impl Scales {
    fn new((along, block): (i64, usize), x: &Array, scale: &Array) -> Result<Self> {
        if scale.rank() == 0 || (scale.len() == 1 && block == 0) {
            return if scale.len() == 1 { Ok(Self::One) } else { Err(Error::invalid("the scale is empty")) };
        }
        let axis = axis(along, x.rank())?;
        let (_, size, inner) = around(x.shape(), axis);
        let misfit = || Error::invalid(format!("scales of shape {:?} do not fit shape {:?}", scale.shape(), x.shape()));
        if block == 0 {
            return if scale.shape() == [size] { Ok(Self::Axis { size, inner }) } else { Err(misfit()) };
        }
        let mut shape = x.shape().to_vec();
        shape[axis] = size.div_ceil(block);
        if scale.shape() != shape {
            return Err(misfit());
        }
        Ok(Self::Blocks { size, inner, block, blocks: shape[axis] })
    }

    fn at(&self, i: usize) -> usize {
        match *self {
            Self::One => 0,
            Self::Axis { size, inner } => i / inner % size,
            Self::Blocks { size, inner, block, blocks } => {
                (i / inner / size * blocks + i / inner % size / block) * inner + i % inner
            }
        }
    }
}

/// The attributes `axis` and `block_size`.
fn layout(node: &RawNode) -> Result<(i64, usize)> {
    let block = usize::try_from(node.attributes.int_or("block_size", 0)?);
    Ok((node.attributes.int_or("axis", 1)?, block.map_err(|_| Error::invalid("block_size is negative"))?))
}

/// The zero points, as many as there are scales.
fn zero_points(zero: Option<&Array>, scale: &Array) -> Result<Option<Vec<f64>>> {
    let Some(zero) = zero else { return Ok(None) };
    if zero.len() != scale.len() {
        return Err(Error::invalid(format!(
            "zero points of shape {:?} do not fit scales of shape {:?}",
            zero.shape(),
            scale.shape()
        )));
    }
    zero.floats().map(Some)
}

/// As the reference computes: division in the type of the values (or in `precision`).
pub(super) fn quantize(node: &RawNode) -> Parsed {
    let layout = layout(node)?;
    let (wanted, precision) = (dtype_attribute(node, "output_dtype")?, dtype_attribute(node, "precision")?);
    let saturate = node.attributes.flag("saturate", true)?;
    eval(move |inputs| {
        let (x, scale, zero) = (inputs.array(0)?, inputs.array(1)?, inputs.optional(2)?);
        let dtype = zero.map(Array::dtype).or(wanted).unwrap_or(DType::U8);
        if wanted.is_some_and(|wanted| wanted != dtype) {
            return Err(Error::invalid(format!("its zero point is of type {dtype}, not output_dtype")));
        }
        if !dtype.is_int() && !dtype.is_small_float() {
            return Err(Error::invalid(format!("{dtype} is no type to quantize to")));
        }
        let precision = precision.unwrap_or(scale.dtype());
        let scales = Scales::new(layout, x, scale)?;
        let zeros = zero_points(zero, scale)?;
        let by = scale.floats()?;
        let quotients: Vec<f64> =
            x.floats()?.into_iter().enumerate().map(|(i, value)| value / by[scales.at(i)]).collect();
        // The type decides where a quotient falls that is halfway between two integers.
        let rounded_in = if precision.is_float() && !precision.is_small_float() { precision } else { DType::F32 };
        let quotients = Array::of_floats(rounded_in, x.shape().to_vec(), quotients)?.floats()?;
        let zero_at = |i: usize| zeros.as_ref().map_or(0.0, |zeros| zeros[scales.at(i)]);
        if let Some((least, greatest)) = dtype.int_range() {
            let round =
                |(i, value): (usize, f64)| ((value.round_ties_even() + zero_at(i)) as i128).clamp(least, greatest);
            return one(Array::of_ints(
                dtype,
                x.shape().to_vec(),
                quotients.into_iter().enumerate().map(round).collect(),
            )?);
        }
        let shifted = quotients.into_iter().enumerate().map(|(i, value)| value + zero_at(i)).collect();
        let exact = Array::of_floats(DType::F64, x.shape().to_vec(), shifted)?;
        one(exact.cast(dtype, saturate, Rounding::Nearest)?)
    })
}

pub(super) fn dequantize(node: &RawNode) -> Parsed {
    let (layout, wanted) = (layout(node)?, dtype_attribute(node, "output_dtype")?);
    eval(move |inputs| {
        let (x, scale, zero) = (inputs.array(0)?, inputs.array(1)?, inputs.optional(2)?);
        if zero.is_some_and(|zero| zero.dtype() != x.dtype()) {
            return Err(Error::invalid("its zero point is of another type than its values"));
        }
        let dtype = wanted.unwrap_or(scale.dtype());
        let scales = Scales::new(layout, x, scale)?;
        let (by, zeros) = (scale.floats()?, zero_points(zero, scale)?);
        let value = |(i, value): (usize, f64)| {
            let at = scales.at(i);
            (value - zeros.as_ref().map_or(0.0, |zeros| zeros[at])) * by[at]
        };
        one(Array::of_floats(dtype, x.shape().to_vec(), x.floats()?.into_iter().enumerate().map(value).collect())?)
    })
}

/// To 8 bits without a sign: scale and zero point come from the values, whose range is made to hold 0.
fn dynamic(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    count(x.shape())?;
    let values = x.expect::<f32>()?;
    let (least, greatest) =
        values.iter().fold((0_f32, 0_f32), |(least, greatest), &value| (least.min(value), greatest.max(value)));
    let scale = (greatest - least) / 255.0;
    // Values that are all 0 have no range: any scale does.
    let zero = if scale == 0.0 { 0.0 } else { (-least / scale).clamp(0.0, 255.0).round_ties_even() };
    let by = if scale == 0.0 { 1.0 } else { scale };
    let codes = values.iter().map(|value| ((value / by).round_ties_even() + zero).clamp(0.0, 255.0) as u8).collect();
    Ok(vec![
        Array::new(x.shape().to_vec(), codes)?.into(),
        Array::scalar(scale).into(),
        Array::scalar(zero as u8).into(),
    ])
}
