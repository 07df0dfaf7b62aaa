//! Running a graph: node after node, on the accelerator where it can, else on the host.

mod accelerator;
mod control;
mod execute;
mod inputs;
mod running;

use std::sync::{Arc, OnceLock};

pub use accelerator::{Accelerator, Cpu, HostOnly, Slot, Source};
pub use execute::Watch;
pub use running::Constants;
use running::{Plans, Running, each_graph};

use crate::cpu::{self, Runtime};
use crate::graph::{Graph, Weight};
use crate::limit::Limited;
use crate::prepare::prepare;
use crate::{Error, Limits, Model, Result, ValueId};

/// A graph with its nodes merged.
struct Prepared<A: Accelerator> {
    graph: Graph,
    constants: Constants<A::Tensor>,
    plans: Plans<A::Plan>,
    /// What runs the graph as a whole, on a CPU.
    cpu: Option<Runtime>,
}

/// A model that is ready to run.
pub struct Session<A: Accelerator> {
    model: Arc<Model>,
    accelerator: A,
    constants: Constants<A::Tensor>,
    /// For the graph as it is in the file, once it runs.
    plans: OnceLock<Plans<A::Plan>>,
    prepared: Option<Prepared<A>>,
    /// What the program has set.
    limits: Option<Limits>,
    /// Bytes of the weights.
    weights: u64,
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
        let constants = Constants::new(&model.graph, model.graphs);
        let mut weights = 0_u64;
        each_graph(&model.graph, &mut |graph| {
            weights = graph.constants.iter().fold(weights, |sum, (_, weight)| sum.saturating_add(weight.bytes()));
        });
        Ok(Self { model, accelerator, constants, plans: OnceLock::new(), prepared: None, limits: None, weights })
    }

    /// Prepares a model for many runs: what is constant is computed now, and nodes that can be one become one. The outputs are the
    /// same up to rounding. [`Session::run_watched`] and runs that give a default another value still take the graph as it is.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn prepared(model: impl Into<Arc<Model>>, accelerator: A) -> Result<Self> {
        Self::prepared_with(model, accelerator, Vec::new())
    }

    /// As [`Session::prepared`], with others in the place of constants of the main graph: each as a weight, to merge it with others,
    /// and as the value that a node gets otherwise.
    ///
    /// # Errors
    /// As [`Session::new`].
    pub fn prepared_with(
        model: impl Into<Arc<Model>>,
        accelerator: A,
        replaced: Vec<(ValueId, Weight, Slot<A::Tensor>)>,
    ) -> Result<Self> {
        let mut session = Self::new(model, accelerator)?;
        let mut graph = session.model.graph.clone();
        let mut slots = Vec::with_capacity(replaced.len());
        for (id, weight, slot) in replaced {
            session.constants.replace(id, slot.clone());
            slots.push((id, slot));
            if let Some((_, old)) = graph.constants.iter_mut().find(|(value, _)| *value == id) {
                *old = weight;
            }
        }
        if session.accelerator.is_cpu() {
            cpu::gather(&mut graph);
        }
        prepare(&mut graph);
        let mut constants = Constants::new(&graph, session.model.graphs);
        slots.into_iter().for_each(|(id, slot)| constants.replace(id, slot));
        let plans = Plans::new(&session.accelerator, &graph, session.model.graphs);
        let cpu = if session.accelerator.is_cpu() { Runtime::new(&graph) } else { None };
        session.prepared = Some(Prepared { graph, constants, plans, cpu });
        Ok(session)
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The graph whose nodes run: that of the model, or the prepared one.
    pub fn running_graph(&self) -> &Graph {
        self.prepared.as_ref().map_or(&self.model.graph, |prepared| &prepared.graph)
    }

    /// The device.
    pub fn accelerator(&self) -> &A {
        &self.accelerator
    }

    /// The constants, to put others in their place.
    pub fn constants_mut(&mut self) -> &mut Constants<A::Tensor> {
        &mut self.constants
    }

    /// Limits what each run may use, instead of [`Limits::default`] with what weights and inputs allow beside it.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = Some(limits);
    }

    /// The limits of a run on inputs.
    fn limits(&self, inputs: &[(String, Slot<A::Tensor>)]) -> Limits {
        self.limits.unwrap_or_else(|| {
            let inputs = inputs.iter().map(|(_, slot)| execute::bytes(&self.accelerator, slot));
            Limits::default().for_bytes(inputs.fold(self.weights, u64::saturating_add))
        })
    }

    /// Runs the model on values by input name; gives the outputs in the order of the graph, on the host.
    ///
    /// # Errors
    /// When an input is missing, unknown or of the wrong type or shape, or a node cannot do its work.
    pub fn run(&self, inputs: Vec<(String, crate::Value)>) -> Result<Vec<crate::Value>> {
        let inputs = inputs.into_iter().map(|(name, value)| (name, Slot::host(value))).collect();
        let outputs = self.run_slots(inputs)?;
        outputs.into_iter().map(|slot| slot.into_value(&self.accelerator)).collect()
    }

    /// Runs the model on values that may be on the device, and leaves the outputs where they are.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_slots(&self, inputs: Vec<(String, Slot<A::Tensor>)>) -> Result<Vec<Slot<A::Tensor>>> {
        let Some(Prepared { graph, constants, plans, cpu }) = &self.prepared else {
            return self.run_watched(inputs, &mut |_, _| Ok(()));
        };
        let _limited = Limited::new(self.limits(&inputs));
        let inputs = inputs::bind(&self.model.graph, inputs)?;
        let changes_default =
            self.model.graph.inputs.iter().zip(&inputs).any(|(port, given)| port.optional && given.is_some());
        if changes_default {
            return execute::graph(&self.plain(), &self.model.graph, inputs, Vec::new(), &mut |_, _| Ok(()));
        }
        if let Some(cpu) = cpu {
            let values = self.values(inputs)?;
            let other = |at: usize, inputs: &[Option<crate::Value>]| self.other(graph, plans, at, inputs);
            return Ok(cpu.run(graph, values, &other)?.into_iter().map(Slot::host).collect());
        }
        let running = Running { accelerator: &self.accelerator, constants, plans };
        execute::graph(&running, graph, inputs, Vec::new(), &mut |_, _| Ok(()))
    }

    /// As [`Session::run_slots`]; `watch` sees every value of the main graph by name when it is made.
    ///
    /// # Errors
    /// As [`Session::run`], or what `watch` answers.
    pub fn run_watched(
        &self,
        inputs: Vec<(String, Slot<A::Tensor>)>,
        watch: Watch<'_, A::Tensor>,
    ) -> Result<Vec<Slot<A::Tensor>>> {
        let _limited = Limited::new(self.limits(&inputs));
        let inputs = inputs::bind(&self.model.graph, inputs)?;
        execute::graph(&self.plain(), &self.model.graph, inputs, Vec::new(), watch)
    }

    /// Runs a prepared graph on a CPU for `seconds`: the operator and name of each step with its time, in seconds a run. Empty where the
    /// graph is not run as a whole.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn profile(&self, inputs: Vec<(String, crate::Value)>, seconds: f64) -> Result<Vec<(String, String, f64)>> {
        let Some(Prepared { graph, plans, cpu: Some(cpu), .. }) = &self.prepared else { return Ok(Vec::new()) };
        let inputs = inputs.into_iter().map(|(name, value)| (name, Slot::host(value))).collect();
        let values = self.values(inputs::bind(&self.model.graph, inputs)?)?;
        let other = |at: usize, inputs: &[Option<crate::Value>]| self.other(graph, plans, at, inputs);
        let steps = cpu.profile(graph, values, seconds, &other)?.into_iter();
        let named = |(at, how, time): (usize, &str, f64)| {
            let node = &graph.nodes[at];
            (format!("{how}{}", node.full_operator()), node.name.clone(), time)
        };
        Ok(steps.map(named).collect())
    }

    /// Runs one node on the accelerator, if it takes it.
    fn other(
        &self,
        graph: &Graph,
        plans: &Plans<A::Plan>,
        at: usize,
        inputs: &[Option<crate::Value>],
    ) -> Result<Option<Vec<crate::Value>>> {
        let plan = plans.0.get(graph.id).and_then(|plans| plans.get(at));
        let Some(plan) = plan else { return Ok(None) };
        let mut slots: Vec<_> = inputs.iter().map(|value| value.clone().map(Slot::host)).collect();
        let Some(outputs) = self.accelerator.run(&graph.nodes[at], plan, &mut slots)? else { return Ok(None) };
        outputs.into_iter().map(|slot| slot.into_value(&self.accelerator)).collect::<Result<Vec<_>>>().map(Some)
    }

    fn values(&self, slots: Vec<Option<Slot<A::Tensor>>>) -> Result<Vec<Option<crate::Value>>> {
        slots.into_iter().map(|slot| slot.map(|slot| slot.into_value(&self.accelerator)).transpose()).collect()
    }

    fn plain(&self) -> Running<'_, A> {
        let plans = self.plans.get_or_init(|| Plans::new(&self.accelerator, &self.model.graph, self.model.graphs));
        Running { accelerator: &self.accelerator, constants: &self.constants, plans }
    }
}
