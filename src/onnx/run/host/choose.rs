//! `Where`: values of two tensors, as a third one says, which is the interpreter's.

use rekindle_onnx::{DType, Node, Result};

use super::HostOp;
use super::elementwise::strides;
use super::latest::Latest;
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;
use crate::onnx::run::elementwise::Lined;

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    let latest = Latest::default();
    Ok((node.operator == "Where").then(|| -> HostOp { Box::new(move |call| choose(call, &latest)) }))
}

/// How condition and operands of some shapes go together.
#[derive(Debug, Clone)]
struct Plan {
    shape: Vec<usize>,
    /// The shape with axes taken together, and for each operand how far apart its values are along these.
    grouped: Vec<usize>,
    strides: [Vec<usize>; 3],
}

impl Plan {
    fn of(shapes: [&[usize]; 3]) -> Option<Self> {
        let Lined { shape, grouped, parts } = Lined::up(&shapes)?;
        let strides = [0, 1, 2].map(|operand| strides(&parts[operand], &grouped));
        Some(Self { shape, grouped, strides })
    }
}

fn choose(call: &mut Call<'_, '_>, latest: &Latest<Plan>) -> Outputs {
    let (Some(DType::Bool), Some(yes), Some(no)) = (call.dtype(0), call.floats(1), call.floats(2)) else {
        return Ok(None);
    };
    let Some(condition) = call.host(0)?.filter(|condition| !condition.is_empty()) else { return Ok(None) };
    let shapes = [condition.shape(), yes, no];
    let Some(plan) = latest.of(&shapes.join(&usize::MAX), || Ok(Plan::of(shapes)))? else { return Ok(None) };
    let condition = condition.expect::<bool>()?;
    let ((yes, _), (no, _)) = (call.take_host(1)?, call.take_host(2)?);
    let (yes, no) = (yes.values(), no.values());
    let mut output = call.buffer(&plan.shape)?;
    let last = plan.grouped.len() - 1;
    let apart = [0, 1, 2].map(|operand| plan.strides[operand][last]);
    // Where the row of each operand begins, counted axis by axis.
    let (mut starts, mut counts) = ([0; 3], vec![0; last]);
    for row in output.values_mut().chunks_exact_mut(plan.grouped[last]) {
        for (at, out) in row.iter_mut().enumerate() {
            let place = |operand: usize| starts[operand] + at * apart[operand];
            *out = if condition[place(0)] { yes[place(1)] } else { no[place(2)] };
        }
        for axis in (0..last).rev() {
            let (size, all) = (plan.grouped[axis], &plan.strides);
            counts[axis] += 1;
            if counts[axis] < size {
                starts.iter_mut().zip(all).for_each(|(start, strides)| *start += strides[axis]);
                break;
            }
            starts.iter_mut().zip(all).for_each(|(start, strides)| *start -= strides[axis] * (size - 1));
            counts[axis] = 0;
        }
    }
    call.answer(output, plan.shape)
}
