//! Single steps of recurrent networks.

use super::compose::part;
use super::{Args, Lower, Row, Value};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("lstm_cell", lstm_cell),
    ("gru_cell", gru_cell),
    ("rnn_tanh_cell", |l, a| plain_cell(l, a, "tanh")),
    ("rnn_relu_cell", |l, a| plain_cell(l, a, "relu")),
];

/// What the gates get of the input and of the state before.
fn gates(l: &mut Lower, args: &Args, state: &Value) -> Result<(Value, Value)> {
    let linear = |l: &mut Lower, x: &Value, weight: &str, bias: &str| {
        let given = [("input", x.clone()), ("weight", args.get(weight).clone()), ("bias", args.get(bias).clone())];
        l.apply_one("linear", "", &given)
    };
    Ok((linear(l, args.get("input"), "w_ih", "b_ih")?, linear(l, state, "w_hh", "b_hh")?))
}

/// Gate `at` of all that lie side by side.
fn gate(l: &mut Lower, all: &Value, at: i64, size: i64) -> Result<Value> {
    part(l, all, -1, at * size, (at + 1) * size)
}

fn hidden(l: &Lower, args: &Args) -> Result<i64> {
    Ok(l.size(args.tensor("w_hh")?, 1)? as i64)
}

fn lstm_cell(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let [state, memory] = args.get("hx").list()? else {
        return Err(Error::invalid("an LSTM has two states"));
    };
    let (state, memory, size) = (state.clone(), memory.clone(), hidden(l, args)?);
    let (of_input, of_state) = gates(l, args, &state)?;
    let all = l.two("add", &of_input, &of_state)?;
    let mut open = Vec::new();
    for (at, function) in ["sigmoid", "sigmoid", "tanh", "sigmoid"].into_iter().enumerate() {
        let own = gate(l, &all, at as i64, size)?;
        open.push(l.one(function, &own)?);
    }
    let (kept, new) = (l.two("mul", &open[1], &memory)?, l.two("mul", &open[0], &open[2])?);
    let memory = l.two("add", &kept, &new)?;
    let shown = l.one("tanh", &memory)?;
    Ok(vec![l.two("mul", &open[3], &shown)?, memory])
}

fn gru_cell(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (state, size) = (args.get("hx").clone(), hidden(l, args)?);
    let (of_input, of_state) = gates(l, args, &state)?;
    let mut open = Vec::new();
    for at in 0..2 {
        let (a, b) = (gate(l, &of_input, at, size)?, gate(l, &of_state, at, size)?);
        let sum = l.two("add", &a, &b)?;
        open.push(l.one("sigmoid", &sum)?);
    }
    let (a, b) = (gate(l, &of_input, 2, size)?, gate(l, &of_state, 2, size)?);
    let kept = l.two("mul", &open[0], &b)?;
    let sum = l.two("add", &a, &kept)?;
    let new = l.one("tanh", &sum)?;
    // (h - n) × z + n
    let apart = l.two("sub", &state, &new)?;
    let old = l.two("mul", &apart, &open[1])?;
    Ok(vec![l.two("add", &old, &new)?])
}

fn plain_cell(l: &mut Lower, args: &Args, function: &str) -> Result<Vec<Value>> {
    let state = args.get("hx").clone();
    let (of_input, of_state) = gates(l, args, &state)?;
    let sum = l.two("add", &of_input, &of_state)?;
    Ok(vec![l.one(function, &sum)?])
}
