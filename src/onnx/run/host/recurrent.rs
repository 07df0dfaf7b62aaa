//! `LSTM` as most models have it: the usual activations, sequences of one length.

use rekindle_kernels::{Lstm, LstmWeights};
use rekindle_onnx::{Node, Result};

use super::HostOp;
use crate::kernels::CHECKED;
use crate::onnx::run::Outputs;
use crate::onnx::run::call::Call;

/// Values of a state from which on the interpreter's products of blocks serve several sequences better.
const WIDE: usize = 256;

pub(super) fn plan(node: &Node) -> Result<Option<HostOp>> {
    let rare = ["activations", "activation_alpha", "activation_beta", "clip"]
        .iter()
        .any(|name| node.attributes.get(name).is_some());
    if node.operator != "LSTM"
        || rare
        || node.attributes.flag("input_forget", false)?
        || node.attributes.flag("layout", false)?
    {
        return Ok(None);
    }
    let backward: &'static [bool] = match node.attributes.text_or("direction", "forward")? {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => return Ok(None),
    };
    let hidden = node.attributes.int("hidden_size")?;
    Ok(Some(Box::new(move |call| lstm(call, backward, hidden))))
}

fn lstm(call: &mut Call<'_, '_>, backward: &[bool], said: Option<i64>) -> Outputs {
    let (Some(&[steps, batch, inputs]), Some(&[directions, gates, hidden])) = (call.floats(0), call.floats(2)) else {
        return Ok(None);
    };
    let fits = |position: usize, shape: &[usize]| !call.has(position) || call.floats(position) == Some(shape);
    let sizes = directions == backward.len() && gates == 4 * hidden && said.is_none_or(|said| said == hidden as i64);
    let weights = call.floats(1) == Some(&[directions, gates, inputs]) && fits(3, &[directions, 2 * gates]);
    let states = fits(5, &[directions, batch, hidden]) && fits(6, &[directions, batch, hidden]);
    if !sizes || !weights || !states || call.has(4) || call.has(7) || hidden > WIDE && batch > 1 {
        return Ok(None);
    }
    let ((x, _), (input, _), (state, _)) = (call.take_host(0)?, call.take_host(1)?, call.take_host(2)?);
    let bias = if call.has(3) { Some(call.take_host(3)?.0) } else { None };
    let part = batch * hidden;
    let mut first = |position: usize| -> Result<Vec<f32>> {
        Ok(if call.has(position) {
            call.take_host(position)?.0.values().to_vec()
        } else {
            vec![0.0; directions * part]
        })
    };
    let (mut h, mut c) = (first(5)?, first(6)?);
    let shape = vec![steps, directions, batch, hidden];
    let mut y = call.buffer(&shape)?;
    for (d, &backward) in backward.iter().enumerate() {
        let sizes = Lstm { steps, batch, inputs, hidden, backward };
        let weights = LstmWeights {
            input: &input.values()[d * gates * inputs..][..gates * inputs],
            state: &state.values()[d * gates * hidden..][..gates * hidden],
            bias: bias.as_ref().map(|bias| &bias.values()[d * 2 * gates..][..2 * gates]),
        };
        let (h, c) = (&mut h[d * part..][..part], &mut c[d * part..][..part]);
        let states = sizes.forward(x.values(), weights, h, c).expect(CHECKED);
        for (step, states) in states.chunks_exact(part).enumerate() {
            y.values_mut()[(step * directions + d) * part..][..part].copy_from_slice(states);
        }
    }
    let last = vec![directions, batch, hidden];
    let y = call.tensor(y.into(), shape)?;
    Ok(Some(vec![y, call.tensor(h.into(), last.clone())?, call.tensor(c.into(), last)?]))
}
