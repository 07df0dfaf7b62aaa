//! A layer of LSTM over whole sequences, and its gradients through time.
#![allow(unsafe_code)]

use std::ops::Range;

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::functions::{sigmoid, tanh};
use crate::gemm::{Epilogue, PackedMatrix};
use crate::parallel::{Shared, each};
use crate::room::Room;
use crate::scratch::with_scratch;
use crate::{Linear, LinearGradients, WeightOrder, permute};

/// The gates side by side: input, forget, cell, output, as PyTorch has them.
const GATES: usize = 4;
/// Sequences that go through all steps together, at most: threads meet once and not at each step.
const SEQUENCES: usize = 16;

/// The sizes of an LSTM over `[batch, steps, inputs]`, which begins with zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LstmLayer {
    /// Sequences.
    pub batch: usize,
    /// Steps of a sequence.
    pub steps: usize,
    /// Values of a step.
    pub inputs: usize,
    /// Values of the hidden state.
    pub hidden: usize,
}

/// What the backward pass needs of the forward pass, each `[steps, batch, …]`.
#[derive(Debug)]
pub struct LstmSeen {
    /// The input and the state before each step, side by side.
    taken: Vec<f32>,
    /// The gates after their functions.
    gates: Vec<f32>,
    /// The cells after each step.
    cells: Vec<f32>,
}

/// The gradients of an LSTM.
#[derive(Debug)]
pub struct LstmGradients {
    /// Of the input, if it is wanted.
    pub input: Option<Vec<f32>>,
    /// Of the weights of input and state, `[inputs + hidden, 4 · hidden]`.
    pub weight: Vec<f32>,
    /// Of the bias, `[4 · hidden]`.
    pub bias: Vec<f32>,
}

impl LstmLayer {
    fn taken(&self) -> usize {
        self.inputs + self.hidden
    }

    fn gates(&self) -> usize {
        GATES * self.hidden
    }

    /// The hidden states of all steps, `[batch, steps, hidden]`. Weights are `[inputs + hidden, 4 · hidden]`, those of the input
    /// first; gates are in PyTorch's order.
    ///
    /// # Panics
    /// When a slice has another length than the sizes say; likewise below.
    pub fn forward(&self, input: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<f32>, LstmSeen) {
        let Self { batch, steps, inputs, hidden } = *self;
        let (taken, gates) = (self.taken(), self.gates());
        assert_eq!(input.len(), batch * steps * inputs, "values of all steps");
        assert!(weight.len() == taken * gates && bias.len() == gates, "weights of all gates");
        let packed = PackedMatrix::new(weight, taken, gates, [gates, 1]);
        let epilogue = Epilogue { bias: Some(bias), ..Epilogue::default() };
        let seen = [taken, gates, hidden].map(|values| Room::new(steps * batch * values));
        let output = Room::new(batch * steps * hidden);
        self.each(|rows| {
            for step in 0..steps {
                let [place, next] = [step, step + 1].map(|step| step * batch + rows.start..step * batch + rows.end);
                // SAFETY: each task has sequences of its own, and the state before a step is written by the step before it.
                unsafe {
                    for row in rows.clone() {
                        let start = (step * batch + row) * taken;
                        let input = &input[(row * steps + step) * inputs..][..inputs];
                        seen[0].part(start..start + inputs).write_copy_of_slice(input);
                        if step == 0 {
                            seen[0].zeros(start + inputs..start + taken);
                        }
                    }
                    let left = seen[0].written(place.start * taken..place.end * taken);
                    let made = seen[1].shared().from(place.start * gates);
                    packed.multiply_alone(left, rows.len(), &epilogue, made, gates);
                }
                for (at, row) in place.zip(rows.clone()) {
                    let out = (row * steps + step) * hidden;
                    // SAFETY: as above; the gates were just written.
                    unsafe {
                        let before = match step {
                            0 => &[][..],
                            _ => &*seen[2].written((at - batch) * hidden..(at - batch + 1) * hidden),
                        };
                        let gates = seen[1].written(at * gates..(at + 1) * gates);
                        let cells = seen[2].zeros(at * hidden..(at + 1) * hidden);
                        let output = output.zeros(out..out + hidden);
                        Arch::new().dispatch(Step { gates, before, cells, output: &mut *output });
                        if step + 1 < steps {
                            let next = (next.start + row - rows.start) * taken;
                            seen[0].part(next + inputs..next + taken).write_copy_of_slice(output);
                        }
                    }
                }
            }
        });
        // SAFETY: the tasks wrote all steps of all sequences.
        unsafe {
            let [taken, gates, cells] = seen.map(|room| room.filled());
            (output.filled(), LstmSeen { taken, gates, cells })
        }
    }

    /// Calls `work` with ranges of the sequences, on all threads.
    fn each(&self, work: impl Fn(Range<usize>) + Sync + Send) {
        // By the sizes alone, so that the bits don't depend on the threads.
        let count = self.batch.div_ceil(SEQUENCES);
        let operations = 2 * self.steps * self.batch * self.taken() * self.gates();
        each(count, operations, |task| work(task * self.batch / count..(task + 1) * self.batch / count));
    }

