//! Functions of single values and of pairs, where possible in the memory of what they are given.

use rekindle_kernels::{Beside, Binary, Unary};
use rekindle_onnx::{Node, Result};

use super::latest::Latest;
use super::{Buffer, Floats, HostOp};
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;
use crate::onnx::run::elementwise::Lined;

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    if let Some(function) = unary(node)? {
        return Ok(Some(Box::new(move |call| map(call, function))));
    }
    // Older versions say by attributes how they broadcast.
    let Some(function) = binary(node).filter(|_| node.version >= 7 && node.inputs.len() == 2) else { return Ok(None) };
    let latest = Latest::default();
    Ok(Some(Box::new(move |call| pair(call, function, &latest))))
}

fn unary(node: &Node) -> Result<Option<Unary>> {
    Ok(Some(match node.operator.as_str() {
        "Abs" => Unary::Abs,
        "Erf" => Unary::Erf,
        "Exp" => Unary::Exp,
        "Gelu" if node.attributes.text_or("approximate", "none")? == "none" => Unary::Gelu,
        "Neg" => Unary::Neg,
        "Reciprocal" => Unary::Reciprocal,
        "Relu" => Unary::Relu,
        "Sigmoid" => Unary::Sigmoid,
        "Sqrt" => Unary::Sqrt,
        "Tanh" => Unary::Tanh,
        _ => return Ok(None),
    }))
}

fn binary(node: &Node) -> Option<Binary> {
    Some(match node.operator.as_str() {
        "Add" | "Sum" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        _ => return None,
    })
}

fn map(call: &mut Call<'_, '_>, function: Unary) -> Outputs {
    if call.floats(0).is_none() {
        return Ok(None);
    }
    let (x, shape) = call.take_host(0)?;
    let mut values = x.into_buffer(call.buffers());
    function.apply(values.values_mut());
    call.answer(values, shape)
}

/// How two operands of some shapes go together.
#[derive(Debug, Clone)]
struct Plan {
    shape: Vec<usize>,
    /// The shape with axes taken together, and for each operand how far apart its values are along these.
    grouped: Vec<usize>,
    strides: [Vec<usize>; 2],
    /// Whether an operand has as many values as the answer.
    whole: [bool; 2],
}

/// How far apart an operand's values are along the axes of the whole: zero where it has only one.
pub(super) fn strides(part: &[usize], whole: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; part.len()];
    let mut apart = 1;
    for axis in (0..part.len()).rev() {
        if part[axis] == whole[axis] {
            strides[axis] = apart;
            apart *= part[axis];
        }
    }
    strides
}

impl Plan {
    fn of(left: &[usize], right: &[usize]) -> Option<Self> {
        let Lined { shape, grouped, parts } = Lined::up(&[left, right])?;
        let strides = [strides(&parts[0], &grouped), strides(&parts[1], &grouped)];
        let whole = [parts[0] == grouped, parts[1] == grouped];
        Some(Self { shape, grouped, strides, whole })
    }

    fn apply(&self, function: Binary, turned: bool, left: &mut Buffer, right: &Floats, position: usize) {
        function.apply(
            turned,
            left.values_mut(),
            right.values(),
            Beside { shape: &self.grouped, strides: &self.strides[position] },
        );
    }
}

fn pair(call: &mut Call<'_, '_>, function: Binary, latest: &Latest<Plan>) -> Outputs {
    let (Some(a), Some(b)) = (call.floats(0), call.floats(1)) else { return Ok(None) };
    let plan = if a == b {
        let count = a.iter().product();
        Plan { shape: a.to_vec(), grouped: vec![count], strides: [vec![1], vec![1]], whole: [true; 2] }
    } else {
        // Both shapes in one.
        let both: Vec<usize> = a.iter().chain(&[usize::MAX]).chain(b).copied().collect();
        match latest.of(&both, || Ok(Plan::of(a, b)))? {
            Some(plan) => plan,
            None => return Ok(None),
        }
    };
    let ((a, _), (b, _)) = (call.take_host(0)?, call.take_host(1)?);
    // In the memory of one that is not needed any more.
    let buffers = call.buffers();
    let values = if plan.whole[1] && (!plan.whole[0] || b.is_own() && !a.is_own()) {
        let mut values = b.into_buffer(buffers);
        plan.apply(function, true, &mut values, &a, 0);
        values
    } else if plan.whole[0] {
        let mut values = a.into_buffer(buffers);
        plan.apply(function, false, &mut values, &b, 1);
        values
    } else {
        let mut values = call.buffer(&plan.shape)?;
        values.values_mut().fill(0.0);
        plan.apply(Binary::Add, false, &mut values, &a, 0);
        plan.apply(function, false, &mut values, &b, 1);
        values
    };
    call.answer(values, plan.shape)
}
