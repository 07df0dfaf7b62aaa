//! What the tests of programs share: inputs and outputs that PyTorch stored, and running a program on them.

use std::path::{Path, PathBuf};

use rekindle_onnx::{Array, DType, Value};
use rekindle_program::{Given, Lowered};
use rekindle_state::{StateDict, Tensor, Value as Stored};

/// A file of the fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn array(tensor: &Tensor) -> Array {
    let dtype = DType::from_name(tensor.dtype().name()).unwrap();
    let shape = tensor.shape().iter().map(|&axis| axis as usize).collect();
    Array::from_data(shape, rekindle_onnx::graph::weight::values(dtype, &tensor.bytes().unwrap())).unwrap()
}

/// The arrays of an archive.
pub fn archive(name: &str) -> StateDict {
    let stored = rekindle_state::open(fixture(name)).unwrap().content.root;
    let Stored::Dict(reference) = stored else { panic!("{name} is no archive") };
    reference
}

/// The arrays `in0` … or `out0` … of an archive.
pub fn arrays(reference: &StateDict, kind: &str) -> Vec<Array> {
    let one = |at: usize| match reference.get(format!("{kind}{at}").as_str())? {
        Stored::Tensor(tensor) => Some(array(tensor)),
        Stored::Array(own) => own.tensor.as_ref().map(array),
        _ => None,
    };
    // A number is missing where the program gives something else than a tensor.
    (0..reference.len()).filter_map(one).collect()
}

/// Inputs of a graph by name.
pub fn given(lowered: &Lowered, inputs: Vec<Array>) -> Vec<(String, Value)> {
    let wanted = lowered.inputs.iter().filter(|input| input.given != Given::Nothing);
    let tensors = wanted.zip(inputs).filter(|(input, _)| input.given == Given::Tensor);
    tensors.map(|(input, array)| (input.name.clone(), Value::from(array))).collect()
}
