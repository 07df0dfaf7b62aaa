//! Functions of whole rows: softmax and layer normalization.

use rekindle_kernels::RowFunction;

use crate::DType;
use crate::array::axis;
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::ops::{LayerNormalization, Softmax, SoftmaxKind};

enum Rows {
    Softmax,
    LogSoftmax,
    LayerNorm { epsilon: f32, scale: Vec<f32>, shift: Option<Vec<f32>> },
}

pub(super) fn rows(p: &mut Planner<'_>, node: &Node) -> Planned {
    if !node.domain.is_empty() {
        return Ok(false);
    }
    let Some(x) = p.plain_input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let Some(id) = node.inputs[0] else { return Ok(false) };
    let (softmax, normalization) = (node.get::<Softmax>(), node.get::<LayerNormalization>());
    let (row, function) = match (softmax, normalization) {
        (Some(softmax), _) => {
            let (row, inner) = softmax.row(&x.shape)?;
            let function = match softmax.kind {
                _ if inner != 1 => return Ok(false),
                SoftmaxKind::Softmax => Rows::Softmax,
                SoftmaxKind::LogSoftmax => Rows::LogSoftmax,
                SoftmaxKind::Hardmax => return Ok(false),
            };
            (row, function)
        }
        (None, None) => return Ok(false),
        (None, Some(normalization)) => {
            let along = axis(normalization.axis, x.shape.len())?;
            if node.outputs.iter().skip(1).any(Option::is_some) || normalization.stash != DType::F32 {
                return Ok(false);
            }
            let mut parameters = Vec::new();
            for position in 1..3 {
                let given = node.inputs.get(position).is_some_and(Option::is_some);
                parameters.push(match p.constant(node, position)? {
                    None if given => return Ok(false),
                    None => None,
                    Some(array) => match array.values::<f32>() {
                        Some(values) if array.shape() == &x.shape[along..] => Some(values.to_vec()),
                        _ => return Ok(false),
                    },
                });
            }
            let [scale, shift] = <[_; 2]>::try_from(parameters).expect("two parameters");
            let Some(scale) = scale else { return Ok(false) };
            let function = Rows::LayerNorm { epsilon: normalization.epsilon as f32, scale, shift };
            (x.shape[along..].iter().product(), function)
        }
    };
    let len = x.len();
    let apply = move |values: &mut [f32]| match &function {
        Rows::Softmax => RowFunction::Softmax.apply(values, row),
        Rows::LogSoftmax => RowFunction::LogSoftmax.apply(values, row),
        Rows::LayerNorm { epsilon, scale, shift } => {
            RowFunction::LayerNorm { epsilon: *epsilon, scale, shift: shift.as_deref() }.apply(values, row);
        }
    };
    if p.may_overwrite(id, &x) {
        p.emit(
            Box::new(move |_, outputs| {
                apply(outputs[0].values_mut(len));
                Ok(())
            }),
            &[&x],
        )?;
        p.alias(node.outputs[0], &x, x.shape.clone(), false);
        return Ok(true);
    }
    let out = p.allocate(DType::F32, x.shape.clone(), false)?;
    let source = x.source();
    p.emit(
        Box::new(move |context, outputs| {
            let out = outputs[0].values_mut::<f32>(len);
            out.copy_from_slice(context.floats(&source)?);
            apply(out);
            Ok(())
        }),
        &[&out],
    )?;
    p.set(node.outputs[0], out);
    Ok(true)
}
