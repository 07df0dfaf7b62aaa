//! Operators that run nested graphs: `If`, `Loop`, `Scan`, `SequenceMap`, `FlexAttention`.

use super::accelerator::{Accelerator, Slot};
use super::running::Running;
use crate::array::{Data, axis, count};
use crate::graph::{Control, Graph, Node};
use crate::ops::{self, Inputs};
use crate::{Array, Error, Result, Value, ValueId};

type Slots<T> = Vec<Option<Slot<T>>>;

/// Runs a graph on inputs by position and the values around it that it uses.
pub(super) type Call<'c, T> = &'c dyn Fn(&Graph, Slots<T>, Vec<Slot<T>>) -> Result<Vec<Slot<T>>>;

/// Values of a graph by number.
pub(super) type Values<'v, T> = &'v dyn Fn(ValueId) -> Option<Slot<T>>;

/// Runs a node with nested graphs by `call`; `value` gives those of the graph it is in.
pub(super) fn run<A: Accelerator>(
    running: &Running<'_, A>,
    call: Call<'_, A::Tensor>,
    kind: Control,
    graphs: &[(String, Graph)],
    node: &Node,
    inputs: Slots<A::Tensor>,
    value: Values<'_, A::Tensor>,
) -> Result<Vec<Slot<A::Tensor>>> {
    let control = Run { running, call, graphs, node, inputs, value };
    match kind {
        Control::If => control.branch(),
        Control::Loop => control.repeat(),
        Control::Scan => control.scan(),
        Control::SequenceMap => control.map(),
        Control::FlexAttention => control.flex_attention(),
    }
}

struct Run<'r, A: Accelerator> {
    running: &'r Running<'r, A>,
    call: Call<'r, A::Tensor>,
    graphs: &'r [(String, Graph)],
    node: &'r Node,
    inputs: Slots<A::Tensor>,
    value: Values<'r, A::Tensor>,
}

