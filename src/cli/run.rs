//! `rekindle run`: an ONNX model or a program of PyTorch on inputs from files, its outputs shown, saved or held against a reference.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use rekindle_onnx::reference::{Tolerance, difference, read_values};
use rekindle_onnx::{Array, Model, Port, Session, Value};
use rekindle_program::{Example, Input, Mode};

use super::model::WeightArgs;
use super::output::{cannot, line, printable, say, table};
use super::{Answer, Exit, run_network};
use crate::device::DeviceName;
use crate::models::Registry;
use crate::onnx::metadata::Told;
use crate::onnx::open::{self, Reference};
use crate::onnx::run::{BurnDevice, files};

/// Run a model on any device: an ONNX model, a PyTorch program (.pt2 of torch.export, TorchScript), a built-in network, a run.
///
/// Without --output the outputs are summed up; with it each is written as NAME.npy. With --reference the inputs and expected
/// outputs are those of an .npz archive (in0, in1 … and out0, out1 …, in the order in which the model takes and gives them; the
/// absolute tolerance counts of the largest value where that is over 1), or, of an ONNX model, of a folder of ONNX test data
/// (input_0.pb, …, output_0.pb, …, or folders test_data_set_N with them); the exit code is 0 when all outputs agree and 1 when
/// one differs.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example:\n  rekindle run mnist.onnx --input Input3=digit.npy\n  rekindle run model.onnx --reference test_data_set_0 --device wgpu\n  rekindle run exported.pt2 --reference expected.npz"
)]
pub struct Args {
    /// An ONNX file, a PyTorch program, a built-in name, a recipe, or the folder of a run or checkpoint.
    model: PathBuf,
    #[command(flatten)]
    weights: WeightArgs,
    /// An input: an .npy array, a .pb value, or a picture. The name may be left out when the model has one input.
    #[arg(long, value_name = "NAME=FILE")]
    input: Vec<String>,
    /// Write each output as NAME.npy into this folder.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// How pictures are normalized: imagenet, none (values 0 to 1), bytes (0 to 255) or MEAN/STD (numbers joined by commas); by default
    /// as the model's metadata say, if they do.
    #[arg(long, value_name = "imagenet|none|bytes|MEAN/STD")]
    normalize: Option<String>,
    /// A folder of ONNX test data, or an .npz archive: run its inputs and compare with its outputs.
    #[arg(long, value_name = "DIR|FILE.npz", conflicts_with_all = ["input", "output", "normalize"])]
    reference: Option<PathBuf>,
    /// How far from its reference an output may be, relative to it.
    #[arg(long, value_name = "R", default_value_t = 1e-3, requires = "reference")]
    rtol: f64,
    /// How far from its reference an output may be, at any size.
    #[arg(long, value_name = "A", default_value_t = 1e-5, requires = "reference")]
    atol: f64,
    /// auto, wgpu[:N], vulkan[:N], metal[:N], cuda[:N], ndarray or flex.
    #[arg(long, default_value = "auto")]
    device: DeviceName,
    /// Threads that compute [default: all cores].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
}

pub fn run(registry: &Registry, args: &Args) -> Answer {
    let is_graph = args.model.is_file() && open::is_graph(&args.model)?;
    if !is_graph {
        let work = run_network::Work {
            model: &args.model.to_string_lossy(),
            weights: &args.weights,
            inputs: &args.input,
            reference: args.reference.as_deref(),
            output: args.output.as_deref(),
            rtol: args.rtol,
            atol: args.atol,
        };
        return run_network::run(registry, &work, args.device.open()?);
    }
    let archive = match &args.reference {
        Some(path) if !path.is_dir() => Some(Reference::open(path)?),
        _ => None,
    };
    let examples = match &archive {
        Some(archive) => Some(archive.examples()?),
        None => arrays(args),
    };
    let opened = open::open(&args.model, examples.as_deref(), Mode::AsExported)?;
    let (model, taken) = (opened.model, opened.inputs);
    let at = |error: rekindle_onnx::Error| anyhow!("{}: {error}", args.model.display());
    let device = args.device.open()?;
    let session = Session::prepared(model, BurnDevice::new(&device.device)).map_err(at)?;
    let tolerance = Tolerance { rtol: args.rtol, atol: args.atol };
    if let Some(archive) = &archive {
        return hold(&session, archive, &taken, tolerance).with_context(|| args.model.display().to_string());
    }
    if let Some(folder) = &args.reference {
        return compare(&session, folder, tolerance).with_context(|| args.model.display().to_string());
    }
    let inputs = inputs(args, session.model())?;
    let outputs = session.run(inputs).map_err(at)?;
    say!("device {}", device.name);
    let ports = &session.model().graph.outputs;
    match &args.output {
        Some(folder) => write(folder, ports, &outputs)?,
        None => show(ports, &outputs)?,
    }
    Ok(Exit::Done)
}

