//! Operators that a model defines itself: their nodes with the caller's attributes put in.

use std::collections::HashMap;

use rekindle_state::onnx::proto::{AttributeProto, FunctionProto, GraphProto, NodeProto, OperatorSetIdProto};

use super::domain::normal;

/// The functions of a model, by domain, name and overload.
pub(super) struct Functions<'m>(HashMap<[&'m str; 3], &'m FunctionProto>);

impl<'m> Functions<'m> {
    pub fn new(functions: &'m [FunctionProto]) -> Self {
        let key = |function: &'m FunctionProto| {
            [normal(&function.domain), function.name.as_str(), function.overload.as_str()]
        };
        Self(functions.iter().map(|function| (key(function), function)).collect())
    }

    /// The function that a node calls, if it calls one.
    pub fn called(&self, node: &NodeProto) -> Option<&'m FunctionProto> {
        self.0.get(&[normal(&node.domain), node.op_type.as_str(), node.overload.as_str()]).copied()
    }
}

/// The nodes of a function as a graph, for one call.
pub(super) fn instance(function: &FunctionProto, call: &NodeProto) -> GraphProto {
    let mut given: HashMap<&str, &AttributeProto> =
        function.attribute_proto.iter().map(|a| (a.name.as_str(), a)).collect();
    given.extend(call.attribute.iter().map(|attribute| (attribute.name.as_str(), attribute)));
    GraphProto { node: function.node.iter().map(|node| substituted(node, &given)).collect(), ..GraphProto::default() }
}

/// Operator sets of the body of a function: its own, and the model's for what it does not say.
pub(super) fn opsets(function: &FunctionProto, model: &[OperatorSetIdProto]) -> Vec<OperatorSetIdProto> {
    function.opset_import.iter().chain(model).cloned().collect()
}

fn substituted(node: &NodeProto, given: &HashMap<&str, &AttributeProto>) -> NodeProto {
    let mut node = node.clone();
    node.attribute = node.attribute.into_iter().filter_map(|attribute| attribute_of(attribute, given)).collect();
    node
}

/// An attribute with references replaced; one that refers to an attribute that the caller left out is left out too.
fn attribute_of(mut attribute: AttributeProto, given: &HashMap<&str, &AttributeProto>) -> Option<AttributeProto> {
    if !attribute.ref_attr_name.is_empty() {
        let value = *given.get(attribute.ref_attr_name.as_str())?;
        return Some(AttributeProto { name: attribute.name, ref_attr_name: String::new(), ..value.clone() });
    }
    for graph in attribute.g.iter_mut().chain(&mut attribute.graphs) {
        graph.node = graph.node.iter().map(|node| substituted(node, given)).collect();
    }
    Some(attribute)
}
