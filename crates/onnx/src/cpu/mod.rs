//! A fast runtime for CPUs, on the kernels of `rekindle-kernels` and without a tensor library.
//!
//! A graph is planned once for each set of input shapes: nodes are merged with what follows them, images have their channels last
//! between layers, weights are packed, and values share memory. A second run with the same shapes plans nothing and allocates nothing
//! but its outputs. Operators without a kernel run on the session's accelerator, or as plain ones; graphs with nested graphs run that way
//! altogether.

mod fuse;
mod ops;
mod order;
mod plan;
mod quantized;
mod run;
mod tensor;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rekindle_kernels::{Memory, scope};

use crate::graph::{Body, Graph, Weight};
use crate::{Result, Value, ValueId};
pub(crate) use quantized::gather;

use plan::{NO_TENSOR, Packed, Plan, Planner, Source};
pub(crate) use run::Other;
use run::{Context, Ended, Step, Workspace, fact};

/// Plans that are kept, for as many sets of input shapes.
const PLANS: usize = 8;

/// A prepared graph on a CPU.
pub(crate) struct Runtime {
    weights: HashMap<ValueId, Weight>,
    users: Vec<Vec<usize>>,
    outside: Vec<bool>,
    packed: Packed,
    plans: Mutex<Vec<Arc<Ready>>>,
}

/// A plan, and memory of runs that have ended.
struct Ready {
    plan: Plan,
    spaces: Mutex<Vec<Workspace>>,
}

impl Runtime {
    /// What runs a graph; none where nodes of it run graphs of their own.
    pub fn new(graph: &Graph) -> Option<Self> {
        if graph.nodes.iter().any(|node| !matches!(node.body, Body::Operator(_))) {
            return None;
        }
        let mut users = vec![Vec::new(); graph.names.len()];
        let mut outside = vec![false; graph.names.len()];
        for (at, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().flatten().for_each(|id| users[*id].push(at));
        }
        graph.outputs.iter().for_each(|port| outside[port.id] = true);
        let weights = graph.constants.iter().cloned().collect();
        Some(Self { weights, users, outside, packed: Packed::default(), plans: Mutex::default() })
    }

    /// Runs a graph many times for `seconds` and gives the time of each step, in seconds, with the number of its node.
    ///
    /// # Errors
    /// As [`Runtime::run`].
    pub fn profile(
        &self,
        graph: &Graph,
        values: Vec<Option<Value>>,
        seconds: f64,
        other: &Other<'_>,
    ) -> Result<Vec<(usize, &'static str, f64)>> {
        self.run(graph, values.clone(), other)?;
        let plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(ready) = plans.into_iter().find(|ready| fits(&ready.plan, &values)) else { return Ok(Vec::new()) };
        let mut space = ready.plan.space();
        let mut times = vec![0.0; ready.plan.steps.len()];
        let (mut runs, begin) = (0, Instant::now());
        scope(|| -> Result<()> {
            while begin.elapsed().as_secs_f64() < seconds {
                space.values.clone_from(&ready.plan.start);
                space.values[..values.len()].clone_from_slice(&values);
                for (step, time) in ready.plan.steps.iter().zip(&mut times) {
                    let start = Instant::now();
                    space.step(step, &ready.plan.constants, other)?;
                    *time += start.elapsed().as_secs_f64();
                }
                runs += 1;
            }
            Ok(())
        })?;
        let name = |step: &Step| match step {
            Step::Kernel { name, .. } => Some((*name, "")),
            Step::Plain { name, .. } => Some((*name, "plain ")),
            Step::Forget(_) => None,
        };
        let steps = ready.plan.steps.iter().zip(times);
        let times = steps.filter_map(|(step, time)| name(step).map(|(at, how)| (at, how, time / f64::from(runs))));
        Ok(times.collect())
    }

    /// Runs the graph on values by the position of its inputs.
    ///
    /// # Errors
    /// When a node cannot do its work.
    pub fn run(&self, graph: &Graph, inputs: Vec<Option<Value>>, other: &Other<'_>) -> Result<Vec<Value>> {
        scope(|| self.run_values(graph, inputs, other))
    }