/// Types and sizes of the arrays of `--input`, in their order: a scripted program is read for them.
fn arrays(args: &Args) -> Option<Vec<Example>> {
    let example = |given: &String| {
        let file = given.split_once('=').map_or(given.as_str(), |(_, file)| file);
        let file = if Path::new(given).exists() { given.as_str() } else { file };
        let stored = rekindle_state::open(Path::new(file)).ok()?;
        let tensor = match &stored.content.root {
            rekindle_state::Value::Tensor(tensor) => tensor,
            rekindle_state::Value::Array(array) => array.tensor.as_ref()?,
            _ => return None,
        };
        let dtype = rekindle_onnx::DType::from_name(tensor.dtype().name())?;
        Some(Example { dtype, shape: tensor.shape().iter().map(|&axis| axis as usize).collect() })
    };
    let all: Option<Vec<Example>> = args.input.iter().map(example).collect();
    all.filter(|all| !all.is_empty())
}

/// Every output held against that of an archive.
fn hold(session: &Session<BurnDevice>, archive: &Reference, taken: &[Input], tolerance: Tolerance) -> Answer {
    let found = session.run(archive.inputs(taken)?)?;
    let expected = archive.outputs()?;
    let ports = &session.model().graph.outputs;
    if expected.len() != found.len() {
        bail!("the reference holds {} outputs (out0 …), the model gives {}", expected.len(), found.len());
    }
    let mut agree = true;
    for ((port, found), expected) in ports.iter().zip(&found).zip(expected) {
        // Rounding grows with the values: an output's own largest one is its scale.
        let values = expected.floats().unwrap_or_default();
        let scale = values.iter().filter(|value| value.is_finite()).fold(1.0_f64, |most, value| most.max(value.abs()));
        let mut worst = 0.0;
        let tolerance = Tolerance { atol: tolerance.atol * scale, ..tolerance };
        let how = difference(found, &expected.into(), tolerance, &mut worst)?;
        let name = printable(&port.name);
        agree &= how.is_none();
        match how {
            None => line(format!("{name}: agrees, greatest difference {worst:.3e}"))?,
            Some(how) => line(format!("{name}: DIFFERS: {how}; greatest difference {worst:.3e}"))?,
        }
    }
    Ok(if agree { Exit::Done } else { Exit::No })
}

/// The values of `--input`, by name.
fn inputs(args: &Args, model: &Model) -> anyhow::Result<Vec<(String, Value)>> {
    let (told, mut inputs) = (Told::read(&model.metadata), Vec::new());
    for given in &args.input {
        let (port, path) = input(given, &model.graph.inputs)?;
        let (value, done) = files::read(Path::new(path), port, &told, args.normalize.as_deref())?;
        if let Some(done) = done {
            say!("input {}: {done}", printable(&port.name));
        }
        inputs.push((port.name.clone(), value));
    }
    Ok(inputs)
}

/// Which input a `NAME=FILE` means. Names of inputs may hold any character, `=` too.
fn input<'a>(given: &'a str, ports: &'a [Port]) -> anyhow::Result<(&'a Port, &'a str)> {
    let file_of = |port: &Port| given.strip_prefix(port.name.as_str()).and_then(|rest| rest.strip_prefix('='));
    if let Some((port, file)) = ports.iter().find_map(|port| Some((port, file_of(port)?))) {
        return Ok((port, file));
    }
    let wanted: Vec<&Port> = ports.iter().filter(|port| !port.optional).collect();
    let known = wanted.iter().map(|port| format!("'{}'", printable(&port.name))).collect::<Vec<_>>().join(", ");
    match (given.split_once('='), wanted.as_slice()) {
        (_, [port]) if Path::new(given).exists() => Ok((port, given)),
        (Some((name, _)), _) => bail!("--input {given}: there is no input '{name}': the model's inputs are {known}"),
        (None, _) => bail!("--input {given}: expected NAME=FILE; the model's inputs are {known}"),
    }
}

