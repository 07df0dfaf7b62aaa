//! Layers on quantized values as nodes of one kind, which the runtime has kernels for: from operators of ONNX and of ONNX Runtime that
//! take 8-bit codes, and from operators on floats between a dequantization and a quantization.
//!
//! Codes stay codes from one layer to the next. What has no kernel for codes runs on floats, with the two functions around it.

mod forms;
mod operators;
mod pass;
mod pattern;

use crate::graph::{Attributes, Body, Graph, Node, ValueId};
use crate::operator::{Entry, RawNode};
use crate::ops::{self, Gemm};
use crate::{Array, DType};

use forms::{Form, MICROSOFT, input};
use operators::VERSION;
pub(super) use operators::{CONV, Layer, LayerKind, MATMUL};
use pass::{Parts, Pass, Scaled, turning};

/// Puts nodes of [`Layer`]s in the place of those that they are made of.
pub(crate) fn gather(graph: &mut Graph) {
    if graph.nodes.iter().any(|node| !matches!(node.body, Body::Operator(_))) {
        return;
    }
    let form = Form::new(graph);
    let mut pass = Pass { graph, form, out: Vec::new() };
    for at in 0..pass.form.nodes.len() {
        let node = pass.form.nodes[at].clone();
        if !pass.form.absorbed[at] && pass.node(&node).is_none() {
            pass.out.push(node);
        }
    }
    let out = pass.out;
    graph.nodes = out;
}

