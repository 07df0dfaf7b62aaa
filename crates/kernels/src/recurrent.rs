//! Recurrent layers: one direction over a whole sequence, with packed weights.

use pulp::{Simd, WithSimd};

use crate::arch::Arch;
use crate::functions::{sigmoid, tanh};
use crate::gemm::{Epilogue, PackedMatrix, Residual};
use crate::scratch::with_scratch;
use crate::{Pointwise, ShapeError};

/// What a layer does at each step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecurrentKind {
    /// Long short-term memory: gates for input, output and forgetting, and the cell.
    Lstm,
    /// Gated recurrent unit: gates for update and reset, and the new state.
    Gru {
        /// Whether the reset gate is applied after the product of the state.
        linear_before_reset: bool,
    },
}

impl RecurrentKind {
    /// Rows of weights for each value of the state.
    pub fn gates(self) -> usize {
        if self == Self::Lstm { 4 } else { 3 }
    }
}

/// One direction of a layer with its weights.
#[derive(Debug)]
pub struct Recurrent {
    kind: RecurrentKind,
    inputs: usize,
    hidden: usize,
    /// From the input to all gates.
    input: PackedMatrix,
    /// From the state to all gates, without those of `reset`.
    state: PackedMatrix,
    /// From the reset state to the new one, where that comes after the reset.
    reset: Option<PackedMatrix>,
    /// Added to what the input gives.
    bias: Option<Vec<f32>>,
    /// Added to what the state gives.
    state_bias: Option<Vec<f32>>,
}

impl Recurrent {
    /// Packs weights `[gates * hidden, inputs]`, `[gates * hidden, hidden]` and two biases one after the other, all gates in ONNX's order.
    ///
    /// # Errors
    /// When a slice has another length than that.
    pub fn new(
        kind: RecurrentKind,
        inputs: usize,
        hidden: usize,
        input: &[f32],
        state: &[f32],
        bias: Option<&[f32]>,
    ) -> Result<Self, ShapeError> {
        let rows = kind.gates() * hidden;
        ShapeError::length("the input's weights", rows * inputs, input.len())?;
        ShapeError::length("the state's weights", rows * hidden, state.len())?;
        ShapeError::length("the bias", 2 * rows, bias.map_or(2 * rows, <[f32]>::len))?;
        let late = kind == RecurrentKind::Gru { linear_before_reset: false };
        let early = if late { 2 * hidden } else { rows };
        let apart = kind == RecurrentKind::Gru { linear_before_reset: true };
        let (mut of_input, mut of_state) = (None, None);
        if let Some(bias) = bias {
            let (first, second) = bias.split_at(rows);
            let mut sum: Vec<f32> = first.iter().zip(second).map(|(a, b)| a + b).collect();
            if apart {
                // That of the new state is reset with it.
                sum[2 * hidden..].copy_from_slice(&first[2 * hidden..]);
                let mut own = vec![0.0; rows];
                own[2 * hidden..].copy_from_slice(&second[2 * hidden..]);
                of_state = Some(own);
            }
            of_input = Some(sum);
        }
        Ok(Self {
            kind,
            inputs,
            hidden,
            input: PackedMatrix::new(input, inputs, rows, [1, inputs]),
            state: PackedMatrix::new(state, hidden, early, [1, hidden]),
            reset: late.then(|| PackedMatrix::new(&state[early * hidden..], hidden, hidden, [1, hidden])),
            bias: of_input,
            state_bias: of_state,
        })
    }

