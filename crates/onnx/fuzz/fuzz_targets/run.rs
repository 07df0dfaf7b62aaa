#![no_main]
//! Opens bytes as a model and runs it on small inputs, plainly and on the CPU runtime.

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use prost::bytes::Bytes;
use rekindle_onnx::graph::Kind;
use rekindle_onnx::{Array, Axis, Cpu, DType, Data, HostOnly, Limits, Model, Session, Value};

fuzz_target!(|data: &[u8]| {
    // No weights beside the model: the folder is not there.
    let Ok(model) = Model::decode(Bytes::copy_from_slice(data), Path::new("/nonexistent")) else { return };
    let inputs = model.graph.inputs.iter().map(|port| (port.name.clone(), value(&port.kind))).collect();
    let limits = Limits { elements: 1 << 14, nodes: 500, ..Limits::USUAL };
    let inputs: Vec<(String, Value)> = inputs;
    if let Ok(mut session) = Session::new(model.clone(), HostOnly) {
        session.set_limits(limits);
        let _ = session.run(inputs.clone());
    }
    if let Ok(mut session) = Session::prepared(model, Cpu) {
        session.set_limits(limits);
        let _ = session.run(inputs);
    }
});

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Array(dtype, axes) => {
            let size = |axis: &Axis| if let Axis::Size(size) = axis { (*size).min(8) } else { 2 };
            let shape: Vec<usize> = axes.iter().flatten().map(size).take(4).collect();
            let data = Data::zeros(dtype.unwrap_or(DType::F32), shape.iter().product());
            Array::from_data(shape, data).expect("as many zeros as the shape has").into()
        }
        Kind::Other("a sequence") => Value::Sequence(Vec::new()),
        Kind::Other(_) => Value::Optional(None),
        Kind::Unknown => Array::scalar(1_f32).into(),
    }
}
