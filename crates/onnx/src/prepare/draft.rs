//! A graph while its nodes are merged: who makes a value, and who alone uses it.

use std::collections::HashMap;

use crate::graph::{Attribute, Body, FUSED, Graph, Node, ValueId, Weight};
use crate::{Array, DType, ops};

/// The uses of a value.
#[derive(Debug, Clone, Copy, Default)]
struct Uses {
    count: usize,
    /// The sum of the places of its users: with one user, that user's place.
    places: usize,
    /// Whether it is used outside of the inputs of nodes: it is an output of the graph, or used in a nested one.
    outside: bool,
}

/// A graph while its nodes are merged.
pub(super) struct Draft {
    nodes: Vec<Option<Node>>,
    constants: HashMap<ValueId, Weight>,
    /// The places of the nodes that make values.
    makers: Vec<Option<usize>>,
    uses: Vec<Uses>,
    names: Vec<String>,
}

impl Draft {
    /// Takes nodes and constants out of a graph.
    pub fn new(graph: &mut Graph) -> Self {
        let names = std::mem::take(&mut graph.names);
        let mut draft = Self {
            nodes: Vec::new(),
            constants: std::mem::take(&mut graph.constants).into_iter().collect(),
            makers: vec![None; names.len()],
            uses: vec![Uses::default(); names.len()],
            names,
        };
        graph.outputs.iter().for_each(|port| draft.uses[port.id].outside = true);
        for (at, node) in std::mem::take(&mut graph.nodes).into_iter().enumerate() {
            node.captured().for_each(|id| draft.uses[id].outside = true);
            draft.nodes.push(None);
            draft.put(at, node);
        }
        draft
    }

    /// Puts nodes and constants back, without those that nothing uses any more.
    pub fn finish(mut self, graph: &mut Graph) {
        for at in (0..self.nodes.len()).rev() {
            let used =
                |node: &Node| node.outputs.iter().flatten().any(|&id| self.uses[id].outside || self.uses[id].count > 0);
            if self.nodes[at].as_ref().is_some_and(|node| !used(node)) {
                self.take(at);
            }
        }
        graph.nodes = self.nodes.into_iter().flatten().collect();
        let uses = &self.uses;
        graph.constants =
            self.constants.into_iter().filter(|(id, _)| uses[*id].outside || uses[*id].count > 0).collect();
        graph.constants.sort_by_key(|(id, _)| *id);
        graph.names = self.names;
        graph.note_frees();
    }

    /// How many places for nodes there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The node at a place, if it is still there.
    pub fn node(&self, at: usize) -> Option<&Node> {
        self.nodes[at].as_ref()
    }

    /// The node at a place if it runs an operator of the standard domain with one of these names.
    pub fn standard(&self, at: usize, operators: &[&str]) -> Option<&Node> {
        self.node(at).filter(|node| is(node, "", operators))
    }

    /// Takes a node out.
    pub fn take(&mut self, at: usize) -> Option<Node> {
        let node = self.nodes[at].take()?;
        for &id in node.inputs.iter().flatten() {
            self.uses[id].count -= 1;
            self.uses[id].places -= at;
        }
        node.outputs.iter().flatten().for_each(|&id| self.makers[id] = None);
        Some(node)
    }

    /// Puts a node at an empty place.
    pub fn put(&mut self, at: usize, node: Node) {
        for &id in node.inputs.iter().flatten() {
            self.uses[id].count += 1;
            self.uses[id].places += at;
        }
        node.outputs.iter().flatten().for_each(|&id| self.makers[id] = Some(at));
        self.nodes[at] = Some(node);
    }

    /// The place of the node that makes a value.
    pub fn maker(&self, id: ValueId) -> Option<usize> {
        self.makers[id]
    }

    /// The place of the node that makes a value, if that is used once and nowhere else.
    pub fn only_for_one(&self, id: ValueId) -> Option<usize> {
        let uses = self.uses[id];
        if uses.outside || uses.count != 1 { None } else { self.makers[id] }
    }

    /// A constant: its values are perhaps still in the file.
    pub fn weight(&self, id: Option<ValueId>) -> Option<&Weight> {
        self.constants.get(&id?)
    }

    /// The values of a constant of floats.
    pub fn floats(&self, id: Option<ValueId>) -> Option<Array> {
        let weight = self.weight(id).filter(|weight| matches!(weight.dtype, DType::F32 | DType::F64))?;
        weight.array().ok()
    }

    /// The number of a constant that is a single float.
    pub fn number(&self, id: Option<ValueId>) -> Option<f64> {
        let single = self.weight(id).is_some_and(|weight| weight.shape.iter().product::<usize>() == 1);
        if single { self.floats(id)?.float().ok() } else { None }
    }

    /// Of a node's two inputs, the one that is a constant, and the other.
    pub fn with_constant(&self, node: &Node) -> Option<(ValueId, ValueId)> {
        let &[Some(first), Some(second)] = node.inputs.as_slice() else { return None };
        match (self.weight(Some(first)), self.weight(Some(second))) {
            (None, Some(_)) => Some((first, second)),
            (Some(_), None) => Some((second, first)),
            _ => None,
        }
    }

    /// A new constant.
    pub fn add(&mut self, name: String, array: Array) -> ValueId {
        let id = self.names.len();
        self.names.push(name);
        self.makers.push(None);
        self.uses.push(Uses::default());
        self.constants.insert(id, array.into());
        id
    }

    /// The name of a value.
    pub fn name(&self, id: ValueId) -> &str {
        &self.names[id]
    }
}

/// Whether a node runs one of these operators of a domain.
pub(super) fn is(node: &Node, domain: &str, operators: &[&str]) -> bool {
    matches!(node.body, Body::Operator(_)) && node.domain == domain && operators.contains(&node.operator.as_str())
}

/// Makes a node one of those that have a bias and an activation with them; again after its attributes changed.
pub(super) fn fuse(node: &mut Node) -> Option<()> {
    let entry = ops::FUSED_OPERATORS.iter().find(|entry| entry.schema.name == node.operator)?;
    node.body = Body::Operator(entry.parse(&node.raw()).ok()?);
    node.domain = FUSED.to_string();
    Some(())
}

/// The input at a place, whether or not the list is that long.
pub(super) fn input(node: &Node, position: usize) -> Option<ValueId> {
    node.inputs.get(position).copied().flatten()
}

/// Whether an attribute is an integer other than the default.
pub(super) fn differs(node: &Node, name: &str, default: i64) -> bool {
    !matches!(node.attributes.get(name), None | Some(Attribute::Int(_)))
        || node.attributes.int_or(name, default).ok() != Some(default)
}
