//! Recurrent networks: `RNN`, `GRU` and `LSTM`.

use super::Inputs;
use super::microsoft_quantized::{dequantized, through_bytes};
use super::product::{Matrix, Size, add_product, add_strided, transposed};
use super::real::{Real, permuted, read, with_real, write, zeros};
use super::recurrent_activation::{Activation, Activations};
use crate::array::Rounding;
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Array, DType, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(
        Schema::new("RNN", &[1, 7, 14, 22], (3, 6))
            .attributes(&[
                "activation_alpha",
                "activation_beta",
                "activations",
                "clip",
                "direction",
                "hidden_size",
                "layout@14",
                "output_sequence<7",
            ])
            .weights(),
        |node| parsed(Recurrent::parse(node, Cell::Rnn)?),
    ),
    Entry::new(
        Schema::new("GRU", &[1, 3, 7, 14, 22], (3, 6))
            .attributes(&[
                "activation_alpha",
                "activation_beta",
                "activations",
                "clip",
                "direction",
                "hidden_size",
                "layout@14",
                "linear_before_reset@3",
                "output_sequence<7",
            ])
            .weights(),
        |node| parsed(Recurrent::parse(node, Cell::Gru)?),
    ),
    Entry::new(
        Schema::new("LSTM", &[1, 7, 14, 22], (3, 8))
            .attributes(&[
                "activation_alpha",
                "activation_beta",
                "activations",
                "clip",
                "direction",
                "hidden_size",
                "input_forget",
                "layout@14",
                "output_sequence<7",
            ])
            .weights(),
        |node| parsed(Recurrent::parse(node, Cell::Lstm)?),
    ),
    Entry::new(
        Schema::of("com.microsoft", "DynamicQuantizeLSTM", &[1], (12, 12)).attributes(&[
            "activation_alpha",
            "activation_beta",
            "activations",
            "clip",
            "direction",
            "hidden_size",
            "input_forget",
        ]),
        |node| parsed(Quantized(Recurrent::parse(node, Cell::Lstm)?)),
    ),
];

/// What happens in a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// `RNN`: one function of input and state.
    Rnn,
    /// `GRU`.
    Gru,
    /// `LSTM`.
    Lstm,
}

impl Cell {
    /// Blocks of rows in the weights.
    pub fn gates(self) -> usize {
        match self {
            Self::Rnn => 1,
            Self::Gru => 3,
            Self::Lstm => 4,
        }
    }

    fn default_activations(self) -> &'static [&'static str] {
        match self {
            Self::Rnn => &["Tanh"],
            Self::Gru => &["Sigmoid", "Tanh"],
            Self::Lstm => &["Sigmoid", "Tanh", "Tanh"],
        }
    }
}

/// `RNN`, `GRU` or `LSTM`.
#[derive(Debug, Clone)]
pub struct Recurrent {
    /// What happens in a step.
    pub cell: Cell,
    /// For each direction, whether it runs from the last step to the first.
    pub backward: &'static [bool],
    /// Whether the batch is the first axis, and not the steps.
    pub batch_first: bool,
    /// The size of the state, if the node says it.
    pub hidden: Option<i64>,
    /// `LSTM`: what is not taken in is kept.
    pub coupled: bool,
    /// `GRU`: the reset comes after the product with the weights.
    pub reset_after: bool,
    activations: Activations,
}

impl Recurrent {
    fn parse(node: &RawNode, cell: Cell) -> Result<Self> {
        let attributes = &node.attributes;
        let backward: &[bool] = match attributes.text_or("direction", "forward")? {
            "forward" => &[false],
            "reverse" => &[true],
            "bidirectional" => &[false, true],
            other => return Err(Error::invalid(format!("its direction is '{other}'"))),
        };
        Ok(Self {
            cell,
            backward,
            batch_first: attributes.flag("layout", false)?,
            hidden: attributes.int("hidden_size")?,
            coupled: cell == Cell::Lstm && attributes.flag("input_forget", false)?,
            reset_after: cell == Cell::Gru && attributes.flag("linear_before_reset", false)?,
            activations: Activations::parse(node, cell.default_activations(), backward.len())?,
        })
    }

    /// Whether the functions of its gates are the usual ones, and nothing is cut off.
    pub fn has_usual_activations(&self) -> bool {
        self.activations.usual
    }

    /// `RNN`: whether its function is ReLU, and nothing is cut off.
    pub fn is_rectified(&self) -> bool {
        self.cell == Cell::Rnn && self.activations.rectified
    }
}

impl Operator for Recurrent {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        with_real!(inputs.array(0)?.dtype(), T => network::<T>(self, inputs, false))
    }
}

/// `DynamicQuantizeLSTM`.
struct Quantized(Recurrent);

impl Operator for Quantized {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        quantized_lstm(&self.0, inputs)
    }
}