impl<A: Accelerator> Run<'_, A> {
    fn graph(&self, name: &str) -> Result<&Graph> {
        let graph = self.graphs.iter().find(|(own, _)| own == name).map(|(_, graph)| graph);
        graph.ok_or_else(|| Error::invalid(format!("it has no graph '{name}'")))
    }

    fn call(&self, graph: &Graph, inputs: Vec<Slot<A::Tensor>>) -> Result<Vec<Slot<A::Tensor>>> {
        if inputs.len() != graph.inputs.len() {
            let message = format!("its graph takes {} inputs and gets {}", graph.inputs.len(), inputs.len());
            return Err(Error::invalid(message));
        }
        let captured = graph.captures.iter().map(|(outer, _)| {
            (self.value)(*outer).ok_or_else(|| Error::invalid("a value that its graph uses is not there"))
        });
        let captured = captured.collect::<Result<Vec<_>>>()?;
        (self.call)(graph, inputs.into_iter().map(Some).collect(), captured)
    }

    fn value(&self, slot: &Slot<A::Tensor>) -> Result<Value> {
        slot.value(self.running.accelerator).cloned()
    }

    fn array(&self, slot: &Slot<A::Tensor>) -> Result<Array> {
        slot.value(self.running.accelerator)?.array().cloned()
    }

    fn input(&self, position: usize) -> Result<&Slot<A::Tensor>> {
        let slot = self.inputs.get(position).and_then(Option::as_ref);
        slot.ok_or_else(|| Error::invalid(format!("input {position} is missing")))
    }

    fn branch(&self) -> Result<Vec<Slot<A::Tensor>>> {
        let taken = self.array(self.input(0)?)?.bool()?;
        self.call(self.graph(if taken { "then_branch" } else { "else_branch" })?, Vec::new())
    }

    /// Trip count and condition may both be left out. Outputs: the carried values, then what each turn gave, stacked.
    fn repeat(&self) -> Result<Vec<Slot<A::Tensor>>> {
        let body = self.graph("body")?;
        let limit = match self.inputs.first() {
            Some(Some(slot)) => Some(self.array(slot)?.int()?),
            _ => None,
        };
        let mut go_on = match self.inputs.get(1) {
            Some(Some(slot)) => self.array(slot)?.bool()?,
            _ => true,
        };
        let mut carried =
            (2..self.inputs.len()).map(|position| self.input(position).cloned()).collect::<Result<Vec<_>>>()?;
        let stacked = body.outputs.len().checked_sub(1 + carried.len());
        let stacked = stacked.ok_or_else(|| Error::invalid("its body gives fewer values than it carries"))?;
        let mut collected: Vec<Vec<Array>> = vec![Vec::new(); stacked];
        let (mut turn, mut elements) = (0_i64, 0_usize);
        while go_on && limit.is_none_or(|limit| turn < limit) {
            crate::limit::turn()?;
            let mut inputs = vec![Slot::host(Array::scalar(turn)), Slot::host(Array::scalar(true))];
            inputs.extend(carried);
            let mut outputs = self.call(body, inputs)?;
            let rest = outputs.split_off(body.outputs.len() - stacked);
            go_on = self.array(&outputs[0])?.bool()?;
            carried = outputs.split_off(1);
            for (list, slot) in collected.iter_mut().zip(&rest) {
                list.push(self.array(slot)?);
                elements = elements.saturating_add(list.last().map_or(0, Array::len).max(1));
            }
            // What is collected is an array in the end: it may not grow past all bounds before.
            count(&[elements])?;
            turn += 1;
        }
        for (list, port) in collected.iter().zip(&body.outputs[body.outputs.len() - stacked..]) {
            let kind =
                if let crate::graph::Kind::Array(dtype, axes) = &port.kind { Some((*dtype, axes)) } else { None };
            let empty = kind.and_then(|(dtype, axes)| {
                let sizes =
                    axes.iter().flatten().map(|axis| if let crate::Axis::Size(size) = axis { *size } else { 0 });
                Some((dtype?, sizes.collect::<Vec<_>>()))
            });
            carried.push(Slot::host(stack(list, 0, empty)?));
        }
        Ok(carried)
    }

    fn scan(&self) -> Result<Vec<Slot<A::Tensor>>> {
        if self.node.version < 9 { self.scan_batched() } else { self.scan_from(&self.inputs) }
    }

    /// Version 8: the first input is the lengths (left out here), every other has the batch as its first axis.
    fn scan_batched(&self) -> Result<Vec<Slot<A::Tensor>>> {
        if matches!(self.inputs.first(), Some(Some(_))) {
            return Err(Error::beyond("Scan of version 8 with sequences of different lengths"));
        }
        let inputs =
            (1..self.inputs.len()).map(|position| self.array(self.input(position)?)).collect::<Result<Vec<_>>>()?;
        let batch = inputs.first().and_then(|first| first.shape().first().copied()).unwrap_or(0);
        if inputs.iter().any(|array| array.shape().first().is_none_or(|&size| size != batch)) {
            return Err(Error::invalid("its inputs are not of one batch"));
        }
        let mut collected: Vec<Vec<Array>> = Vec::new();
        for item in 0..batch {
            let items = inputs.iter().map(|array| slice(array, 0, item).map(|array| Some(Slot::host(array))));
            let outputs = self.scan_from(&items.collect::<Result<Vec<_>>>()?)?;
            collected.resize(outputs.len(), Vec::new());
            for (list, slot) in collected.iter_mut().zip(&outputs) {
                list.push(self.array(slot)?);
            }
        }
        collected.iter().map(|list| stack(list, 0, None).map(Slot::host)).collect()
    }

    fn scan_from(&self, inputs: &[Option<Slot<A::Tensor>>]) -> Result<Vec<Slot<A::Tensor>>> {
        let body = self.graph("body")?;
        let attributes = &self.node.attributes;
        let scans = attributes.int_or("num_scan_inputs", 1)? as usize;
        let inputs: Option<Vec<_>> = inputs.iter().cloned().collect();
        let inputs = inputs.ok_or_else(|| Error::invalid("an input is missing"))?;
        let states = inputs.len().checked_sub(scans).ok_or_else(|| Error::invalid("fewer inputs than it scans"))?;
        let outputs = body
            .outputs
            .len()
            .checked_sub(states)
            .ok_or_else(|| Error::invalid("its body gives fewer values than it carries"))?;
        let list = |name: &str, length: usize| -> Result<Vec<i64>> {
            let given = attributes.ints(name)?.unwrap_or_default();
            Ok((0..length).map(|i| given.get(i).copied().unwrap_or(0)).collect())
        };
        let directions = if self.node.version < 9 { "directions" } else { "scan_input_directions" };
        let (axes, reversed) = (list("scan_input_axes", scans)?, list(directions, scans)?);
        let (out_axes, out_reversed) = (list("scan_output_axes", outputs)?, list("scan_output_directions", outputs)?);
        let mut scanned = Vec::new();
        for (slot, &along) in inputs[states..].iter().zip(&axes) {
            let array = self.array(slot)?;
            scanned.push((axis(along, array.rank())?, array));
        }
        let length = scanned.first().map_or(0, |(along, array)| array.shape()[*along]);
        if scanned.iter().any(|(along, array)| array.shape()[*along] != length) {
            return Err(Error::invalid("the inputs that it scans have different lengths"));
        }
        let mut carried = inputs[..states].to_vec();
        let mut collected: Vec<Vec<Array>> = vec![Vec::new(); outputs];
        for turn in 0..length {
            crate::limit::turn()?;
            let mut call = carried;
            for ((along, array), &reversed) in scanned.iter().zip(&reversed) {
                call.push(Slot::host(slice(array, *along, if reversed == 1 { length - 1 - turn } else { turn })?));
            }
            carried = self.call(body, call)?;
            for (list, slot) in collected.iter_mut().zip(carried.split_off(states)) {
                list.push(self.array(&slot)?);
            }
        }
        for (i, mut list) in collected.into_iter().enumerate() {
            if out_reversed[i] == 1 {
                list.reverse();
            }
            let rank = list.first().map_or(1, |array| array.rank() + 1);
            carried.push(Slot::host(stack(&list, axis(out_axes[i], rank)?, None)?));
        }
        Ok(carried)
    }

    /// The first input is a sequence; others are sequences of the same length or tensors that every turn gets.
    fn map(&self) -> Result<Vec<Slot<A::Tensor>>> {
        let body = self.graph("body")?;
        let inputs =
            (0..self.inputs.len()).map(|position| self.value(self.input(position)?)).collect::<Result<Vec<_>>>()?;
        let length = inputs.first().ok_or_else(|| Error::invalid("input 0 is missing"))?.sequence()?.len();
        let mut collected: Vec<Vec<Value>> = vec![Vec::new(); body.outputs.len()];
        for turn in 0..length {
            crate::limit::turn()?;
            let mut call = Vec::new();
            for value in &inputs {
                call.push(Slot::host(match value {
                    Value::Sequence(values) => values
                        .get(turn)
                        .cloned()
                        .ok_or_else(|| Error::invalid("its sequences have different lengths"))?,
                    other => other.clone(),
                }));
            }
            for (list, slot) in collected.iter_mut().zip(self.call(body, call)?) {
                list.push(self.value(&slot)?);
            }
        }
        Ok(collected.into_iter().map(|list| Slot::host(Value::Sequence(list))).collect())
    }

    fn flex_attention(&self) -> Result<Vec<Slot<A::Tensor>>> {
        let mut inputs = Vec::new();
        for slot in &self.inputs {
            inputs.push(slot.as_ref().map(|slot| slot.value(self.running.accelerator)).transpose()?);
        }
        let modify = |name: &str, array: Array| {
            let Some((_, graph)) = self.graphs.iter().find(|(own, _)| own == name) else { return Ok(array) };
            match self.call(graph, vec![Slot::host(array)])?.as_slice() {
                [result] => self.array(result),
                results => Err(Error::invalid(format!("its graph '{name}' gives {} values, not one", results.len()))),
            }
        };
        Ok(vec![Slot::host(ops::flex_attention(&self.node.raw(), &Inputs::new(inputs), &modify)?)])
    }
}

