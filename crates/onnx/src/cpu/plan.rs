//! The plan of a graph for inputs of some types and shapes: which kernels run, on which memory.
//!
//! It is made while the graph runs for the first time on such inputs, since shapes may depend on values. What depends on shapes alone
//! is computed once. Where an operator has no kernel the plain one runs; if it gives other shapes another time, a new plan is made.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use rekindle_kernels::Memory;

use super::run::{Context, Ended, Fact, Kernel, Other, Step, Workspace, fact, in_memory};
use super::tensor::{Place, Tensor, either_order};
use crate::array::count;
use crate::graph::{Body, Graph, Node, Weight};
use crate::ops::{Inputs, Shape};
use crate::{Array, DType, Error, Result, Value, ValueId};

/// What is made of weights once for all plans, by value and purpose.
#[derive(Default)]
pub(super) struct Packed(Mutex<HashMap<(ValueId, u64), Arc<dyn Any + Send + Sync>>>);

impl Packed {
    /// What was made before, or is made now.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn get<T: Any + Send + Sync>(
        &self,
        id: ValueId,
        purpose: u64,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<Arc<T>> {
        let key = (id, purpose);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        if let Some(known) = known.and_then(|known| known.downcast::<T>().ok()) {
            return Ok(known);
        }
        let made = Arc::new(make()?);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, made.clone());
        Ok(made)
    }
}

/// A graph with what all its plans share.
pub(super) struct Source<'g> {
    /// Plans a node, if there is a kernel for it.
    pub kernels: fn(&mut Planner<'_>, &Node) -> Planned,
    pub graph: &'g Graph,
    pub weights: &'g HashMap<ValueId, Weight>,
    /// The nodes that use each value, in order, once for each use.
    pub users: &'g [Vec<usize>],
    /// Whether a value is an output, or used in a nested graph.
    pub outside: &'g [bool],
    pub packed: &'g Packed,
    /// Runs nodes without a kernel, where it can.
    pub other: &'g Other<'g>,
}

/// Steps for inputs of some types and shapes.
pub(super) struct Plan {
    pub inputs: Vec<Option<Fact>>,
    pub steps: Vec<Step>,
    pub constants: Vec<Array>,
    /// Bytes of each memory.
    pub sizes: Vec<usize>,
    /// Values before a run: those that are the same in every run.
    pub start: Vec<Option<Value>>,
    pub outputs: Vec<Tensor>,
}

/// A plan in the making, and the run that it is made in.
pub(super) struct Planner<'g> {
    pub source: &'g Source<'g>,
    steps: Vec<Step>,
    pub constants: Vec<Array>,
    pub space: Workspace,
    /// Tensors that are in each memory.
    holders: Vec<usize>,
    /// Memories that no tensor is in.
    free: Vec<usize>,
    tensors: Vec<Option<Tensor>>,
    /// The same tensor in the other order of axes.
    pub(super) others: HashMap<ValueId, Tensor>,
    /// Values that no tensor is and that are the same in every run, by their numbers.
    start: Vec<Option<Value>>,
    left: Vec<usize>,
    done: Vec<bool>,
    /// The number of the node that is planned.
    pub at: usize,
}

/// Stands for type and shape of a value that is no tensor: no kernel takes it.
pub(super) const NO_TENSOR: Fact = (DType::Str, Vec::new());

/// What an operator's plan answers.
pub(super) type Planned = Result<bool>;

impl<'g> Planner<'g> {
    pub fn new(source: &'g Source<'g>, inputs: Vec<Option<Value>>) -> Self {
        let graph = source.graph;
        let left = source.users.iter().zip(source.outside).map(|(users, &outside)| users.len() + usize::from(outside));
        let mut planner = Self {
            source,
            steps: Vec::new(),
            constants: Vec::new(),
            space: Workspace::default(),
            holders: Vec::new(),
            free: Vec::new(),
            tensors: vec![None; graph.names.len()],
            others: HashMap::new(),
            start: Vec::new(),
            left: left.collect(),
            done: vec![false; graph.nodes.len()],
            at: 0,
        };
        for (at, (port, value)) in graph.inputs.iter().zip(inputs).enumerate() {
            if let Some(value) = &value {
                let (dtype, shape) = fact(value).unwrap_or(NO_TENSOR);
                let place = Place::Value(at);
                planner.tensors[port.id] = Some(Tensor { place, dtype, shape, channels_last: false });
            }
            planner.space.values.push(value);
        }
        planner
    }

