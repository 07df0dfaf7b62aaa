//! What is always the same is computed once; what does nothing, or what another node does already, is left out.

use std::collections::HashMap;

use crate::graph::{Attribute, Body, Graph, Node, ValueId, Weight};
use crate::limit::Limited;
use crate::ops::Inputs;
use crate::{Limits, Value};

/// Elements that constants may always grow to when they are computed: more is left in its short form.
const MAX_GROWN: usize = 1 << 16;

/// Two nodes with equal keys give equal values.
type Key = (String, String, i64, Vec<Option<ValueId>>, String);

/// Goes through the nodes in order.
pub(super) fn simplify(graph: &mut Graph) {
    let mut constants: HashMap<ValueId, Weight> = graph.constants.drain(..).collect();
    // Values that are another one under a second name.
    let mut same: HashMap<ValueId, ValueId> = HashMap::new();
    let mut seen: HashMap<Key, Vec<Option<ValueId>>> = HashMap::new();
    let mut nodes = Vec::new();
    for mut node in std::mem::take(&mut graph.nodes) {
        let now = |id: ValueId| same.get(&id).copied().unwrap_or(id);
        node.inputs.iter_mut().flatten().for_each(|id| *id = now(*id));
        if let Body::Control(_, graphs) = &mut node.body {
            graphs.iter_mut().flat_map(|(_, nested)| &mut nested.captures).for_each(|(outer, _)| *outer = now(*outer));
        }
        if let Some((output, input)) = passed_on(&node) {
            same.insert(output, input);
            continue;
        }
        if let Some(values) = computed(&node, &constants) {
            constants.extend(values);
            continue;
        }
        if let Some(key) = key(&node) {
            match seen.get(&key) {
                Some(outputs) if outputs.len() >= node.outputs.len() && both_wanted(&node.outputs, outputs) => {
                    same.extend(node.outputs.iter().zip(outputs).filter_map(|(own, other)| Some(((*own)?, (*other)?))));
                    continue;
                }
                _ => seen.insert(key, node.outputs.clone()),
            };
        }
        nodes.push(node);
    }
    for port in &mut graph.outputs {
        port.id = same.get(&port.id).copied().unwrap_or(port.id);
    }
    graph.nodes = nodes;
    graph.constants = constants.into_iter().collect();
}

fn both_wanted(own: &[Option<ValueId>], other: &[Option<ValueId>]) -> bool {
    own.iter().zip(other).all(|(own, other)| own.is_none() || other.is_some())
}

/// The output of a node that gives its input as it is, and that input.
fn passed_on(node: &Node) -> Option<(ValueId, ValueId)> {
    let alone =
        node.domain.is_empty() && matches!(node.body, Body::Operator(_)) && node.outputs.iter().flatten().count() == 1;
    let does_nothing = match node.operator.as_str() {
        "Identity" => true,
        // From version 12 on an input may say that it trains.
        "Dropout" => node.version >= 7 && node.inputs.get(2).copied().flatten().is_none(),
        _ => false,
    };
    if alone && does_nothing { Some((node.outputs.first().copied()??, node.inputs.first().copied()??)) } else { None }
}

/// The outputs of a node whose inputs are all constants.
fn computed(node: &Node, constants: &HashMap<ValueId, Weight>) -> Option<Vec<(ValueId, Weight)>> {
    let operator = node.op()?;
    if operator.schema().draws || node.inputs.is_empty() {
        return None;
    }
    let weights: Vec<Option<&Weight>> = node
        .inputs
        .iter()
        .map(|id| id.map(|id| constants.get(&id)).map_or(Some(None), |w| w.map(Some)))
        .collect::<Option<_>>()?;
    let given: usize = weights.iter().flatten().map(|weight| weight.shape.iter().product::<usize>()).sum();
    let _limited = Limited::new(Limits { elements: given.max(MAX_GROWN), ..Limits::NONE });
    let arrays: Vec<Option<Value>> = weights
        .iter()
        .map(|weight| weight.map(|weight| weight.array().map(Value::from)).transpose())
        .collect::<crate::Result<_>>()
        .ok()?;
    let outputs = operator.eval(&Inputs::new(arrays.iter().map(Option::as_ref).collect())).ok()?;
    let mut values = Vec::new();
    for (position, id) in node.outputs.iter().enumerate() {
        let Some(id) = id else { continue };
        let Some(Value::Array(array)) = outputs.get(position) else { return None };
        values.push((*id, array.clone().into()));
    }
    Some(values)
}

/// What a node is known by: nodes that draw numbers, run graphs or hold tensors are not compared.
fn key(node: &Node) -> Option<Key> {
    let comparable = node.op().is_some_and(|op| !op.schema().draws)
        && !node.attributes.iter().any(|(_, value)| matches!(value, Attribute::Array(_) | Attribute::Arrays(_)));
    let attributes = || format!("{:?}", node.attributes);
    comparable.then(|| (node.domain.clone(), node.operator.clone(), node.version, node.inputs.clone(), attributes()))
}