/// The part of an array at one position along an axis, without that axis.
fn slice(array: &Array, along: usize, position: usize) -> Result<Array> {
    let shape = array.shape();
    let (outer, size, inner) = ops::around(shape, along);
    let indices: Vec<usize> =
        (0..outer).flat_map(|o| (0..inner).map(move |i| (o * size + position) * inner + i)).collect();
    let rest = shape.iter().enumerate().filter(|(axis, _)| *axis != along).map(|(_, &size)| size).collect();
    array.take(rest, &indices)
}

/// Arrays of one shape along a new axis. `empty` is type and shape of the elements when there are none.
fn stack(arrays: &[Array], along: usize, empty: Option<(crate::DType, Vec<usize>)>) -> Result<Array> {
    let Some(first) = arrays.first() else {
        let (dtype, mut shape) = empty.unwrap_or((crate::DType::F32, Vec::new()));
        shape.insert(0, 0);
        return Array::from_data(shape, Data::zeros(dtype, 0));
    };
    let mut parts = Vec::new();
    for array in arrays {
        if array.shape() != first.shape() || array.dtype() != first.dtype() {
            return Err(Error::invalid("its turns give tensors of different types or shapes"));
        }
        let mut shape = array.shape().to_vec();
        shape.insert(along, 1);
        parts.push(array.reshaped(shape)?);
    }
    ops::concat(&parts.iter().collect::<Vec<_>>(), along)
}
