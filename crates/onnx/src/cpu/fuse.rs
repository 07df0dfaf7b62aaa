//! What follows a layer in a graph and is computed while its output is still in the cache.

use rekindle_kernels::{Pointwise, RELU};

use super::plan::Planner;
use super::tensor::Tensor;
use crate::graph::Node;
use crate::operator::Operator;
use crate::ops::{self, Activation, Clip, FusedActivation};
use crate::{DType, Result, ValueId};

/// What follows a layer: nodes that it does the work of.
pub(super) struct Following {
    pub function: Pointwise,
    /// Added before the function, with its number.
    pub residual: Option<(ValueId, Tensor)>,
    /// The value that the last of them gives.
    pub output: Option<ValueId>,
    /// The nodes that are done with.
    pub nodes: Vec<usize>,
}

/// The operator of a node and the function that was merged with it, if there is a kernel for that.
pub(super) fn merged<O: Operator>(node: &Node) -> Option<(&O, Pointwise)> {
    let (operator, activation) = ops::merged(node)?;
    Some((operator, activation.map_or(Some(Pointwise::None), pointwise)?))
}

/// The kernels' form of a function; none with bounds the other way round, where all values become the upper one.
fn pointwise(activation: FusedActivation) -> Option<Pointwise> {
    Some(match activation {
        FusedActivation::Relu => RELU,
        FusedActivation::Sigmoid => Pointwise::Sigmoid,
        FusedActivation::Tanh => Pointwise::Tanh,
        FusedActivation::Clip(low, high) if low <= high => Pointwise::Clip(low as f32, high as f32),
        FusedActivation::LeakyRelu(slope) => Pointwise::LeakyRelu(slope as f32),
        FusedActivation::HardSigmoid(alpha, beta) => Pointwise::HardSigmoid(alpha as f32, beta as f32),
        FusedActivation::Clip(..) => return None,
    })
}

/// The function of single values that a node is.
pub(super) fn function(p: &mut Planner<'_>, node: &Node) -> Result<Option<Pointwise>> {
    if !node.domain.is_empty() {
        return Ok(None);
    }
    if let Some(clip) = node.get::<Clip>() {
        let mut given = [None; 2];
        for (position, bound) in given.iter_mut().enumerate() {
            if let Some(Some(_)) = node.inputs.get(position + 1) {
                match p.constant(node, position + 1)?.filter(|array| array.dtype() == DType::F32 && array.len() == 1) {
                    Some(array) => *bound = Some(array.float()?),
                    None => return Ok(None),
                }
            }
        }
        let [least, most] = clip.bounds(|position| Ok(given[position - 1]))?;
        let (low, high) = (least.unwrap_or(f64::NEG_INFINITY), most.unwrap_or(f64::INFINITY));
        return Ok(pointwise(FusedActivation::Clip(low, high)));
    }
    if let Some(&activation) = node.get::<Activation>() {
        return Ok(match activation {
            Activation::LeakyRelu { alpha } => Some(Pointwise::LeakyRelu(alpha as f32)),
            Activation::HardSigmoid { alpha, beta } => Some(Pointwise::HardSigmoid(alpha as f32, beta as f32)),
            Activation::Elu { alpha } => Some(Pointwise::Elu(alpha as f32)),
            Activation::Gelu { tanh: false } => Some(Pointwise::Gelu),
            Activation::Gelu { tanh: true } => Some(Pointwise::GeluTanh),
            Activation::Celu { .. }
            | Activation::Selu { .. }
            | Activation::ThresholdedRelu { .. }
            | Activation::Swish { .. } => None,
        });
    }
    Ok(match node.operator.as_str() {
        "Relu" => Some(RELU),
        "HardSwish" => Some(Pointwise::HardSwish),
        "Sigmoid" => Some(Pointwise::Sigmoid),
        "Tanh" => Some(Pointwise::Tanh),
        _ => None,
    })
}

