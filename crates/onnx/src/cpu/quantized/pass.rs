//! A graph while its layers are gathered, and what is said of one of them.

use super::forms::Form;
use crate::graph::{Attribute, Attributes, Graph, Node, ValueId};

/// Scale and zero point.
pub(super) type Scaled = [Option<ValueId>; 2];

/// A graph while its layers are gathered.
pub(super) struct Pass<'g> {
    pub graph: &'g mut Graph,
    pub form: Form,
    /// The new nodes.
    pub out: Vec<Node>,
}

/// What comes before a layer and after it.
pub(super) struct Parts {
    pub kind: &'static str,
    /// Codes, scale and zero point.
    pub x: [Option<ValueId>; 3],
    /// The same of the weights, as many scales as zero points.
    pub weight: [Option<ValueId>; 3],
    pub bias: Option<ValueId>,
    pub attributes: Attributes,
}

/// The attribute that says whether weights are `[columns, depth]`.
pub(super) fn turning(turned: bool) -> Attributes {
    let mut attributes = Attributes::default();
    attributes.insert("transB".to_string(), Attribute::Int(i64::from(turned)));
    attributes
}