    /// Runs all steps on `x` `[steps, batch, inputs]`, from the states `h` and `c` (of an LSTM's cell) `[batch, hidden]`, which become the
    /// last ones. The states of step `t` go to `y[t * apart..]`.
    ///
    /// # Errors
    /// When a slice has another length than its shape says.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        x: &[f32],
        [steps, batch]: [usize; 2],
        backward: bool,
        h: &mut [f32],
        c: &mut [f32],
        y: &mut [f32],
        apart: usize,
    ) -> Result<(), ShapeError> {
        let Self { inputs, hidden, .. } = *self;
        let part = batch * hidden;
        ShapeError::length("the input", steps * batch * inputs, x.len())?;
        ShapeError::length("the state", part, h.len())?;
        if self.kind == RecurrentKind::Lstm {
            ShapeError::length("the cell's state", part, c.len())?;
        }
        if steps == 0 || part == 0 {
            return Ok(());
        }
        let reach = (steps - 1) * apart + part;
        if y.len() < reach {
            return Err(ShapeError::Length { what: "the output", expected: reach, found: y.len() });
        }
        let rows = self.kind.gates() * hidden;
        let arch = Arch::new();
        let len = steps * batch * rows;
        with_scratch(len + batch * rows + part, |scratch| {
            let (from_x, rest) = scratch.split_at_mut(len);
            let (sums, reset) = rest.split_at_mut(batch * rows);
            let epilogue = Epilogue { bias: self.bias.as_deref(), ..Epilogue::default() };
            self.input.multiply(x, inputs, steps * batch, &epilogue, from_x, rows);
            for turn in 0..steps {
                let step = if backward { steps - 1 - turn } else { turn };
                let from_x = &from_x[step * batch * rows..][..batch * rows];
                match self.kind {
                    RecurrentKind::Lstm => {
                        let residual = Some(Residual { values: from_x, stride: rows });
                        let epilogue = Epilogue { bias: None, residual, function: Pointwise::None };
                        self.state.multiply(h, hidden, batch, &epilogue, sums, rows);
                        arch.dispatch(LstmStep { sums, h, c, hidden });
                    }
                    RecurrentKind::Gru { .. } => {
                        let epilogue = Epilogue { bias: self.state_bias.as_deref(), ..Epilogue::default() };
                        self.state.multiply(h, hidden, batch, &epilogue, sums, rows);
                        if let Some(matrix) = &self.reset {
                            arch.dispatch(Reset { sums, from_x, h, reset, hidden });
                            let out = &mut sums[2 * hidden..];
                            matrix.multiply(reset, hidden, batch, &Epilogue::default(), out, rows);
                        }
                        arch.dispatch(GruStep { sums, from_x, h, hidden, late: self.reset.is_some() });
                    }
                }
                y[step * apart..][..part].copy_from_slice(h);
            }
        });
        Ok(())
    }
}

struct LstmStep<'a> {
    sums: &'a mut [f32],
    h: &'a mut [f32],
    c: &'a mut [f32],
    hidden: usize,
}

impl WithSimd for LstmStep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { sums, h, c, hidden } = self;
        for ((sums, h), c) in
            sums.chunks_exact_mut(4 * hidden).zip(h.chunks_exact_mut(hidden)).zip(c.chunks_exact_mut(hidden))
        {
            let (sigmoids, cell) = sums.split_at_mut(3 * hidden);
            for value in &mut *sigmoids {
                *value = sigmoid(*value);
            }
            for value in &mut *cell {
                *value = tanh(*value);
            }
            let (input, rest) = sigmoids.split_at(hidden);
            let (output, forget) = rest.split_at(hidden);
            for (((c, cell), input), forget) in c.iter_mut().zip(&*cell).zip(input).zip(forget) {
                *c = forget * *c + input * cell;
            }
            for ((h, c), output) in h.iter_mut().zip(&*c).zip(output) {
                *h = output * tanh(*c);
            }
        }
    }
}

struct Reset<'a> {
    sums: &'a [f32],
    from_x: &'a [f32],
    h: &'a [f32],
    reset: &'a mut [f32],
    hidden: usize,
}

impl WithSimd for Reset<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { sums, from_x, h, reset, hidden } = self;
        let rows = sums.chunks_exact(3 * hidden).zip(from_x.chunks_exact(3 * hidden));
        for ((sums, from_x), (h, reset)) in rows.zip(h.chunks_exact(hidden).zip(reset.chunks_exact_mut(hidden))) {
            let (sums, from_x) = (&sums[hidden..2 * hidden], &from_x[hidden..2 * hidden]);
            for (((reset, h), sum), x) in reset.iter_mut().zip(h).zip(sums).zip(from_x) {
                *reset = sigmoid(sum + x) * h;
            }
        }
    }
}

struct GruStep<'a> {
    sums: &'a [f32],
    from_x: &'a [f32],
    h: &'a mut [f32],
    hidden: usize,
    /// Whether the state was reset before its product.
    late: bool,
}

