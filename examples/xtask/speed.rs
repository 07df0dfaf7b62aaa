//! How long an ONNX model takes once it is loaded, and how much memory.
//!
//! `cargo xtask speed MODEL [DEVICE] [REPEATS] [AXIS=SIZE...]` runs a model on made-up inputs and prints the
//! time to load it, the first answer, the median of the others, and the most memory that the process held. Free axes are 1
//! unless a size is given for their name. With `--plain` the graph runs as it is in the file.

use std::collections::HashMap;
use std::error::Error;
use std::time::Instant;

use rekindle::device::DeviceName;
use rekindle::onnx::run::BurnDevice;
use rekindle_onnx::graph::Kind;
use rekindle_onnx::{Array, Axis, DType, Model, Port, Session, Value};

/// Times a model.
pub fn run(arguments: Vec<String>) -> Result<bool, Box<dyn Error>> {
    let plain = arguments.iter().any(|argument| argument == "--plain");
    let mut arguments = arguments.into_iter().filter(|argument| argument != "--plain");
    let path = arguments.next().ok_or("a model is missing")?;
    let name = arguments.next().unwrap_or_else(|| "flex".to_string());
    let repeats: usize = arguments.next().map_or(50, |text| text.parse().expect("how often"));
    let sizes: HashMap<String, usize> = arguments
        .map(|text| {
            let (axis, size) = text.split_once('=').expect("AXIS=SIZE");
            (axis.to_string(), size.parse().expect("a size"))
        })
        .collect();
    let start = Instant::now();
    let device = name.parse::<DeviceName>().expect("a device").open().expect("a device that opens");
    let model = Model::open(path.as_ref()).expect("a model");
    let accelerator = BurnDevice::new(&device.device);
    let session = if plain { Session::new(model, accelerator) } else { Session::prepared(model, accelerator) }
        .expect("a model that runs");
    let loaded = start.elapsed();
    let inputs: Vec<(String, Value)> = session
        .model()
        .graph
        .inputs
        .iter()
        .filter(|port| !port.optional)
        .map(|port| (port.name.clone(), made_up(port, &sizes).into()))
        .collect();
    let run = || {
        let start = Instant::now();
        session.run(inputs.clone()).expect("an answer");
        start.elapsed().as_secs_f64() * 1e3
    };
    let first = run();
    let mut times: Vec<f64> = (0..repeats).map(|_| run()).collect();
    times.sort_by(f64::total_cmp);
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).map_or("?", str::trim);
    println!(
        "{path} on {}: load {:.1} ms, first {first:.2} ms, median {:.3} ms, least {:.3} ms, peak {peak}",
        device.name,
        loaded.as_secs_f64() * 1e3,
        times[times.len() / 2],
        times[0],
    );
    Ok(true)
}

/// Floats between -1 and 1, and small integers.
fn made_up(port: &Port, sizes: &HashMap<String, usize>) -> Array {
    let Kind::Array(dtype, axes) = &port.kind else { panic!("the input '{}' is no tensor", port.name) };
    let size = |axis: &Axis| match axis {
        Axis::Size(size) => *size,
        Axis::Named(name) => sizes.get(name).copied().unwrap_or(1),
        Axis::Any => 1,
    };
    let shape: Vec<usize> = axes.iter().flatten().map(size).collect();
    let count = shape.iter().product::<usize>();
    match dtype {
        Some(DType::I64) => Array::new(shape, (0..count as i64).map(|k| k % 2 + k % 7).collect()),
        _ => Array::new(shape, (0..count).map(|k| (k as f32 * 0.37).sin()).collect()),
    }
    .expect("as many values as the shape has")
}
