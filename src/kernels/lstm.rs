//! An LSTM over whole sequences as an operation of the CPU backends.

use std::sync::{Arc, OnceLock};

use burn::backend::Dispatch;
use burn::tensor::{Shape, Tensor};
use rekindle_kernels::{LstmLayer, LstmSeen};

use super::operation::{Operation, OperationBackend, takes};

/// Operands: input, weights, bias.
#[derive(Debug)]
struct Sequences {
    layer: LstmLayer,
    seen: OnceLock<LstmSeen>,
}

impl Operation for Sequences {
    fn shape(&self) -> Shape {
        Shape::from([self.layer.batch, self.layer.steps, self.layer.hidden])
    }

    fn forward(&self, inputs: &[&[f32]]) -> Vec<f32> {
        let (output, seen) = self.layer.forward(inputs[0], inputs[1], inputs[2]);
        self.seen.get_or_init(|| seen);
        output
    }

    fn reads(&self, input: usize) -> bool {
        input == 1
    }

    fn backward(&self, inputs: &[&[f32]], _: &[f32], grad: Vec<f32>, wanted: &[bool]) -> Vec<Vec<f32>> {
        let seen = self.seen.get().expect("the forward pass came before");
        let made = self.layer.backward(inputs[1], seen, &grad, wanted[0]);
        vec![made.input.unwrap_or_default(), made.weight, made.bias]
    }
}

/// The hidden states `[batch, steps, hidden]` of an LSTM that begins with zeros, from `x` `[batch, steps, inputs]`, weights
/// `[inputs + hidden, 4 · hidden]` and bias `[4 · hidden]`, gates in PyTorch's order; none where our kernels cannot run.
pub fn lstm(x: &Tensor<3>, weight: &Tensor<2>, bias: &Tensor<1>) -> Option<Tensor<3>> {
    let ([batch, steps, inputs], [taken, gates]) = (x.dims(), weight.dims());
    let hidden = gates / 4;
    let fits = takes(x) && takes(weight) && takes(bias);
    if !fits || taken != inputs + hidden || gates != 4 * hidden || bias.dims() != [gates] {
        return None;
    }
    let layer = LstmLayer { batch, steps, inputs, hidden };
    let operands = (x.clone().into_dispatch(), weight.clone().into_dispatch(), bias.clone().into_dispatch());
    let operation = Arc::new(Sequences { layer, seen: OnceLock::new() });
    Some(Tensor::from_dispatch(Dispatch::host_three(operands.0, operands.1, operands.2, operation)))
}
