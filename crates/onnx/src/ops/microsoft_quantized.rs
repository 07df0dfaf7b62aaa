//! Operators of the domain `com.microsoft` on small integers: what ONNX Runtime's quantizer writes.
//!
//! Each is its float form between dequantizing and quantizing; integers are exact in the 64-bit floats that stand for them.

use super::matmul::{Gemm, matmul};
use super::microsoft_attention::{Settings, packed};
use super::pool::AveragePool;
use super::softmax::Softmax;
use super::{Inputs, concat, one};
use crate::array::{Broadcast, Rounding, axis, count};
use crate::operator::{ANY, Entry, Operator, Parsed, RawNode, Schema, eval};
use crate::{Array, DType, Error, Result, Value};

const fn schema(name: &'static str, inputs: (usize, usize)) -> Schema {
    Schema::of("com.microsoft", name, &[1], inputs)
}

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(schema("QLinearConcat", (3, ANY)).attributes(&["!axis"]), linear_concat),
    Entry::new(schema("QLinearAveragePool", (4, 5)), average_pool),
    Entry::new(schema("QLinearGlobalAveragePool", (5, 5)).attributes(&["channels_last"]), global_average_pool),
    Entry::new(schema("QLinearSoftmax", (5, 5)).attributes(&["axis", "!opset"]), softmax),
    Entry::new(schema("QGemm", (6, 9)).attributes(&["alpha", "transA", "transB"]), gemm),
    Entry::plain(schema("MatMulIntegerToFloat", (4, 7)), integer_to_float),
    Entry::plain(schema("DynamicQuantizeMatMul", (3, 5)), dynamic_matmul),
    Entry::new(schema("QAttention", (5, 9)), quantized_attention),
    Entry::plain(schema("QLinearWhere", (9, 9)), linear_where),
];

/// The floats that small integers stand for. Scale and zero point are single numbers, or one for each place of the last axis.
pub(super) fn dequantized(codes: &Array, scale: &Array, zero: Option<&Array>) -> Result<Array> {
    let spread = Broadcast::new(&[codes.shape(), scale.shape()])?;
    let zeros = zero.map(|zero| Ok::<_, Error>((Broadcast::new(&[codes.shape(), zero.shape()])?, zero.floats()?)));
    let zeros = zeros.transpose()?;
    if spread.shape != codes.shape() || zeros.as_ref().is_some_and(|(spread, _)| spread.shape != codes.shape()) {
        let (scale, codes) = (scale.shape(), codes.shape());
        return Err(Error::invalid(format!("scales of shape {scale:?} do not fit values of shape {codes:?}")));
    }
    let scales = scale.floats()?;
    let value = |(i, code): (usize, f64)| {
        let zero = zeros.as_ref().map_or(0.0, |(spread, zeros)| zeros[spread.at(1, i)]);
        (code - zero) * scales[spread.at(1, i)]
    };
    Array::of_floats(DType::F64, codes.shape().to_vec(), codes.floats()?.into_iter().enumerate().map(value).collect())
}

/// An input with its scale and zero point after it.
fn input(inputs: &Inputs<'_>, position: usize) -> Result<Array> {
    dequantized(inputs.array(position)?, inputs.array(position + 1)?, inputs.optional(position + 2)?)
}

/// Floats as small integers of the zero point's type, or of `dtype` without one.
fn quantized(values: &Array, scale: &Array, zero: Option<&Array>, dtype: DType) -> Result<Vec<Value>> {
    let dtype = zero.map_or(dtype, Array::dtype);
    let range = dtype.int_range().ok_or_else(|| Error::invalid(format!("expected integers, found {dtype}")))?;
    let (scale, zero) = (scale.float()?, zero.map_or(Ok(0.0), Array::float)?);
    let code = |v: f64| (((v / scale).round_ties_even() + zero) as i128).clamp(range.0, range.1);
    one(Array::of_ints(dtype, values.shape().to_vec(), values.floats()?.into_iter().map(code).collect())?)
}

/// Inputs: scale and zero point of the result, then values, scale and zero point of each part.
fn linear_concat(node: &RawNode) -> Parsed {
    let along = node.attributes.int("axis")?.ok_or_else(|| Error::invalid("attribute 'axis' is missing"))?;
    eval(move |inputs| {
        let parts = (2..inputs.len()).step_by(3).map(|at| input(inputs, at)).collect::<Result<Vec<_>>>()?;
        let rank = parts.first().map_or(0, Array::rank);
        let joined = concat(&parts.iter().collect::<Vec<_>>(), axis(along, rank)?)?;
        quantized(&joined, inputs.array(0)?, inputs.optional(1)?, inputs.array(2)?.dtype())
    })
}