/// `DynamicQuantizeLSTM` of `com.microsoft`: weights are small integers, their matrices transposed; inputs and states become
/// bytes before each product. Inputs: those of `LSTM`, then scale and zero point of the weights of inputs and of states.
fn quantized_lstm(op: &Recurrent, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let weights = |position: usize, scale: usize| -> Result<Value> {
        let codes = inputs.array(position)?;
        let &[directions, from, gates] = codes.shape() else {
            return Err(Error::invalid(format!("weights of shape {:?} do not have 3 axes", codes.shape())));
        };
        let spread = |array: &Array| {
            let columns = if array.len() == directions { 1 } else { gates };
            array.reshaped(vec![directions, 1, columns])
        };
        let zero = inputs.optional(scale + 1)?.map(spread).transpose()?;
        let floats = dequantized(codes, &spread(inputs.array(scale)?)?, zero.as_ref())?;
        debug_assert_eq!(floats.shape(), [directions, from, gates]);
        Ok(permuted(&floats, &[0, 2, 1])?.cast(DType::F32, true, Rounding::Nearest)?.into())
    };
    let (w, r) = (weights(1, 8)?, weights(2, 10)?);
    let all = (0..8).map(|position| match position {
        1 => Some(&w),
        2 => Some(&r),
        position => inputs.get(position),
    });
    network::<f32>(op, &Inputs::new(all.collect()), true)
}

/// Values as the bytes that they become and back.
fn as_bytes<T: Real>(values: &[T]) -> Vec<T> {
    let mut wide: Vec<f64> = values.iter().map(|value| value.f64()).collect();
    through_bytes(&mut wide);
    wide.into_iter().map(T::of).collect()
}

/// Sizes of a network.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    steps: usize,
    batch: usize,
    input: usize,
    hidden: usize,
}

/// An input with the batch first, as if it were second; nothing when it is left out.
fn batch_second(array: Option<&Array>, batch_first: bool) -> Result<Option<Array>> {
    let Some(array) = array else { return Ok(None) };
    if array.rank() != 3 {
        return Err(Error::invalid(format!("expected 3 axes, found shape {:?}", array.shape())));
    }
    if batch_first { permuted(array, &[1, 0, 2]).map(Some) } else { Ok(Some(array.clone())) }
}

fn network<T: Real>(op: &Recurrent, inputs: &Inputs<'_>, bytes: bool) -> Result<Vec<Value>> {
    let &Recurrent { cell, batch_first, coupled, reset_after, .. } = op;
    let x = batch_second(inputs.optional(0)?, batch_first)?.ok_or_else(|| Error::invalid("input 0 is missing"))?;
    let (w, r) = (inputs.array(1)?, inputs.array(2)?);
    let directions = op.backward.len();
    let &[steps, batch, input] = x.shape() else { return Err(Error::invalid("expected an input of 3 axes")) };
    let hidden = r.shape().last().copied().unwrap_or(0);
    let size = Sizes { steps, batch, input, hidden };
    let gates = cell.gates() * hidden;
    let initial = |position: usize| batch_second(inputs.optional(position)?, batch_first);
    let (bias, first_h) = (inputs.optional(3)?, initial(5)?);
    let (first_c, peepholes) = if cell == Cell::Lstm { (initial(6)?, inputs.optional(7)?) } else { (None, None) };
    let expected = [
        (Some(w), vec![directions, gates, input]),
        (Some(r), vec![directions, gates, hidden]),
        (bias, vec![directions, 2 * gates]),
        (first_h.as_ref(), vec![directions, batch, hidden]),
        (first_c.as_ref(), vec![directions, batch, hidden]),
        (peepholes, vec![directions, 3 * hidden]),
    ];
    for (array, shape) in expected {
        if let Some(array) = array.filter(|array| array.shape() != shape) {
            return Err(Error::invalid(format!("an input of shape {:?} where {shape:?} was expected", array.shape())));
        }
    }
    if op.hidden.is_some_and(|given| given != hidden as i64) {
        return Err(Error::invalid(format!("its hidden_size is not the {hidden} of its weights")));
    }
    let lengths = lengths(inputs.ints(4)?, size)?;
    let activations = op.activations.of::<T>();
    let bias = bias.map_or_else(|| zeros(&[directions, 2 * gates]), |bias| Ok(read::<T>(bias)?.into_owned()))?;
    let peepholes = peepholes.map(read::<T>).transpose()?;
    let state = |array: Option<Array>| match array {
        Some(array) => Ok(read::<T>(&array)?.into_owned()),
        None => zeros(&[directions, batch, hidden]),
    };
    let (mut h, mut c) = (state(first_h)?, state(first_c)?);
    let (values, w, r) = (read::<T>(&x)?, read::<T>(w)?, read::<T>(r)?);
    let mut y = zeros::<T>(&[steps, directions, batch, hidden])?;
    let part = batch * hidden;
    for d in 0..if part == 0 { 0 } else { directions } {
        let layer = Layer {
            cell,
            bytes,
            size,
            w: &w[d * gates * input..][..gates * input],
            r: &r[d * gates * hidden..][..gates * hidden],
            bias: &bias[d * 2 * gates..][..2 * gates],
            peepholes: peepholes.as_ref().map(|peepholes| &peepholes[d * 3 * hidden..][..3 * hidden]),
            activations: &activations[d * cell.default_activations().len()..],
            coupled,
            reset_after,
        };
        let backward = op.backward[d];
        let (h, c) = (&mut h[d * part..][..part], &mut c[d * part..][..part]);
        layer.run(&values, &lengths, backward, h, c, |step, item, row| {
            y[((step * directions + d) * batch + item) * hidden..][..hidden].copy_from_slice(row);
        })?;
    }
    let mut outputs = vec![write(x.dtype(), vec![steps, directions, batch, hidden], y)?];
    outputs.push(write(x.dtype(), vec![directions, batch, hidden], h)?);
    if cell == Cell::Lstm {
        outputs.push(write(x.dtype(), vec![directions, batch, hidden], c)?);
    }
    if batch_first {
        outputs[0] = permuted(&outputs[0], &[2, 0, 1, 3])?;
        for output in &mut outputs[1..] {
            *output = permuted(output, &[1, 0, 2])?;
        }
    }
    Ok(outputs.into_iter().map(Value::from).collect())
}