    fn run_values(&self, graph: &Graph, inputs: Vec<Option<Value>>, other: &Other<'_>) -> Result<Vec<Value>> {
        let fact = |value: &Value| fact(value).unwrap_or(NO_TENSOR);
        let facts = |values: &[Option<Value>]| values.iter().map(|value| value.as_ref().map(fact)).collect();
        let known = {
            let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
            let found = plans.iter().position(|ready| fits(&ready.plan, &inputs));
            if let Some(found) = found.filter(|found| *found > 0) {
                let ready = plans.remove(found);
                plans.insert(0, ready);
            }
            found.map(|_| plans[0].clone())
        };
        if let Some(ready) = known {
            let space = ready.spaces.lock().unwrap_or_else(PoisonError::into_inner).pop();
            crate::limit::hold(ready.plan.sizes.iter().map(|&bytes| bytes as u64).sum())?;
            let mut space = space.unwrap_or_else(|| ready.plan.space());
            space.values.clone_from(&ready.plan.start);
            space.values[..inputs.len()].clone_from_slice(&inputs);
            if let Some(outputs) = ready.plan.run(graph, &mut space, other)? {
                ready.spaces.lock().unwrap_or_else(PoisonError::into_inner).push(space);
                return Ok(outputs);
            }
        }
        let source = Source {
            kernels: ops::plan,
            graph,
            weights: &self.weights,
            users: &self.users,
            outside: &self.outside,
            packed: &self.packed,
            other,
        };
        let (plan, mut space) = Planner::new(&source, inputs.clone()).build(facts(&inputs))?;
        let outputs = plan.outputs(&space)?;
        space.values.iter_mut().for_each(|value| *value = None);
        let ready = Arc::new(Ready { plan, spaces: Mutex::new(vec![space]) });
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        plans.retain(|other| !fits(&other.plan, &inputs));
        plans.insert(0, ready);
        plans.truncate(PLANS);
        Ok(outputs)
    }
}

/// Whether a plan is for inputs of these types and shapes.
fn fits(plan: &Plan, inputs: &[Option<Value>]) -> bool {
    plan.inputs.iter().zip(inputs).all(|(planned, value)| match (planned, value) {
        (None, None) => true,
        (Some((dtype, shape)), Some(Value::Array(array))) => *dtype == array.dtype() && shape == array.shape(),
        (Some(planned), Some(_)) => *planned == NO_TENSOR,
        _ => false,
    })
}

impl Plan {
    /// Memory for a run.
    fn space(&self) -> Workspace {
        let mut space = Workspace::default();
        space.memories = self.sizes.iter().map(|&bytes| Memory::new(bytes)).collect();
        space.values = self.start.clone();
        space
    }

    /// Runs all steps; `None` where a value has another type or shape than it is planned for.
    fn run(&self, graph: &Graph, space: &mut Workspace, other: &Other<'_>) -> Result<Option<Vec<Value>>> {
        for step in &self.steps {
            if !matches!(step, Step::Forget(_)) {
                crate::limit::node()?;
            }
            let ended = space.step(step, &self.constants, other);
            let ended = ended.and_then(|ended| crate::limit::time().map(|()| ended)).map_err(|error| match step {
                Step::Kernel { name, .. } | Step::Plain { name, .. } => {
                    let node = &graph.nodes[*name];
                    error.in_node(&node.name, &node.full_operator())
                }
                Step::Forget(_) => error,
            })?;
            if ended == Ended::Otherwise {
                return Ok(None);
            }
        }
        self.outputs(space).map(Some)
    }

    fn outputs(&self, space: &Workspace) -> Result<Vec<Value>> {
        let other = |_: usize, _: &[Option<Value>]| Ok(None);
        let context =
            Context { other: &other, memories: &space.memories, constants: &self.constants, values: &space.values };
        let value = |tensor: &tensor::Tensor| context.value(&tensor.source(), tensor.dtype, &tensor.shape);
        self.outputs.iter().map(value).collect()
    }
}