/// Inputs: where to take the first of two tensors, each tensor with its scale and zero point, scale and zero point of the result.
fn linear_where(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (condition, x, y) = (inputs.array(0)?, input(inputs, 1)?, input(inputs, 4)?);
    let both = Broadcast::new(&[condition.shape(), x.shape(), y.shape()])?;
    let total = count(&both.shape)?;
    let (first, xs, ys) = (condition.expect::<bool>()?, x.floats()?, y.floats()?);
    let chosen = (0..total).map(|i| if first[both.at(0, i)] { xs[both.at(1, i)] } else { ys[both.at(2, i)] });
    let values = Array::of_floats(DType::F64, both.shape.clone(), chosen.collect())?;
    quantized(&values, inputs.array(7)?, inputs.optional(8)?, inputs.array(1)?.dtype())
}

/// An operator of one float tensor on small integers. Inputs: values, scale, zero point, scale and zero point of the result.
fn through(operator: impl Fn(&Array) -> Result<Array> + Send + Sync + 'static) -> Parsed {
    eval(move |inputs| {
        let values = operator(&input(inputs, 0)?)?;
        quantized(&values, inputs.array(3)?, inputs.optional(4)?, inputs.array(0)?.dtype())
    })
}

fn channels_first(node: &RawNode) -> Result<()> {
    if node.attributes.flag("channels_last", false)? { Err(Error::beyond("channels as the last axis")) } else { Ok(()) }
}

fn single(operator: &impl Operator, x: &Array) -> Result<Array> {
    let x = Value::from(x.clone());
    let values = Operator::eval(operator, &Inputs::new(vec![Some(&x)]))?;
    values.into_iter().next().ok_or_else(|| Error::invalid("it gives nothing"))?.into_array()
}

fn average_pool(node: &RawNode) -> Parsed {
    channels_first(node)?;
    let pool = AveragePool::parse(node)?;
    through(move |x| single(&pool, x))
}

fn global_average_pool(node: &RawNode) -> Parsed {
    channels_first(node)?;
    through(|x| {
        let [batch, channels, image @ ..] = x.shape() else {
            return Err(Error::invalid(format!("expected an image, found shape {:?}", x.shape())));
        };
        let plane = count(image)?;
        if plane == 0 {
            return Err(Error::invalid("an image without places"));
        }
        let means = x.floats()?.chunks(plane).map(|plane| plane.iter().sum::<f64>() / plane.len() as f64).collect();
        let shape = [&[*batch, *channels][..], &vec![1; image.len()]].concat();
        Array::of_floats(DType::F64, shape, means)
    })
}

/// The attribute `opset` says whether all axes from the one named on make up a row, as before version 13.
fn softmax(node: &RawNode) -> Parsed {
    let version = node.attributes.int("opset")?.ok_or_else(|| Error::invalid("attribute 'opset' is missing"))?;
    let softmax = Softmax::probabilities(&RawNode { version, ..node.clone() })?;
    through(move |x| single(&softmax, x))
}

/// `alpha · A · B + C`; C is of the scale of the product. Without a scale of the result it stays a float.
fn gemm(node: &RawNode) -> Parsed {
    let gemm = Gemm { beta: 1.0, ..Gemm::parse(node)? };
    eval(move |inputs| {
        let (a_scale, b_scale) = (inputs.array(1)?, inputs.array(4)?);
        let (a, b) = (input(inputs, 0)?, Value::from(weights(&gemm, inputs)?));
        let mut all = vec![Value::from(a), b];
        if let Some(c) = inputs.optional(6)? {
            let factor = a_scale.float()? * f64::from(gemm.alpha);
            let scales = b_scale.floats()?.into_iter().map(|scale| scale * factor).collect();
            let scales = Array::of_floats(DType::F64, b_scale.shape().to_vec(), scales)?;
            all.push(dequantized(c, &scales, None)?.into());
        }
        let product = Operator::eval(&gemm, &Inputs::new(all.iter().map(Some).collect()))?;
        let product = product[0].array()?;
        match inputs.optional(7)? {
            Some(scale) => quantized(product, scale, inputs.optional(8)?, inputs.array(0)?.dtype()),
            None => one(product.cast(DType::F32, true, Rounding::Nearest)?),
        }
    })
}

