//! A factor and a summand for each channel after a convolution or a product become part of its weights.

use super::draft::{Draft, differs, input};
use crate::graph::{FUSED, Node, ValueId};
use crate::{Array, DType};

/// What comes after a channel's values: they are multiplied, then something is added.
struct Affine {
    factors: Option<Vec<f64>>,
    summands: Vec<f64>,
}

/// `BatchNormalization`, `Add`, `Sub`, `Mul` or `Div` by constants after `Conv` or `Gemm`.
pub(super) fn merge(draft: &mut Draft, at: usize) -> Option<()> {
    let node = draft.standard(at, &["BatchNormalization", "Add", "Sub", "Mul", "Div"])?;
    let (before, affine) = if node.operator == "BatchNormalization" {
        let before = draft.only_for_one(input(node, 0)?)?;
        let channels = Layer::at(draft, before)?.channels;
        (before, normalization(draft, node, channels)?)
    } else {
        let (value, constant) = draft.with_constant(node)?;
        let before = draft.only_for_one(value)?;
        let layer = Layer::at(draft, before)?;
        // A quotient or difference the other way round is another function.
        let turned = input(node, 0) == Some(constant) && matches!(node.operator.as_str(), "Sub" | "Div");
        if turned || node.version < 7 {
            return None;
        }
        (before, arithmetic(draft, &node.operator, constant, &layer)?)
    };
    let layer = Layer::at(draft, before)?;
    let (weight, bias) = layer.changed(draft, &affine)?;
    let last = draft.take(at)?;
    let mut first = draft.take(before)?;
    let name = draft.name(first.inputs[1]?).to_string();
    if let Some(weight) = weight {
        first.inputs[1] = Some(draft.add(format!("{name} with factors"), weight));
    }
    first.inputs.resize(3, None);
    first.inputs[2] = Some(draft.add(format!("{name} with summands"), bias));
    first.outputs = vec![last.outputs.first().copied().flatten()];
    draft.put(at, first);
    Some(())
}

/// A convolution or a product with constant weights.
struct Layer {
    channels: usize,
    /// Axes of what it gives.
    rank: usize,
    /// The axis of the weight that is the channels'.
    axis: usize,
    weight: ValueId,
    bias: Option<ValueId>,
}

impl Layer {
    fn at(draft: &Draft, at: usize) -> Option<Self> {
        let node = draft.standard(at, &["Conv", "Gemm"])?;
        let weight = draft.weight(input(node, 1)).filter(|weight| matches!(weight.dtype, DType::F32 | DType::F64))?;
        let bias = input(node, 2);
        let one = |name: &str| node.attributes.float_or(name, 1.0).is_ok_and(|value| value == 1.0);
        let (rank, axis) = match node.operator.as_str() {
            "Conv" if weight.shape.len() > 2 => (weight.shape.len(), 0),
            "Gemm" if weight.shape.len() == 2 && one("alpha") && one("beta") && node.version >= 7 => {
                (2, if differs(node, "transB", 0) { 0 } else { 1 })
            }
            _ => return None,
        };
        let channels = weight.shape[axis];
        if bias.is_some() {
            let bias = draft.weight(bias).filter(|bias| bias.dtype == weight.dtype)?;
            // `Gemm` may add a column, or one number.
            if bias.shape.iter().rev().enumerate().any(|(at, &size)| size != if at == 0 { channels } else { 1 })
                || bias.shape.is_empty()
            {
                return None;
            }
        }
        Some(Self { channels, rank, axis, weight: input(node, 1)?, bias })
    }

    /// The weight, if it changes, and the bias.
    fn changed(&self, draft: &Draft, affine: &Affine) -> Option<(Option<Array>, Array)> {
        let dtype = draft.weight(Some(self.weight))?.dtype;
        let mut bias = match self.bias {
            Some(bias) => draft.floats(Some(bias))?.floats().ok()?,
            None => vec![0.0; self.channels],
        };
        let mut weight = None;
        if let Some(factors) = &affine.factors {
            let array = draft.floats(Some(self.weight))?;
            let mut values = array.floats().ok()?;
            let inner: usize = array.shape()[self.axis + 1..].iter().product();
            values.iter_mut().enumerate().for_each(|(i, value)| *value *= factors[i / inner % self.channels]);
            weight = Some(Array::of_floats(dtype, array.shape().to_vec(), values).ok()?);
            bias.iter_mut().zip(factors).for_each(|(value, factor)| *value *= factor);
        }
        bias.iter_mut().zip(&affine.summands).for_each(|(value, summand)| *value += summand);
        Some((weight, Array::of_floats(dtype, vec![self.channels], bias).ok()?))
    }
}

/// Inference alone, with one statistic for each channel.
fn normalization(draft: &Draft, node: &Node, channels: usize) -> Option<Affine> {
    let trains = differs(node, "training_mode", 0) || node.outputs.iter().flatten().count() > 1 || node.version < 7;
    if trains || differs(node, "spatial", 1) || node.domain == FUSED {
        return None;
    }
    let parameter = |position: usize| {
        let array = draft.floats(input(node, position)).filter(|array| array.shape() == [channels])?;
        array.floats().ok()
    };
    let (scale, shift, mean, variance) = (parameter(1)?, parameter(2)?, parameter(3)?, parameter(4)?);
    let epsilon = f64::from(node.attributes.float_or("epsilon", 1e-5).ok()?);
    let factors: Vec<f64> =
        scale.iter().zip(&variance).map(|(scale, variance)| scale / (variance + epsilon).sqrt()).collect();
    let summands = shift.iter().zip(&mean).zip(&factors).map(|((shift, mean), factor)| shift - mean * factor).collect();
    Some(Affine { factors: Some(factors), summands })
}

/// A constant that has one number for each channel, or one for all.
fn arithmetic(draft: &Draft, operator: &str, constant: ValueId, layer: &Layer) -> Option<Affine> {
    let array = draft.floats(Some(constant))?;
    let behind = layer.rank - 2;
    let fits = array.rank() <= layer.rank
        && array
            .shape()
            .iter()
            .rev()
            .enumerate()
            .all(|(at, &size)| size == 1 || at == behind && size == layer.channels);
    if !fits || array.dtype() != draft.weight(Some(layer.weight))?.dtype {
        return None;
    }
    let values = array.floats().ok()?;
    let each = |function: fn(f64) -> f64| -> Vec<f64> {
        (0..layer.channels).map(|channel| function(values[if values.len() == 1 { 0 } else { channel }])).collect()
    };
    let none = || vec![0.0; layer.channels];
    Some(match operator {
        "Add" => Affine { factors: None, summands: each(|value| value) },
        "Sub" => Affine { factors: None, summands: each(|value| -value) },
        "Mul" => Affine { factors: Some(each(|value| value)), summands: none() },
        _ => Affine { factors: Some(each(|value| 1.0 / value)), summands: none() },
    })
}
