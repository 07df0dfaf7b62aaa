//! rten on an ONNX file.

use std::sync::Arc;

use anyhow::{Result, bail};
use rten::{Model, ModelOptions, RunOptions, ThreadPool, Value, ValueOrView};
use rten_tensor::Tensor;

use crate::tract_work::{image, parsed};
use crate::turns;

/// Runs a graph on inputs of the given shapes, as tract does. Integers are 32-bit ones there.
pub fn run(file: &str, inputs: &[&str], once: bool) -> Result<()> {
    let threads = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    let pool = Arc::new(ThreadPool::with_num_threads(threads));
    let model: Model = ModelOptions::with_all_ops().prepack_weights(true).load_file(file)?;
    let mut values = Vec::new();
    for input in inputs {
        let (name, shape, kind) = parsed(input)?;
        let count = shape.iter().product::<usize>();
        let value: Value = match kind {
            "f32" => Tensor::from_data(&shape[..], (0..count).map(image).collect::<Vec<f32>>()).into(),
            "i64" => Tensor::from_data(&shape[..], vec![1_i32; count]).into(),
            other => bail!("the type {other} is neither f32 nor i64"),
        };
        values.push((model.node_id(name)?, value));
    }
    let outputs = model.output_ids().to_vec();
    turns::take(once, || {
        let inputs = values.iter().map(|(id, value)| (*id, ValueOrView::from(value))).collect();
        let mut options = RunOptions::default();
        options.thread_pool = Some(pool.clone());
        model.run(inputs, &outputs, Some(options))?;
        Ok(())
    })
}
