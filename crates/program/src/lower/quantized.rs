//! Quantizers: those of exported programs become ONNX's pairs, those of training with quantization are written out.

use rekindle_onnx::builder::ValueName;
use rekindle_onnx::{Array, DType};

use super::{Args, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("quantize_per_tensor", on_new_grid),
    ("dequantize", off_grid),
    ("quantized_decomposed::quantize_per_tensor", |l, a| quantize(l, a, false)),
    ("quantized_decomposed::dequantize_per_tensor", |l, a| dequantize(l, a, false)),
    ("quantized_decomposed::quantize_per_channel", |l, a| quantize(l, a, true)),
    ("quantized_decomposed::dequantize_per_channel", |l, a| dequantize(l, a, true)),
    ("fake_quantize_per_tensor_affine", |l, a| fake(l, a, false)),
    ("fake_quantize_per_tensor_affine_cachemask", |l, a| fake(l, a, false)),
    ("fake_quantize_per_channel_affine", |l, a| fake(l, a, true)),
    ("fake_quantize_per_channel_affine_cachemask", |l, a| fake(l, a, true)),
];

/// What the integers of a quantized tensor stand for: `(integer - zero) × scale`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Grid {
    pub scale: f64,
    pub zero: i64,
    /// The type of the integers.
    pub kind: DType,
}

/// Operators that give elements of their operand, which stay on its grid.
const PICK: &[&str] = &[
    "alias",
    "cat",
    "chunk",
    "clamp",
    "clamp_min",
    "clone",
    "constant_pad_nd",
    "contiguous",
    "detach",
    "dropout",
    "expand",
    "flatten",
    "flip",
    "hardtanh",
    "index_select",
    "masked_fill",
    "max",
    "max_pool1d",
    "max_pool2d",
    "narrow",
    "permute",
    "pixel_shuffle",
    "channel_shuffle",
    "relu",
    "relu6",
    "repeat",
    "reshape",
    "select",
    "slice",
    "split",
    "squeeze",
    "stack",
    "t",
    "transpose",
    "unbind",
    "unflatten",
    "unsqueeze",
    "upsample_nearest2d",
    "view",
];
/// Operators whose results are rounded to the grid of their operand.
const ROUNDED: &[&str] = &[
    "adaptive_avg_pool2d",
    "adaptive_avg_pool3d",
    "avg_pool2d",
    "avg_pool3d",
    "leaky_relu",
    "mean",
    "upsample_bilinear2d",
];

impl Lower {
    /// The grid of a quantized tensor.
    pub fn grid(&self, tensor: TensorId) -> Option<Grid> {
        self.grids.get(&tensor).copied()
    }

    /// Real numbers rounded to a grid.
    pub fn on_grid(&mut self, tensor: TensorId, grid: Grid) -> Result<TensorId> {
        let (scale, zero) = (self.number(grid.scale, DType::F32)?, self.number(grid.zero as f64, grid.kind)?);
        let value = self.value_as(tensor, DType::F32)?;
        let value = self.node("QuantizeLinear", &[&value, &scale, &zero], &[])?;
        let value = self.node("DequantizeLinear", &[&value, &scale, &zero], &[])?;
        let tensor = self.tensor(value)?;
        self.grids.insert(tensor, grid);
        Ok(tensor)
    }

    /// What an operator gives of a quantized operand.
    ///
    /// # Errors
    /// When it is not known what it rounds.
    pub(super) fn gridded(&mut self, args: &Args, results: Vec<Value>) -> Result<Vec<Value>> {
        let mut operands = Vec::new();
        for (_, value) in &args.values {
            match value {
                Value::Tensor(tensor) => operands.push(*tensor),
                Value::List(values) => operands.extend(values.iter().filter_map(|value| value.tensor().ok())),
                _ => {}
            }
        }
        let Some(grid) = operands.iter().find_map(|tensor| self.grid(*tensor)) else { return Ok(results) };
        let name = args.operator.trim_end_matches('_');
        let rounded = ROUNDED.contains(&name);
        if matches!(name, "quantize_per_tensor" | "dequantize") {
            return Ok(results);
        }
        if !rounded && !PICK.contains(&name) {
            return Err(Error::beyond(format!("aten.{} of quantized tensors", args.operator)));
        }
        let mut all = Vec::new();
        for result in results {
            all.push(self.result_on(result, grid, rounded)?);
        }
        Ok(all)
    }

    fn result_on(&mut self, result: Value, grid: Grid, rounded: bool) -> Result<Value> {
        Ok(match result {
            Value::Tensor(tensor) if rounded => Value::Tensor(self.on_grid(tensor, grid)?),
            Value::Tensor(tensor) => {
                self.grids.insert(tensor, grid);
                result
            }
            Value::List(values) => Value::List(
                values.into_iter().map(|value| self.result_on(value, grid, rounded)).collect::<Result<_>>()?,
            ),
            other => other,
        })
    }
}

/// The number in an argument, which may be a constant tensor of one element.
fn known(l: &mut Lower, args: &Args, name: &str) -> Result<f64> {
    if let Value::Tensor(tensor) = args.get(name) {
        let value = l.value_as(*tensor, DType::F64)?;
        let found = l.fact(&value).and_then(|fact| {
            let data = fact.probes.first()?.data.as_ref()?;
            data.floats().ok()?.first().copied()
        });
        return found.ok_or_else(|| Error::beyond(format!("a {name} that is not known")));
    }
    args.float(name)
}

