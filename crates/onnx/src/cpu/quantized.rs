//! Operators on quantized values as the same operators on floats, between a quantization before and one after.
//!
//! A value that is quantized and dequantized is then a function of single floats, which goes into the layer before it; weights are
//! dequantized once. Sums of 8-bit products are exact in 32-bit floats up to some 500 of them, and rounded like any float beyond.

use std::collections::HashMap;

use crate::graph::{Attribute, Attributes, Body, FUSED, Graph, Node, ValueId};
use crate::operator::{Entry, RawNode, Schema};
use crate::ops::{self, Inputs};
use crate::{Array, Result, Value};

/// The version of the operator set whose forms are made.
const VERSION: i64 = 13;
const MICROSOFT: &str = "com.microsoft";

/// Operators that give some of the values that they are given: what they do to quantized ones, they do to what these stand for.
const MOVING: &[&str] =
    &["MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Split", "Identity"];

/// ONNX's number of 32-bit floats.
const FLOAT: i64 = 1;
/// The operator that gives what `DynamicQuantizeLinear` does, less the zero point, as floats; and the scale.
pub(super) const DYNAMIC: &str = "DynamicQuantizeLinear";

/// It is made here alone.
const OPERATORS: &[Entry] = &[Entry::plain(Schema::of(FUSED, DYNAMIC, &[1], (1, 1)), dynamic)];

/// Its plain form.
fn dynamic(inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let x = inputs.array(0)?;
    let mut values = x.expect::<f32>()?.to_vec();
    let scale = codes(&mut values);
    Ok(vec![Array::new(x.shape().to_vec(), values)?.into(), Array::scalar(scale).into()])
}

/// Puts the code of each value, less the zero point, in its place; gives the scale.
pub(super) fn codes(values: &mut [f32]) -> f32 {
    let (mut least, mut greatest) = ([0_f32; 16], [0_f32; 16]);
    let (groups, rest) = values.as_chunks::<16>();
    for group in groups {
        for ((least, greatest), value) in least.iter_mut().zip(&mut greatest).zip(group) {
            *least = if *value < *least { *value } else { *least };
            *greatest = if *value > *greatest { *value } else { *greatest };
        }
    }
    let least = least.iter().chain(rest).fold(0_f32, |least, value| least.min(*value));
    let greatest = greatest.iter().chain(rest).fold(0_f32, |greatest, value| greatest.max(*value));
    let scale = (greatest - least) / 255.0;
    // Values that are all 0 have no range: any scale does.
    let (zero, by) =
        if scale == 0.0 { (0.0, 1.0) } else { ((-least / scale).clamp(0.0, 255.0).round_ties_even(), scale) };
    rekindle_kernels::Pointwise::Codes { scale: by, least: -zero, greatest: 255.0 - zero }.apply(values);
    scale
}

struct Expansion<'g> {
    graph: &'g mut Graph,
    nodes: Vec<Node>,
    /// Scale and zero point of quantized values.
    quantized: HashMap<ValueId, [Option<ValueId>; 2]>,
    /// What is quantized with a scale of its own in each run, as floats: by its codes and by its zero point.
    dynamic: HashMap<ValueId, (ValueId, Option<ValueId>)>,
    /// Sums of integers, as floats.
    sums: HashMap<ValueId, ValueId>,
}

/// Puts operators on floats in the place of those on quantized values.
pub(crate) fn expand(graph: &mut Graph) {
    let nodes = std::mem::take(&mut graph.nodes);
    let mut expansion = Expansion {
        graph,
        nodes: Vec::with_capacity(nodes.len()),
        quantized: HashMap::new(),
        dynamic: HashMap::new(),
        sums: HashMap::new(),
    };
    for node in nodes {
        if expansion.node(&node).is_none() {
            expansion.nodes.push(node);
        }
    }
    let Expansion { graph, nodes, .. } = expansion;
    graph.nodes = nodes;
}