/// Every folder of test data: each output held against what is expected.
fn compare(session: &Session<BurnDevice>, folder: &Path, tolerance: Tolerance) -> Answer {
    let mut sets: Vec<PathBuf> =
        (0..).map(|i| folder.join(format!("test_data_set_{i}"))).take_while(|set| set.is_dir()).collect();
    if sets.is_empty() {
        sets.push(folder.to_path_buf());
    }
    let graph = &session.model().graph;
    let mut agree = true;
    for set in &sets {
        let expected = read_values(set, "output", &graph.outputs)?;
        if expected.is_empty() {
            bail!("{}: expected a folder with output_0.pb, or folders test_data_set_0, … with it", set.display());
        }
        let found = session.run(read_values(set, "input", &graph.inputs)?)?;
        for (name, expected) in &expected {
            let position = graph.outputs.iter().position(|port| port.name == *name).unwrap_or(0);
            let mut worst = 0.0;
            let how = difference(&found[position], expected, tolerance, &mut worst)?;
            let place = if sets.len() > 1 { format!("{}: ", set.display()) } else { String::new() };
            let name = printable(name);
            agree &= how.is_none();
            match how {
                None => line(format!("{place}{name}: agrees, greatest difference {worst:.3e}"))?,
                Some(how) => line(format!("{place}{name}: DIFFERS: {how}; greatest difference {worst:.3e}"))?,
            }
        }
    }
    Ok(if agree { Exit::Done } else { Exit::No })
}

/// Writes outputs as `NAME.npy`; characters of a name that a file cannot have become `_`.
fn write(folder: &Path, ports: &[Port], outputs: &[Value]) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder).map_err(cannot("create the folder", folder))?;
    for (port, value) in ports.iter().zip(outputs) {
        let Value::Array(array) = value else {
            bail!("the output '{}' is {}, and an .npy file holds an array", printable(&port.name), value.kind());
        };
        let name: String =
            port.name.chars().map(|c| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
        let path = folder.join(format!("{}.npy", if name.starts_with('.') { format!("_{name}") } else { name }));
        rekindle_state::write_npy(&path, &rekindle_state::Value::Tensor(array.to_tensor()?))?;
        line(format!("{}: {} {:?}", path.display(), array.dtype(), array.shape()))?;
    }
    Ok(())
}

/// Values that are shown of each output.
const SHOWN: usize = 5;

fn show(ports: &[Port], outputs: &[Value]) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (port, value) in ports.iter().zip(outputs) {
        let name = printable(&port.name);
        match value {
            Value::Array(array) => rows.push(row(name, array)),
            other => rows.push(vec![name, other.kind().to_string()]),
        }
    }
    rows.iter_mut().for_each(|row| row.resize(7, String::new()));
    table(&["output", "type", "shape", "min", "max", "mean", "first values"], &rows)
}

fn row(name: String, array: &Array) -> Vec<String> {
    let mut row = vec![name, array.dtype().to_string(), format!("{:?}", array.shape())];
    if let Some(texts) = array.values::<String>() {
        let first: Vec<String> = texts.iter().take(SHOWN).map(|text| format!("'{}'", printable(text))).collect();
        row.extend([String::new(), String::new(), String::new(), first.join(" ")]);
        return row;
    }
    let values = array.floats().unwrap_or_default();
    if values.is_empty() {
        return row;
    }
    let (least, most) =
        values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), &v| (least.min(v), most.max(v)));
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let number = |value: f64| if array.dtype().is_float() { format!("{value:.5}") } else { format!("{value}") };
    let first: Vec<String> = values.iter().take(SHOWN).map(|&value| number(value)).collect();
    let more = if values.len() > SHOWN { " …" } else { "" };
    row.extend([number(least), number(most), format!("{mean:.5}"), format!("{}{more}", first.join(" "))]);
    row
}