fn on_new_grid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (scale, zero) = (known(l, args, "scale")?, known(l, args, "zero_point")?);
    let kind = args.dtype("dtype")?.ok_or_else(|| Error::invalid("integers without a type"))?;
    let grid = Grid { scale, zero: zero as i64, kind };
    Ok(vec![Value::Tensor(l.on_grid(args.tensor("self")?, grid)?)])
}

fn off_grid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let value = l.value(x)?;
    let value = l.node("Identity", &[&value], &[])?;
    l.answer(value)
}

/// An argument as numbers of a type: one, or one for each channel.
fn numbers(l: &mut Lower, args: &Args, names: &[&str], dtype: DType) -> Result<ValueName> {
    match args.any(names).clone() {
        Value::Tensor(tensor) => {
            let value = l.value_as(tensor, dtype)?;
            // One number in a vector of one stands for all.
            if l.rank(tensor) == 1 && matches!(l.size(tensor, 0), Ok(1)) {
                let scalar = l.ints(&[])?;
                return l.reshape(&value, &scalar);
            }
            Ok(value)
        }
        number => l.scalar(&number, dtype),
    }
}

/// Scales, zero points and the axis of channels.
fn scheme(l: &mut Lower, args: &Args, kind: DType, channels: bool) -> Result<(ValueName, ValueName, i64)> {
    let scale = numbers(l, args, if channels { &["scales"] } else { &["scale"] }, DType::F32)?;
    let names: &[&str] = if channels { &["zero_points"] } else { &["zero_point"] };
    let zero = if channels && args.any(names).is_none() {
        let (none, shape) = (l.number(0.0, kind)?, l.shape_of(&scale)?);
        l.node("Expand", &[&none, &shape], &[])?
    } else {
        numbers(l, args, names, kind)?
    };
    Ok((scale, zero, if channels { args.int("axis")? } else { 0 }))
}

fn quantize(l: &mut Lower, args: &Args, channels: bool) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let kind = args.dtype("dtype")?.ok_or_else(|| Error::invalid("integers without a type"))?;
    if !matches!(kind, DType::I8 | DType::U8 | DType::I16) {
        return Err(Error::beyond(format!("quantizing to {kind}")));
    }
    let (scale, zero, axis) = scheme(l, args, kind, channels)?;
    let value = l.value_as(x, DType::F32)?;
    let mut value = l.node("QuantizeLinear", &[&value, &scale, &zero], &[("axis", int(axis))])?;
    // Ranges that are narrower than the type, −127 to 127 for example.
    let (low, high) = (args.int("quant_min")?, args.int("quant_max")?);
    if kind.int_range() != Some((i128::from(low), i128::from(high))) {
        let bound = |l: &mut Lower, value: i64| l.constant(&Array::of_ints(kind, Vec::new(), vec![i128::from(value)])?);
        let (low, high) = (bound(l, low)?, bound(l, high)?);
        value = l.node("Clip", &[&value, &low, &high], &[])?;
    }
    l.answer(value)
}

fn dequantize(l: &mut Lower, args: &Args, channels: bool) -> Result<Vec<Value>> {
    let x = args.tensor("input")?;
    let kind = l.dtype(x);
    let (scale, zero, axis) = scheme(l, args, kind, channels)?;
    let value = l.value(x)?;
    let value = l.node("DequantizeLinear", &[&value, &scale, &zero], &[("axis", int(axis))])?;
    let value = l.cast(&value, DType::F32, args.dtype("out_dtype")?.unwrap_or(DType::F32))?;
    l.answer(value)
}

/// A number for each channel, spread over the other axes.
fn along(l: &mut Lower, x: TensorId, value: ValueName, axis: i64) -> Result<ValueName> {
    let (axis, rank) = (l.axis(x, axis)?, l.rank(x));
    let axes: Vec<i64> = (1..(rank - axis) as i64).collect();
    if axes.is_empty() {
        return Ok(value);
    }
    let axes = l.ints(&axes)?;
    l.node("Unsqueeze", &[&value, &axes], &[])
}

/// Rounded to the nearest integer times the scale, within a range.
fn fake(l: &mut Lower, args: &Args, channels: bool) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let dtype = l.dtype(x);
    let (mut scale, mut zero) = (numbers(l, args, &["scale"], dtype)?, numbers(l, args, &["zero_point"], dtype)?);
    if channels {
        let axis = args.int("axis")?;
        (scale, zero) = (along(l, x, scale, axis)?, along(l, x, zero, axis)?);
    }
    let (low, high) = (l.scalar(args.get("quant_min"), dtype)?, l.scalar(args.get("quant_max"), dtype)?);
    let value = l.value(x)?;
    let inverse = l.node("Reciprocal", &[&scale], &[])?;
    let value = l.node("Mul", &[&value, &inverse], &[])?;
    let value = l.node("Round", &[&value], &[])?;
    let value = l.node("Add", &[&value, &zero], &[])?;
    let value = l.node("Clip", &[&value, &low, &high], &[])?;
    let value = l.node("Sub", &[&value, &zero], &[])?;
    let value = l.node("Mul", &[&value, &scale], &[])?;
    let mut results = l.answer(value)?;
    results.push(Value::None);
    Ok(results)
}
