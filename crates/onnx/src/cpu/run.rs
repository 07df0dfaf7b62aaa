//! A plan while it runs: steps on memory that is reused.

use rekindle_kernels::{Codes, Memory, Plain};

use super::tensor::{Place, Source};
use crate::{Array, DType, Data, Element, Error, Result, Value};

/// Runs the node of a number on another runtime, or answers `None` where that has no fast form of it either.
pub(crate) type Other<'o> = dyn Fn(usize, &[Option<Value>]) -> Result<Option<Vec<Value>>> + 'o;

/// What a step reads.
pub(super) struct Context<'r> {
    pub other: &'r Other<'r>,
    pub memories: &'r [Memory],
    pub constants: &'r [Array],
    pub values: &'r [Option<Value>],
}

impl<'r> Context<'r> {
    /// The values of a source.
    ///
    /// # Errors
    /// When they are of another type.
    pub fn read<T: Plain + Element>(&self, source: &Source) -> Result<&'r [T]> {
        match source.place {
            Place::Memory(at) => Ok(self.memories[at].values(source.len)),
            Place::Constant(at) => self.constants[at].expect(),
            Place::Value(at) => {
                self.values[at].as_ref().ok_or_else(|| Error::invalid("a value is missing"))?.array()?.expect()
            }
        }
    }

    /// 32-bit floats.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn floats(&self, source: &Source) -> Result<&'r [f32]> {
        self.read(source)
    }

    /// Codes of either sign as bytes.
    ///
    /// # Errors
    /// As [`Context::read`].
    pub fn bytes(&self, source: &Source) -> Result<&'r [u8]> {
        match source.place {
            Place::Memory(_) => self.read(source),
            _ => match self.read::<u8>(source) {
                Ok(values) => Ok(values),
                Err(_) => Ok(Codes::Signed(self.read(source)?).bytes()),
            },
        }
    }

    /// A tensor as a value of its own.
    ///
    /// # Errors
    /// When it is missing.
    pub fn value(&self, source: &Source, dtype: DType, shape: &[usize]) -> Result<Value> {
        match source.place {
            Place::Constant(at) => Ok(self.constants[at].reshaped(shape.to_vec())?.into()),
            Place::Value(at) => match &self.values[at] {
                Some(Value::Array(array)) => Ok(array.reshaped(shape.to_vec())?.into()),
                Some(other) => Ok(other.clone()),
                None => Err(Error::invalid("a value is missing")),
            },
            Place::Memory(at) => {
                let memory = &self.memories[at];
                let data = match dtype {
                    DType::F32 => Data::F32(memory.values::<f32>(source.len).to_vec().into()),
                    DType::I32 => Data::I32(memory.values::<i32>(source.len).to_vec().into()),
                    DType::I64 => Data::I64(memory.values::<i64>(source.len).to_vec().into()),
                    DType::U8 => Data::U8(memory.values::<u8>(source.len).to_vec().into()),
                    DType::I8 => Data::I8(memory.values::<i8>(source.len).to_vec().into()),
                    other => return Err(Error::beyond(format!("memory of {other}"))),
                };
                Ok(Array::from_data(shape.to_vec(), data)?.into())
            }
        }
    }
}

/// Types that values in a plan's memory may have.
pub(super) fn in_memory(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::I32 | DType::I64 | DType::U8 | DType::I8)
}

/// What a step does: it reads from the context, and writes what it makes, in the order of the step's outputs.
pub(super) type Kernel = Box<dyn Fn(&Context<'_>, &mut [Memory]) -> Result<()> + Send + Sync>;

/// What an operator without a kernel does: it reads from the context, and gives values.
pub(super) type Plain1 = Box<dyn Fn(&Context<'_>) -> Result<Vec<Value>> + Send + Sync>;

/// The number of a value that a plain operator gives, and its expected type and shape if it is a tensor.
pub(super) type Given = (usize, Option<Fact>);

/// Type and shape of a tensor.
pub(super) type Fact = (DType, Vec<usize>);

/// A step of a plan.
pub(super) enum Step {
    /// A kernel, with the memories that it writes.
    Kernel { run: Kernel, outputs: Vec<usize>, name: usize },
    /// An operator without a kernel: the values that it gives, with the types and shapes that later steps are planned for.
    Plain { run: Plain1, outputs: Vec<Option<Given>>, name: usize },
    /// Values that are not needed any more.
    Forget(Vec<usize>),
}

/// How a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    /// A value has another type or shape than the next steps are planned for.
    Otherwise,
}

/// The memory of a run.
#[derive(Default)]
pub(super) struct Workspace {
    pub memories: Vec<Memory>,
    pub values: Vec<Option<Value>>,
    /// Memories that the current step writes.
    taken: Vec<Memory>,
}

impl Workspace {
    /// Runs a step.
    ///
    /// # Errors
    /// Those of its operator.
    pub fn step(&mut self, step: &Step, constants: &[Array], other: &Other<'_>) -> Result<Ended> {
        match step {
            Step::Kernel { run, outputs, .. } => {
                self.taken.clear();
                for &at in outputs {
                    self.taken.push(std::mem::take(&mut self.memories[at]));
                }
                let context = Context { other, memories: &self.memories, constants, values: &self.values };
                let result = run(&context, &mut self.taken);
                for (&at, memory) in outputs.iter().zip(self.taken.drain(..)) {
                    self.memories[at] = memory;
                }
                result.map(|()| Ended::Done)
            }
            Step::Plain { run, outputs, .. } => {
                let context = Context { other, memories: &self.memories, constants, values: &self.values };
                let given = run(&context)?;
                let mut ended = Ended::Done;
                for (output, value) in outputs.iter().zip(given) {
                    let Some((at, expected)) = output else { continue };
                    let found = fact(&value);
                    if found != *expected {
                        ended = Ended::Otherwise;
                    }
                    crate::limit::hold(value.bytes())?;
                    self.values[*at] = Some(value);
                }
                Ok(ended)
            }
            Step::Forget(values) => {
                for &at in values {
                    crate::limit::release(self.values[at].take().map_or(0, |value| value.bytes()));
                }
                Ok(Ended::Done)
            }
        }
    }
}

/// Type and shape of a tensor; none of other values.
pub(super) fn fact(value: &Value) -> Option<Fact> {
    match value {
        Value::Array(array) => Some((array.dtype(), array.shape().to_vec())),
        _ => None,
    }
}