    /// The gradients from `grad`, that of all hidden states; that of the input if it is `wanted`.
    pub fn backward(&self, weight: &[f32], seen: &LstmSeen, grad: &[f32], wanted: bool) -> LstmGradients {
        let Self { batch, steps, inputs, hidden } = *self;
        let (taken, gates) = (self.taken(), self.gates());
        assert!(grad.len() == batch * steps * hidden && weight.len() == taken * gates, "values of all steps");
        // Of the state's weights, to go back by a step.
        let back = PackedMatrix::new(&weight[inputs * gates..], gates, hidden, [1, gates]);
        let to_gates = Room::new(steps * batch * gates);
        self.each(|rows| {
            with_scratch(2 * rows.len() * hidden, |scratch| {
                scratch.fill(0.0);
                let (to_hidden, to_cells) = scratch.split_at_mut(rows.len() * hidden);
                for step in (0..steps).rev() {
                    let place = step * batch + rows.start..step * batch + rows.end;
                    for (index, (at, row)) in place.clone().zip(rows.clone()).enumerate() {
                        Arch::new().dispatch(Back {
                            gates: &seen.gates[at * gates..][..gates],
                            before: if step == 0 { &[] } else { &seen.cells[(at - batch) * hidden..][..hidden] },
                            cells: &seen.cells[at * hidden..][..hidden],
                            grad: &grad[(row * steps + step) * hidden..][..hidden],
                            to_hidden: &to_hidden[index * hidden..][..hidden],
                            // SAFETY: each task has sequences of its own.
                            to_gates: unsafe { to_gates.zeros(at * gates..(at + 1) * gates) },
                            to_cells: &mut to_cells[index * hidden..][..hidden],
                        });
                    }
                    if step > 0 {
                        let out = Shared::new(to_hidden);
                        // SAFETY: the gates' gradients were just written; the state's are this task's working memory.
                        unsafe {
                            let made = to_gates.written(place.start * gates..place.end * gates);
                            back.multiply_alone(made, rows.len(), &Epilogue::default(), out, hidden);
                        }
                    }
                }
            });
        });
        // SAFETY: the tasks wrote all steps of all sequences.
        let mut to_gates = unsafe { to_gates.filled() };
        let layer = Linear { batch: steps * batch, inputs: taken, outputs: gates };
        let (mut to_weight, mut bias) = (vec![0.0; weight.len()], vec![0.0; gates]);
        let asked = LinearGradients { input: None, weight: Some(&mut to_weight), bias: Some(&mut bias) };
        layer
            .backward(&seen.taken, weight, WeightOrder::InputsFirst, None, &mut to_gates, asked)
            .expect("the lengths are those of the sizes");
        let input = wanted.then(|| self.input_gradient(weight, seen, &mut to_gates));
        LstmGradients { input, weight: to_weight, bias }
    }

    /// The gradient of the input from that of the gates.
    fn input_gradient(&self, weight: &[f32], seen: &LstmSeen, to_gates: &mut [f32]) -> Vec<f32> {
        let Self { batch, steps, inputs, .. } = *self;
        let layer = Linear { batch: steps * batch, inputs, outputs: self.gates() };
        let mut to_input = vec![0.0; steps * batch * inputs];
        let asked = LinearGradients { input: Some(&mut to_input), ..LinearGradients::default() };
        let unused = &seen.taken[..steps * batch * inputs];
        layer
            .backward(unused, &weight[..inputs * self.gates()], WeightOrder::InputsFirst, None, to_gates, asked)
            .expect("the lengths are those of the sizes");
        let mut input = vec![0.0; to_input.len()];
        permute(&to_input, &[steps, batch, inputs], &[1, 0, 2], &mut input);
        input
    }
}

/// One step of one sequence.
struct Step<'a> {
    gates: &'a mut [f32],
    /// Empty at first.
    before: &'a [f32],
    cells: &'a mut [f32],
    output: &'a mut [f32],
}

impl WithSimd for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let hidden = self.cells.len();
        let (input, rest) = self.gates.split_at_mut(hidden);
        let (forget, rest) = rest.split_at_mut(hidden);
        let (cell, out) = rest.split_at_mut(hidden);
        for gate in [&mut *input, &mut *forget, &mut *out] {
            for value in gate {
                *value = sigmoid(*value);
            }
        }
        for value in &mut *cell {
            *value = tanh(*value);
        }
        for ((cells, input), cell) in self.cells.iter_mut().zip(&*input).zip(&*cell) {
            *cells = *input * *cell;
        }
        for ((cells, forget), before) in self.cells.iter_mut().zip(&*forget).zip(self.before) {
            *cells += *forget * *before;
        }
        for ((output, cells), out) in self.output.iter_mut().zip(&*self.cells).zip(&*out) {
            *output = *out * tanh(*cells);
        }
    }
}