impl Following {
    /// What follows the first output of the current node, whose own function is `own`. A residual of this shape may be added; its channels
    /// are last where `channels_last` says so.
    ///
    /// # Errors
    /// When attributes cannot be read.
    pub fn of(p: &mut Planner<'_>, node: &Node, own: Pointwise, shape: &[usize], channels_last: bool) -> Result<Self> {
        let output = node.outputs.first().copied().flatten();
        let mut found = Self { function: own, residual: None, output, nodes: Vec::new() };
        if own == Pointwise::None
            && let Some(id) = output
            && let Some((user, other, sum)) = found.sum(p, id)
            && let Some(tensor) = p.tensor(other)?
            && tensor.dtype == DType::F32
            && tensor.shape == shape
        {
            // Reordered if need be: it is used in this order afterwards as well.
            let tensor = if channels_last { p.channels_last(other, &tensor)? } else { p.plain(other, &tensor)? };
            found.residual = Some((other, tensor));
            found.nodes.push(user);
            found.output = sum;
        }
        if found.function == Pointwise::None
            && let Some(id) = found.output
            && let Some((nodes, function)) = Self::activation(p, id)?
        {
            found.function = function;
            found.output = p.graph_node(nodes[nodes.len() - 1]).outputs.first().copied().flatten();
            found.nodes.extend(nodes);
        }
        Ok(found)
    }

    /// A sum of a value with another one that is there already: its node, the other value, and what it gives.
    fn sum(&self, p: &Planner<'_>, id: ValueId) -> Option<(usize, ValueId, Option<ValueId>)> {
        let user = p.only_user(id)?;
        let node = p.graph_node(user);
        if node.operator != "Add" || !node.domain.is_empty() || node.version < 7 {
            return None;
        }
        let &[Some(a), Some(b)] = node.inputs.as_slice() else { return None };
        let other = if a == id { b } else { a };
        (other != id && p.is_there(other)).then(|| (user, other, node.outputs.first().copied().flatten()))
    }

    /// A function of the value alone, by one node or by two.
    fn activation(p: &mut Planner<'_>, id: ValueId) -> Result<Option<(Vec<usize>, Pointwise)>> {
        if let Some(user) = p.only_user(id) {
            let node = p.graph_node(user);
            return Ok(function(p, node)?.map(|function| (vec![user], function)));
        }
        Self::gated(p, id)
    }

    /// `x * f(x)` by two nodes, if nothing else uses `x`.
    ///
    /// # Errors
    /// When attributes cannot be read.
    pub fn gated(p: &mut Planner<'_>, id: ValueId) -> Result<Option<(Vec<usize>, Pointwise)>> {
        let &[first, second] = p.users(id) else { return Ok(None) };
        let (gate, product) = if p.graph_node(first).operator == "Mul" { (second, first) } else { (first, second) };
        let (gate_node, product_node) = (p.graph_node(gate), p.graph_node(product));
        let Some(gated) = gate_node.outputs.first().copied().flatten() else { return Ok(None) };
        let pairs = [[Some(id), Some(gated)], [Some(gated), Some(id)]];
        let is_product = product_node.operator == "Mul"
            && product_node.domain.is_empty()
            && product_node.version >= 7
            && pairs.iter().any(|pair| product_node.inputs == *pair);
        if !is_product || p.only_user(gated) != Some(product) {
            return Ok(None);
        }
        let function = match function(p, gate_node)? {
            Some(Pointwise::Sigmoid) => Pointwise::Silu,
            Some(Pointwise::HardSigmoid(alpha, beta)) if (alpha - 1.0 / 6.0).abs() < 1e-6 && beta == 0.5 => {
                Pointwise::HardSwish
            }
            _ => return Ok(None),
        };
        Ok(Some((vec![gate, product], function)))
    }

    /// Says what the last of the nodes gives, and that all are done.
    pub fn finish(self, p: &mut Planner<'_>, tensor: Tensor) {
        p.set(self.output, tensor);
        self.nodes.into_iter().for_each(|at| p.absorb(at));
    }
}
