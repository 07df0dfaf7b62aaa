//! Which values nothing needs any more.

use super::{Body, Graph, Node, ValueId};

impl Node {
    /// Values of the graph around it that its nested graphs use.
    pub(crate) fn captured(&self) -> impl Iterator<Item = ValueId> {
        let graphs = if let Body::Control(_, graphs) = &self.body { graphs.as_slice() } else { &[] };
        graphs.iter().flat_map(|(_, graph)| graph.captures.iter().map(|(outer, _)| *outer))
    }
}

impl Graph {
    /// Notes at each node which values nothing needs after it.
    pub(crate) fn note_frees(&mut self) {
        let mut needed = vec![false; self.names.len()];
        self.outputs.iter().for_each(|port| needed[port.id] = true);
        self.constants.iter().for_each(|(id, _)| needed[*id] = true);
        for node in self.nodes.iter_mut().rev() {
            let mut frees = Vec::new();
            for id in node.inputs.iter().chain(&node.outputs).flatten().copied().chain(node.captured()) {
                if !needed[id] {
                    needed[id] = true;
                    frees.push(id);
                }
            }
            node.frees = frees;
        }
    }
}
