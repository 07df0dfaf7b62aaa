//! Recurrent layers, step by step in tensor operations, so that gradients flow back through time.

use burn::tensor::{Tensor, activation};
use rekindle_onnx::Result;

use super::call::Call;
use super::tensor::DeviceTensor;
use super::{DeviceOp, Outputs};

pub(super) fn find(operator: &str) -> Option<DeviceOp> {
    Some(match operator {
        "LSTM" => |call| run(call, Cell::Lstm),
        "GRU" => |call| run(call, Cell::Gru),
        "RNN" => |call| run(call, Cell::Plain),
        _ => return None,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cell {
    Lstm,
    Gru,
    Plain,
}

impl Cell {
    /// Gates, each as wide as the state.
    fn gates(self) -> usize {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Plain => 1,
        }
    }

    fn activations(self) -> &'static [&'static str] {
        match self {
            Self::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Self::Gru => &["Sigmoid", "Tanh"],
            Self::Plain => &["Tanh"],
        }
    }
}

/// Weights of one direction.
struct Direction {
    cell: Cell,
    /// `[inputs, gates × hidden]`
    input: Tensor<2>,
    /// `[hidden, gates × hidden]`
    state: Tensor<2>,
    input_bias: Tensor<2>,
    state_bias: Tensor<2>,
    hidden: usize,
    /// Of a GRU: whether the reset gate scales the product with the state and not the state.
    reset_after: bool,
    relu: bool,
}

impl Direction {
    fn gate(&self, all: &Tensor<2>, at: usize) -> Tensor<2> {
        let rows = all.dims()[0];
        all.clone().slice([0..rows, at * self.hidden..(at + 1) * self.hidden])
    }

    /// The next state (and memory of an LSTM) from the input's share of the gates.
    fn step(&self, x: &Tensor<2>, h: Tensor<2>, c: Option<Tensor<2>>) -> (Tensor<2>, Option<Tensor<2>>) {
        let own = h.clone().matmul(self.state.clone()) + self.state_bias.clone();
        match (self.cell, c) {
            (Cell::Lstm, Some(c)) => {
                let gates = x.clone() + own;
                let [input, output, forget] = [0, 1, 2].map(|at| activation::sigmoid(self.gate(&gates, at)));
                let c = forget * c + input * self.gate(&gates, 3).tanh();
                (output * c.clone().tanh(), Some(c))
            }
            (Cell::Gru, c) => {
                let [update, reset] = [0, 1].map(|at| activation::sigmoid(self.gate(x, at) + self.gate(&own, at)));
                let candidate = if self.reset_after {
                    self.gate(x, 2) + reset * self.gate(&own, 2)
                } else {
                    let state = self.gate(&self.state, 2);
                    self.gate(x, 2) + (reset * h.clone()).matmul(state) + self.gate(&self.state_bias, 2)
                };
                let candidate = candidate.tanh();
                (candidate.clone() + update * (h - candidate), c)
            }
            (_, c) => {
                let sum = x.clone() + own;
                (if self.relu { activation::relu(sum) } else { sum.tanh() }, c)
            }
        }
    }
}

/// Whether the activations are the usual ones; of a plain cell whether they are ReLU.
fn activations(call: &Call<'_, '_>, cell: Cell, directions: usize) -> Result<Option<bool>> {
    let Some(given) = call.node.attributes.texts("activations")? else { return Ok(Some(false)) };
    let usual = |names: &[&str]| {
        let count = names.len() * directions;
        given.len() == count && given.iter().zip(names.iter().cycle()).all(|(own, name)| own == name)
    };
    Ok(if usual(cell.activations()) { Some(false) } else { (cell == Cell::Plain && usual(&["Relu"])).then_some(true) })
}

fn run(call: &mut Call<'_, '_>, cell: Cell) -> Outputs {
    let attributes = &call.node.attributes;
    let (Some(&[steps, batch, inputs]), Some(&[directions, rows, _]), Some(&[_, _, hidden])) =
        (call.shape(0).as_deref(), call.shape(1).as_deref(), call.shape(2).as_deref())
    else {
        return Ok(None);
    };
    let direction = attributes.text_or("direction", "forward")?;
    let backwards: &[bool] = match direction {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        _ => return Ok(None),
    };
    let reset_after = attributes.flag("linear_before_reset", false)?;
    let rare = attributes.get("clip").is_some()
        || attributes.flag("input_forget", false)?
        || attributes.int_or("layout", 0)? != 0
        || call.has(4)
        || call.has(7);
    let Some(relu) = activations(call, cell, backwards.len())? else { return Ok(None) };
    if rare || call.node.version < 7 || directions != backwards.len() || rows != cell.gates() * hidden || steps == 0 {
        return Ok(None);
    }
    let x = call.take(0)?;
    let dtype = x.dtype();
    let x: Tensor<2> = x.view([steps * batch, inputs]);
    let device = x.device();
    let (w, r) = (call.take(1)?.view([directions, rows, inputs]), call.take(2)?.view([directions, rows, hidden]));
    let zeros = |shape: [usize; 3]| Tensor::<3>::zeros(shape, &device);
    let bias = call
        .take_optional(3)?
        .map_or_else(|| zeros([directions, 1, 2 * rows]), |bias: DeviceTensor| bias.view([directions, 1, 2 * rows]));
    let state = |call: &mut Call<'_, '_>, at: usize| -> Result<Tensor<3>> {
        let given = call.take_optional(at)?;
        Ok(given.map_or_else(|| zeros([directions, batch, hidden]), |given| given.view([directions, batch, hidden])))
    };
    let (h, c) = (state(call, 5)?, if cell == Cell::Lstm { Some(state(call, 6)?) } else { None });
    let at = |all: &Tensor<3>, at: usize| -> Tensor<2> {
        let [_, rows, columns] = all.dims();
        all.clone().slice([at..at + 1, 0..rows, 0..columns]).reshape([rows, columns])
    };
    let (mut sequences, mut last_h, mut last_c) = (Vec::new(), Vec::new(), Vec::new());
    for (which, &backward) in backwards.iter().enumerate() {
        let both = at(&bias, which);
        let own = Direction {
            cell,
            input: at(&w, which).transpose(),
            state: at(&r, which).transpose(),
            input_bias: both.clone().slice([0..1, 0..rows]),
            state_bias: both.slice([0..1, rows..2 * rows]),
            hidden,
            reset_after,
            relu,
        };
        let all = x.clone().matmul(own.input.clone()) + own.input_bias.clone();
        let (mut h, mut c) = (at(&h, which), c.as_ref().map(|c| at(c, which)));
        let mut outputs = Vec::with_capacity(steps);
        for turn in 0..steps {
            let step = if backward { steps - 1 - turn } else { turn };
            let rows_of = all.clone().slice([step * batch..(step + 1) * batch, 0..rows]);
            (h, c) = own.step(&rows_of, h, c);
            outputs.push(h.clone().reshape([1, 1, batch, hidden]));
        }
        if backward {
            outputs.reverse();
        }
        sequences.push(Tensor::<4>::cat(outputs, 0));
        last_h.push(h.reshape([1, batch, hidden]));
        last_c.extend(c.map(|c| c.reshape([1, batch, hidden])));
    }
    let whole = DeviceTensor::new(Tensor::cat(sequences, 1), vec![steps, directions, batch, hidden], dtype);
    let mut outputs = vec![whole];
    let shape = vec![directions, batch, hidden];
    outputs.push(DeviceTensor::new(Tensor::<3>::cat(last_h, 0), shape.clone(), dtype));
    if cell == Cell::Lstm {
        outputs.push(DeviceTensor::new(Tensor::<3>::cat(last_c, 0), shape, dtype));
    }
    outputs.truncate(call.node.outputs.len());
    Ok(Some(outputs))
}