/// One step of one sequence, backwards.
struct Back<'a> {
    gates: &'a [f32],
    /// Empty at first.
    before: &'a [f32],
    cells: &'a [f32],
    grad: &'a [f32],
    to_hidden: &'a [f32],
    to_gates: &'a mut [f32],
    to_cells: &'a mut [f32],
}

impl WithSimd for Back<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let hidden = self.cells.len();
        let (input, rest) = self.gates.split_at(hidden);
        let (forget, rest) = rest.split_at(hidden);
        let (cell, out) = rest.split_at(hidden);
        let (to_input, rest) = self.to_gates.split_at_mut(hidden);
        let (to_forget, rest) = rest.split_at_mut(hidden);
        let (to_cell, to_out) = rest.split_at_mut(hidden);
        let Self { cells, grad, to_hidden, to_cells, before, .. } = self;
        assert!(grad.len() == hidden && to_hidden.len() == hidden && to_cells.len() == hidden);
        assert!(before.is_empty() || before.len() == hidden);
        for i in 0..hidden {
            let to_hidden = grad[i] + to_hidden[i];
            let shown = tanh(cells[i]);
            to_out[i] = to_hidden * shown * out[i] * (1.0 - out[i]);
            let to_state = to_cells[i] + to_hidden * out[i] * (1.0 - shown * shown);
            to_input[i] = to_state * cell[i] * input[i] * (1.0 - input[i]);
            to_cell[i] = to_state * input[i] * (1.0 - cell[i] * cell[i]);
            to_forget[i] = to_state * forget[i] * (1.0 - forget[i]);
            to_cells[i] = to_state * forget[i];
        }
        if before.is_empty() {
            to_forget.fill(0.0);
        } else {
            for (to_forget, before) in to_forget.iter_mut().zip(before) {
                *to_forget *= *before;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, step: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * step).sin() * 0.5).collect()
    }

    fn precise(layer: &LstmLayer, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
        let LstmLayer { batch, steps, inputs, hidden } = *layer;
        let mut output = vec![0.0; batch * steps * hidden];
        for sample in 0..batch {
            let (mut state, mut cells) = (vec![0.0; hidden], vec![0.0; hidden]);
            for step in 0..steps {
                let taken: Vec<f64> =
                    x[(sample * steps + step) * inputs..][..inputs].iter().chain(&state).copied().collect();
                let gate = |gate: usize, i: usize| {
                    let column = gate * hidden + i;
                    let rows = taken.iter().enumerate();
                    bias[column] + rows.map(|(k, value)| value * weight[k * 4 * hidden + column]).sum::<f64>()
                };
                let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
                for (i, cell) in cells.iter_mut().enumerate() {
                    *cell = sigmoid(gate(1, i)) * *cell + sigmoid(gate(0, i)) * gate(2, i).tanh();
                }
                state = (0..hidden).map(|i| sigmoid(gate(3, i)) * cells[i].tanh()).collect();
                output[(sample * steps + step) * hidden..][..hidden].copy_from_slice(&state);
            }
        }
        output
    }

    #[test]
    fn output_and_gradients_are_the_definition() {
        for [batch, steps, inputs, hidden] in [[1, 1, 1, 1], [3, 4, 5, 6], [7, 9, 3, 17], [2, 3, 1, 33]] {
            let layer = LstmLayer { batch, steps, inputs, hidden };
            let x = values(batch * steps * inputs, 0.7);
            let weight = values((inputs + hidden) * 4 * hidden, 1.3);
            let (bias, grad) = (values(4 * hidden, 0.9), values(batch * steps * hidden, 0.37));
            let wide = |values: &[f32]| values.iter().map(|&value| f64::from(value)).collect::<Vec<_>>();
            let operands = [wide(&x), wide(&weight), wide(&bias)];
            let (output, seen) = layer.forward(&x, &weight, &bias);
            for (found, expected) in output.iter().zip(precise(&layer, &operands[0], &operands[1], &operands[2])) {
                assert!((f64::from(*found) - expected).abs() < 1e-5, "{layer:?}: {found} {expected}");
            }
            let made = layer.backward(&weight, &seen, &grad, true);
            for (which, found) in [made.input.unwrap(), made.weight, made.bias].iter().enumerate() {
                for at in (0..found.len()).step_by(found.len() / 29 + 1) {
                    let moved = |by: f64| -> f64 {
                        let mut operands = operands.clone();
                        operands[which][at] += by;
                        let output = precise(&layer, &operands[0], &operands[1], &operands[2]);
                        output.iter().zip(&grad).map(|(value, grad)| value * f64::from(*grad)).sum()
                    };
                    let expected = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                    let near = (f64::from(found[at]) - expected).abs() < 1e-4 * (1.0 + expected.abs());
                    assert!(near, "{layer:?} operand {which}, value {at}: {} {expected}", found[at]);
                }
            }
        }
    }
}
