//! A layer of LSTM over whole sequences, and its gradients through time.
#![allow(unsafe_code)]

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::functions::{sigmoid, tanh};
use crate::gemm::{Epilogue, PackedMatrix};
use crate::parallel::{Shared, each};
use crate::{Linear, LinearGradients, WeightOrder, permute};

/// The gates side by side: input, forget, cell, output, as PyTorch has them.
const GATES: usize = 4;
/// About as many operations a gate takes.
const COST: usize = 32;

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
    /// Of the input.
    pub input: Vec<f32>,
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
        let mut seen = LstmSeen {
            taken: vec![0.0; steps * batch * taken],
            gates: vec![0.0; steps * batch * gates],
            cells: vec![0.0; steps * batch * hidden],
        };
        let mut output = vec![0.0; batch * steps * hidden];
        for (row, values) in seen.taken.chunks_exact_mut(taken).enumerate() {
            let at = (row % batch * steps + row / batch) * inputs;
            values[..inputs].copy_from_slice(&input[at..][..inputs]);
        }
        for step in 0..steps {
            let left = &seen.taken[step * batch * taken..][..batch * taken];
            let made = &mut seen.gates[step * batch * gates..][..batch * gates];
            packed.multiply(left, taken, batch, &epilogue, made, gates);
            let (before, cells) = seen.cells.split_at_mut(step * batch * hidden);
            let before = &before[before.len().saturating_sub(batch * hidden)..];
            let next = if step + 1 < steps { &mut seen.taken[(step + 1) * batch * taken..] } else { &mut [][..] };
            let shared = [made, &mut cells[..batch * hidden], next, &mut output].map(Shared::new);
            each(batch, COST * batch * gates, |row| {
                // SAFETY: each task has a row of its own in all of them.
                let [gates, cells, output] = unsafe {
                    [
                        slice(shared[0], row * gates, gates),
                        slice(shared[1], row * hidden, hidden),
                        slice(shared[3], (row * steps + step) * hidden, hidden),
                    ]
                };
                let before = if step == 0 { &[][..] } else { &before[row * hidden..][..hidden] };
                Arch::new().dispatch(Step { gates, before, cells, output });
                if step + 1 < steps {
                    // SAFETY: as above.
                    unsafe { slice(shared[2], row * taken + inputs, hidden) }.copy_from_slice(output);
                }
            });
        }
        (output, seen)
    }

    /// The gradients from `grad`, that of all hidden states.
    pub fn backward(&self, weight: &[f32], seen: &LstmSeen, grad: &[f32]) -> LstmGradients {
        let Self { batch, steps, inputs, hidden } = *self;
        let (taken, gates) = (self.taken(), self.gates());
        assert!(grad.len() == batch * steps * hidden && weight.len() == taken * gates, "values of all steps");
        // Of the state's weights, to go back by a step.
        let back = PackedMatrix::new(&weight[inputs * gates..], gates, hidden, [1, gates]);
        let mut to_gates = vec![0.0; steps * batch * gates];
        let (mut to_hidden, mut to_cells) = (vec![0.0; batch * hidden], vec![0.0; batch * hidden]);
        for step in (0..steps).rev() {
            let made = &mut to_gates[step * batch * gates..][..batch * gates];
            let shared = [&mut *made, &mut to_cells].map(Shared::new);
            each(batch, COST * batch * gates, |row| {
                let at = step * batch + row;
                // SAFETY: each task has a row of its own in both.
                let [to_gates, to_cells] =
                    unsafe { [slice(shared[0], row * gates, gates), slice(shared[1], row * hidden, hidden)] };
                Arch::new().dispatch(Back {
                    gates: &seen.gates[at * gates..][..gates],
                    before: if step == 0 { &[] } else { &seen.cells[(at - batch) * hidden..][..hidden] },
                    cells: &seen.cells[at * hidden..][..hidden],
                    grad: &grad[(row * steps + step) * hidden..][..hidden],
                    to_hidden: &to_hidden[row * hidden..][..hidden],
                    to_gates,
                    to_cells,
                });
            });
            if step > 0 {
                back.multiply(made, gates, batch, &Epilogue::default(), &mut to_hidden, hidden);
            }
        }
        let layer = Linear { batch: steps * batch, inputs: taken, outputs: gates };
        let (mut to_weight, mut bias) = (vec![0.0; weight.len()], vec![0.0; gates]);
        let wanted = LinearGradients { input: None, weight: Some(&mut to_weight), bias: Some(&mut bias) };
        layer
            .backward(&seen.taken, weight, WeightOrder::InputsFirst, None, &mut to_gates, wanted)
            .expect("the lengths are those of the sizes");
        let layer = Linear { batch: steps * batch, inputs, outputs: gates };
        let mut to_input = vec![0.0; steps * batch * inputs];
        let wanted = LinearGradients { input: Some(&mut to_input), ..LinearGradients::default() };
        let unused = &seen.taken[..steps * batch * inputs];
        layer
            .backward(unused, &weight[..inputs * gates], WeightOrder::InputsFirst, None, &mut to_gates, wanted)
            .expect("the lengths are those of the sizes");
        let mut input = vec![0.0; to_input.len()];
        permute(&to_input, &[steps, batch, inputs], &[1, 0, 2], &mut input);
        LstmGradients { input, weight: to_weight, bias }
    }
}

/// # Safety
/// The values are inside of what is shared, and nobody else uses them.
unsafe fn slice<'a>(shared: Shared, start: usize, len: usize) -> &'a mut [f32] {
    // SAFETY: the caller's.
    unsafe { std::slice::from_raw_parts_mut(shared.at(start), len) }
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
            let made = layer.backward(&weight, &seen, &grad);
            for (which, found) in [made.input, made.weight, made.bias].iter().enumerate() {
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
