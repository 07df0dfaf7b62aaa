//! A program: what it takes and gives, and the graph that it becomes.

use std::path::Path;

use rekindle_onnx::builder::model_of;
use rekindle_onnx::{DType, Model};
use rekindle_state::onnx::proto::ModelProto;
use rekindle_state::{Map, ProgramArchive, ProgramKind, Tensor};

use crate::lower::Mode;
use crate::pt2::Exported;
use crate::script::Script;
use crate::{Error, Result, Summary};

/// A PyTorch program, read and checked.
#[derive(Debug)]
pub struct Program {
    form: Form,
}

#[derive(Debug)]
enum Form {
    Exported(Box<Exported>),
    Script(Box<Script>),
}

/// Type and sizes of an example input: a TorchScript program is read for one.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Element type.
    pub dtype: DType,
    /// Sizes.
    pub shape: Vec<usize>,
}

/// What stands in the place of an argument or result.
#[derive(Debug, Clone, PartialEq)]
pub enum Given {
    /// A tensor: an input or output of the graph.
    Tensor,
    /// A number that was fixed when the program was written.
    Number(f64),
    /// Nothing.
    Nothing,
    /// Something else that was fixed.
    Other,
}

/// An argument of the program, trees flattened.
#[derive(Debug, Clone)]
pub struct Input {
    /// Name of the graph's input, or of the argument.
    pub name: String,
    /// What it is.
    pub given: Given,
}

/// A result of the program, trees flattened.
#[derive(Debug, Clone)]
pub struct Output {
    /// Name of the graph's output; empty for what is no tensor.
    pub name: String,
    /// What it is.
    pub given: Given,
}

/// A parameter: in the order of `parameters()`.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Name in the state dict.
    pub name: String,
    /// Name of the graph's weight that holds it: another one's for tied parameters. A graph that does not read it has none.
    pub stored: String,
    /// Its values in the archive.
    pub tensor: Tensor,
}

/// A buffer.
#[derive(Debug, Clone)]
pub struct Buffer {
    /// Name in the state dict.
    pub name: String,
    /// Whether a state dict holds it.
    pub persistent: bool,
    /// Its values in the archive.
    pub tensor: Tensor,
    /// The graph's output that gives its next value, if the program changes it and that was asked for.
    pub output: Option<String>,
}

/// A program as a graph.
#[derive(Debug)]
pub struct Lowered {
    /// The graph as the message of an ONNX file.
    pub proto: ModelProto,
    /// Arguments in order.
    pub inputs: Vec<Input>,
    /// Results in order.
    pub outputs: Vec<Output>,
    /// Parameters in order.
    pub parameters: Vec<Parameter>,
    /// Buffers in order.
    pub buffers: Vec<Buffer>,
}

impl Lowered {
    /// The graph, ready for a session.
    ///
    /// # Errors
    /// When the graph is no valid model, which no program should become.
    pub fn model(&self) -> Result<Model> {
        Ok(model_of(&self.proto)?)
    }
}

impl Program {
    /// Opens an archive of `torch.export.save` or of TorchScript.
    ///
    /// # Errors
    /// When it is neither, or damaged.
    pub fn open(path: &Path) -> Result<Self> {
        let map = Map::open(path)?;
        let archive = ProgramArchive::open(&map)?;
        let form = match archive.kind() {
            Some(ProgramKind::Exported) => {
                Form::Exported(Box::new(Exported::open(path, &archive).map_err(|error| error.at(path))?))
            }
            Some(ProgramKind::Script) => {
                Form::Script(Box::new(Script::open(path, &archive).map_err(|error| error.at(path))?))
            }
            None => return Err(Error::invalid("it is no program of PyTorch").at(path)),
        };
        Ok(Self { form })
    }

    /// Whether a file is a program of PyTorch, as far as its entries tell.
    pub fn is_program(path: &Path) -> bool {
        let kind = Map::open(path).and_then(|map| Ok(ProgramArchive::open(&map)?.kind()));
        matches!(kind, Ok(Some(_)))
    }

    /// The program at a glance, without lowering it.
    pub fn summary(&self) -> Summary {
        match &self.form {
            Form::Exported(exported) => exported.summary(),
            Form::Script(script) => script.summary(),
        }
    }

    /// The PyTorch that wrote it, if it says.
    pub fn torch_version(&self) -> &str {
        match &self.form {
            Form::Exported(exported) => exported.torch_version(),
            Form::Script(_) => "",
        }
    }

    /// Whether it says the types and sizes of its inputs: a scripted one does not.
    pub fn says_inputs(&self) -> bool {
        match &self.form {
            Form::Exported(_) => true,
            Form::Script(script) => script.says_inputs(),
        }
    }

    /// Whether a name of the archive is one of the program's state dict: constants and buffers that are not persistent have
    /// names too. TorchScript does not tell them apart.
    pub fn is_state(&self, name: &str) -> bool {
        match &self.form {
            Form::Exported(exported) => exported.is_state(name),
            Form::Script(_) => true,
        }
    }

    /// The program as a graph. With `state`, the graph also gives the next value of each buffer that the program
    /// changes.
    ///
    /// # Errors
    /// Operators that are not supported, all at once; or a form of one, with its module and source line.
    pub fn lower(&self, mode: Mode, state: bool) -> Result<Lowered> {
        self.lower_for(mode, state, None)
    }

    /// As [`Program::lower`], for inputs of given types and sizes. An exported program says its own; a traced one was
    /// traced with
    /// some, of which the first size of each is left open if the program allows it; a scripted one says none.
    ///
    /// # Errors
    /// As [`Program::lower`], and when a scripted program is given no examples.
    pub fn lower_for(&self, mode: Mode, state: bool, examples: Option<&[Example]>) -> Result<Lowered> {
        let (result, path) = match &self.form {
            Form::Exported(exported) => (exported.lower(mode, state), &exported.path),
            Form::Script(script) => (script.lower(mode, state, examples), &script.path),
        };
        result.map_err(|error| error.at(path))
    }
}
