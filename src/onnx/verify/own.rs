//! rekindle's own interpreter of graphs, on the host: written apart from the exporter, it shares no code with it.

use std::path::Path;

use rekindle_onnx::{Array, HostOnly, Model, Result, Session};

use super::Values;
use super::engine::Engine;

/// The engine.
pub struct Interpreter;

impl Engine for Interpreter {
    fn name(&self) -> &'static str {
        "rekindle"
    }

    fn run(&self, model: &Path, input: &str, inputs: &[Values]) -> std::result::Result<Vec<Vec<Values>>, String> {
        let run = || -> Result<Vec<Vec<Values>>> {
            let session = Session::new(Model::open(model)?, HostOnly)?;
            inputs.iter().map(|values| forward(&session, input, values)).collect()
        };
        run().map_err(|error| error.to_string())
    }
}

fn forward(session: &Session<HostOnly>, input: &str, values: &Values) -> Result<Vec<Values>> {
    let array = Array::new(values.shape.clone(), values.data.clone())?;
    let outputs = session.run(vec![(input.to_string(), array.into())])?;
    let values = outputs.iter().map(|output| {
        let array = output.array()?;
        Ok(Values { shape: array.shape().to_vec(), data: array.expect::<f32>()?.to_vec() })
    });
    values.collect()
}
