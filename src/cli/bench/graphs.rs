//! Graphs in the interpreter: exported networks, and any ONNX file.

use std::path::Path;
use std::str::FromStr;

use anyhow::{anyhow, bail};
use rekindle_onnx::graph::{Axis as PortAxis, Kind};
use rekindle_onnx::{Array, DType, Model, Port, Session, Value};
use rekindle_program::Mode;

use super::networks::{architecture, input_shape, pixels};
use super::{Bench, Work};
use crate::device::OpenDevice;
use crate::onnx::export::{EXTERNAL_ABOVE, ExportOptions, export_network, write};
use crate::onnx::open;
use crate::onnx::run::BurnDevice;
use crate::train::fresh;

/// The size of an open axis: `sequence=128`.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    name: String,
    size: usize,
}

impl FromStr for Axis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .rsplit_once('=')
            .and_then(|(name, size)| Some((name, size.parse().ok().filter(|&size: &usize| size > 0)?)));
        parsed
            .map(|(name, size)| Self { name: name.to_string(), size })
            .ok_or_else(|| "expected NAME=N, such as sequence=128".to_string())
    }
}

/// A built-in network, exported.
pub(super) fn exported(model: &str, batch: usize, side: Option<usize>, bench: &Bench) -> anyhow::Result<Work> {
    let architecture = architecture(&bench.registry, model, side)?;
    let item = input_shape(&architecture, side)?;
    let exported = export_network(&fresh(&architecture, 42), item, &ExportOptions::default())?;
    let name = format!("{model}.onnx");
    write(exported.model, &bench.folder, &name, EXTERNAL_ABOVE)?;
    from_file(&bench.folder.join(name), &[Axis { name: "batch".to_string(), size: batch }], &bench.device)
}

/// A graph on inputs that are made up: floats look like images, integers are all 1, so that they may be tokens or a mask.
pub(super) fn from_file(path: &Path, axes: &[Axis], device: &OpenDevice) -> anyhow::Result<Work> {
    let model = open::open(path, None, Mode::Eval)?.model;
    let session = Session::prepared(model, BurnDevice::new(&device.device))
        .map_err(|error| anyhow!("{}: {error}", path.display()))?;
    let inputs = made_up_inputs(session.model(), axes)?;
    let place = path.display().to_string();
    Ok(Box::new(move || {
        session.run(inputs.clone()).map_err(|error| anyhow!("{place}: {error}"))?;
        Ok(())
    }))
}

/// Inputs of a model as they are timed, open axes of size 1.
pub(in crate::cli) fn inputs(model: &Model) -> anyhow::Result<Vec<(String, Value)>> {
    made_up_inputs(model, &[])
}

fn made_up_inputs(model: &Model, axes: &[Axis]) -> anyhow::Result<Vec<(String, Value)>> {
    let ports = model.graph.inputs.iter().filter(|port| !port.optional);
    ports.map(|port| Ok((port.name.clone(), made_up(port, axes)?))).collect()
}

fn made_up(port: &Port, axes: &[Axis]) -> anyhow::Result<Value> {
    let Kind::Array(dtype, Some(shape)) = &port.kind else {
        bail!("the input '{}' has no shape in the file: such a model is not timed", port.name);
    };
    let size = |axis: &PortAxis| match axis {
        PortAxis::Size(size) => *size,
        PortAxis::Named(name) => axes.iter().find(|axis| axis.name == *name).map_or(1, |axis| axis.size),
        PortAxis::Any => 1,
    };
    let shape: Vec<usize> = shape.iter().map(size).collect();
    let count = shape.iter().product();
    Ok(match dtype {
        None | Some(DType::F32) => Array::new(shape, pixels(count))?.into(),
        Some(DType::I64) => Array::new(shape, vec![1_i64; count])?.into(),
        Some(DType::I32) => Array::new(shape, vec![1_i32; count])?.into(),
        Some(other) => bail!("the input '{}' is of type {other}: only float32, int32 and int64 are made up", port.name),
    })
}
