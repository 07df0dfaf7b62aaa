//! tract, an engine in Rust that shares no code with the exporter.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use tract_onnx::prelude::{
    Datum, Framework, InferenceFact, InferenceModel, InferenceModelExt, IntoRunnable, Tensor, TractResult, tvec,
};

use super::Values;
use super::engine::Engine;
use crate::error::{panic_text, without_panic_output};

/// The engine.
pub struct Tract;

impl Engine for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn run(&self, model: &Path, _input: &str, inputs: &[Values]) -> Result<Vec<Vec<Values>>, String> {
        let run = || -> TractResult<Vec<Vec<Values>>> {
            // It sees to the shapes itself, from the input alone.
            let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
            let parsed = onnx.model_for_path(model)?;
            inputs.iter().map(|input| forward(parsed.clone(), input)).collect()
        };
        let found = without_panic_output(|| catch_unwind(AssertUnwindSafe(run)));
        match found {
            Ok(found) => found.map_err(|error| format!("{error:#}").replace('\n', " ")),
            Err(panic) => Err(panic_text(&*panic)),
        }
    }
}

fn forward(mut model: InferenceModel, input: &Values) -> TractResult<Vec<Values>> {
    model.set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), &input.shape))?;
    let model = model.into_optimized()?.into_runnable()?;
    let tensor = Tensor::from_shape(&input.shape, &input.data)?;
    let outputs = model.run(tvec!(tensor.into()))?;
    outputs
        .iter()
        .map(|output| {
            let output = output.cast_to::<f32>()?;
            let view = output.to_plain_array_view::<f32>()?;
            Ok(Values { shape: view.shape().to_vec(), data: view.iter().copied().collect() })
        })
        .collect()
}
