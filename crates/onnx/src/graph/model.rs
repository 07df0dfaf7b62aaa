//! What a model is made of.

use super::attributes::Attributes;
use super::ports::{Port, ValueId};
use super::weight::Weight;
use crate::error::Reason;
use crate::operator::{Op, Operator, RawNode, Schema};
use crate::{Missing, ops};

/// The domain of nodes that do the work of several of the file; see [`Session::prepared`](crate::Session::prepared).
pub const FUSED: &str = "rekindle.fused";

/// A model: its graph and what the file says of it.
#[derive(Debug, Clone)]
pub struct Model {
    /// The graph.
    pub graph: Graph,
    /// Version of the file format.
    pub ir_version: i64,
    /// Operator sets by domain, the standard one under `""`.
    pub opsets: Vec<(String, i64)>,
    /// Free entries of the file.
    pub metadata: Vec<(String, String)>,
    /// How many graphs there are, nested ones included: graph numbers are below it.
    pub graphs: usize,
}

/// Nodes with what goes in and out. Nested graphs are in the nodes that run them.
#[derive(Debug, Clone)]
pub struct Graph {
    /// A number that no other graph of the model has.
    pub id: usize,
    /// What goes in, weights aside.
    pub inputs: Vec<Port>,
    /// What comes out.
    pub outputs: Vec<Port>,
    /// The nodes, in an order in which they can run.
    pub nodes: Vec<Node>,
    /// Values that are always the same: weights and `Constant` nodes.
    pub constants: Vec<(ValueId, Weight)>,
    /// Values of the graph around this one that are used here: their numbers there and here.
    pub captures: Vec<(ValueId, ValueId)>,
    /// Names of the values, by number.
    pub names: Vec<String>,
}

/// One use of an operator.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name, or that of its first output.
    pub name: String,
    /// The operator.
    pub operator: String,
    /// The domain of the operator; empty for the standard one.
    pub domain: String,
    /// The version of the operator set in use.
    pub version: i64,
    /// What goes in; `None` for an input left out.
    pub inputs: Vec<Option<ValueId>>,
    /// What comes out; `None` for an output that nobody wants.
    pub outputs: Vec<Option<ValueId>>,
    /// Constants of the node.
    pub attributes: Attributes,
    /// How it is run.
    pub body: Body,
    /// Values that no later node needs.
    pub frees: Vec<ValueId>,
}

/// How a node is run.
#[derive(Debug, Clone)]
pub enum Body {
    /// By an operator of the host, unless an accelerator takes it.
    Operator(Op),
    /// By running nested graphs, by the name of their attribute.
    Control(Control, Vec<(String, Graph)>),
    /// By a function that the model itself defines.
    Function(Box<Graph>),
    /// Not at all, for a reason.
    Missing(Reason),
}

/// Operators that run nested graphs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// `If`.
    If,
    /// `Loop`.
    Loop,
    /// `Scan`.
    Scan,
    /// `SequenceMap`.
    SequenceMap,
    /// `FlexAttention`.
    FlexAttention,
}

impl Graph {
    /// Calls a function for every node, those of nested graphs included.
    pub fn visit(&self, visit: &mut dyn FnMut(&Node)) {
        for node in &self.nodes {
            visit(node);
            match &node.body {
                Body::Control(_, graphs) => graphs.iter().for_each(|(_, graph)| graph.visit(visit)),
                Body::Function(graph) => graph.visit(visit),
                Body::Operator(_) | Body::Missing(_) => {}
            }
        }
    }
}

impl Node {
    /// What its operator is parsed from.
    pub fn raw(&self) -> RawNode {
        RawNode {
            operator: self.operator.clone(),
            version: self.version,
            attributes: self.attributes.clone(),
            inputs: self.inputs.len(),
            outputs: self.outputs.iter().map(Option::is_some).collect(),
        }
    }

    /// The operator that it holds; none where nested graphs or a function run, or nothing.
    pub fn op(&self) -> Option<&Op> {
        if let Body::Operator(op) = &self.body { Some(op) } else { None }
    }

    /// The parsed operator of a type, if it holds that.
    pub fn get<T: Operator>(&self) -> Option<&T> {
        self.op().and_then(Op::get)
    }

    /// What is known of its operator, if it is known at all.
    pub fn schema(&self) -> Option<&'static Schema> {
        match &self.body {
            Body::Operator(op) => Some(op.schema()),
            Body::Control(..) | Body::Missing(_) => ops::schema(&self.domain, &self.operator),
            Body::Function(_) => None,
        }
    }

    /// The operator, with its domain if that is not the standard one. A fused node goes by the name of its first operator.
    pub fn full_operator(&self) -> String {
        if self.domain.is_empty() || self.domain == FUSED {
            self.operator.clone()
        } else {
            format!("{}.{}", self.domain, self.operator)
        }
    }
}

impl Model {
    /// The operators that are not implemented, nested graphs included.
    pub fn missing(&self) -> Vec<Missing> {
        let mut missing = Vec::new();
        self.graph.visit(&mut |node| {
            let Body::Missing(reason) = node.body else { return };
            let operator = node.full_operator();
            let known = missing.iter_mut().find(|known: &&mut Missing| {
                known.operator == operator && known.version == node.version && known.reason == reason
            });
            match known {
                Some(known) => known.nodes.push(node.name.clone()),
                None => {
                    missing.push(Missing { operator, version: node.version, reason, nodes: vec![node.name.clone()] })
                }
            }
        });
        missing
    }
}
