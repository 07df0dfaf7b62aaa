//! LSTM, GRU and plain recurrent networks over several layers and both directions.

use rekindle_onnx::DType;
use rekindle_onnx::builder::{Attr, ValueName};

use super::packed::Packed;
use super::{Args, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("lstm", |l, a| recurrent(l, a, &LSTM)),
    ("gru", |l, a| recurrent(l, a, &GRU)),
    ("rnn_tanh", |l, a| recurrent(l, a, &TANH)),
    ("rnn_relu", |l, a| recurrent(l, a, &RELU)),
];

struct Cell {
    operator: &'static str,
    /// ONNX's gates by PyTorch's numbers: i f g o → i o f g, r z n → z r n.
    order: &'static [usize],
    states: usize,
    activation: Option<&'static str>,
}

const LSTM: Cell = Cell { operator: "LSTM", order: &[0, 3, 1, 2], states: 2, activation: None };
const GRU: Cell = Cell { operator: "GRU", order: &[1, 0, 2], states: 1, activation: None };
const TANH: Cell = Cell { operator: "RNN", order: &[0], states: 1, activation: Some("Tanh") };
const RELU: Cell = Cell { operator: "RNN", order: &[0], states: 1, activation: Some("Relu") };

/// The gates of a weight in ONNX's order.
fn gates(l: &mut Lower, weight: TensorId, cell: &Cell) -> Result<ValueName> {
    let value = l.value(weight)?;
    if cell.order.len() == 1 {
        return Ok(value);
    }
    let count = cell.order.len();
    let parts = l.nodes("Split", &[&value], count, &[("axis", int(0)), ("num_outputs", int(count as i64))])?;
    let ordered: Vec<&str> = cell.order.iter().map(|&gate| parts[gate].as_ref()).collect();
    l.node("Concat", &ordered, &[("axis", int(0))])
}

fn joined(l: &mut Lower, parts: &[ValueName], axis: i64) -> Result<ValueName> {
    if let [part] = parts {
        return Ok(part.clone());
    }
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    l.node("Concat", &parts, &[("axis", int(axis))])
}

fn recurrent(l: &mut Lower, args: &Args, cell: &Cell) -> Result<Vec<Value>> {
    let packed = match args.optional("batch_sizes")? {
        Some(sizes) => {
            let sizes = l.value_as(sizes, DType::I64)?;
            Some(Packed::of(l, &sizes)?)
        }
        None => None,
    };
    let x = args.any(&["input", "data"]).tensor()?;
    let dtype = l.dtype(x);
    let states: Vec<TensorId> = match args.get("hx") {
        Value::List(_) => args.tensors("hx")?,
        _ => vec![args.tensor("hx")?],
    };
    let weights = args.tensors("params")?;
    let (biases, layers) = (args.bool("has_biases")?, args.int("num_layers")? as usize);
    let directions = if args.bool("bidirectional")? { 2 } else { 1 };
    let batch_first = packed.is_none() && args.bool("batch_first")?;
    let dropout = args.float("dropout")?;
    let training = super::dropout::in_training(l, args.bool("train")?);
    let each = if biases { 4 } else { 2 };
    if states.len() != cell.states || weights.len() != layers * directions * each {
        return Err(Error::beyond(format!(
            "{} with {} states and {} weights (projections, for example)",
            cell.operator,
            states.len(),
            weights.len()
        )));
    }
    let axes = if packed.is_some() { 2 } else { 3 };
    if l.rank(x) != axes {
        return Err(Error::beyond(format!("an input of {} axes", l.rank(x))));
    }
    let hidden = l.size(weights[1], 1)? as i64;
    let mut value = l.value(x)?;
    if batch_first {
        value = l.transpose(&value, &[1, 0, 2])?;
    }
    let mut lengths: ValueName = "".into();
    if let Some(packed) = &packed {
        let zero = l.number(0.0, dtype)?;
        value = packed.apart(l, &value, &zero)?;
        lengths = l.cast(&packed.lengths, DType::I64, DType::I32)?;
    }
    let mut initial = Vec::new();
    for state in states {
        initial.push(l.value(state)?);
    }
    let mut last: Vec<Vec<ValueName>> = vec![Vec::new(); cell.states];
    let first = l.ints(&[0])?;
    for layer in 0..layers {
        let (mut w, mut r, mut b) = (Vec::new(), Vec::new(), Vec::new());
        for direction in 0..directions {
            let own = &weights[(layer * directions + direction) * each..][..each];
            let (own_w, own_r) = (gates(l, own[0], cell)?, gates(l, own[1], cell)?);
            w.push(l.node("Unsqueeze", &[&own_w, &first], &[])?);
            r.push(l.node("Unsqueeze", &[&own_r, &first], &[])?);
            if biases {
                let (input, state) = (gates(l, own[2], cell)?, gates(l, own[3], cell)?);
                let own_b = l.node("Concat", &[&input, &state], &[("axis", int(0))])?;
                b.push(l.node("Unsqueeze", &[&own_b, &first], &[])?);
            }
        }
        let (w, r) = (joined(l, &w, 0)?, joined(l, &r, 0)?);
        let b = if biases { joined(l, &b, 0)? } else { "".into() };
        let mut own = Vec::new();
        for state in &initial {
            let start = l.ints(&[(layer * directions) as i64])?;
            let end = l.ints(&[((layer + 1) * directions) as i64])?;
            own.push(l.node("Slice", &[state, &start, &end, &first], &[])?);
        }
        let mut inputs: Vec<&str> = vec![&value, &w, &r, &b, &lengths];
        inputs.extend(own.iter().map(AsRef::<str>::as_ref));
        let mut attributes = vec![
            ("hidden_size", int(hidden)),
            ("direction", Attr::Text(if directions == 2 { "bidirectional" } else { "forward" })),
        ];
        if cell.operator == "GRU" {
            attributes.push(("linear_before_reset", int(1)));
        }
        if let Some(activation) = cell.activation {
            attributes.push(("activations", Attr::Texts(vec![activation; directions])));
        }
        let outputs = l.nodes(cell.operator, &inputs, 1 + cell.states, &attributes)?;
        // [steps, directions, batch, hidden] becomes [steps, batch, directions × hidden].
        let turned = l.transpose(&outputs[0], &[0, 2, 1, 3])?;
        let flat = l.ints(&[0, 0, hidden * directions as i64])?;
        // A zero keeps the axis: steps and batch may be open.
        value = l.node("Reshape", &[&turned, &flat], &[])?;
        if dropout > 0.0 && training && layer + 1 < layers {
            value = super::dropout::drop_out(l, &value, dropout, 1)?.swap_remove(0);
        }
        for (kind, state) in outputs[1..].iter().enumerate() {
            last[kind].push(state.clone());
        }
    }
    if batch_first {
        value = l.transpose(&value, &[1, 0, 2])?;
    }
    if let Some(packed) = &packed {
        value = packed.together(l, &value)?;
    }
    let mut results = l.answer(value)?;
    if let (Some(_), [Value::Tensor(all)]) = (&packed, results.as_slice()) {
        l.assume(*all, dtype, 2);
    }
    for states in &last {
        let all = joined(l, states, 0)?;
        results.extend(l.answer(all)?);
        if let Some(Value::Tensor(state)) = results.last() {
            l.assume(*state, dtype, 3);
        }
    }
    Ok(results)
}
