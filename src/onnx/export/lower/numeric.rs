//! Arithmetic, reductions and functions of single values.

use burn::backend::ir::{
    FloatOperationIr, NumericOperationIr, PadModeIr, PadOpIr, ReduceDimOpIr, ScalarIr, TensorIr, UnaryOpIr,
};

use super::super::graph::{Graph, int, ints, text};
use super::UNKNOWN;

pub fn lower(graph: &mut Graph<'_>, operation: &NumericOperationIr) -> Result<(), String> {
    match operation {
        NumericOperationIr::Add(op) => binary(graph, "Add", [&op.lhs, &op.rhs, &op.out]),
        NumericOperationIr::Sub(op) => binary(graph, "Sub", [&op.lhs, &op.rhs, &op.out]),
        NumericOperationIr::Mul(op) => binary(graph, "Mul", [&op.lhs, &op.rhs, &op.out]),
        NumericOperationIr::Div(op) => binary(graph, "Div", [&op.lhs, &op.rhs, &op.out]),
        NumericOperationIr::AddScalar(op) => with_number(graph, "Add", &op.lhs, op.rhs, &op.out),
        NumericOperationIr::SubScalar(op) => with_number(graph, "Sub", &op.lhs, op.rhs, &op.out),
        NumericOperationIr::MulScalar(op) => with_number(graph, "Mul", &op.lhs, op.rhs, &op.out),
        NumericOperationIr::DivScalar(op) => with_number(graph, "Div", &op.lhs, op.rhs, &op.out),
        NumericOperationIr::PowiScalar(op) => with_number(graph, "Pow", &op.lhs, op.rhs, &op.out),
        NumericOperationIr::Abs(op) => unary(graph, "Abs", op),
        NumericOperationIr::Neg(op) => unary(graph, "Neg", op),
        NumericOperationIr::Sign(op) => unary(graph, "Sign", op),
        NumericOperationIr::Clamp(op) => clip(graph, &op.tensor, Some(op.min), Some(op.max), &op.out),
        NumericOperationIr::ClampMin(op) => clip(graph, &op.lhs, Some(op.rhs), None, &op.out),
        NumericOperationIr::ClampMax(op) => clip(graph, &op.lhs, None, Some(op.rhs), &op.out),
        NumericOperationIr::SumDim(op) => reduce(graph, "ReduceSum", op, 13),
        NumericOperationIr::MeanDim(op) => reduce(graph, "ReduceMean", op, 18),
        NumericOperationIr::MaxDim(op) => reduce(graph, "ReduceMax", op, 18),
        NumericOperationIr::MinDim(op) => reduce(graph, "ReduceMin", op, 18),
        NumericOperationIr::ProdDim(op) => reduce(graph, "ReduceProd", op, 18),
        NumericOperationIr::Pad(op) => pad(graph, op),
        _ => Err(UNKNOWN.to_string()),
    }
}

pub fn lower_float(graph: &mut Graph<'_>, operation: &FloatOperationIr) -> Result<(), String> {
    match operation {
        FloatOperationIr::Exp(op) => unary(graph, "Exp", op),
        FloatOperationIr::Log(op) => unary(graph, "Log", op),
        FloatOperationIr::Sqrt(op) => unary(graph, "Sqrt", op),
        FloatOperationIr::Tanh(op) => unary(graph, "Tanh", op),
        FloatOperationIr::Erf(op) => unary(graph, "Erf", op),
        FloatOperationIr::Sin(op) => unary(graph, "Sin", op),
        FloatOperationIr::Cos(op) => unary(graph, "Cos", op),
        FloatOperationIr::Floor(op) => unary(graph, "Floor", op),
        FloatOperationIr::Ceil(op) => unary(graph, "Ceil", op),
        FloatOperationIr::Round(op) => unary(graph, "Round", op),
        FloatOperationIr::Recip(op) => unary(graph, "Reciprocal", op),
        FloatOperationIr::PowfScalar(op) => with_number(graph, "Pow", &op.lhs, op.rhs, &op.out),
        FloatOperationIr::Powf(op) => binary(graph, "Pow", [&op.lhs, &op.rhs, &op.out]),
        FloatOperationIr::Matmul(op) => binary(graph, "MatMul", [&op.lhs, &op.rhs, &op.out]),
        _ => Err(UNKNOWN.to_string()),
    }
}