/// The right matrix of `QGemm`, whose scales are of the columns of the product: of its rows where it is transposed.
fn weights(gemm: &Gemm, inputs: &Inputs<'_>) -> Result<Array> {
    let (b, scale, zero) = (inputs.array(3)?, inputs.array(4)?, inputs.optional(5)?);
    let columns = |array: &Array| {
        if gemm.transpose_b && array.len() > 1 { array.reshaped(vec![array.len(), 1]) } else { Ok(array.clone()) }
    };
    let zero = zero.map(columns).transpose()?;
    dequantized(b, &columns(scale)?, zero.as_ref())
}

/// The product as a 32-bit float, with a bias if there is one.
fn product(a: &Array, b: &Array, bias: Option<&Array>) -> Result<Vec<Value>> {
    let mut product = matmul(a, b)?;
    if let Some(bias) = bias {
        let both = Broadcast::new(&[product.shape(), bias.shape()])?;
        if both.shape != product.shape() {
            return Err(Error::invalid(format!("a bias of shape {:?} does not fit the product", bias.shape())));
        }
        let bias = bias.floats()?;
        let values = product.floats()?.into_iter().enumerate().map(|(i, v)| v + bias[both.at(1, i)]).collect();
        product = Array::of_floats(DType::F64, product.shape().to_vec(), values)?;
    }
    one(product.cast(DType::F32, true, Rounding::Nearest)?)
}

/// Inputs: two matrices, their scales, their zero points, a bias.
fn integer_to_float(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let a = dequantized(inputs.array(0)?, inputs.array(2)?, inputs.optional(4)?)?;
    let b = dequantized(inputs.array(1)?, inputs.array(3)?, inputs.optional(5)?)?;
    product(&a, &b, inputs.optional(6)?)
}

/// Inputs: floats, a matrix of small integers, its scale and zero point, a bias.
fn dynamic_matmul(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let mut values = x.floats()?;
    through_bytes(&mut values);
    let a = Array::of_floats(DType::F64, x.shape().to_vec(), values)?;
    let b = dequantized(inputs.array(1)?, inputs.array(2)?, inputs.optional(3)?)?;
    product(&a, &b, inputs.optional(4)?)
}

/// Each value as the 8-bit integer that it becomes and back: scale and zero point come from the range, which holds 0.
pub(super) fn through_bytes(values: &mut [f64]) {
    let (least, greatest) = values.iter().fold((0.0_f64, 0.0_f64), |(low, high), &v| (low.min(v), high.max(v)));
    // As floats of 32 bits, in which scale and zero point are computed.
    let scale = (greatest as f32 - least as f32) / 255.0;
    if scale == 0.0 || !scale.is_finite() {
        return;
    }
    let zero = (-(least as f32) / scale).clamp(0.0, 255.0).round_ties_even();
    for value in values {
        let code = ((*value as f32 / scale).round_ties_even() + zero).clamp(0.0, 255.0);
        *value = f64::from(code - zero) * f64::from(scale);
    }
}

/// Inputs: values, weights, bias, scales of both, mask, zero points of both, past.
fn quantized_attention(node: &RawNode) -> Parsed {
    let settings = Settings::parse(node)?;
    eval(move |inputs| {
        let single = |array: Array| array.cast(DType::F32, true, Rounding::Nearest).map(Value::from);
        let x = single(dequantized(inputs.array(0)?, inputs.array(3)?, inputs.optional(6)?)?)?;
        let w = single(dequantized(inputs.array(1)?, inputs.array(4)?, inputs.optional(7)?)?)?;
        packed(&settings, &Inputs::new(vec![Some(&x), Some(&w), inputs.get(2), inputs.get(5), inputs.get(8)]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected numbers are those of ONNX Runtime.
    #[test]
    fn one_of_two_quantized_tensors() -> Result<()> {
        let single = |value: f32| Array::scalar(value);
        let all: Vec<Value> = [
            Array::new(vec![2, 1], vec![true, false])?,
            Array::new(vec![2, 3], vec![10_u8, 128, 255, 0, 7, 90])?,
            single(0.02),
            Array::scalar(128_u8),
            Array::new(vec![3], vec![0_u8, 100, 200])?,
            single(0.05),
            Array::scalar(100_u8),
            single(0.04),
            Array::scalar(120_u8),
        ]
        .map(Value::from)
        .into();
        let found = linear_where(&Inputs::new(all.iter().map(Some).collect()))?;
        assert_eq!(found[0].array()?.expect::<u8>()?, [61, 120, 184, 0, 120, 245]);
        Ok(())
    }
}