    /// Plans and runs all nodes.
    ///
    /// # Errors
    /// What the operators answer.
    pub fn build(mut self, inputs: Vec<Option<Fact>>) -> Result<(Plan, Workspace)> {
        let graph = self.source.graph;
        for (at, node) in graph.nodes.iter().enumerate() {
            if self.done[at] {
                continue;
            }
            crate::limit::node()?;
            self.at = at;
            // An operator that breaks off when time is over gives what it has.
            let ended = self.node(node).and_then(|()| crate::limit::time());
            ended.map_err(|error| error.in_node(&node.name, &node.full_operator()))?;
            self.finish(at);
        }
        let mut outputs = Vec::new();
        for port in &graph.outputs {
            let tensor = self.tensor(port.id)?;
            let tensor = tensor.ok_or_else(|| Error::invalid(format!("the value '{}' was left out", port.name)))?;
            outputs.push(self.plain(port.id, &tensor)?);
        }
        self.start.resize(self.space.values.len(), None);
        let plan = Plan {
            inputs,
            steps: self.steps,
            constants: self.constants,
            sizes: self.space.memories.iter().map(Memory::bytes).collect(),
            start: self.start,
            outputs,
        };
        Ok((plan, self.space))
    }

    fn node(&mut self, node: &Node) -> Result<()> {
        if let Body::Operator(operator) = &node.body {
            if let Some(values) = self.of_shapes(node)? {
                return self.settle(node, values);
            }
            let known: Option<Vec<Option<Value>>> = self.known_inputs(node)?;
            if let Some(values) = known
                && !operator.schema().draws
                && !node.inputs.is_empty()
            {
                let inputs = Inputs::new(values.iter().map(Option::as_ref).collect());
                return self.settle(node, operator.eval(&inputs)?);
            }
            if (self.source.kernels)(self, node)? {
                return Ok(());
            }
        }
        self.run_plain(node)
    }

    /// The outputs of a node that asks for a shape.
    fn of_shapes(&mut self, node: &Node) -> Result<Option<Vec<Value>>> {
        if !node.domain.is_empty() || !matches!(node.operator.as_str(), "Shape" | "Size") {
            return Ok(None);
        }
        let Some(tensor) = self.input(node, 0)? else { return Ok(None) };
        if node.operator == "Size" {
            return Ok(Some(vec![Array::scalar(tensor.len() as i64).into()]));
        }
        Ok(node.get::<Shape>().map(|op| vec![op.sizes(&tensor.shape).into()]))
    }

    /// The inputs of a node if all are constants that are small, or of integers.
    fn known_inputs(&mut self, node: &Node) -> Result<Option<Vec<Option<Value>>>> {
        let mut known = Vec::with_capacity(node.inputs.len());
        for position in 0..node.inputs.len() {
            known.push(match node.inputs[position] {
                None => None,
                Some(_) => match self.constant(node, position)? {
                    Some(array) => Some(Value::from(array)),
                    None => return Ok(None),
                },
            });
        }
        Ok(Some(known))
    }

    /// Makes constants of values that are the same in every run.
    fn settle(&mut self, node: &Node, values: Vec<Value>) -> Result<()> {
        for (id, value) in node.outputs.iter().zip(values) {
            let Some(id) = *id else { continue };
            crate::limit::hold(value.bytes())?;
            let Some((dtype, shape)) = fact(&value) else {
                let place = self.space.values.len();
                self.start.resize(place, None);
                self.start.push(Some(value.clone()));
                self.space.values.push(Some(value));
                let ((dtype, shape), place) = (NO_TENSOR, Place::Value(place));
                self.tensors[id] = Some(Tensor { place, dtype, shape, channels_last: false });
                continue;
            };
            let place = Place::Constant(self.constants.len());
            self.constants.push(value.into_array()?);
            self.tensors[id] = Some(Tensor { place, dtype, shape, channels_last: false });
        }
        Ok(())
    }

