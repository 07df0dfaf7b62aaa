//! Runs a program on the inputs of a reference and compares its outputs: `run_program FILE --reference X.npz`.
//! Exits with 0 when all agree, 1 when one differs, 2 when it cannot run.

use std::path::Path;
use std::process::ExitCode;

use rekindle_onnx::reference::{Tolerance, difference};
use rekindle_onnx::{Array, DType, HostOnly, Session, Value};
use rekindle_program::{Example, Given, Mode, Program};
use rekindle_state::{Tensor, Value as Stored};

type Problem = Box<dyn std::error::Error>;

fn array(tensor: &Tensor) -> Result<Array, Problem> {
    let dtype = DType::from_name(tensor.dtype().name()).ok_or("an element type that ONNX has not")?;
    let shape = tensor.shape().iter().map(|&axis| axis as usize).collect();
    Ok(Array::from_data(shape, rekindle_onnx::graph::weight::values(dtype, &tensor.bytes()?))?)
}

fn run() -> Result<bool, Problem> {
    let args: Vec<String> = std::env::args().collect();
    let place = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let file = args.get(1).filter(|arg| *arg != "run").or(args.get(2)).ok_or("a file is expected")?;
    let number = |name: &str, other: f64| place(name).map_or(Ok(other), |text| text.parse::<f64>());
    let (rtol, atol) = (number("--rtol", 1e-3)?, number("--atol", 1e-5)?);
    let program = Program::open(Path::new(file))?;
    let reference = place("--reference").map(|path| rekindle_state::open(Path::new(path))).transpose()?;
    let stored = match reference.map(|stored| stored.content.root) {
        Some(Stored::Dict(stored)) => Some(stored),
        Some(_) => return Err("the reference is no npz".into()),
        None => None,
    };
    let find = |name: String| -> Result<Option<Array>, Problem> {
        match stored.as_ref().and_then(|stored| stored.get(name.as_str())) {
            Some(Stored::Tensor(tensor)) => array(tensor).map(Some),
            Some(Stored::Array(own)) => own.tensor.as_ref().map(array).transpose(),
            _ => Ok(None),
        }
    };
    // A number is missing where the program takes or gives something else than a tensor.
    let all = |kind: &str| -> Result<Vec<Array>, Problem> {
        (0..stored.as_ref().map_or(0, |stored| stored.len()))
            .filter_map(|at| find(format!("{kind}{at}")).transpose())
            .collect()
    };
    let example = |array: &Array| Example { dtype: array.dtype(), shape: array.shape().to_vec() };
    let examples: Vec<Example> = all("in")?.iter().map(example).collect();
    let lowered =
        program.lower_for(Mode::AsExported, false, Some(&examples).filter(|all| !all.is_empty()).map(|v| &**v))?;
    if args.iter().any(|arg| arg == "--nodes") {
        for node in lowered.proto.graph.iter().flat_map(|graph| &graph.node) {
            println!("{} {:?} -> {:?}", node.op_type, node.input, node.output);
        }
    }
    let session = Session::new(lowered.model()?, HostOnly)?;
    if stored.is_none() {
        println!("{} nodes", lowered.proto.graph.map_or(0, |graph| graph.node.len()));
        return Ok(true);
    }
    let mut given = Vec::new();
    let mut at = 0;
    for input in &lowered.inputs {
        if input.given == Given::Nothing {
            continue;
        }
        if input.given == Given::Tensor {
            let array = find(format!("in{at}"))?.ok_or(format!("the reference has no in{at}"))?;
            given.push((input.name.clone(), Value::from(array)));
        }
        at += 1;
    }
    let outputs = session.run(given)?;
    let mut agree = true;
    let expected = all("out")?;
    if expected.len() != outputs.len() {
        return Err(format!("{} outputs, the reference has {}", outputs.len(), expected.len()).into());
    }
    for (at, (output, expected)) in outputs.iter().zip(expected).enumerate() {
        let most = expected.floats().map_or(1.0, |floats| {
            floats.iter().filter(|value| value.is_finite()).fold(1.0_f64, |most, value| most.max(value.abs()))
        });
        let mut worst = 0.0;
        let how = difference(output, &expected.into(), Tolerance { rtol, atol: atol * most }, &mut worst)?;
        match how {
            None => println!("out{at} agrees (worst {worst:.1e})"),
            Some(how) => {
                println!("out{at} differs: {how}");
                agree = false;
            }
        }
    }
    Ok(agree)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
