//! What the graphs of a run share: constants, and how nodes are run.

use super::accelerator::{Accelerator, Slot};
use crate::graph::{Body, Graph};

/// Calls a function for a graph and all graphs nested in it.
pub(super) fn each_graph<'g>(graph: &'g Graph, visit: &mut dyn FnMut(&'g Graph)) {
    visit(graph);
    for node in &graph.nodes {
        match &node.body {
            Body::Control(_, graphs) => graphs.iter().for_each(|(_, graph)| each_graph(graph, visit)),
            Body::Function(graph) => each_graph(graph, visit),
            Body::Operator(_) | Body::Missing(_) => {}
        }
    }
}

/// The constant values of all graphs of a model, by graph and value, each read and brought to the device once.
pub struct Constants<T>(pub(super) Vec<Vec<Option<Slot<T>>>>);

impl<T: Clone> Constants<T> {
    /// The constants of a graph and of those nested in it; `graphs` is how many the model has.
    pub(super) fn new(graph: &Graph, graphs: usize) -> Self {
        let mut constants: Vec<Vec<_>> = (0..graphs).map(|_| Vec::new()).collect();
        each_graph(graph, &mut |graph| {
            let own = &mut constants[graph.id];
            own.resize_with(graph.names.len(), || None);
            graph.constants.iter().for_each(|(value, weight)| own[*value] = Some(Slot::weight(weight.clone())));
        });
        Self(constants)
    }

    /// Puts another value in the place of a constant of the main graph, such as a parameter that is trained.
    pub fn replace(&mut self, id: usize, slot: Slot<T>) {
        if let Some(old) = self.0.first_mut().and_then(|main| main.get_mut(id)?.as_mut()) {
            *old = slot;
        }
    }
}

/// What an accelerator plans for the nodes of all graphs of a model, by graph and node.
pub(super) struct Plans<P>(pub(super) Vec<Vec<P>>);

impl<P> Plans<P> {
    /// The plans for a graph and those nested in it; `graphs` is how many the model has.
    pub(super) fn new<A: Accelerator<Plan = P>>(accelerator: &A, graph: &Graph, graphs: usize) -> Self {
        let mut plans: Vec<Vec<_>> = (0..graphs).map(|_| Vec::new()).collect();
        each_graph(graph, &mut |graph| {
            plans[graph.id] = graph.nodes.iter().map(|node| accelerator.plan(node)).collect()
        });
        Self(plans)
    }
}

/// What all graphs of a run share.
pub(super) struct Running<'s, A: Accelerator> {
    pub accelerator: &'s A,
    pub constants: &'s Constants<A::Tensor>,
    pub plans: &'s Plans<A::Plan>,
}
