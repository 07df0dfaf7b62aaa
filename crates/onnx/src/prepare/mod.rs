//! A graph made ready for inference: what is always the same is computed once, and nodes that can be one become one.
//!
//! The outputs are those of the graph as it is in the file, up to rounding; values inside it may no longer exist. So whoever
//! looks inside (verification, training) runs the graph as it is.

mod activation;
mod affine;
mod bias;
mod draft;
mod gelu;
mod layer_norm;
mod simplify;

use crate::graph::{Body, Graph};
use draft::Draft;

/// Tries to make one node of the node at a place and some before it, which is then at that place.
type Rewrite = fn(&mut Draft, usize) -> Option<()>;

/// In this order at each node: parameters are merged first, so that the activation comes last, as in a fused node.
const REWRITES: &[Rewrite] = &[affine::merge, bias::merge, activation::merge, layer_norm::merge, gelu::merge];

/// Prepares a graph and those that its nodes run.
pub(crate) fn prepare(graph: &mut Graph) {
    simplify::simplify(graph);
    for node in &mut graph.nodes {
        if let Body::Control(_, graphs) = &mut node.body {
            graphs.iter_mut().for_each(|(_, nested)| prepare(nested));
        }
    }
    let mut draft = Draft::new(graph);
    for at in 0..draft.len() {
        for rewrite in REWRITES {
            rewrite(&mut draft, at);
        }
    }
    draft.finish(graph);
}
