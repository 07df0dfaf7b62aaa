//! tract on an ONNX file.

use anyhow::{Context, Result, bail};
use tract_linalg::multithread::{Executor, set_default_executor};
use tract_onnx::prelude::{DatumType, Framework, InferenceFact, InferenceModelExt, IntoRunnable, TValue, TVec, Tensor};

use crate::turns;

/// Runs a graph on inputs of the given shapes: `image=1x3x224x224:f32`. Floats look like images, integers are all 1.
pub fn run(file: &str, inputs: &[&str], once: bool) -> Result<()> {
    let threads = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok()).unwrap_or(1);
    if threads > 1 {
        set_default_executor(Executor::multithread(threads));
    }
    let mut model = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true).model_for_path(file)?;
    let mut values: TVec<TValue> = TVec::new();
    for (place, input) in inputs.iter().enumerate() {
        let (name, shape, kind) = parsed(input)?;
        let count = shape.iter().product::<usize>();
        let (kind, tensor) = match kind {
            "f32" => (DatumType::F32, Tensor::from_shape(&shape, &(0..count).map(image).collect::<Vec<f32>>())?),
            "i64" => (DatumType::I64, Tensor::from_shape(&shape, &vec![1_i64; count])?),
            other => bail!("the type {other} is neither f32 nor i64"),
        };
        let found = model.input_outlets()?.iter().position(|outlet| model.node(outlet.node).name == name);
        model.set_input_fact(found.unwrap_or(place), InferenceFact::dt_shape(kind, &shape))?;
        values.push(tensor.into());
    }
    let model = model.into_optimized()?.into_runnable()?;
    turns::take(once, || {
        model.run(values.clone())?;
        Ok(())
    })
}

/// Name, shape and type of an input.
pub fn parsed(input: &str) -> Result<(&str, Vec<usize>, &str)> {
    let (name, kind) = input.rsplit_once('=').context("an input is NAME=SHAPE:TYPE")?;
    let (shape, kind) = kind.split_once(':').context("an input is NAME=SHAPE:TYPE")?;
    Ok((name, shape.split('x').map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?, kind))
}

/// Numbers that look like an image, as `rekindle bench` has them.
pub fn image(place: usize) -> f32 {
    (place * 37 % 255) as f32 / 127.5 - 1.0
}