/// Steps of each sequence of the batch.
fn lengths(given: Option<Vec<i64>>, size: Sizes) -> Result<Vec<usize>> {
    let Some(given) = given else { return Ok(vec![size.steps; size.batch]) };
    if given.len() != size.batch || given.iter().any(|&length| !(0..=size.steps as i64).contains(&length)) {
        return Err(Error::invalid(format!(
            "sequence_lens {given:?} do not fit {} sequences of {} steps",
            size.batch, size.steps
        )));
    }
    Ok(given.into_iter().map(|length| length as usize).collect())
}

/// One direction.
struct Layer<'l, T> {
    cell: Cell,
    /// Whether inputs and states become bytes before each product.
    bytes: bool,
    size: Sizes,
    w: &'l [T],
    r: &'l [T],
    bias: &'l [T],
    peepholes: Option<&'l [T]>,
    activations: &'l [Activation<T>],
    /// `LSTM`: what is not taken in is kept.
    coupled: bool,
    /// `GRU`: the reset comes after the product with the weights.
    reset_after: bool,
}

impl<T: Real> Layer<'_, T> {
    /// Runs all steps, from the states in `h` and `c`, which are left as they are at the end. `emit` gets step, item and its state.
    fn run(
        &self,
        x: &[T],
        lengths: &[usize],
        backward: bool,
        h: &mut [T],
        c: &mut [T],
        mut emit: impl FnMut(usize, usize, &[T]),
    ) -> Result<()> {
        let Sizes { steps, batch, input, hidden, .. } = self.size;
        let gates = self.cell.gates() * hidden;
        // What the inputs give to the gates, for all steps at once.
        let mut from_x = zeros::<T>(&[steps * batch, gates])?;
        let (w_bias, r_bias) = self.bias.split_at(gates);
        for row in from_x.chunks_exact_mut(gates) {
            for (i, slot) in row.iter_mut().enumerate() {
                // After the reset, the last bias of the state belongs to the product.
                let apart = self.reset_after && i >= 2 * hidden;
                *slot = if apart { w_bias[i] } else { w_bias[i] + r_bias[i] };
            }
        }
        let size = Size { m: steps * batch, k: input, n: gates };
        let quantized = if self.bytes { Some(as_bytes(x)) } else { None };
        let x = quantized.as_deref().unwrap_or(x);
        add_strided(Matrix::new(x, input), Matrix::transposed(self.w, input), &mut from_x, gates, size);
        // The state's weights, with those of the last gate of a GRU apart: they are used later.
        let early = if self.cell == Cell::Gru { 2 * hidden } else { gates };
        let r = transposed(&self.r[..early * hidden], early, hidden);
        let late = transposed(&self.r[early * hidden..], gates - early, hidden);
        let mut work = Work {
            gates: vec![T::default(); batch * gates],
            state: h.to_vec(),
            early: vec![T::default(); batch * early],
        };
        let mut cells = c.to_vec();
        for turn in 0..steps {
            let step = |item: usize| if backward { lengths[item] - 1 - turn } else { turn };
            for (item, row) in work.gates.chunks_exact_mut(gates).enumerate() {
                if turn < lengths[item] {
                    row.copy_from_slice(&from_x[(step(item) * batch + item) * gates..][..gates]);
                }
            }
            work.early.fill(T::default());
            let quantized = if self.bytes { Some(as_bytes(h)) } else { None };
            add_product(quantized.as_deref().unwrap_or(h), &r, &mut work.early, Size { m: batch, k: hidden, n: early });
            for (row, add) in work.gates.chunks_exact_mut(gates).zip(work.early.chunks_exact(early)) {
                row.iter_mut().zip(add).for_each(|(slot, &add)| *slot += add);
            }
            match self.cell {
                Cell::Rnn => self.rnn(&mut work),
                Cell::Gru => self.gru(&mut work, h, &late),
                Cell::Lstm => self.lstm(&mut work, &mut cells),
            }
            for item in (0..batch).filter(|&item| turn < lengths[item]) {
                let range = item * hidden..(item + 1) * hidden;
                h[range.clone()].copy_from_slice(&work.state[range.clone()]);
                c[range.clone()].copy_from_slice(&cells[range.clone()]);
                emit(step(item), item, &h[range]);
            }
        }
        Ok(())
    }

    fn rnn(&self, work: &mut Work<T>) {
        self.activations[0].apply(&mut work.gates);
        work.state.copy_from_slice(&work.gates);
    }

    fn gru(&self, work: &mut Work<T>, h: &[T], late: &[T]) {
        let hidden = self.size.hidden;
        for row in work.gates.chunks_exact_mut(3 * hidden) {
            self.activations[0].apply(&mut row[..2 * hidden]);
        }
        // What the product takes, in the place of the state to come.
        for ((state, row), h) in
            work.state.chunks_exact_mut(hidden).zip(work.gates.chunks_exact(3 * hidden)).zip(h.chunks_exact(hidden))
        {
            let reset = &row[hidden..2 * hidden];
            state
                .iter_mut()
                .zip(reset)
                .zip(h)
                .for_each(|((slot, &r), &h)| *slot = if self.reset_after { h } else { r * h });
        }
        let mut product = vec![T::default(); h.len()];
        if self.reset_after {
            product.chunks_exact_mut(hidden).for_each(|row| row.copy_from_slice(&self.bias[5 * hidden..]));
        }
        add_product(&work.state, late, &mut product, Size { m: self.size.batch, k: hidden, n: hidden });
        for (item, row) in work.gates.chunks_exact_mut(3 * hidden).enumerate() {
            let range = item * hidden..(item + 1) * hidden;
            let (early, candidate) = row.split_at_mut(2 * hidden);
            let (update, reset) = early.split_at(hidden);
            for ((slot, &product), &r) in candidate.iter_mut().zip(&product[range.clone()]).zip(reset) {
                *slot += if self.reset_after { r * product } else { product };
            }
            self.activations[1].apply(candidate);
            for (((state, &h), &z), &new) in
                work.state[range.clone()].iter_mut().zip(&h[range]).zip(update).zip(&*candidate)
            {
                *state = (T::of(1.0) - z) * new + z * h;
            }
        }
    }

    fn lstm(&self, work: &mut Work<T>, c: &mut [T]) {
        let hidden = self.size.hidden;
        for (item, row) in work.gates.chunks_exact_mut(4 * hidden).enumerate() {
            let c = &mut c[item * hidden..][..hidden];
            let state = &mut work.state[item * hidden..][..hidden];
            let (input, rest) = row.split_at_mut(hidden);
            let (output, rest) = rest.split_at_mut(hidden);
            let (forget, candidate) = rest.split_at_mut(hidden);
            let peep = |gate: &mut [T], which: usize, c: &[T]| {
                if let Some(peepholes) = self.peepholes {
                    gate.iter_mut()
                        .zip(&peepholes[which * hidden..])
                        .zip(c)
                        .for_each(|((slot, &p), &c)| *slot += p * c);
                }
            };
            peep(input, 0, c);
            self.activations[0].apply(input);
            if self.coupled {
                forget.iter_mut().zip(&*input).for_each(|(slot, &i)| *slot = T::of(1.0) - i);
            } else {
                peep(forget, 2, c);
                self.activations[0].apply(forget);
            }
            self.activations[1].apply(candidate);
            for (((c, &f), &i), &new) in c.iter_mut().zip(&*forget).zip(&*input).zip(&*candidate) {
                *c = f * *c + i * new;
            }
            peep(output, 1, c);
            self.activations[0].apply(output);
            state.copy_from_slice(c);
            self.activations[2].apply_plain(state);
            state.iter_mut().zip(&*output).for_each(|(slot, &o)| *slot = o * *slot);
        }
    }
}

/// Room that every step uses again.
struct Work<T> {
    /// The gates of all items.
    gates: Vec<T>,
    /// The states to come.
    state: Vec<T>,
    /// What the states give to the gates.
    early: Vec<T>,
}
