//! Recurrent networks by time steps, so that gradients go back through every one of them.

use burn::tensor::{Tensor, activation};
use rekindle_onnx::ops::{Cell, Recurrent};

use super::call::{Call, DeviceOp, Outputs};
use super::tensor::DeviceTensor;

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    matches!(operator, "RNN" | "GRU" | "LSTM").then_some(recurrent)
}

/// One direction of a network.
struct Layer {
    cell: Cell,
    hidden: usize,
    /// What the inputs of all steps give to the gates, biases added: `[steps, batch, gates]`.
    from_input: Tensor<3>,
    /// The weights of the state, transposed: `[hidden, gates]`.
    state: Tensor<2>,
    /// What is added to what the state gives to the gates.
    state_bias: Option<Tensor<2>>,
    /// `GRU`: the reset comes after the product with the weights.
    reset_after: bool,
    /// `RNN`: ReLU in place of the hyperbolic tangent.
    rectified: bool,
}

impl Layer {
    /// The next states, from those before and the gates of the inputs.
    fn step(&self, input: Tensor<2>, h: Tensor<2>, c: Tensor<2>) -> (Tensor<2>, Tensor<2>) {
        let n = self.hidden;
        let gate = |gates: &Tensor<2>, at: usize| gates.clone().narrow(1, at * n, n);
        let product = |h: Tensor<2>, from: usize, gates: usize| {
            let product = h.matmul(self.state.clone().narrow(1, from * n, gates * n));
            match &self.state_bias {
                Some(bias) => product + bias.clone().narrow(1, from * n, gates * n),
                None => product,
            }
        };
        match self.cell {
            Cell::Rnn => {
                let sum = input + product(h, 0, 1);
                (if self.rectified { activation::relu(sum) } else { sum.tanh() }, c)
            }
            Cell::Lstm => {
                // Input, output, forget and candidate, in this order.
                let gates = input + product(h, 0, 4);
                let sigmoid = |at: usize| activation::sigmoid(gate(&gates, at));
                let c = sigmoid(2) * c + sigmoid(0) * gate(&gates, 3).tanh();
                (sigmoid(1) * c.clone().tanh(), c)
            }
            Cell::Gru => {
                let early = input.clone().narrow(1, 0, 2 * n) + product(h.clone(), 0, 2);
                let (update, reset) = (activation::sigmoid(gate(&early, 0)), activation::sigmoid(gate(&early, 1)));
                let late =
                    if self.reset_after { reset * product(h.clone(), 2, 1) } else { product(reset * h.clone(), 2, 1) };
                let new = (gate(&input, 2) + late).tanh();
                (new.clone() + update * (h - new), c)
            }
        }
    }
}

/// Networks with the usual activations (of a plain one ReLU too), whose sequences are all of one length.
fn recurrent(call: &mut Call<'_, '_>) -> Outputs {
    let Some(op) = call.node.get::<Recurrent>() else { return Ok(None) };
    let (Some(&[first, second, inputs]), Some(&[directions, rows, hidden])) =
        (call.shape(0).as_deref(), call.shape(2).as_deref())
    else {
        return Ok(None);
    };
    let (steps, batch) = if op.batch_first { (second, first) } else { (first, second) };
    let lengths = call.ints(4)?;
    let gates = op.cell.gates() * hidden;
    let states = if op.batch_first { vec![batch, directions, hidden] } else { vec![directions, batch, hidden] };
    let fits = (op.has_usual_activations() || op.is_rectified())
        && !op.coupled
        && !call.has(7)
        && steps > 0
        && rows == gates
        && directions == op.backward.len()
        && op.hidden.is_none_or(|said| said == hidden as i64)
        && lengths.is_none_or(|lengths| lengths.iter().all(|&length| length == steps as i64))
        && call.shape(1) == Some(vec![directions, gates, inputs])
        && call.shape(3).is_none_or(|shape| shape == [directions, 2 * gates])
        && [5, 6].into_iter().all(|position| call.shape(position).is_none_or(|shape| shape == states));
    if !fits {
        return Ok(None);
    }
    let (op, device) = (op.clone(), call.accelerator.device.clone());
    let x = call.take(0)?;
    let dtype = x.dtype();
    let x: Tensor<3> = x.view([first, second, inputs]);
    let x = if op.batch_first { x.swap_dims(0, 1) } else { x };
    let (w, r) = (call.take(1)?.view([directions, gates, inputs]), call.take(2)?.view([directions, gates, hidden]));
    let bias = call.take_optional(3)?.map(|bias| bias.view::<3>([directions, 2, gates]));
    let initial = [call.take_optional(5)?, call.take_optional(6)?].map(|state| {
        state.map(|state| {
            let state: Tensor<3> = state.view([states[0], states[1], hidden]);
            if op.batch_first { state.swap_dims(0, 1) } else { state }
        })
    });
    let flat = x.reshape([steps * batch, inputs]);
    let part = |all: &Tensor<3>, d: usize, rows: usize, columns: usize| -> Tensor<2> {
        all.clone().narrow(0, d, 1).reshape([rows, columns])
    };
    let (mut ys, mut hs, mut cs) = (Vec::new(), Vec::new(), Vec::new());
    for (d, &backward) in op.backward.iter().enumerate() {
        let half =
            |at: usize| bias.as_ref().map(|bias| bias.clone().narrow(0, d, 1).narrow(1, at, 1).reshape([1, gates]));
        let mut from_input = flat.clone().matmul(part(&w, d, gates, inputs).transpose());
        if let Some(bias) = half(0) {
            from_input = from_input + bias;
        }
        let layer = Layer {
            cell: op.cell,
            hidden,
            from_input: from_input.reshape([steps, batch, gates]),
            state: part(&r, d, gates, hidden).transpose(),
            state_bias: half(1),
            reset_after: op.reset_after,
            rectified: op.is_rectified(),
        };
        let state = |initial: &Option<Tensor<3>>| match initial {
            Some(all) => part(all, d, batch, hidden),
            None => Tensor::zeros([batch, hidden], (&device, flat.dtype())),
        };
        let (mut h, mut c) = (state(&initial[0]), state(&initial[1]));
        let mut outputs: Vec<Tensor<3>> = Vec::with_capacity(steps);
        for turn in 0..steps {
            let at = if backward { steps - 1 - turn } else { turn };
            let input = layer.from_input.clone().narrow(0, at, 1).reshape([batch, gates]);
            (h, c) = layer.step(input, h, c);
            outputs.push(h.clone().reshape([1, batch, hidden]));
        }
        if backward {
            outputs.reverse();
        }
        ys.push(Tensor::cat(outputs, 0).reshape([steps, 1, batch, hidden]));
        hs.push(h.reshape([1, batch, hidden]));
        cs.push(c.reshape([1, batch, hidden]));
    }
    let y: Tensor<4> = Tensor::cat(ys, 1);
    let mut outputs = vec![if op.batch_first {
        DeviceTensor::new(y.permute([2, 0, 1, 3]), vec![batch, steps, directions, hidden], dtype)
    } else {
        DeviceTensor::new(y, vec![steps, directions, batch, hidden], dtype)
    }];
    let ends = if op.cell == Cell::Lstm { vec![hs, cs] } else { vec![hs] };
    for end in ends {
        let end: Tensor<3> = Tensor::cat(end, 0);
        let end = if op.batch_first { end.swap_dims(0, 1) } else { end };
        outputs.push(DeviceTensor::new(end, states.clone(), dtype));
    }
    Ok(Some(outputs))
}
