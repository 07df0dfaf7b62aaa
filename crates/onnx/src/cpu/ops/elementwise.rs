//! Functions of single values and of pairs, where possible in the memory of what they are given.

use rekindle_kernels::{Beside, Binary, Memory, Pointwise, Unary};

use crate::array::broadcast_shape;
use crate::cpu::fuse::{self, Following};
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::run::Context;
use crate::cpu::tensor::{Source, Tensor, either_order};
use crate::graph::Node;
use crate::ops::BatchNormalization;
use crate::{DType, Result, ValueId};

/// A shape that no tensor has: nothing is added after these operators.
const ALONE: &[usize] = &[usize::MAX];

#[derive(Clone, Copy)]
enum Function {
    Pointwise(Pointwise),
    Unary(Unary),
}

impl Function {
    fn apply(self, values: &mut [f32]) {
        match self {
            Self::Pointwise(function) => function.apply(values),
            Self::Unary(function) => function.apply(values),
        }
    }
}

pub(super) fn unary(p: &mut Planner<'_>, node: &Node) -> Planned {
    if !node.domain.is_empty() {
        return Ok(false);
    }
    let function = match fuse::function(p, node)? {
        Some(function) => Function::Pointwise(function),
        None => Function::Unary(match node.operator.as_str() {
            "Abs" => Unary::Abs,
            "Erf" => Unary::Erf,
            "Exp" => Unary::Exp,
            "Neg" => Unary::Neg,
            "Reciprocal" => Unary::Reciprocal,
            "Sqrt" => Unary::Sqrt,
            _ => return Ok(false),
        }),
    };
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let Some(id) = node.inputs[0] else { return Ok(false) };
    let len = x.len();
    // x * sigmoid(x) and the like
    if let Function::Pointwise(_) = function
        && let Some(gate) = p.users(id).iter().position(|&user| user == p.at)
        && p.users(id).len() == 2
    {
        let product = p.users(id)[1 - gate];
        if let Some((nodes, function)) = Following::gated(p, id)?
            && nodes == [p.at, product]
        {
            let last = p.graph_node(product).outputs.first().copied().flatten();
            // Both nodes' uses of the value end here: its memory is not written over.
            let out = p.allocate(DType::F32, x.shape.clone(), x.channels_last)?;
            let source = x.source();
            p.emit(
                Box::new(move |context, outputs| {
                    let out = outputs[0].values_mut::<f32>(len);
                    out.copy_from_slice(context.floats(&source)?);
                    function.apply(out);
                    Ok(())
                }),
                &[&out],
            )?;
            p.set(last, out);
            p.absorb(product);
            return Ok(true);
        }
    }
    if p.may_overwrite(id, &x) {
        p.emit(
            Box::new(move |_, outputs| {
                function.apply(outputs[0].values_mut(len));
                Ok(())
            }),
            &[&x],
        )?;
        p.alias(node.outputs[0], &x, x.shape.clone(), x.channels_last);
        return Ok(true);
    }
    let out = p.allocate(DType::F32, x.shape.clone(), x.channels_last)?;
    let source = x.source();
    p.emit(
        Box::new(move |context, outputs| {
            let out = outputs[0].values_mut::<f32>(len);
            out.copy_from_slice(context.floats(&source)?);
            function.apply(out);
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}

/// Sizes and, for each operand, strides of values, axes that are alike for both taken together.
struct Lined {
    shape: Vec<usize>,
    strides: [Vec<usize>; 2],
}

impl Lined {
    fn of(shape: &[usize], operands: [&[usize]; 2]) -> Self {
        let rank = shape.len();
        let strides = operands.map(|own| {
            let mut strides = vec![0; rank];
            let mut apart = 1;
            for back in 0..own.len() {
                let size = own[own.len() - 1 - back];
                if size != 1 {
                    strides[rank - 1 - back] = apart;
                }
                apart *= size;
            }
            strides
        });
        let mut lined = Self { shape: Vec::new(), strides: [Vec::new(), Vec::new()] };
        for axis in (0..rank).filter(|&axis| shape[axis] != 1) {
            let joins = lined.shape.last().is_some()
                && (0..2).all(|operand| lined.strides[operand].last() == Some(&(strides[operand][axis] * shape[axis])));
            if joins {
                *lined.shape.last_mut().expect("an axis was found") *= shape[axis];
                for (lined, strides) in lined.strides.iter_mut().zip(&strides) {
                    *lined.last_mut().expect("an axis was found") = strides[axis];
                }
            } else {
                lined.shape.push(shape[axis]);
                (0..2).for_each(|operand| lined.strides[operand].push(strides[operand][axis]));
            }
        }
        if lined.shape.is_empty() {
            lined = Self { shape: vec![1], strides: [vec![0], vec![0]] };
        }
        lined
    }

    /// Whether an operand has as many values as the result.
    fn whole(&self, operand: usize) -> bool {
        self.shape.iter().zip(&self.strides[operand]).all(|(size, stride)| *size == 1 || *stride != 0)
    }
}

/// A tensor as it is stored, beside others of four axes with their channels last.
fn stored(p: &mut Planner<'_>, id: ValueId, tensor: &Tensor, channels_last: bool) -> Result<(Tensor, Vec<usize>)> {
    if !channels_last {
        let tensor = p.plain(id, tensor)?;
        let shape = tensor.shape.clone();
        return Ok((tensor, shape));
    }
    let mut shape = vec![1; 4 - tensor.shape.len()];
    shape.extend(&tensor.shape);
    let tensor = if tensor.shape.len() == 4 { p.channels_last(id, tensor)? } else { tensor.clone() };
    Ok((tensor, vec![shape[0], shape[2], shape[3], shape[1]]))
}

pub(super) fn binary(p: &mut Planner<'_>, node: &Node) -> Planned {
    let function = match node.operator.as_str() {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        _ => Binary::Div,
    };
    if !node.domain.is_empty() || node.version < 7 {
        return Ok(false);
    }
    let (Some(a), Some(b)) = (p.input(node, 0)?, p.input(node, 1)?) else { return Ok(false) };
    let &[Some(a_id), Some(b_id)] = node.inputs.as_slice() else { return Ok(false) };
    if !a.is_float() || !b.is_float() {
        return Ok(false);
    }
    let Ok(shape) = broadcast_shape(&[&a.shape, &b.shape]) else { return Ok(false) };
    // Fewer axes than four beside images: only what either order of axes leaves alone.
    let images = (a.channels_last || b.channels_last) && shape.len() == 4;
    let fits = |tensor: &Tensor| {
        let mut four = vec![1; 4usize.saturating_sub(tensor.shape.len())];
        four.extend(&tensor.shape);
        tensor.shape.len() == 4 || either_order(&four)
    };
    let images = images && fits(&a) && fits(&b);
    let (a, a_stored) = stored(p, a_id, &a, images)?;
    let (b, b_stored) = stored(p, b_id, &b, images)?;
    let whole = if images { vec![shape[0], shape[2], shape[3], shape[1]] } else { shape.clone() };
    let lined = Lined::of(&whole, [&a_stored, &b_stored]);
    let following = Following::of(p, node, Pointwise::None, ALONE, images)?;
    let then = following.function;
    let len = shape.iter().product::<usize>();
    let channels_last = images && !either_order(&shape);
    let overwritten = [(a_id, &a), (b_id, &b)]
        .into_iter()
        .position(|(id, tensor)| tensor.len() == len && a_id != b_id && p.may_overwrite(id, tensor));
    let overwritten = overwritten.filter(|&operand| lined.whole(operand));
    if let Some(operand) = overwritten {
        let (own, other) = if operand == 0 { (&a, b.source()) } else { (&b, a.source()) };
        p.emit(
            Box::new(move |context, outputs| {
                let values = outputs[0].values_mut::<f32>(len);
                let beside = Beside { shape: &lined.shape, strides: &lined.strides[1 - operand] };
                function.apply(operand == 1, values, context.floats(&other)?, beside);
                then.apply(values);
                Ok(())
            }),
            &[own],
        )?;
        p.hold(own);
        let out = Tensor { shape, channels_last, ..own.clone() };
        following.finish(p, out);
        return Ok(true);
    }
    let out = p.allocate(DType::F32, shape, channels_last)?;
    let sources = [a.source(), b.source()];
    p.emit(
        Box::new(move |context, outputs| {
            pair(context, &mut outputs[0], len, function, &lined, sources)?;
            then.apply(outputs[0].values_mut(len));
            Ok(())
        }),
        &[&out],
    )?;
    following.finish(p, out);
    Ok(true)
}

fn pair(
    context: &Context<'_>,
    out: &mut Memory,
    len: usize,
    function: Binary,
    lined: &Lined,
    [a, b]: [Source; 2],
) -> Result<()> {
    let (a, b) = (context.floats(&a)?, context.floats(&b)?);
    let values = out.values_mut::<f32>(len);
    let beside = |operand: usize| Beside { shape: &lined.shape, strides: &lined.strides[operand] };
    if lined.whole(0) {
        values.copy_from_slice(a);
        function.apply(false, values, b, beside(1));
    } else if lined.whole(1) {
        values.copy_from_slice(b);
        function.apply(true, values, a, beside(0));
    } else {
        values.fill(0.0);
        Binary::Add.apply(false, values, a, beside(0));
        function.apply(false, values, b, beside(1));
    }
    Ok(())
}

/// Normalization of each channel by constants, with the function that follows it.
pub(super) fn batch_normalization(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(norm) = node.get::<BatchNormalization>() else { return Ok(false) };
    if norm.training || norm.each_place || norm.version < 7 || node.outputs.iter().flatten().count() > 1 {
        return Ok(false);
    }
    let epsilon = norm.epsilon;
    let Some(x) = p.input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let (Some(id), &[batch, channels, ref rest @ ..]) = (node.inputs[0], x.shape.as_slice()) else { return Ok(false) };
    let mut parameters = Vec::new();
    for position in 1..5 {
        match p.constant(node, position)?.filter(|array| array.shape() == [channels]) {
            Some(array) => match array.values::<f32>() {
                Some(values) => parameters.push(values.to_vec()),
                None => return Ok(false),
            },
            None => return Ok(false),
        }
    }
    let factors: Vec<f32> = parameters[0]
        .iter()
        .zip(&parameters[3])
        .map(|(scale, variance)| (f64::from(*scale) / (f64::from(*variance) + epsilon).sqrt()) as f32)
        .collect();
    let summands: Vec<f32> = (0..channels)
        .map(|c| (f64::from(parameters[1][c]) - f64::from(parameters[2][c]) * f64::from(factors[c])) as f32)
        .collect();
    let inner: usize = rest.iter().product();
    let following = Following::of(p, node, Pointwise::None, ALONE, x.channels_last)?;
    let function = following.function;
    let len = x.len();
    let last = x.channels_last || inner == 1;
    let scale = rekindle_kernels::ChannelAffine { factors, summands, function };
    let apply = move |input: Option<&[f32]>, out: &mut [f32]| {
        let channel = if last { [batch * inner, 1] } else { [batch, inner] };
        scale.apply(input, out, channel);
    };
    if p.may_overwrite(id, &x) {
        p.emit(
            Box::new(move |_, outputs| {
                apply(None, outputs[0].values_mut(len));
                Ok(())
            }),
            &[&x],
        )?;
        p.hold(&x);
        following.finish(p, x);
        return Ok(true);
    }
    let out = p.allocate(DType::F32, x.shape.clone(), x.channels_last)?;
    let source = x.source();
    p.emit(
        Box::new(move |context, outputs| {
            apply(Some(context.floats(&source)?), outputs[0].values_mut(len));
            Ok(())
        }),
        &[&out],
    )?;
    following.finish(p, out);
    Ok(true)
}
