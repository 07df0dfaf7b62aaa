//! Graphs from files of any kind: ONNX models, and programs of PyTorch, which become one.

use std::path::Path;

use rekindle_onnx::{Array, DType, Model, Value};
use rekindle_program::{Example, Given, Input, Lowered, Mode, Program};
use rekindle_state::{StateDict, Tensor, Value as Stored};

use super::OnnxError;

/// A graph with what its file takes besides tensors.
pub struct Opened {
    /// The graph.
    pub model: Model,
    /// What the program takes, trees flattened: fixed numbers and absent arguments too.
    pub inputs: Vec<Input>,
    /// The program itself, where the file is one.
    pub program: Option<Lowered>,
}

/// Whether a file is an ONNX model or a program of PyTorch.
///
/// # Errors
/// When it cannot be read.
pub fn is_graph(path: &Path) -> Result<bool, OnnxError> {
    Ok(rekindle_state::is_onnx(rekindle_state::Map::open(path)?.bytes()) || Program::is_program(path))
}

/// Opens an ONNX model or a program. A TorchScript program is read for inputs of given types and sizes: a scripted one
/// says none
/// itself.
///
/// # Errors
/// When the file is neither, or uses operators that are not supported.
pub fn open(path: &Path, examples: Option<&[Example]>, mode: Mode) -> Result<Opened, OnnxError> {
    if !Program::is_program(path) {
        let model = Model::open(path)?;
        let ports = model.graph.inputs.iter().filter(|port| !port.optional);
        let inputs = ports.map(|port| Input { name: port.name.clone(), given: Given::Tensor }).collect();
        return Ok(Opened { model, inputs, program: None });
    }
    let lowered = Program::open(path)?.lower_for(mode, false, examples)?;
    Ok(Opened { model: lowered.model()?, inputs: lowered.inputs.clone(), program: Some(lowered) })
}

/// Inputs and expected outputs of an archive of arrays: `in0`, `in1` … and `out0`, `out1` …, in the order of the
/// program.
pub struct Reference {
    place: String,
    values: StateDict,
}

impl Reference {
    /// Opens an `.npz` file.
    ///
    /// # Errors
    /// When it is none, or holds no `out0`.
    pub fn open(path: &Path) -> Result<Self, OnnxError> {
        let place = path.display().to_string();
        let Stored::Dict(values) = rekindle_state::open(path)?.content.root else {
            return Err(OnnxError::Reference(format!("{place}: expected an .npz archive with in0 … and out0 …")));
        };
        let reference = Self { place, values };
        if reference.array("out", 0)?.is_none() {
            return Err(OnnxError::Reference(format!("{}: there is no array 'out0' to compare with", reference.place)));
        }
        Ok(reference)
    }

    fn array(&self, kind: &str, at: usize) -> Result<Option<Array>, OnnxError> {
        let name = format!("{kind}{at}");
        let tensor = match self.values.get(name.as_str()) {
            Some(Stored::Tensor(tensor)) => tensor,
            Some(Stored::Array(array)) => match &array.tensor {
                Some(tensor) => tensor,
                None => return Err(OnnxError::Reference(format!("{}: '{name}' holds {}", self.place, array.descr))),
            },
            _ => return Ok(None),
        };
        array_of(tensor)
            .map(Some)
            .map_err(|problem| OnnxError::Reference(format!("{}: '{name}' {problem}", self.place)))
    }

    /// The arrays of a kind by their numbers. A number is missing where the program has something else than a tensor there.
    fn all(&self, kind: &str) -> Result<Vec<Array>, OnnxError> {
        let names = self.values.iter().filter_map(|(key, _)| key.text().strip_prefix(kind)?.parse::<usize>().ok());
        let mut numbers: Vec<usize> = names.collect();
        numbers.sort_unstable();
        numbers.into_iter().filter_map(|number| self.array(kind, number).transpose()).collect()
    }

    /// Types and sizes of the inputs.
    ///
    /// # Errors
    /// When an array cannot be read.
    pub fn examples(&self) -> Result<Vec<Example>, OnnxError> {
        let example = |array: Array| Example { dtype: array.dtype(), shape: array.shape().to_vec() };
        Ok(self.all("in")?.into_iter().map(example).collect())
    }

    /// The inputs by name. A number that the program has fixed must be the one that the reference has.
    ///
    /// # Errors
    /// When there are too few or too many, or a fixed number is another.
    pub fn inputs(&self, inputs: &[Input]) -> Result<Vec<(String, Value)>, OnnxError> {
        let arrays = self.all("in")?;
        let wanted: Vec<&Input> = inputs.iter().filter(|input| input.given != Given::Nothing).collect();
        if arrays.len() != wanted.len() {
            return Err(OnnxError::Reference(format!(
                "{}: it holds {} inputs (in0 …), the model takes {}",
                self.place,
                arrays.len(),
                wanted.len()
            )));
        }
        let mut given = Vec::new();
        for (at, (input, array)) in wanted.into_iter().zip(arrays).enumerate() {
            match input.given {
                Given::Tensor => given.push((input.name.clone(), array.into())),
                Given::Number(fixed) if array.float().is_ok_and(|number| number == fixed) => {}
                Given::Number(fixed) => {
                    return Err(OnnxError::Reference(format!(
                        "{}: in{at} is another number than {fixed}, which the program was exported with for '{}'",
                        self.place, input.name
                    )));
                }
                Given::Nothing | Given::Other => {}
            }
        }
        Ok(given)
    }

    /// The expected outputs.
    ///
    /// # Errors
    /// When an array cannot be read.
    pub fn outputs(&self) -> Result<Vec<Array>, OnnxError> {
        self.all("out")
    }
}

/// The array of a tensor.
fn array_of(tensor: &Tensor) -> Result<Array, String> {
    let dtype = DType::from_name(tensor.dtype().name()).ok_or_else(|| format!("is of type {}", tensor.dtype()))?;
    let shape = tensor.shape().iter().map(|&axis| axis as usize).collect();
    let bytes = tensor.bytes().map_err(|error| error.to_string())?;
    Array::from_data(shape, rekindle_onnx::graph::weight::values(dtype, &bytes)).map_err(|error| error.to_string())
}
