//! An order in which nodes can run. Files should hold one; some do not.

use std::collections::HashMap;

use rekindle_state::onnx::proto::{GraphProto, NodeProto};

use crate::{Error, Result};

/// Positions of nodes such that each comes after those it needs; the order of the file where that is one.
///
/// # Errors
/// When nodes need one another in a circle.
pub(super) fn order(nodes: &[NodeProto]) -> Result<Vec<usize>> {
    let mut makers = HashMap::new();
    for (position, node) in nodes.iter().enumerate() {
        for output in node.output.iter().filter(|name| !name.is_empty()) {
            makers.insert(output.as_str(), position);
        }
    }
    let needs: Vec<Vec<usize>> = nodes.iter().map(|node| needed(node, &makers)).collect();
    let mut done = vec![State::New; nodes.len()];
    let mut order = Vec::with_capacity(nodes.len());
    for first in 0..nodes.len() {
        // A walk with its own stack: a chain of nodes may be longer than the call stack is deep.
        let mut stack = vec![(first, 0)];
        while let Some((node, next)) = stack.pop() {
            if done[node] == State::Done {
                continue;
            }
            done[node] = State::Waiting;
            match needs[node].get(next) {
                None => {
                    done[node] = State::Done;
                    order.push(node);
                }
                Some(&before) => {
                    stack.push((node, next + 1));
                    match done[before] {
                        State::New => stack.push((before, 0)),
                        State::Done => {}
                        State::Waiting => {
                            let name = nodes[before].output.first().map_or("", String::as_str);
                            return Err(Error::invalid(format!(
                                "the graph is cyclic: '{name}' is computed from itself"
                            )));
                        }
                    }
                }
            }
        }
    }
    Ok(order)
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Waiting,
    Done,
}

/// The nodes that a node needs, through its nested graphs too.
fn needed(node: &NodeProto, makers: &HashMap<&str, usize>) -> Vec<usize> {
    fn collect(node: &NodeProto, makers: &HashMap<&str, usize>, needs: &mut Vec<usize>) {
        needs.extend(node.input.iter().filter_map(|name| makers.get(name.as_str())));
        for graph in node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs)) {
            collect_graph(graph, makers, needs);
        }
    }
    fn collect_graph(graph: &GraphProto, makers: &HashMap<&str, usize>, needs: &mut Vec<usize>) {
        graph.node.iter().for_each(|node| collect(node, makers, needs));
        needs.extend(graph.output.iter().filter_map(|output| makers.get(output.name.as_str())));
    }
    let mut needs = Vec::new();
    collect(node, makers, &mut needs);
    // A nested graph may use a name that the node itself defines outside for its own: that is no need.
    let own = |position: &usize| {
        !node.output.iter().any(|name| makers.get(name.as_str()) == Some(position))
            || node.input.iter().any(|name| makers.get(name.as_str()) == Some(position))
    };
    needs.retain(own);
    needs.dedup();
    needs
}