impl Pass<'_> {
    fn node(&mut self, node: &Node) -> Option<()> {
        let input = |position: usize| input(node, position);
        match (node.domain.as_str(), node.operator.as_str()) {
            ("", "Conv") => self.float_layer(node, CONV, false),
            ("", "MatMul") => self.float_layer(node, MATMUL, false),
            ("", "Gemm") => {
                let gemm = node.get::<Gemm>()?;
                if (gemm.alpha, gemm.beta) != (1.0, 1.0) || gemm.transpose_a {
                    return None;
                }
                self.float_layer(node, MATMUL, gemm.transpose_b)
            }
            ("", "QLinearConv") => {
                let parts = Parts {
                    kind: CONV,
                    x: [input(0), input(1), input(2)],
                    weight: [input(3), input(4), input(5)],
                    bias: input(8),
                    attributes: node.attributes.clone(),
                };
                self.layer(node, parts, [input(6), input(7)], node.outputs.clone())
            }
            ("", "QLinearMatMul") => {
                let parts = Parts {
                    kind: MATMUL,
                    x: [input(0), input(1), input(2)],
                    weight: [input(3), input(4), input(5)],
                    bias: None,
                    attributes: Attributes::default(),
                };
                if self.form.weight(input(3)).is_some() {
                    return self.layer(node, parts, [input(6), input(7)], node.outputs.clone());
                }
                self.on_floats(node, "MatMul", &[[0, 1, 2], [3, 4, 5]], [input(6), input(7)])
            }
            (MICROSOFT, "QGemm") => {
                let plain = node.attributes.float_or("alpha", 1.0).ok()? == 1.0;
                if !plain || node.attributes.flag("transA", false).ok()? {
                    return None;
                }
                let turned = node.attributes.flag("transB", false).ok()?;
                let parts = Parts {
                    kind: MATMUL,
                    x: [input(0), input(1), input(2)],
                    weight: [input(3), input(4), input(5)],
                    bias: input(6),
                    attributes: turning(turned),
                };
                self.layer(node, parts, [input(7), input(8)], node.outputs.clone())
            }
            (MICROSOFT, "MatMulIntegerToFloat") => {
                let parts = Parts {
                    kind: MATMUL,
                    x: [input(0), input(2), input(4)],
                    weight: [input(1), input(3), input(5)],
                    bias: input(6),
                    attributes: Attributes::default(),
                };
                self.layer(node, parts, [None, None], node.outputs.clone())
            }
            (MICROSOFT, "DynamicQuantizeMatMul") => {
                let weight = self.form.weight(input(1)).filter(|weight| weight.shape.len() == 2);
                weight.filter(|weight| matches!(weight.dtype, DType::U8 | DType::I8))?;
                let x = [0; 3].map(|_| Some(self.value(node)));
                self.add(node, "", "DynamicQuantizeLinear", vec![input(0)], Attributes::default(), x.to_vec())?;
                let parts = Parts {
                    kind: MATMUL,
                    x,
                    weight: [input(1), input(2), input(3)],
                    bias: input(4),
                    attributes: Attributes::default(),
                };
                self.layer(node, parts, [None, None], node.outputs.clone())
            }
            ("", operator @ ("MatMulInteger" | "ConvInteger")) => self.integers(node, operator),
            ("", operator @ ("Add" | "Mul")) => self.pair(node, operator),
            ("", "Concat") => self.concat(node),
            (MICROSOFT, "QLinearAveragePool" | "QLinearGlobalAveragePool") => {
                if node.attributes.flag("channels_last", false).ok()? {
                    return None;
                }
                self.on_floats(node, &node.operator["QLinear".len()..], &[[0, 1, 2]], [input(3), input(4)])
            }
            (MICROSOFT, "QLinearSigmoid" | "QLinearLeakyRelu" | "QLinearSoftmax") => {
                self.on_floats(node, &node.operator["QLinear".len()..], &[[0, 1, 2]], [input(3), input(4)])
            }
            ("", operator) if pattern::MOVING.contains(&operator) => self.moved(node),
            _ => None,
        }
    }

    /// An operator between a dequantization of each input and a quantization.
    fn on_floats(&mut self, node: &Node, operator: &str, inputs: &[[usize; 3]], [scale, zero]: Scaled) -> Option<()> {
        let entry = ops::find("", operator)?;
        let mut floats = Vec::new();
        for own in inputs {
            let own = own.map(|position| input(node, position));
            if self.form.len(own[1])? != 1 {
                return None;
            }
            let value = Some(self.value(node));
            self.add(node, "", "DequantizeLinear", own.to_vec(), Attributes::default(), vec![value])?;
            floats.push(value);
        }
        let y = Some(self.value(node));
        let version = if operator == "Softmax" { node.attributes.int_or("opset", VERSION).ok()? } else { VERSION };
        self.with(node, entry, version, floats, node.attributes.clone(), vec![y])?;
        self.add(node, "", "QuantizeLinear", vec![y, scale, zero], Attributes::default(), node.outputs.clone())
    }

    /// A node of [`Layer`], if its weights are constants of few axes.
    fn layer(&mut self, node: &Node, parts: Parts, [scale, zero]: Scaled, outputs: Vec<Option<ValueId>>) -> Option<()> {
        let Parts { kind, x, weight: [codes, by, at], bias, attributes } = parts;
        let weight = self.form.weight(codes).filter(|weight| matches!(weight.dtype, DType::U8 | DType::I8))?;
        let (rank, dtype) = (weight.shape.len(), weight.dtype);
        if !(if kind == CONV { 3..=4 } else { 2..=2 }).contains(&rank) {
            return None;
        }
        let turned = attributes.flag("transB", false).ok()?;
        let columns = weight.shape[usize::from(kind == MATMUL && !turned)];
        let (by, at) = self.per_column(node, dtype, columns, by?, at)?;
        let inputs = vec![x[0], x[1], x[2], codes, Some(by), Some(at), scale, zero, bias];
        let entry = operators::OPERATORS.iter().find(|entry| entry.schema.name == kind)?;
        self.with(node, entry, 1, inputs, attributes, outputs)
    }

    /// Scales and zero points of weights as lists of the same length: one, or one for each column.
    fn per_column(
        &mut self,
        node: &Node,
        dtype: DType,
        columns: usize,
        scale: ValueId,
        zero: Option<ValueId>,
    ) -> Option<(ValueId, ValueId)> {
        let scales = self.form.weight(Some(scale)).filter(|own| own.dtype == DType::F32)?.array().ok()?;
        let zeros = match zero {
            None => vec![0],
            Some(_) => self.form.weight(zero).filter(|own| own.dtype == dtype)?.array().ok()?.ints().ok()?,
        };
        let scales = scales.values::<f32>()?.to_vec();
        let count = scales.len().max(zeros.len());
        let fits = |len: usize| len == 1 || len == count;
        if !fits(scales.len()) || !fits(zeros.len()) || count != 1 && count != columns {
            return None;
        }
        let scales = (0..count).map(|at| scales[at % scales.len()]).collect();
        let zeros = (0..count).map(|at| zeros[at % zeros.len()]).collect();
        let scales = self.constant(node, Array::new(vec![count], scales).ok()?);
        let zeros = self.constant(node, Array::of_ints(dtype, vec![count], zeros).ok()?);
        Some((scales, zeros))
    }

    fn constant(&mut self, node: &Node, array: Array) -> ValueId {
        let id = self.value(node);
        self.form.constants.insert(id, array.clone().into());
        self.graph.constants.push((id, array.into()));
        id
    }

    /// A new value.
    fn value(&mut self, node: &Node) -> ValueId {
        self.graph.names.push(format!("{} inside", node.name));
        self.graph.names.len() - 1
    }

    /// A new node of an operator that files have.
    fn add(
        &mut self,
        node: &Node,
        domain: &str,
        operator: &str,
        inputs: Vec<Option<ValueId>>,
        attributes: Attributes,
        outputs: Vec<Option<ValueId>>,
    ) -> Option<()> {
        let version = if domain.is_empty() { VERSION } else { 1 };
        self.with(node, ops::find(domain, operator)?, version, inputs, attributes, outputs)
    }

    fn with(
        &mut self,
        node: &Node,
        entry: &'static Entry,
        version: i64,
        inputs: Vec<Option<ValueId>>,
        attributes: Attributes,
        outputs: Vec<Option<ValueId>>,
    ) -> Option<()> {
        let (operator, domain) = (entry.schema.name.to_string(), entry.schema.domain.to_string());
        let raw = RawNode {
            operator,
            version,
            attributes,
            inputs: inputs.len(),
            outputs: outputs.iter().map(Option::is_some).collect(),
        };
        let body = Body::Operator(entry.parse(&raw).ok()?);
        let RawNode { operator, attributes, .. } = raw;
        let (name, frees) = (node.name.clone(), Vec::new());
        self.out.push(Node { name, operator, domain, version, inputs, outputs, attributes, body, frees });
        Some(())
    }
}
