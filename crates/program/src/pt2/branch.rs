//! Graphs inside graphs.

use rekindle_onnx::DType;

use super::json::{Graph, Node, case};
use super::lower::{Run, axes, name_of, nested};
use crate::lower::Value;
use crate::{Error, Result};

impl Run {
    /// `torch.cond(condition, true graph, false graph, operands)` as If.
    pub(super) fn cond(&mut self, graph: &Graph, node: &Node, depth: usize) -> Result<Vec<Value>> {
        let [condition, yes, no, operands] = node.inputs.as_slice() else {
            return Err(Error::invalid("cond takes four arguments"));
        };
        let condition = self.argument(&condition.arg)?;
        let condition = self.l.scalar(&condition, DType::Bool)?;
        let flat = self.l.ints(&[])?;
        let condition = self.l.reshape(&condition, &flat)?;
        let operands = self.argument(&operands.arg)?;
        let operands = operands.list()?.to_vec();
        let mut branches = Vec::new();
        for branch in [yes, no] {
            let inner = nested(&branch.arg).ok_or_else(|| Error::invalid("a branch that is no graph"))??;
            let outer = self.l.enter("branch");
            let values = self.values.clone();
            let outcome = self.branch(&inner, &operands, depth);
            self.values = values;
            let nested = self.l.leave(outer);
            outcome?;
            branches.push(self.l.builder.close(nested));
        }
        let count = node.outputs.iter().map(|output| match case(output) {
            Ok(("as_tensors", tensors)) => tensors.as_array().map_or(0, Vec::len),
            _ => 1,
        });
        let count: usize = count.sum();
        let (no, yes) = (branches.pop(), branches.pop());
        let (Some(yes), Some(no)) = (yes, no) else { return Err(Error::invalid("cond without branches")) };
        let names = self.l.nodes("If", &[&condition], count, &[("then_branch", yes), ("else_branch", no)])?;
        let mut results = Vec::new();
        for (at, name) in names.into_iter().enumerate() {
            let id = self.l.tensor_of(name, DType::F32, Vec::new());
            let output = node.outputs.iter().flat_map(|output| match case(output) {
                Ok(("as_tensors", tensors)) => tensors.as_array().cloned().unwrap_or_default(),
                Ok((_, value)) => vec![value.clone()],
                Err(_) => Vec::new(),
            });
            if let Some(Ok(name)) =
                output.collect::<Vec<_>>().get(at).map(|json| name_of(json, "name").map(str::to_string))
            {
                self.described(graph, &name, id)?;
                self.l.learn(id);
            }
            results.push(Value::Tensor(id));
        }
        Ok(results)
    }

    fn branch(&mut self, inner: &Graph, operands: &[Value], depth: usize) -> Result<()> {
        for (input, operand) in inner.inputs.iter().zip(operands) {
            let (_, value) = case(input)?;
            if let Ok(name) = name_of(value, "name") {
                self.values.insert(name.to_string(), operand.clone());
            }
        }
        self.nodes(inner, depth + 1)?;
        for output in &inner.outputs {
            let tensor = self.argument(output)?.tensor()?;
            let value = self.l.value(tensor)?;
            // An output must be made inside the branch.
            let own = self.l.node("Identity", &[&value], &[])?;
            let axes = axes(&self.l.state(tensor).shape);
            let dtype = self.l.dtype(tensor);
            self.l.builder.output(&own, Some(dtype), Some(&axes))?;
        }
        Ok(())
    }

    /// A part of the program under `torch.no_grad`: its nodes as they are.
    pub(super) fn wrapped(&mut self, node: &Node, depth: usize) -> Result<Vec<Value>> {
        let [_, graph, operands @ ..] = node.inputs.as_slice() else {
            return Err(Error::invalid("a wrapped part without a graph"));
        };
        let inner = nested(&graph.arg).ok_or_else(|| Error::invalid("a part that is no graph"))??;
        let operands: Vec<Value> = operands.iter().map(|input| self.argument(&input.arg)).collect::<Result<_>>()?;
        let values = self.values.clone();
        for (input, operand) in inner.inputs.iter().zip(&operands) {
            let (_, value) = case(input)?;
            if let Ok(name) = name_of(value, "name") {
                self.values.insert(name.to_string(), operand.clone());
            }
        }
        self.nodes(&inner, depth + 1)?;
        let results = inner.outputs.iter().map(|output| self.argument(output)).collect::<Result<_>>();
        self.values = values;
        results
    }
}
