//! Running a graph: node after node, on the accelerator where it can, else on the host.

mod control;
mod execute;
mod inputs;
mod slot;

use std::sync::Arc;

pub use execute::Watch;
pub use slot::Slot;

use crate::graph::Weight;
use crate::limit::Limited;
use crate::{Array, Error, Limits, Model, Node, Result};

/// A device that runs some operators faster than the host, and keeps its own tensors.
pub trait Accelerator {
    /// A tensor on the device.
    type Tensor: Clone;

    /// Runs a node, or answers `None` to leave it to the host. It may take the inputs out of the list, unless it answers `None`.
    ///
    /// # Errors
    /// When the values do not fit the operator.
    fn run(&self, node: &Node, inputs: &mut [Option<Slot<Self::Tensor>>]) -> Result<Option<Vec<Slot<Self::Tensor>>>>;

    /// Copies a tensor to the host.
    ///
    /// # Errors
    /// When the device fails.
    fn download(&self, tensor: &Self::Tensor) -> Result<Array>;
}

/// No accelerator: the host runs everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostOnly;

/// The tensor of [`HostOnly`]: there is none.
#[derive(Debug, Clone, Copy)]
pub enum Never {}

impl Accelerator for HostOnly {
    type Tensor = Never;

    fn run(&self, _node: &Node, _inputs: &mut [Option<Slot<Never>>]) -> Result<Option<Vec<Slot<Never>>>> {
        Ok(None)
    }

    fn download(&self, tensor: &Never) -> Result<Array> {
        match *tensor {}
    }
}

/// The constant values of all graphs of a model, each read and brought to the device once.
pub struct Constants<T>(Vec<Vec<(usize, Slot<T>)>>);

impl<T: Clone> Constants<T> {
    /// The constants of a model.
    pub fn new(model: &Model) -> Self {
        let mut constants: Vec<Vec<_>> = (0..model.graphs).map(|_| Vec::new()).collect();
        let mut add = |id: usize, weights: &[(usize, Weight)]| {
            constants[id] = weights.iter().map(|(value, weight)| (*value, Slot::weight(weight.clone()))).collect();
        };
        control::each_graph(&model.graph, &mut |graph| add(graph.id, &graph.constants));
        Self(constants)
    }

    /// Puts another value in the place of a constant of the main graph, such as a parameter that is trained.
    pub fn replace(&mut self, id: usize, slot: Slot<T>) {
        if let Some((_, old)) = self.0.first_mut().and_then(|main| main.iter_mut().find(|(value, _)| *value == id)) {
            *old = slot;
        }
    }
}

/// A model that is ready to run.
pub struct Session<A: Accelerator> {
    model: Arc<Model>,
    accelerator: A,
    constants: Constants<A::Tensor>,
    limits: Limits,
}

impl<A: Accelerator> Session<A> {
    /// Prepares a model.
    ///
    /// # Errors
    /// When operators are not implemented: all of them at once, before anything runs.
    pub fn new(model: impl Into<Arc<Model>>, accelerator: A) -> Result<Self> {
        let model = model.into();
        let missing = model.missing();
        if !missing.is_empty() {
            return Err(Error::Unsupported(missing));
        }
        let constants = Constants::new(&model);
        Ok(Self { model, accelerator, constants, limits: Limits::default() })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The device.
    pub fn accelerator(&self) -> &A {
        &self.accelerator
    }

    /// The constants, to put others in their place.
    pub fn constants_mut(&mut self) -> &mut Constants<A::Tensor> {
        &mut self.constants
    }

    /// Limits what each run may use, for a model that is not trusted.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Runs the model on values by input name; gives the outputs in the order of the graph, on the host.
    ///
    /// # Errors
    /// When an input is missing, unknown or of the wrong type or shape, or a node cannot do its work.
    pub fn run(&self, inputs: Vec<(String, crate::Value)>) -> Result<Vec<crate::Value>> {
        let inputs = inputs.into_iter().map(|(name, value)| (name, Slot::host(value))).collect();
        let outputs = self.run_slots(inputs)?;
        outputs.iter().map(|slot| slot.value(&self.accelerator).cloned()).collect()
    }

    /// Runs the model on values that may be on the device, and leaves the outputs where they are.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_slots(&self, inputs: Vec<(String, Slot<A::Tensor>)>) -> Result<Vec<Slot<A::Tensor>>> {
        self.run_watched(inputs, &mut |_, _| Ok(()))
    }

    /// As [`Session::run_slots`]; `watch` sees every value of the main graph by name when it is made.
    ///
    /// # Errors
    /// As [`Session::run`], or what `watch` answers.
    pub fn run_watched(&self, inputs: Vec<(String, Slot<A::Tensor>)>, watch: Watch<'_, A::Tensor>) -> Result<Vec<Slot<A::Tensor>>> {
        let _limited = Limited::new(self.limits);
        let inputs = inputs::bind(&self.model.graph, inputs)?;
        execute::graph(self, &self.model.graph, inputs, Vec::new(), watch)
    }
}