fn unary(graph: &mut Graph<'_>, operator: &str, op: &UnaryOpIr) -> Result<(), String> {
    let input = graph.value(&op.input)?;
    graph.node("", operator, vec![input], &[&op.out], vec![]);
    Ok(())
}

fn binary(graph: &mut Graph<'_>, operator: &str, [lhs, rhs, out]: [&TensorIr; 3]) -> Result<(), String> {
    let inputs = vec![graph.value(lhs)?, graph.value(rhs)?];
    graph.node("", operator, inputs, &[out], vec![]);
    Ok(())
}

fn with_number(
    graph: &mut Graph<'_>,
    operator: &str,
    lhs: &TensorIr,
    rhs: ScalarIr,
    out: &TensorIr,
) -> Result<(), String> {
    let inputs = vec![graph.value(lhs)?, graph.scalar(rhs.elem(), lhs)?];
    graph.node("", operator, inputs, &[out], vec![]);
    Ok(())
}

fn clip(
    graph: &mut Graph<'_>,
    input: &TensorIr,
    min: Option<ScalarIr>,
    max: Option<ScalarIr>,
    out: &TensorIr,
) -> Result<(), String> {
    let mut inputs = vec![graph.value(input)?];
    for bound in [min, max] {
        inputs.push(match bound {
            Some(bound) => graph.scalar(bound.elem(), input)?,
            None => String::new(),
        });
    }
    // An input that is left out at the end is not written.
    if max.is_none() {
        inputs.pop();
    }
    graph.node("", "Clip", inputs, &[out], vec![]);
    Ok(())
}

/// A reduction of one axis, which stays with the size 1. The axes are an attribute in older operator sets, an input since `since`.
fn reduce(graph: &mut Graph<'_>, operator: &str, op: &ReduceDimOpIr, since: i64) -> Result<(), String> {
    let mut inputs = vec![graph.value(&op.input)?];
    let mut attributes = vec![int("keepdims", 1)];
    if graph.opset >= since {
        inputs.push(graph.integers("Axes", &[op.axis as i64]));
    } else {
        attributes.push(ints("axes", &[op.axis]));
    }
    graph.node("", operator, inputs, &[&op.out], attributes);
    Ok(())
}

fn pad(graph: &mut Graph<'_>, op: &PadOpIr) -> Result<(), String> {
    let sides = op.padding.iter().map(|pair| pair.0).chain(op.padding.iter().map(|pair| pair.1));
    let sides: Vec<i64> = sides.map(|size| size as i64).collect();
    let mut inputs = vec![graph.value(&op.input)?, graph.integers("Pads", &sides)];
    let mode = match op.mode {
        PadModeIr::Constant(value) => {
            inputs.push(graph.scalar(value.elem(), &op.input)?);
            "constant"
        }
        PadModeIr::Reflect => "reflect",
        PadModeIr::Edge => "edge",
    };
    graph.node("", "Pad", inputs, &[&op.out], vec![text("mode", mode)]);
    Ok(())
}

/// `x · (1 + erf(x / √2)) / 2`, for operator sets without `Gelu`.
pub fn gelu(graph: &mut Graph<'_>, op: &UnaryOpIr) -> Result<(), String> {
    let module = graph.names.layer("GELU");
    let shape = graph.shape(&op.input);
    let x = graph.value(&op.input)?;
    let [root, one, half] = [std::f64::consts::SQRT_2, 1.0, 0.5].map(|number| graph.scalar(number, &op.input));
    let scaled = graph.inner(&module, "Div", vec![x.clone(), root?], &op.input, &shape, vec![])?;
    let erf = graph.inner(&module, "Erf", vec![scaled], &op.input, &shape, vec![])?;
    let sum = graph.inner(&module, "Add", vec![erf, one?], &op.input, &shape, vec![])?;
    let product = graph.inner(&module, "Mul", vec![x, sum], &op.input, &shape, vec![])?;
    graph.node(&module, "Mul", vec![product, half?], &[&op.out], vec![]);
    Ok(())
}