    /// Runs the plain operator.
    fn run_plain(&mut self, node: &Node) -> Result<()> {
        let mut inputs = Vec::with_capacity(node.inputs.len());
        for id in &node.inputs {
            inputs.push(match *id {
                None => None,
                Some(id) => match self.tensor(id)? {
                    Some(tensor) => Some(self.plain(id, &tensor)?),
                    None => None,
                },
            });
        }
        let read = move |context: &Context<'_>| -> Result<Vec<Option<Value>>> {
            let read = |tensor: &Tensor| context.value(&tensor.source(), tensor.dtype, &tensor.shape);
            inputs.iter().map(|tensor| tensor.as_ref().map(read).transpose()).collect()
        };
        let run: super::run::Plain1 = match &node.body {
            Body::Operator(operator) => {
                let (operator, at) = (operator.clone(), self.at);
                Box::new(move |context| {
                    let values = read(context)?;
                    if let Some(outputs) = (context.other)(at, &values)? {
                        return Ok(outputs);
                    }
                    operator.eval(&Inputs::new(values.iter().map(Option::as_ref).collect()))
                })
            }
            _ => return Err(Error::beyond("a nested graph in a plan")),
        };
        let at = self.at;
        let context = Context {
            other: self.source.other,
            memories: &self.space.memories,
            constants: &self.constants,
            values: &self.space.values,
        };
        let given = run(&context)?;
        if given.len() < node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1) {
            return Err(Error::beyond(format!("an output past the {} that it gives", given.len())));
        }
        let mut outputs = Vec::new();
        for (id, value) in node.outputs.iter().zip(given) {
            let Some(id) = *id else {
                outputs.push(None);
                continue;
            };
            let (place, known) = (self.space.values.len(), fact(&value));
            let (dtype, shape) = known.clone().unwrap_or(NO_TENSOR);
            self.tensors[id] = Some(Tensor { place: Place::Value(place), dtype, shape, channels_last: false });
            crate::limit::hold(value.bytes())?;
            self.space.values.push(Some(value));
            outputs.push(Some((place, known)));
        }
        self.steps.push(Step::Plain { run, outputs, name: at });
        Ok(())
    }

    /// Frees what the nodes that are done used last.
    pub fn finish(&mut self, at: usize) {
        self.done[at] = true;
        let node = &self.source.graph.nodes[at];
        let mut forgotten = Vec::new();
        for &id in node.inputs.iter().flatten() {
            self.left[id] -= 1;
            if self.left[id] == 0 {
                self.release(id, &mut forgotten);
            }
        }
        for &id in node.outputs.iter().flatten() {
            if self.left[id] == 0 {
                self.release(id, &mut forgotten);
            }
        }
        if !forgotten.is_empty() {
            self.steps.push(Step::Forget(forgotten));
        }
    }

    fn release(&mut self, id: ValueId, forgotten: &mut Vec<usize>) {
        let inputs = self.source.graph.inputs.len();
        for tensor in self.tensors[id].take().into_iter().chain(self.others.remove(&id)) {
            match tensor.place {
                Place::Memory(at) => {
                    self.holders[at] -= 1;
                    if self.holders[at] == 0 {
                        self.free.push(at);
                    }
                }
                Place::Value(at) if at >= inputs => {
                    let shared = self.tensors.iter().flatten().any(|other| other.place == tensor.place);
                    if !shared {
                        forgotten.push(at);
                        crate::limit::release(self.space.values[at].take().map_or(0, |value| value.bytes()));
                    }
                }
                _ => {}
            }
        }
    }

    /// Marks a node as done by the one that is planned; its values were made or are never.
    pub fn absorb(&mut self, at: usize) {
        self.finish(at);
    }

    /// The value of a number, read from its file if it is a weight.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn tensor(&mut self, id: ValueId) -> Result<Option<Tensor>> {
        if self.tensors[id].is_none()
            && let Some(weight) = self.source.weights.get(&id)
        {
            let array = weight.array()?;
            let place = Place::Constant(self.constants.len());
            let (dtype, shape) = (array.dtype(), array.shape().to_vec());
            self.constants.push(array);
            self.tensors[id] = Some(Tensor { place, dtype, shape, channels_last: false });
        }
        Ok(self.tensors[id].clone())
    }

    /// An input of a node.
    ///
    /// # Errors
    /// As [`Self::tensor`].
    pub fn input(&mut self, node: &Node, position: usize) -> Result<Option<Tensor>> {
        match node.inputs.get(position).copied().flatten() {
            Some(id) => self.tensor(id),
            None => Ok(None),
        }
    }

    /// The values of an input if it is the same in every run.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn constant(&mut self, node: &Node, position: usize) -> Result<Option<Array>> {
        let Some(id) = node.inputs.get(position).copied().flatten() else { return Ok(None) };
        if let Some(tensor) = &self.tensors[id] {
            return Ok(match tensor.place {
                Place::Constant(at) => Some(self.constants[at].reshaped(tensor.shape.clone())?),
                _ => None,
            });
        }
        self.source.weights.get(&id).map(Weight::array).transpose()
    }

    /// A weight that is not read yet.
    pub fn weight(&self, id: Option<ValueId>) -> Option<&'g Weight> {
        self.source.weights.get(&id?)
    }

    /// The input of floats as it is stored, of any rank: channels first.
    ///
    /// # Errors
    /// When it is too large.
    pub fn plain_input(&mut self, node: &Node, position: usize) -> Result<Option<Tensor>> {
        let Some(id) = node.inputs.get(position).copied().flatten() else { return Ok(None) };
        match self.tensor(id)? {
            Some(tensor) => self.plain(id, &tensor).map(Some),
            None => Ok(None),
        }
    }

    /// Memory for a tensor.
    ///
    /// # Errors
    /// When it has more elements than it may.
    pub fn allocate(&mut self, dtype: DType, shape: Vec<usize>, channels_last: bool) -> Result<Tensor> {
        debug_assert!(in_memory(dtype));
        let bytes = count(&shape)?.saturating_mul(dtype.bits() / 8);
        let channels_last = channels_last && !either_order(&shape);
        let fitting = self.free.iter().enumerate().min_by_key(|(_, at)| {
            let has = self.space.memories[**at].bytes();
            // The smallest that is large enough, else the largest.
            if has >= bytes { (0, has) } else { (1, usize::MAX - has) }
        });
        let at = match fitting.map(|(at, _)| at) {
            Some(at) => self.free.swap_remove(at),
            None => {
                self.space.memories.push(Memory::default());
                self.holders.push(0);
                self.holders.len() - 1
            }
        };
        let before = self.space.memories[at].bytes();
        self.space.memories[at].reserve(bytes);
        crate::limit::hold(self.space.memories[at].bytes().saturating_sub(before) as u64)?;
        self.holders[at] = 1;
        Ok(Tensor { place: Place::Memory(at), dtype, shape, channels_last })
    }

    /// Counts another tensor in the memory of one.
    pub fn hold(&mut self, tensor: &Tensor) {
        if let Place::Memory(at) = tensor.place {
            self.holders[at] += 1;
        }
    }

    /// Gives back memory of a tensor that no value is.
    pub fn free(&mut self, tensor: &Tensor) {
        if let Place::Memory(at) = tensor.place {
            self.holders[at] -= 1;
            if self.holders[at] == 0 {
                self.free.push(at);
            }
        }
    }

    /// Adds a step that writes to the memory of tensors, and runs it.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn emit(&mut self, run: Kernel, outputs: &[&Tensor]) -> Result<()> {
        let outputs = outputs.iter().map(|tensor| match tensor.place {
            Place::Memory(at) => at,
            _ => unreachable!("kernels write to memory"),
        });
        let step = Step::Kernel { run, outputs: outputs.collect(), name: self.at };
        let ended = self.space.step(&step, &self.constants, self.source.other)?;
        debug_assert_eq!(ended, Ended::Done);
        self.steps.push(step);
        Ok(())
    }

    /// Says what a value is.
    pub fn set(&mut self, id: Option<ValueId>, tensor: Tensor) {
        match id {
            Some(id) => self.tensors[id] = Some(tensor),
            None => self.free(&tensor),
        }
    }

    /// Says that a value is another one's memory under another shape.
    pub fn alias(&mut self, id: Option<ValueId>, tensor: &Tensor, shape: Vec<usize>, channels_last: bool) {
        let channels_last = channels_last && !either_order(&shape);
        if let (Some(_), Place::Memory(at)) = (id, tensor.place) {
            self.holders[at] += 1;
        }
        if let Some(id) = id {
            self.tensors[id] = Some(Tensor { shape, channels_last, ..tensor.clone() });
        }
    }

    /// Whether a node may write over the memory of one of its inputs: nobody else needs it.
    pub fn may_overwrite(&self, id: ValueId, tensor: &Tensor) -> bool {
        let Place::Memory(at) = tensor.place else { return false };
        let uses = self.source.graph.nodes[self.at].inputs.iter().filter(|input| **input == Some(id)).count();
        self.holders[at] == 1 && self.left[id] == uses && uses == 1
    }

    /// The only node that uses a value, if it is used once.
    pub fn only_user(&self, id: ValueId) -> Option<usize> {
        match self.source.users[id][..] {
            [user] if !self.source.outside[id] && !self.done[user] => Some(user),
            _ => None,
        }
    }

    /// Whether a value is known already.
    pub fn is_there(&self, id: ValueId) -> bool {
        self.tensors[id].is_some() || self.source.weights.contains_key(&id)
    }

    /// The nodes that use a value, if it is used by nodes only.
    pub fn users(&self, id: ValueId) -> &[usize] {
        if self.source.outside[id] { &[] } else { &self.source.users[id] }
    }

    /// A node of the graph.
    pub fn graph_node(&self, at: usize) -> &'g Node {
        &self.source.graph.nodes[at]
    }
}
