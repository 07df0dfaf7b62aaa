//! Operators on floats between dequantizations and a quantization, and sums of integers that become floats.

use super::forms::{MICROSOFT, input};
use super::operators::{CONV, HIGH, LOW, MATMUL};
use super::pass::{Parts, Pass, turning};
use crate::graph::{Attribute, Attributes, Node, ValueId};
use crate::ops::Cast;
use crate::{Array, DType};

/// Operators that give some of the values that they are given: what they do to codes, they do to what these stand for.
pub(super) const MOVING: &[&str] =
    &["MaxPool", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather", "Split", "Identity"];

impl Pass<'_> {
    /// A convolution or product of dequantized values, quantized afterwards perhaps.
    pub(super) fn float_layer(&mut self, node: &Node, kind: &'static str, turned: bool) -> Option<()> {
        let x = self.form.activation(input(node, 0))?;
        let weight = self.form.dequantized(input(node, 1))?;
        let shape = self.form.weight(Some(weight.codes))?.shape.clone();
        let columns = usize::from(kind == MATMUL && !turned);
        let axis = if weight.axis < 0 { weight.axis + shape.len() as i64 } else { weight.axis };
        if self.form.len(Some(weight.scale))? != 1 && axis != columns as i64 {
            return None;
        }
        let &columns = shape.get(columns)?;
        let bias = match input(node, 2) {
            None => None,
            Some(bias) => Some(self.bias(bias, columns, [x.scale, weight.scale])?),
        };
        let mut attributes = if kind == CONV { node.attributes.clone() } else { turning(turned) };
        let then = self.form.quantizing(node.outputs.first().copied().flatten()?, true);
        let (scaled, outputs) = match &then {
            Some(then) => {
                attributes.insert(LOW.to_string(), Attribute::Float(then.low));
                attributes.insert(HIGH.to_string(), Attribute::Float(then.high));
                ([Some(then.scale), Some(then.zero)], vec![Some(then.output)])
            }
            None => ([None, None], node.outputs.clone()),
        };
        let parts = Parts {
            kind,
            x: [Some(x.codes), Some(x.scale), x.zero],
            weight: [Some(weight.codes), Some(weight.scale), weight.zero],
            bias,
            attributes,
        };
        self.layer(node, parts, scaled, outputs)?;
        then.into_iter().flat_map(|then| then.nodes).for_each(|at| self.form.absorbed[at] = true);
        Some(())
    }

    /// A bias of floats, or of codes whose scale is that of the products.
    fn bias(&self, id: ValueId, columns: usize, [x, weight]: [ValueId; 2]) -> Option<ValueId> {
        if let Some(bias) = self.form.weight(Some(id)) {
            return (bias.dtype == DType::F32 && bias.shape == [columns]).then_some(id);
        }
        let bias = self.form.dequantized(Some(id))?;
        let codes = self.form.weight(Some(bias.codes)).filter(|codes| codes.shape == [columns])?;
        let floats = |id: ValueId| self.form.weight(Some(id))?.array().ok()?.floats().ok();
        let (own, x, weight) = (floats(bias.scale)?, floats(x)?, floats(weight)?);
        let same = (0..own.len().max(weight.len())).all(|at| {
            let product = x[0] * weight[at % weight.len()];
            (own[at % own.len()] - product).abs() <= product.abs() * 1e-5
        });
        let zero = match bias.zero {
            None => true,
            zero => self.form.weight(zero)?.array().ok()?.ints().ok()?.iter().all(|zero| *zero == 0),
        };
        // Computed later as a constant of floats, if it is not as the products are.
        Some(if codes.dtype == DType::I32 && same && zero { bias.codes } else { id })
    }

    /// A sum or product of two quantized values.
    pub(super) fn pair(&mut self, node: &Node, operator: &str) -> Option<()> {
        let (a, b) = (self.form.activation(input(node, 0))?, self.form.activation(input(node, 1))?);
        let then = self.form.quantizing(node.outputs.first().copied().flatten()?, true)?;
        let zero = self.form.weight(Some(then.zero))?;
        let (least, greatest) = zero.dtype.int_range()?;
        let (scale, zero) = (
            self.form.number(Some(then.scale), &[DType::F32])?,
            self.form.number(Some(then.zero), &[DType::U8, DType::I8])?,
        );
        // Bounds that the codes have anyway.
        if f64::from(then.low) > (least as f64 - zero) * scale
            || f64::from(then.high) < (greatest as f64 - zero) * scale
        {
            return None;
        }
        let inputs = vec![
            Some(a.codes),
            Some(a.scale),
            a.zero,
            Some(b.codes),
            Some(b.scale),
            b.zero,
            Some(then.scale),
            Some(then.zero),
        ];
        let (operator, attributes) = (format!("QLinear{operator}"), Attributes::default());
        self.add(node, MICROSOFT, &operator, inputs, attributes, vec![Some(then.output)])?;
        then.nodes.into_iter().for_each(|at| self.form.absorbed[at] = true);
        Some(())
    }

    /// Quantized values put together.
    pub(super) fn concat(&mut self, node: &Node) -> Option<()> {
        let then = self.form.quantizing(node.outputs.first().copied().flatten()?, false)?;
        let mut inputs = vec![Some(then.scale), Some(then.zero)];
        for id in &node.inputs {
            let part = self.form.activation(*id)?;
            inputs.extend([Some(part.codes), Some(part.scale), part.zero]);
        }
        self.add(node, MICROSOFT, "QLinearConcat", inputs, node.attributes.clone(), vec![Some(then.output)])?;
        then.nodes.into_iter().for_each(|at| self.form.absorbed[at] = true);
        Some(())
    }

    /// An operator that leaves values as they are, between functions that undo each other: the same on codes.
    pub(super) fn moved(&mut self, node: &Node) -> Option<()> {
        let x = self.form.activation(input(node, 0))?;
        if node.outputs.iter().flatten().count() != 1 {
            return None;
        }
        let then = self.form.quantizing(node.outputs.first().copied().flatten()?, false)?;
        let same = |own: Option<ValueId>, other: ValueId, dtypes: &[DType]| {
            let dtype = |id| self.form.weight(id).map(|weight| weight.dtype);
            own == Some(other)
                || dtype(own) == dtype(Some(other))
                    && self.form.number(own, dtypes) == self.form.number(Some(other), dtypes)
        };
        if !same(Some(x.scale), then.scale, &[DType::F32]) || !same(x.zero, then.zero, &[DType::U8, DType::I8]) {
            return None;
        }
        let mut moved = node.clone();
        moved.inputs[0] = Some(x.codes);
        moved.outputs = vec![Some(then.output)];
        self.out.push(moved);
        then.nodes.into_iter().for_each(|at| self.form.absorbed[at] = true);
        Some(())
    }

    /// Sums of integers that become floats by the scales of both operands, and a bias after that.
    pub(super) fn integers(&mut self, node: &Node, operator: &str) -> Option<()> {
        let kind = if operator == "MatMulInteger" { MATMUL } else { CONV };
        let weight = self.form.weight(input(node, 1))?.shape.clone();
        let columns = *if kind == MATMUL { weight.get(1)? } else { weight.first()? };
        let cast = self.form.only_user(node.outputs.first().copied().flatten()?)?;
        let cast_node = &self.form.nodes[cast];
        if cast_node.get::<Cast>().is_none_or(|cast| cast.to != Some(DType::F32)) {
            return None;
        }
        let floats = cast_node.outputs.first().copied().flatten()?;
        let scaled = self.form.only_user(floats)?;
        let scaled_node = &self.form.nodes[scaled];
        let by = other(scaled_node, "Mul", floats)?;
        let scales = self.form.maker(by).filter(|scales| scales.operator == "Mul" && scales.domain.is_empty())?;
        let &[Some(a), Some(b)] = scales.inputs.as_slice() else { return None };
        let (x_scale, scale) = match (self.form.weight(Some(a)), self.form.weight(Some(b))) {
            (None, Some(_)) => (a, b),
            (Some(_), None) => (b, a),
            _ => return None,
        };
        // One number, as those of a dynamic quantization are.
        self.form.maker(x_scale).filter(|maker| maker.operator == "DynamicQuantizeLinear")?;
        let mut nodes = vec![cast, scaled];
        let mut output = scaled_node.outputs.first().copied().flatten()?;
        let mut bias = None;
        if let Some(user) = self.form.only_user(output)
            && let Some(added) = other(&self.form.nodes[user], "Add", output)
            && let Some(own) = self.form.weight(Some(added)).filter(|own| own.dtype == DType::F32)
            && own.shape.iter().product::<usize>() == columns
            && own.shape.get(if kind == MATMUL { own.shape.len() - 1 } else { own.shape.len().wrapping_sub(3) })
                == Some(&columns)
        {
            let values = own.array().ok()?.reshaped(vec![columns]).ok()?;
            bias = Some(self.constant(node, values));
            output = self.form.nodes[user].outputs.first().copied().flatten()?;
            nodes.push(user);
        }
        let scale = self.flat(node, scale)?;
        let zero = match input(node, 3) {
            Some(zero) => Some(self.flat(node, zero)?),
            None => None,
        };
        let parts = Parts {
            kind,
            x: [input(node, 0), Some(x_scale), input(node, 2)],
            weight: [input(node, 1), Some(scale), zero],
            bias,
            attributes: node.attributes.clone(),
        };
        self.layer(node, parts, [None, None], vec![Some(output)])?;
        nodes.into_iter().for_each(|at| self.form.absorbed[at] = true);
        Some(())
    }

    /// A constant as a list.
    fn flat(&mut self, node: &Node, id: ValueId) -> Option<ValueId> {
        let weight = self.form.weight(Some(id))?;
        if weight.shape.len() < 2 {
            return Some(id);
        }
        let array: Array = weight.array().ok()?;
        let count = array.len();
        let array = array.reshaped(vec![count]).ok()?;
        Some(self.constant(node, array))
    }
}

/// The other input of an operator of two.
fn other(node: &Node, operator: &str, id: ValueId) -> Option<ValueId> {
    let &[Some(a), Some(b)] = node.inputs.as_slice() else { return None };
    if node.operator != operator || !node.domain.is_empty() || a == b {
        return None;
    }
    Some(if a == id { b } else { a })
}
