//! Convolutions and products of quantized values. No file has these: they are made for the runtime.

use crate::graph::{Attribute, Attributes, FUSED};
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::ops::{self, BiasedMatMul, Conv, Gemm, Inputs};
use crate::{Array, Error, Result, Value};

/// The version of the operator set whose forms are made.
pub(super) const VERSION: i64 = 13;
/// The name of a convolution.
pub(in crate::cpu) const CONV: &str = "QuantizedConv";
/// The name of a product.
pub(in crate::cpu) const MATMUL: &str = "QuantizedMatMul";
/// The least value of what is quantized.
pub(super) const LOW: &str = "low";
/// The greatest.
pub(super) const HIGH: &str = "high";

/// Inputs: codes, scale and zero point of values and of weights, scale and zero point of the result, and a bias. Without a scale of the
/// result it stays a float. A bias of integers has the scale of the products.
pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::of(FUSED, CONV, &[1], (6, 9)), |node| layer(node, LayerKind::Conv(Conv::parse(node)?))),
    Entry::new(Schema::of(FUSED, MATMUL, &[1], (6, 9)), |node| {
        layer(node, LayerKind::MatMul { turned: node.attributes.flag("transB", false)? })
    }),
];

/// What a layer computes.
pub(in crate::cpu) enum LayerKind {
    Conv(Conv),
    MatMul {
        /// Whether weights are `[columns, depth]`.
        turned: bool,
    },
}

/// A layer on quantized values.
pub(in crate::cpu) struct Layer {
    pub kind: LayerKind,
    /// Bounds of what is quantized.
    pub low: f32,
    pub high: f32,
}

fn layer(node: &RawNode, kind: LayerKind) -> crate::operator::Parsed {
    let bound = |name: &str, default: f32| node.attributes.float_or(name, default);
    let (low, high) = (bound(LOW, f32::NEG_INFINITY)?, bound(HIGH, f32::INFINITY)?);
    parsed(Layer { kind, low, high })
}

/// What an operator of the standard domain gives.
fn standard(operator: &str, attributes: Attributes, inputs: &[Option<&Value>]) -> Result<Value> {
    let entry = ops::find("", operator).ok_or_else(|| Error::invalid(format!("no operator {operator}")))?;
    let (operator, inputs_count) = (operator.to_string(), inputs.len());
    let raw = RawNode { operator, version: VERSION, attributes, inputs: inputs_count, outputs: vec![true] };
    first(entry.parse(&raw)?.eval(&Inputs::new(inputs.to_vec()))?)
}

fn first(values: Vec<Value>) -> Result<Value> {
    values.into_iter().next().ok_or_else(|| Error::invalid("it gives nothing"))
}

fn along(axis: usize) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.insert("axis".to_string(), Attribute::Int(axis as i64));
    attributes
}

impl Operator for Layer {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        let given = |position: usize| inputs.get(position);
        let columns = usize::from(matches!(self.kind, LayerKind::MatMul { turned: false }));
        let x = standard("DequantizeLinear", along(0), &[given(0), given(1), given(2)])?;
        let weight = standard("DequantizeLinear", along(columns), &[given(3), given(4), given(5)])?;
        let bias = match inputs.optional(8)? {
            Some(bias) if bias.dtype().is_int() => {
                let (by, scale) = (inputs.array(4)?, inputs.array(1)?.float()? as f32);
                let scales: Vec<f32> = by.expect::<f32>()?.iter().map(|by| by * scale).collect();
                let scales = Value::from(Array::new(by.shape().to_vec(), scales)?);
                Some(standard("DequantizeLinear", along(0), &[given(8), Some(&scales)])?)
            }
            _ => given(8).cloned(),
        };
        let operands = Inputs::new(vec![Some(&x), Some(&weight), bias.as_ref()]);
        let y = first(match &self.kind {
            LayerKind::Conv(conv) => conv.eval(&operands)?,
            LayerKind::MatMul { turned: false } => BiasedMatMul.eval(&operands)?,
            LayerKind::MatMul { turned } => {
                Gemm { alpha: 1.0, beta: 1.0, transpose_a: false, transpose_b: *turned }.eval(&operands)?
            }
        })?;
        let values: Vec<f32> =
            y.array()?.expect::<f32>()?.iter().map(|value| value.max(self.low).min(self.high)).collect();
        let y = Value::from(Array::new(y.array()?.shape().to_vec(), values)?);
        Ok(vec![match given(6) {
            None => y,
            Some(_) => standard("QuantizeLinear", along(0), &[Some(&y), given(6), given(7)])?,
        }])
    }
}
