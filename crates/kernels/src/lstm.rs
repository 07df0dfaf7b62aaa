//! Long short-term memory: one direction of a layer over a whole sequence.

use pulp::{Simd, WithSimd};
use rayon::prelude::*;

use crate::arch::Arch;
use crate::functions::{sigmoid, tanh};
use crate::parallel::alone;
use crate::{Activation, Linear, ShapeError, WeightOrder, permute};

/// Gates that are summed up at once.
const BLOCK: usize = 64;

/// The sizes of one direction of an LSTM layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lstm {
    /// Steps of each sequence.
    pub steps: usize,
    /// Sequences.
    pub batch: usize,
    /// Values of a step.
    pub inputs: usize,
    /// Values of the state.
    pub hidden: usize,
    /// Whether the last step comes first.
    pub backward: bool,
}

/// The parameters of one direction, their rows those of the input, output and forget gates and of the cell.
#[derive(Clone, Copy, Debug)]
pub struct LstmWeights<'a> {
    /// For the input, `[4 * hidden, inputs]`.
    pub input: &'a [f32],
    /// For the state, `[4 * hidden, hidden]`.
    pub state: &'a [f32],
    /// Added for the input, then for the state, `[8 * hidden]`.
    pub bias: Option<&'a [f32]>,
}

impl Lstm {
    /// Runs all steps on `x` `[steps, batch, inputs]`, from the states `h` and `c` `[batch, hidden]`, which become the last ones.
    /// Gives the states of all steps, `[steps, batch, hidden]`.
    ///
    /// # Errors
    /// When a size is wrong or a slice has another length than it says.
    pub fn forward(
        &self,
        x: &[f32],
        weights: LstmWeights<'_>,
        h: &mut [f32],
        c: &mut [f32],
    ) -> Result<Vec<f32>, ShapeError> {
        let Self { steps, batch, inputs, hidden, .. } = *self;
        let gates = hidden.checked_mul(4).ok_or(ShapeError::Overflow)?;
        let of_x = Linear { batch: steps.checked_mul(batch).ok_or(ShapeError::Overflow)?, inputs, outputs: gates };
        of_x.check()?;
        ShapeError::length("the input", of_x.input_len(), x.len())?;
        ShapeError::length("the input's weights", of_x.weight_len(), weights.input.len())?;
        ShapeError::length("the state's weights", gates * hidden, weights.state.len())?;
        ShapeError::length("the bias", 2 * gates, weights.bias.map_or(2 * gates, <[f32]>::len))?;
        ShapeError::length("the state", batch * hidden, h.len())?;
        ShapeError::length("the cell's state", batch * hidden, c.len())?;
        // What the inputs give to the gates, for all steps at once.
        let bias: Option<Vec<f32>> =
            weights.bias.map(|bias| bias[..gates].iter().zip(&bias[gates..]).map(|(x, h)| x + h).collect());
        let mut from_x = vec![0.0; of_x.output_len()];
        // Inputs may be as few as one: sums of products would be short.
        let input = turned(weights.input, gates);
        of_x.forward(x, &input, WeightOrder::InputsFirst, bias.as_deref(), Activation::None, &mut from_x)?;
        let state = turned(weights.state, gates);
        let arch = Arch::new();
        let item = |(item, (h, c)): (usize, (&mut [f32], &mut [f32]))| {
            arch.dispatch(Sequence { sizes: self, item, from_x: &from_x, weights: &state, h, c })
        };
        let states = h.chunks_exact_mut(hidden).zip(c.chunks_exact_mut(hidden)).enumerate();
        if batch == 1 || alone(2 * steps * batch * gates * hidden) {
            let mut all: Vec<Vec<f32>> = states.map(item).collect();
            return Ok(if batch == 1 { all.remove(0) } else { self.woven(&all) });
        }
        let states = h.par_chunks_exact_mut(hidden).zip(c.par_chunks_exact_mut(hidden)).enumerate();
        Ok(self.woven(&states.map(item).collect::<Vec<_>>()))
    }

    /// The states of each sequence, step by step.
    fn woven(&self, sequences: &[Vec<f32>]) -> Vec<f32> {
        let mut all = Vec::with_capacity(self.steps * self.batch * self.hidden);
        for step in 0..self.steps {
            sequences.iter().for_each(|states| all.extend_from_slice(&states[step * self.hidden..][..self.hidden]));
        }
        all
    }
}

/// The columns of a matrix as rows.
fn turned(matrix: &[f32], rows: usize) -> Vec<f32> {
    let mut columns = vec![0.0; matrix.len()];
    permute(matrix, &[rows, matrix.len() / rows], &[1, 0], &mut columns);
    columns
}

/// One sequence.
struct Sequence<'a> {
    sizes: &'a Lstm,
    item: usize,
    from_x: &'a [f32],
    /// For the state, `[hidden, 4 * hidden]`.
    weights: &'a [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
}

