//! One graph, node after node.

use super::accelerator::{Accelerator, Slot};
use super::control;
use super::running::Running;
use crate::graph::{Body, Graph, Node};
use crate::limit::{self, Nested};
use crate::ops::Inputs;
use crate::{Error, Result, ValueId};

/// What sees every value of a graph, with its name.
pub type Watch<'w, T> = &'w mut dyn FnMut(&str, &Slot<T>) -> Result<()>;

/// Runs a graph on inputs by position (`None`: the default) and on the values around it that it uses, in the order of its captures.
pub(super) fn graph<A: Accelerator>(
    running: &Running<'_, A>,
    graph: &Graph,
    inputs: Vec<Option<Slot<A::Tensor>>>,
    captured: Vec<Slot<A::Tensor>>,
    watch: Watch<'_, A::Tensor>,
) -> Result<Vec<Slot<A::Tensor>>> {
    let _nested = Nested::enter()?;
    let mut held = Held(vec![0; graph.names.len()]);
    let mut values: Vec<Option<Slot<A::Tensor>>> = graph.names.iter().map(|_| None).collect();
    for ((_, id), slot) in graph.captures.iter().zip(captured) {
        values[*id] = Some(slot);
    }
    for (port, slot) in graph.inputs.iter().zip(inputs) {
        if slot.is_some() {
            values[port.id] = slot;
        }
    }
    let constants = &running.constants.0[graph.id];
    for (node, plan) in graph.nodes.iter().zip(&running.plans.0[graph.id]) {
        limit::node()?;
        let outputs = run(running, node, plan, graph, &mut values)
            .and_then(|outputs| limit::time().map(|()| outputs))
            .map_err(|error| error.in_node(&node.name, &node.full_operator()))?;
        if outputs.len() < node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1) {
            let error = Error::beyond(format!("an output past the {} that it gives", outputs.len()));
            return Err(error.in_node(&node.name, &node.full_operator()));
        }
        for (id, slot) in node.outputs.iter().zip(outputs) {
            if let Some(id) = id {
                watch(&graph.names[*id], &slot)?;
                held.hold(*id, bytes(running.accelerator, &slot))?;
                values[*id] = Some(slot);
            }
        }
        for id in &node.frees {
            values[*id] = None;
            held.release(*id);
        }
    }
    let output = |id: ValueId| values[id].as_ref().or(constants[id].as_ref()).cloned();
    graph.outputs.iter().map(|port| output(port.id).ok_or_else(|| no_value(&port.name))).collect()
}

/// Bytes of the values of a graph that are kept, by number.
struct Held(Vec<u64>);

impl Held {
    fn hold(&mut self, id: ValueId, bytes: u64) -> Result<()> {
        limit::hold(bytes)?;
        self.0[id] = bytes;
        Ok(())
    }

    fn release(&mut self, id: ValueId) {
        limit::release(std::mem::take(&mut self.0[id]));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        limit::release(self.0.iter().sum());
    }
}

/// Bytes of a value, wherever it is.
pub(super) fn bytes<A: Accelerator>(accelerator: &A, slot: &Slot<A::Tensor>) -> u64 {
    let device = slot.on_device().map_or(0, |tensor| accelerator.bytes(tensor));
    device + slot.on_host().map_or(0, crate::Value::bytes)
}

fn no_value(name: &str) -> Error {
    Error::invalid(format!("the value '{name}' was left out"))
}

fn run<A: Accelerator>(
    running: &Running<'_, A>,
    node: &Node,
    plan: &A::Plan,
    graph: &Graph,
    values: &mut [Option<Slot<A::Tensor>>],
) -> Result<Vec<Slot<A::Tensor>>> {
    let accelerator = running.accelerator;
    let mut slots: Vec<Option<Slot<A::Tensor>>> = Vec::with_capacity(node.inputs.len());
    let constants = &running.constants.0[graph.id];
    for input in &node.inputs {
        slots.push(match input {
            None => None,
            Some(id) => match values[*id].as_ref().or(constants[*id].as_ref()) {
                Some(slot) => Some(slot.clone()),
                // An input of a function may be left out by its caller: it is then left out of the nodes of the body, too.
                None if graph.inputs.iter().any(|port| port.id == *id) => None,
                None => return Err(no_value(&graph.names[*id])),
            },
        });
    }
    // What nothing needs any more is held by this node alone, so that the device may write over it.
    for id in &node.frees {
        values[*id] = if matches!(node.body, Body::Control(..)) { values[*id].take() } else { None };
    }
    match &node.body {
        Body::Control(kind, graphs) => {
            let value = |id: ValueId| values[id].as_ref().or(constants[id].as_ref()).cloned();
            let call =
                |graph: &Graph, inputs, captured| self::graph(running, graph, inputs, captured, &mut |_, _| Ok(()));
            control::run(running, &call, *kind, graphs, node, slots, &value)
        }
        Body::Function(body) => self::graph(running, body, slots, Vec::new(), &mut |_, _| Ok(())),
        Body::Operator(operator) => {
            if let Some(outputs) = accelerator.run(node, plan, &mut slots)? {
                return Ok(outputs);
            }
            let mut host = Vec::with_capacity(slots.len());
            for slot in &slots {
                host.push(slot.as_ref().map(|slot| slot.value(accelerator)).transpose()?);
            }
            Ok(operator.eval(&Inputs::new(host))?.into_iter().map(Slot::host).collect())
        }
        Body::Missing(_) => Err(Error::beyond("the operator")),
    }
}
