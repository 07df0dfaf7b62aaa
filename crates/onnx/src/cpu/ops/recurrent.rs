//! `LSTM` and `GRU` as most models have them: the usual activations, sequences of one length.

use rekindle_kernels::{Recurrent, RecurrentKind};

use super::conv::unfit;
use crate::DType;
use crate::cpu::plan::{Planned, Planner};
use crate::cpu::tensor::Tensor;
use crate::graph::Node;
use crate::ops::{Cell, Recurrent as Operator};

pub(super) fn recurrent(p: &mut Planner<'_>, node: &Node) -> Planned {
    let Some(op) = node.get::<Operator>() else { return Ok(false) };
    if !op.has_usual_activations() || op.coupled || op.batch_first {
        return Ok(false);
    }
    let kind = match op.cell {
        Cell::Lstm => RecurrentKind::Lstm,
        Cell::Gru => RecurrentKind::Gru { linear_before_reset: op.reset_after },
        Cell::Rnn => return Ok(false),
    };
    let backward = op.backward;
    let Some(x) = p.plain_input(node, 0)?.filter(Tensor::is_float) else { return Ok(false) };
    let &[steps, batch, inputs] = x.shape.as_slice() else { return Ok(false) };
    let ids = [1, 2].map(|position| node.inputs.get(position).copied().flatten());
    let (Some(input), Some(state)) = (p.weight(ids[0]), p.weight(ids[1])) else { return Ok(false) };
    let &[directions, rows, hidden] = state.shape.as_slice() else { return Ok(false) };
    let gates = kind.gates();
    let said = op.hidden;
    let given = |position: usize| node.inputs.get(position).is_some_and(Option::is_some);
    let fits = directions == backward.len()
        && rows == gates * hidden
        && hidden > 0
        && input.shape == [directions, rows, inputs]
        && said.is_none_or(|said| said == hidden as i64)
        && input.dtype == DType::F32
        && state.dtype == DType::F32;
    if !fits || given(4) || given(7) {
        return Ok(false);
    }
    let bias = match p.constant(node, 3)? {
        None if given(3) => return Ok(false),
        None => None,
        Some(bias) => match bias.values::<f32>() {
            Some(values) if bias.shape() == [directions, 2 * rows] => Some(values.to_vec()),
            _ => return Ok(false),
        },
    };
    let mut states = Vec::new();
    for position in 5..7 {
        states.push(match p.plain_input(node, position)? {
            None => None,
            Some(tensor) if tensor.is_float() && tensor.shape == [directions, batch, hidden] => Some(tensor.source()),
            Some(_) => return Ok(false),
        });
    }
    let packed = p.source.packed.get(ids[0].unwrap_or_default(), 8, || {
        let (input, state) = (input.array()?, state.array()?);
        let (input, state) = (input.expect::<f32>()?, state.expect::<f32>()?);
        let layer = |d: usize| {
            let bias = bias.as_ref().map(|bias| &bias[d * 2 * rows..][..2 * rows]);
            let (input, state) =
                (&input[d * rows * inputs..][..rows * inputs], &state[d * rows * hidden..][..rows * hidden]);
            Recurrent::new(kind, inputs, hidden, input, state, bias).map_err(unfit)
        };
        (0..directions).map(layer).collect::<crate::Result<Vec<_>>>()
    })?;
    let y = p.allocate(DType::F32, vec![steps, directions, batch, hidden], false)?;
    let h = p.allocate(DType::F32, vec![directions, batch, hidden], false)?;
    let c = p.allocate(DType::F32, vec![directions, batch, hidden], false)?;
    let source = x.source();
    let part = batch * hidden;
    p.emit(
        Box::new(move |context, outputs| {
            let [y, h, c] = outputs else { unreachable!("three outputs were given") };
            let x = context.floats(&source)?;
            let y = y.values_mut::<f32>(steps * directions * part);
            for (memory, state) in [&mut *h, &mut *c].into_iter().zip(&states) {
                let values = memory.values_mut::<f32>(directions * part);
                match state {
                    Some(source) => values.copy_from_slice(context.floats(source)?),
                    None => values.fill(0.0),
                }
            }
            let (h, c) = (h.values_mut::<f32>(directions * part), c.values_mut::<f32>(directions * part));
            for (d, layer) in packed.iter().enumerate() {
                let range = d * part..(d + 1) * part;
                layer
                    .forward(
                        x,
                        [steps, batch],
                        backward[d],
                        &mut h[range.clone()],
                        &mut c[range],
                        &mut y[d * part..],
                        directions * part,
                    )
                    .map_err(unfit)?;
            }
            Ok(())
        }),
        &[&y, &h, &c],
    )?;
    for (position, tensor) in [y, h, c].into_iter().enumerate() {
        p.set(node.outputs.get(position).copied().flatten(), tensor);
    }
    Ok(true)
}
