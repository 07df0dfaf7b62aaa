//! Who makes a value of a graph and who uses it, and what is known of quantized values.

use std::collections::{HashMap, HashSet};

use crate::DType;
use crate::graph::{Graph, Node, ValueId, Weight};
use crate::ops::Clip;

/// The domain of ONNX Runtime's own operators.
pub(super) const MICROSOFT: &str = "com.microsoft";

/// An input of a node, if it has one there.
pub(super) fn input(node: &Node, position: usize) -> Option<ValueId> {
    node.inputs.get(position).copied().flatten()
}

/// A graph as it was.
pub(super) struct Form {
    pub nodes: Vec<Node>,
    pub constants: HashMap<ValueId, Weight>,
    /// Nodes that another one does the work of.
    pub absorbed: Vec<bool>,
    makers: HashMap<ValueId, usize>,
    users: HashMap<ValueId, Vec<usize>>,
    outputs: HashSet<ValueId>,
}

/// A value that a node dequantizes.
#[derive(Clone, Copy)]
pub(super) struct Dequantized {
    pub codes: ValueId,
    pub scale: ValueId,
    pub zero: Option<ValueId>,
    /// The axis of which each place has its own scale, if there is more than one.
    pub axis: i64,
}

/// What quantizes a value, between bounds perhaps.
pub(super) struct Quantizing {
    pub scale: ValueId,
    pub zero: ValueId,
    pub low: f32,
    pub high: f32,
    pub output: ValueId,
    pub nodes: Vec<usize>,
}

fn standard(node: &Node, operator: &str) -> bool {
    node.domain.is_empty() && node.operator == operator
}

/// Whether a quantization is in the domain of either operator set, and of the simple form: no blocks, 32-bit floats.
fn simple(node: &Node, operator: &str) -> bool {
    let rare = ["block_size", "output_dtype", "precision"];
    matches!(node.domain.as_str(), "" | MICROSOFT)
        && node.operator == operator
        && rare.iter().all(|name| node.attributes.get(name).is_none())
}

impl Form {
    pub fn new(graph: &Graph) -> Self {
        let (mut makers, mut users) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for (at, node) in graph.nodes.iter().enumerate() {
            node.outputs.iter().flatten().for_each(|id| _ = makers.insert(*id, at));
            node.inputs.iter().flatten().for_each(|id| users.entry(*id).or_default().push(at));
        }
        Self {
            nodes: graph.nodes.clone(),
            constants: graph.constants.iter().cloned().collect(),
            absorbed: vec![false; graph.nodes.len()],
            makers,
            users,
            outputs: graph.outputs.iter().map(|port| port.id).collect(),
        }
    }

    /// A constant.
    pub fn weight(&self, id: Option<ValueId>) -> Option<&Weight> {
        self.constants.get(&id?)
    }

    /// How many values a constant has.
    pub fn len(&self, id: Option<ValueId>) -> Option<usize> {
        Some(self.weight(id)?.shape.iter().product())
    }

    /// A constant that is one number of a type.
    pub fn number(&self, id: Option<ValueId>, dtypes: &[DType]) -> Option<f64> {
        let weight = self.weight(id).filter(|weight| dtypes.contains(&weight.dtype))?;
        if weight.shape.iter().product::<usize>() == 1 { weight.array().ok()?.float().ok() } else { None }
    }

    /// The node that makes a value.
    pub fn maker(&self, id: ValueId) -> Option<&Node> {
        self.makers.get(&id).map(|at| &self.nodes[*at])
    }

    /// The only node that uses a value.
    pub fn only_user(&self, id: ValueId) -> Option<usize> {
        match self.users.get(&id)?[..] {
            [user] if !self.outputs.contains(&id) && !self.absorbed[user] => Some(user),
            _ => None,
        }
    }

    /// What a value is made of, if it is dequantized with constants.
    pub fn dequantized(&self, id: Option<ValueId>) -> Option<Dequantized> {
        let node = self.maker(id?).filter(|node| simple(node, "DequantizeLinear"))?;
        let &[Some(codes), Some(scale), ref zero @ ..] = node.inputs.as_slice() else { return None };
        self.weight(Some(scale)).filter(|scale| scale.dtype == DType::F32)?;
        let zero = zero.first().copied().flatten();
        if zero.is_some() && self.weight(zero).is_none() {
            return None;
        }
        Some(Dequantized { codes, scale, zero, axis: node.attributes.int_or("axis", 1).ok()? })
    }

    /// The same if there is one scale, and 8-bit codes.
    pub fn activation(&self, id: Option<ValueId>) -> Option<Dequantized> {
        let own = self.dequantized(id)?;
        self.number(Some(own.scale), &[DType::F32])?;
        self.number(own.zero, &[DType::U8, DType::I8])?;
        Some(own)
    }

    /// What alone uses a value and quantizes it with constants, after bounds perhaps.
    pub fn quantizing(&self, id: ValueId, bounds: bool) -> Option<Quantizing> {
        let user = self.only_user(id)?;
        let node = &self.nodes[user];
        if !simple(node, "QuantizeLinear") {
            let (low, high) = self.bounds(node).filter(|_| bounds)?;
            let mut then = self.quantizing(node.outputs.first().copied().flatten()?, false)?;
            (then.low, then.high) = (low, high);
            then.nodes.push(user);
            return Some(then);
        }
        let &[Some(x), Some(scale), Some(zero)] = node.inputs.as_slice() else { return None };
        let scaled = self.number(Some(scale), &[DType::F32])?;
        self.number(Some(zero), &[DType::U8, DType::I8])?;
        if x != id || !(scaled > 0.0 && scaled.is_finite()) {
            return None;
        }
        let output = node.outputs.first().copied().flatten()?;
        let (low, high) = (f32::NEG_INFINITY, f32::INFINITY);
        Some(Quantizing { scale, zero, low, high, output, nodes: vec![user] })
    }

    /// The bounds that a node keeps values between.
    fn bounds(&self, node: &Node) -> Option<(f32, f32)> {
        if standard(node, "Relu") {
            return Some((0.0, f32::INFINITY));
        }
        let clip = node.get::<Clip>()?;
        let given = [1, 2].map(|position| input(node, position).map(|id| self.number(Some(id), &[DType::F32])));
        if given.contains(&Some(None)) {
            return None;
        }
        let [least, most] = clip.bounds(|position| Ok(given[position - 1].flatten())).ok()?;
        let low = least.map_or(f32::NEG_INFINITY, |bound| bound as f32);
        let high = most.map_or(f32::INFINITY, |bound| bound as f32);
        (low <= high).then_some((low, high))
    }
}