impl WithSimd for GruStep<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { sums, from_x, h, hidden, late } = self;
        let rows = sums.chunks_exact(3 * hidden).zip(from_x.chunks_exact(3 * hidden));
        for ((sums, from_x), h) in rows.zip(h.chunks_exact_mut(hidden)) {
            let ((update, rest), (update_x, rest_x)) = (sums.split_at(hidden), from_x.split_at(hidden));
            let ((reset, new), (reset_x, new_x)) = (rest.split_at(hidden), rest_x.split_at(hidden));
            let updates = update.iter().zip(update_x);
            let resets = reset.iter().zip(reset_x);
            for ((((h, (update, update_x)), (reset, reset_x)), new), new_x) in
                h.iter_mut().zip(updates).zip(resets).zip(new).zip(new_x)
            {
                let update = sigmoid(update + update_x);
                let reset = if late { 1.0 } else { sigmoid(reset + reset_x) };
                let new = tanh(new_x + reset * new);
                *h = (1.0 - update) * new + update * *h;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|i| ((i * 37 + seed * 11) % 101) as f32 / 50.0 - 1.0).collect()
    }

    /// All steps of one sequence by the definition.
    fn plain(
        kind: RecurrentKind,
        [steps, batch, inputs, hidden]: [usize; 4],
        backward: bool,
        [x, w, r, b]: [&[f32]; 4],
        h: &mut [f32],
        c: &mut [f32],
    ) -> Vec<f32> {
        let gates = kind.gates() * hidden;
        let mut y = vec![0.0; steps * batch * hidden];
        let sigmoid = |x: f32| 1.0 / (1.0 + (-x).exp());
        for turn in 0..steps {
            let step = if backward { steps - 1 - turn } else { turn };
            for sample in 0..batch {
                let x = &x[(step * batch + sample) * inputs..][..inputs];
                let before = h[sample * hidden..][..hidden].to_vec();
                let of_x = |g: usize| (0..inputs).map(|i| x[i] * w[g * inputs + i]).sum::<f32>() + b[g];
                let of_h =
                    |g: usize, h: &[f32]| (0..hidden).map(|i| h[i] * r[g * hidden + i]).sum::<f32>() + b[gates + g];
                let all = |g: usize| of_x(g) + of_h(g, &before);
                for at in 0..hidden {
                    let out = &mut h[sample * hidden + at];
                    match kind {
                        RecurrentKind::Lstm => {
                            let [i, o, f] = [0, 1, 2].map(|gate| sigmoid(all(gate * hidden + at)));
                            let c = &mut c[sample * hidden + at];
                            *c = f * *c + i * all(3 * hidden + at).tanh();
                            *out = o * c.tanh();
                        }
                        RecurrentKind::Gru { linear_before_reset } => {
                            let z = sigmoid(all(at));
                            let reset: Vec<f32> = (0..hidden).map(|k| sigmoid(all(hidden + k))).collect();
                            let g = 2 * hidden + at;
                            let new = if linear_before_reset {
                                of_x(g) + reset[at] * of_h(g, &before)
                            } else {
                                let state: Vec<f32> = reset.iter().zip(&before).map(|(r, h)| r * h).collect();
                                of_x(g) + of_h(g, &state)
                            };
                            *out = (1.0 - z) * new.tanh() + z * before[at];
                        }
                    }
                    y[(step * batch + sample) * hidden + at] = *out;
                }
            }
        }
        y
    }

    #[test]
    fn layers_are_those_of_the_definition() {
        let gru = |linear_before_reset| RecurrentKind::Gru { linear_before_reset };
        for kind in [RecurrentKind::Lstm, gru(false), gru(true)] {
            for sizes @ [steps, batch, inputs, hidden] in [[1, 1, 1, 1], [5, 1, 3, 8], [4, 3, 7, 19], [3, 2, 40, 33]] {
                for backward in [false, true] {
                    let gates = kind.gates() * hidden;
                    let (x, w) = (values(steps * batch * inputs, 1), values(gates * inputs, 2));
                    let (r, b) = (values(gates * hidden, 3), values(2 * gates, 4));
                    let (mut h, mut c) = (values(batch * hidden, 5), values(batch * hidden, 6));
                    let (mut own_h, mut own_c) = (h.clone(), c.clone());
                    let expected = plain(kind, sizes, backward, [&x, &w, &r, &b], &mut h, &mut c);
                    let layer = Recurrent::new(kind, inputs, hidden, &w, &r, Some(&b)).unwrap();
                    let mut y = vec![0.0; steps * batch * hidden];
                    layer
                        .forward(&x, [steps, batch], backward, &mut own_h, &mut own_c, &mut y, batch * hidden)
                        .unwrap();
                    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-4);
                    assert!(near(&y, &expected) && near(&own_h, &h), "{kind:?} {sizes:?} {backward}");
                    assert!(kind != RecurrentKind::Lstm || near(&own_c, &c));
                }
            }
        }
    }
}
