//! Times ONNX files on the CPU runtime: median and minimum of many runs in milliseconds, that of the first run,
//! and the mean of the calling thread's time on a processor.
//!
//! `cpu_speed [--threads N] [--seconds S] [--check] [--profile] FILE…`: floats are random, integers one, open axes of size one. `--check`
//! holds the outputs against the plain operators, `--profile` prints where the time goes.

use std::path::Path;
use std::time::Instant;

use rekindle_onnx::graph::Kind;
use rekindle_onnx::{Array, Axis, Cpu, DType, Data, HostOnly, Model, Port, Session, Value};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let (mut threads, mut seconds, mut check, mut profile, mut files) = (2, 1.0, false, false, Vec::new());
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--threads" => threads = args.next().unwrap_or_default().parse()?,
            "--seconds" => seconds = args.next().unwrap_or_default().parse()?,
            "--check" => check = true,
            "--profile" => profile = true,
            _ => files.push(arg),
        }
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build()?;
    pool.install(|| files.iter().try_for_each(|file| time(Path::new(file), seconds, check, profile)))
}

/// Milliseconds for which this thread has had a processor, where the system says so: what other programs do counts little.
fn processor_ms() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or(0.0) / 1e6
}

fn input(port: &Port) -> Result<(String, Value), Failure> {
    let Kind::Array(Some(dtype), Some(axes)) = &port.kind else { return Err("an input of unknown shape".into()) };
    let size = |axis: &Axis| if let Axis::Size(size) = axis { *size } else { 1 };
    let shape: Vec<usize> = axes.iter().map(size).collect();
    let count: usize = shape.iter().product();
    let mut state = 1_u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    let array = match dtype {
        DType::F32 => Array::new(shape, (0..count).map(|_| random()).collect())?,
        DType::I64 => Array::new(shape, vec![1_i64; count])?,
        other => Array::from_data(shape, Data::zeros(*other, count))?,
    };
    Ok((port.name.clone(), array.into()))
}

fn time(file: &Path, seconds: f64, check: bool, profile: bool) -> Result<(), Failure> {
    let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let model = Model::open(file)?;
    let inputs = model.graph.inputs.iter().filter(|port| !port.optional).map(input).collect::<Result<Vec<_>, _>>()?;
    let begin = Instant::now();
    let session = Session::prepared(model, Cpu)?;
    let outputs = session.run(inputs.clone())?;
    let first = begin.elapsed().as_secs_f64() * 1e3;
    if check {
        let plain = Session::new(Model::open(file)?, HostOnly)?.run(inputs.clone())?;
        let again = session.run(inputs.clone())?;
        for ((expected, found), again) in plain.iter().zip(&outputs).zip(&again) {
            let (expected, found, again) = (expected.array()?, found.array()?, again.array()?);
            let (values, own, second) = (expected.floats()?, found.floats()?, again.floats()?);
            let apart = |own: &[f64]| values.iter().zip(own).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let most = values.iter().map(|value| value.abs()).fold(0.0, f64::max);
            let shapes = expected.shape() == found.shape() && found.shape() == again.shape();
            println!("{name:36} apart {:.2e} {:.2e} of {most:.2e}, shapes {shapes}", apart(&own), apart(&second));
        }
    }
    if profile {
        let mut steps = session.profile(inputs.clone(), seconds)?;
        let total: f64 = steps.iter().map(|(_, _, time)| time).sum();
        let mut kinds: Vec<(String, usize, f64)> = Vec::new();
        for (kind, _, time) in &steps {
            match kinds.iter_mut().find(|(own, _, _)| own == kind) {
                Some((_, count, sum)) => (*count, *sum) = (*count + 1, *sum + time),
                None => kinds.push((kind.clone(), 1, *time)),
            }
        }
        kinds.sort_by(|a, b| b.2.total_cmp(&a.2));
        steps.sort_by(|a, b| b.2.total_cmp(&a.2));
        println!("{name}: {:.3} ms", total * 1e3);
        for (kind, count, time) in kinds.iter().take(12) {
            println!("  {:9.1} us {count:4} {kind}", time * 1e6);
        }
        for (kind, name, time) in steps.iter().take(14) {
            println!("    {:9.1} us {kind} {name}", time * 1e6);
        }
        return Ok(());
    }
    let (mut times, before, begin) = (Vec::new(), processor_ms(), Instant::now());
    while times.len() < 3 || begin.elapsed().as_secs_f64() < seconds && times.len() < 2000 {
        let start = Instant::now();
        session.run(inputs.clone())?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let busy = (processor_ms() - before) / times.len() as f64;
    println!("{name} {:.4} {:.4} {first:.2} {:.4}", times[times.len() / 2], times[0], busy);
    Ok(())
}
