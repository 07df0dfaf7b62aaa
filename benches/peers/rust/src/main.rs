//! tract, rten and candle on the work of `rekindle bench`.
//!
//! `rekindle-peers tract|rten FILE.onnx NAME=1x3x224x224:f32...` runs a graph; `rekindle-peers candle forward|train|load|list …` the
//! networks of `candle_models`. Both then take turns (`turns`); `--once` runs a single time and ends.

mod candle_models;
mod candle_work;
mod rten_work;
mod tract_work;
mod turns;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| *word != "--once").collect();
    let once = words.len() < arguments.len();
    match words.as_slice() {
        ["tract", file, inputs @ ..] => tract_work::run(file, inputs, once),
        ["rten", file, inputs @ ..] => rten_work::run(file, inputs, once),
        ["candle", "forward", model, batch, side] => candle_work::forward(model, batch.parse()?, side.parse()?, once),
        ["candle", "train", model, optimizer, batch] => candle_work::train(model, optimizer, batch.parse()?, once),
        ["candle", "load", file] => candle_work::load(file.as_ref(), once),
        ["candle", "list", file] => candle_work::list(file.as_ref(), once),
        ["candle", "predict", file] => candle_work::predict(file.as_ref()),
        _ => bail!(
            "usage: rekindle-peers tract|rten FILE NAME=SHAPE:TYPE... | candle forward MODEL BATCH SIDE | \
             candle train MODEL sgd|adam BATCH | candle load|list|predict FILE"
        ),
    }
}