impl Expansion<'_> {
    fn node(&mut self, node: &Node) -> Option<()> {
        let input = |position: usize| node.inputs.get(position).copied().flatten();
        match (node.domain.as_str(), node.operator.as_str()) {
            ("", "QuantizeLinear") => {
                if let Some(out) = node.outputs.first().copied().flatten() {
                    self.quantized.insert(out, [input(1), input(2)]);
                }
                None
            }
            ("", "QLinearConv") => {
                let weight_scale = self.scale_len(input(4))?;
                let x = self.dequantized(node, input(0)?, [input(1), input(2)], None)?;
                let axis = (weight_scale > 1).then_some(0);
                let w = self.dequantized(node, input(3)?, [input(4), input(5)], axis)?;
                let bias = match input(8) {
                    Some(bias) => {
                        let scale = self.add(node, "Mul", vec![input(1), input(4)], Attributes::default())?;
                        Some(self.dequantized(node, bias, [Some(scale), None], axis)?)
                    }
                    None => None,
                };
                let y = self.add(node, "Conv", vec![Some(x), Some(w), bias], node.attributes.clone())?;
                self.requantize(node, y, [input(6), input(7)])
            }
            ("", "QLinearMatMul") => {
                if self.scale_len(input(1))? != 1 || self.scale_len(input(4))? != 1 {
                    return None;
                }
                let a = self.dequantized(node, input(0)?, [input(1), input(2)], None)?;
                let b = self.dequantized(node, input(3)?, [input(4), input(5)], None)?;
                let y = self.add(node, "MatMul", vec![Some(a), Some(b)], Attributes::default())?;
                self.requantize(node, y, [input(6), input(7)])
            }
            (MICROSOFT, operator @ ("QLinearAdd" | "QLinearMul")) => {
                let a = self.dequantized(node, input(0)?, [input(1), input(2)], None)?;
                let b = self.dequantized(node, input(3)?, [input(4), input(5)], None)?;
                let y = self.add(node, &operator["QLinear".len()..], vec![Some(a), Some(b)], Attributes::default())?;
                self.requantize(node, y, [input(6), input(7)])
            }
            (
                MICROSOFT,
                operator @ ("QLinearGlobalAveragePool" | "QLinearAveragePool" | "QLinearSigmoid" | "QLinearLeakyRelu"),
            ) => {
                if node.attributes.flag("channels_last", false).ok()? {
                    return None;
                }
                let x = self.dequantized(node, input(0)?, [input(1), input(2)], None)?;
                let y = self.add(node, &operator["QLinear".len()..], vec![Some(x)], node.attributes.clone())?;
                self.requantize(node, y, [input(3), input(4)])
            }
            (MICROSOFT, "QLinearConcat") => {
                let mut parts = Vec::new();
                for part in node.inputs.get(2..)?.chunks_exact(3) {
                    parts.push(Some(self.dequantized(node, part[0]?, [part[1], part[2]], None)?));
                }
                let y = self.add(node, "Concat", parts, node.attributes.clone())?;
                self.requantize(node, y, [input(0), input(1)])
            }
            (MICROSOFT, "QGemm") => {
                if self.scale_len(input(1))? != 1
                    || self.scale_len(input(4))? != 1
                    || node.attributes.float_or("alpha", 1.0).ok()? != 1.0
                {
                    return None;
                }
                let a = self.dequantized(node, input(0)?, [input(1), input(2)], None)?;
                let b = self.dequantized(node, input(3)?, [input(4), input(5)], None)?;
                let bias = match input(6) {
                    Some(bias) => {
                        let scale = self.add(node, "Mul", vec![input(1), input(4)], Attributes::default())?;
                        Some(self.dequantized(node, bias, [Some(scale), None], None)?)
                    }
                    None => None,
                };
                input(7)?;
                let y = self.add(node, "Gemm", vec![Some(a), Some(b), bias], node.attributes.clone())?;
                self.requantize(node, y, [input(7), input(8)])
            }
            ("", "DynamicQuantizeLinear") => {
                let out = |position: usize| node.outputs.get(position).copied().flatten();
                let codes = out(0)?;
                let floats = self.value(node);
                let mut own = node.clone();
                own.operator = DYNAMIC.to_string();
                own.domain = FUSED.to_string();
                own.outputs = vec![Some(floats), out(1)];
                own.body = Body::Operator(OPERATORS[0].parse(&own.raw()).ok()?);
                self.nodes.push(own);
                self.dynamic.insert(codes, (floats, out(2)));
                // Left out later if only floats are used.
                let mut plain = node.clone();
                if let Some(scale) = plain.outputs.get_mut(1) {
                    *scale = None;
                }
                self.nodes.push(plain);
                Some(())
            }
            ("", operator @ ("MatMulInteger" | "ConvInteger")) => {
                let (floats, zero) = *self.dynamic.get(&input(0)?)?;
                if input(2) != zero {
                    return None;
                }
                let weight = input(1)?;
                let count = match input(3) {
                    Some(zero) => self.scale_len(Some(zero))?,
                    None => 1,
                };
                let shape = if count == 1 { Vec::new() } else { vec![count] };
                let ones = self.value(node);
                self.graph.constants.push((ones, Array::new(shape, vec![1.0_f32; count]).ok()?.into()));
                let axis = (count > 1).then_some(i64::from(operator == "MatMulInteger"));
                let weight = self.dequantized(node, weight, [Some(ones), input(3)], axis)?;
                let float = if operator == "MatMulInteger" { "MatMul" } else { "Conv" };
                let sums = self.add(node, float, vec![Some(floats), Some(weight)], node.attributes.clone())?;
                self.sums.insert(node.outputs.first().copied().flatten()?, sums);
                None
            }
            ("", "Cast") => {
                let sums = *self.sums.get(&input(0)?)?;
                if node.attributes.int_or("to", 0).ok()? != FLOAT {
                    return None;
                }
                self.add(node, "Identity", vec![Some(sums)], Attributes::default())?;
                self.nodes.last_mut()?.outputs = node.outputs.clone();
                Some(())
            }
            ("", operator) if MOVING.contains(&operator) => {
                let x = input(0)?;
                let parameters = *self.quantized.get(&x)?;
                if !matches!(node.body, Body::Operator(_)) || node.outputs.iter().flatten().count() != 1 {
                    return None;
                }
                let x = self.dequantized(node, x, parameters, None)?;
                let mut moved = node.clone();
                moved.inputs[0] = Some(x);
                let y = self.value(node);
                moved.outputs = vec![Some(y)];
                self.nodes.push(moved);
                self.requantize(node, y, parameters)
            }
            _ => None,
        }
    }

    /// How many values a constant scale has.
    fn scale_len(&self, id: Option<ValueId>) -> Option<usize> {
        let weight = self.graph.constants.iter().find(|(own, _)| Some(*own) == id)?;
        Some(weight.1.shape.iter().product())
    }

    /// A new value.
    fn value(&mut self, node: &Node) -> ValueId {
        self.graph.names.push(format!("{} in floats", node.name));
        self.graph.names.len() - 1
    }

    /// A new node, and the value that it gives.
    fn add(
        &mut self,
        node: &Node,
        operator: &str,
        inputs: Vec<Option<ValueId>>,
        attributes: Attributes,
    ) -> Option<ValueId> {
        let entry = ops::find("", operator)?;
        let raw = RawNode {
            operator: operator.to_string(),
            version: VERSION,
            attributes,
            inputs: inputs.len(),
            outputs: vec![true],
        };
        let body = Body::Operator(entry.parse(&raw).ok()?);
        let out = self.value(node);
        let RawNode { operator, version, attributes, .. } = raw;
        let (name, domain, outputs, frees) = (node.name.clone(), String::new(), vec![Some(out)], Vec::new());
        self.nodes.push(Node { name, operator, domain, version, inputs, outputs, attributes, body, frees });
        Some(out)
    }

    fn dequantized(
        &mut self,
        node: &Node,
        x: ValueId,
        [scale, zero]: [Option<ValueId>; 2],
        axis: Option<i64>,
    ) -> Option<ValueId> {
        let mut attributes = Attributes::default();
        if let Some(axis) = axis {
            attributes.insert("axis".to_string(), Attribute::Int(axis));
        }
        self.add(node, "DequantizeLinear", vec![Some(x), scale, zero], attributes)
    }

    /// Makes the node's output of floats.
    fn requantize(&mut self, node: &Node, y: ValueId, [scale, zero]: [Option<ValueId>; 2]) -> Option<()> {
        let out = node.outputs.first().copied().flatten()?;
        self.add(node, "QuantizeLinear", vec![Some(y), scale, zero], Attributes::default())?;
        self.nodes.last_mut()?.outputs = vec![Some(out)];
        self.quantized.insert(out, [scale, zero]);
        Some(())
    }
}
