//! `rekindle run` of a network of the registry, a recipe or a run: inputs from files, its output shown, saved or held against a
//! reference.

use std::path::{Path, PathBuf};

use anyhow::bail;
use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};
use rekindle_state::{DType, StateDict, Value};

use super::model::{self, Model, WeightArgs};
use super::output::{cannot, line, say, table};
use super::{Answer, Exit};
use crate::device::OpenDevice;
use crate::models::weights::Layout;
use crate::models::{Input, Network, Output, Registry};

/// What a network is run on.
pub struct Work<'a> {
    /// A name of the registry, a recipe, or the folder of a run.
    pub model: &'a str,
    /// Where weights come from.
    pub weights: &'a WeightArgs,
    /// `.npy` files, each perhaps as `NAME=FILE`.
    pub inputs: &'a [String],
    /// An `.npz` file with `in0` and `out0`.
    pub reference: Option<&'a Path>,
    /// Where the output is written.
    pub output: Option<&'a Path>,
    /// How far an output may be from its reference, relative to it.
    pub rtol: f64,
    /// How far in any case; it counts of the largest value where that is more than 1.
    pub atol: f64,
}

/// Runs a network in evaluation mode.
pub fn run(registry: &Registry, work: &Work<'_>, device: OpenDevice) -> Answer {
    let layout = Layout::inference(&device);
    let Model { architecture, network, .. } = model::resolve(registry, work.model, work.weights, None, layout)?;
    let (inputs, expected) = match work.reference {
        Some(file) => {
            let arrays = open(file)?;
            let named = |stem: &str| (0..).map_while(|i| arrays.tensor(&format!("{stem}{i}")).cloned()).collect();
            (named("in"), named("out"))
        }
        None => {
            let file =
                |given: &String| array(Path::new(given.split_once('=').map_or(given.as_str(), |(_, file)| file)));
            (work.inputs.iter().map(file).collect::<anyhow::Result<Vec<_>>>()?, Vec::new())
        }
    };
    let [input] = inputs.as_slice() else {
        bail!("'{}' takes one input, found {}: give it with --input FILE.npy", work.model, inputs.len());
    };
    let input = tensor(input, &device.device)?;
    if let Input::Images(images) = &input {
        let [_, channels, height, width] = images.dims();
        architecture.check_input([channels, height, width])?;
    }
    let network: Network = network.fork(&device.device).valid();
    let output = network.forward(input)?;
    say!("device {}", device.name);
    if work.reference.is_some() {
        let [expected] = expected.as_slice() else {
            bail!("the reference has {} outputs (out0, out1, …), the model gives one", expected.len());
        };
        return compare(output, expected, work.rtol, work.atol);
    }
    let (shape, values) = (output.shape(), output.values());
    if let Some(folder) = work.output {
        return write(folder, &shape, &values);
    }
    let range = values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), &v| (least.min(v), most.max(v)));
    let first: Vec<String> = values.iter().take(5).map(|value| format!("{value:.5}")).collect();
    let row =
        ["output".into(), format!("{shape:?}"), format!("{:.5}", range.0), format!("{:.5}", range.1), first.join(" ")];
    table(&["output", "shape", "min", "max", "first values"], &[row.to_vec()])?;
    Ok(Exit::Done)
}

fn write(folder: &Path, shape: &[usize], values: &[f32]) -> Answer {
    std::fs::create_dir_all(folder).map_err(cannot("create the folder", folder))?;
    let path: PathBuf = folder.join("output.npy");
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let axes: Vec<u64> = shape.iter().map(|&axis| axis as u64).collect();
    let tensor = rekindle_state::Tensor::from_bytes(DType::F32, &axes, bytes)?;
    rekindle_state::write_npy(&path, &Value::Tensor(tensor))?;
    line(format!("{}: float32 {shape:?}", path.display()))?;
    Ok(Exit::Done)
}

/// Holds an output against its reference.
fn compare(output: Output, expected: &rekindle_state::Tensor, rtol: f64, atol: f64) -> Answer {
    let shape: Vec<u64> = output.shape().iter().map(|&axis| axis as u64).collect();
    if shape != expected.shape() {
        let (found, expected) = (rekindle_state::show_shape(&shape), rekindle_state::show_shape(expected.shape()));
        line(format!("output: DIFFERS: the shape is {found}, expected {expected}"))?;
        return Ok(Exit::No);
    }
    let (found, expected) = (output.values(), floats(expected)?);
    let largest = expected.iter().fold(1.0_f64, |largest, &value| largest.max(f64::from(value).abs()));
    let mut worst = 0.0_f64;
    let mut first = None;
    for (at, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
        let (found, expected) = (f64::from(found), f64::from(expected));
        let distance = (found - expected).abs();
        worst = worst.max(distance);
        let agrees = distance <= atol * largest + rtol * expected.abs() || found == expected;
        if !(agrees || found.is_nan() && expected.is_nan()) && first.is_none() {
            first = Some(format!("element {at} is {found}, expected {expected}"));
        }
    }
    match first {
        None => {
            line(format!("output: agrees, greatest difference {worst:.3e}"))?;
            Ok(Exit::Done)
        }
        Some(how) => {
            line(format!("output: DIFFERS: {how}; greatest difference {worst:.3e}"))?;
            Ok(Exit::No)
        }
    }
}

/// The arrays of an `.npz` file.
fn open(path: &Path) -> anyhow::Result<StateDict> {
    match rekindle_state::open(path)?.content.root {
        Value::Dict(dict) => Ok(dict),
        _ => bail!("{}: expected an .npz file with in0, in1, … and out0, out1, …", path.display()),
    }
}

/// The array of an `.npy` file.
fn array(path: &Path) -> anyhow::Result<rekindle_state::Tensor> {
    match rekindle_state::open(path)?.content.root {
        Value::Tensor(tensor) => Ok(tensor),
        _ => bail!("{}: expected an .npy file with one array", path.display()),
    }
}

fn floats(tensor: &rekindle_state::Tensor) -> anyhow::Result<Vec<f32>> {
    let values = tensor.cast(DType::F32)?;
    let bytes = values.bytes()?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

/// An array as the input that its number of axes makes it.
fn tensor(array: &rekindle_state::Tensor, device: &Device) -> anyhow::Result<Input> {
    let shape: Vec<usize> = array.shape().iter().map(|&axis| axis as usize).collect();
    let data = TensorData::new(floats(array)?, shape.clone());
    Ok(match shape.len() {
        4 => Tensor::<4>::from_data(data, device).into(),
        3 => Tensor::<3>::from_data(data, device).into(),
        2 => Tensor::<2>::from_data(data, device).into(),
        axes => bail!("the input has {axes} axes, expected 4 (batch, channels, height, width), 3 or 2"),
    })
}