impl WithSimd for Sequence<'_> {
    /// The states of all steps.
    type Output = Vec<f32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<f32> {
        let Self { sizes: &Lstm { steps, batch, hidden, backward, .. }, item, from_x, weights, h, c } = self;
        let gates = 4 * hidden;
        let mut states = vec![0.0; steps * hidden];
        let mut sums = vec![0.0; gates];
        for turn in 0..steps {
            let step = if backward { steps - 1 - turn } else { turn };
            sums.copy_from_slice(&from_x[(step * batch + item) * gates..][..gates]);
            add_products(h, weights, &mut sums);
            let (open, candidate) = sums.split_at_mut(3 * hidden);
            for gate in &mut *open {
                *gate = sigmoid(*gate);
            }
            let (input, rest) = open.split_at(hidden);
            let (output, forget) = rest.split_at(hidden);
            for ((cell, candidate), (input, forget)) in c.iter_mut().zip(&*candidate).zip(input.iter().zip(forget)) {
                *cell = forget * *cell + input * tanh(*candidate);
            }
            for ((state, cell), output) in h.iter_mut().zip(&*c).zip(output) {
                *state = output * tanh(*cell);
            }
            states[step * hidden..][..hidden].copy_from_slice(h);
        }
        states
    }
}

/// Adds the product of a row with a matrix.
#[inline(always)]
fn add_products(row: &[f32], matrix: &[f32], sums: &mut [f32]) {
    let columns = sums.len();
    let (blocks, rest) = sums.as_chunks_mut::<BLOCK>();
    for (at, block) in blocks.iter_mut().enumerate() {
        let mut sum = *block;
        for (value, weights) in row.iter().zip(matrix.chunks_exact(columns)) {
            let weights: &[f32; BLOCK] = weights[at * BLOCK..][..BLOCK].try_into().expect("as many as a block has");
            for (sum, weight) in sum.iter_mut().zip(weights) {
                *sum = value.mul_add(*weight, *sum);
            }
        }
        *block = sum;
    }
    let start = columns - rest.len();
    for (value, weights) in row.iter().zip(matrix.chunks_exact(columns)) {
        for (sum, weight) in rest.iter_mut().zip(&weights[start..]) {
            *sum = value.mul_add(*weight, *sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| (i as f32 * 0.9 + seed).sin() * 0.6).collect()
    }

    /// By the definition, in 64 bits: all states, the last one, and the last of the cells.
    fn expected(sizes: &Lstm, x: &[f32], weights: LstmWeights<'_>, h: &[f32], c: &[f32]) -> [Vec<f64>; 3] {
        let Lstm { steps, batch, inputs, hidden, backward } = *sizes;
        let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&value| value.into()).collect() };
        let (mut h, mut c, mut all) = (wide(h), wide(c), vec![0.0; steps * batch * hidden]);
        let open = |x: f64| 1.0 / (1.0 + (-x).exp());
        for turn in 0..steps {
            let step = if backward { steps - 1 - turn } else { turn };
            for item in 0..batch {
                let (x, before) =
                    (&x[(step * batch + item) * inputs..][..inputs], h[item * hidden..][..hidden].to_vec());
                let gate = |gate: usize, unit: usize| -> f64 {
                    let row = gate * hidden + unit;
                    let from_x: f64 =
                        weights.input[row * inputs..].iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                    let from_h: f64 =
                        weights.state[row * hidden..].iter().zip(&before).map(|(w, h)| f64::from(*w) * h).sum();
                    from_x
                        + from_h
                        + weights.bias.map_or(0.0, |bias| f64::from(bias[row]) + f64::from(bias[4 * hidden + row]))
                };
                for unit in 0..hidden {
                    let at = item * hidden + unit;
                    c[at] = open(gate(2, unit)) * c[at] + open(gate(0, unit)) * gate(3, unit).tanh();
                    h[at] = open(gate(1, unit)) * c[at].tanh();
                    all[step * batch * hidden + at] = h[at];
                }
            }
        }
        [all, h, c]
    }

    #[test]
    fn every_step_is_that_of_the_definition() {
        for (steps, batch, inputs, hidden) in
            [(1, 1, 1, 1), (5, 1, 3, 4), (286, 1, 1, 32), (7, 3, 5, 17), (20, 6, 10, 40)]
        {
            for (backward, biased) in [(false, true), (true, false)] {
                let sizes = Lstm { steps, batch, inputs, hidden, backward };
                let (x, bias) = (values(steps * batch * inputs, 1.0), values(8 * hidden, 2.0));
                let (input, state) = (values(4 * hidden * inputs, 3.0), values(4 * hidden * hidden, 4.0));
                let weights = LstmWeights { input: &input, state: &state, bias: biased.then_some(&bias[..]) };
                let (mut h, mut c) = (values(batch * hidden, 5.0), values(batch * hidden, 6.0));
                let expected = expected(&sizes, &x, weights, &h, &c);
                let all = sizes.forward(&x, weights, &mut h, &mut c).unwrap();
                for (found, expected) in [all, h, c].iter().zip(expected) {
                    assert_eq!(found.len(), expected.len());
                    assert!(found.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 2e-5), "{sizes:?}");
                }
            }
        }
        let sizes = Lstm { steps: 2, batch: 1, inputs: 1, hidden: 1, backward: false };
        let weights = LstmWeights { input: &[0.0; 4], state: &[0.0; 3], bias: None };
        let error = sizes.forward(&[0.0; 2], weights, &mut [0.0], &mut [0.0]).unwrap_err();
        assert_eq!(error.to_string(), "the state's weights has 3 values, expected 4");
    }
}
