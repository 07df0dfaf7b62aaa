//! A value of a model file: a tensor, a plain value, or a container of values.

use num_bigint::BigInt;

use crate::{StateDict, Tensor};

/// Anything that a model file can hold.
///
/// Containers own their parts: a list that a pickle references twice is there twice. Tensors still share their storage.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Value {
    /// Python's `None`.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer of at most 64 bits.
    Int(i64),
    /// An integer beyond 64 bits.
    BigInt(BigInt),
    /// A 64-bit float.
    Float(f64),
    /// A complex number: real and imaginary part.
    Complex(f64, f64),
    /// Text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Bytes that can be changed in place (`bytearray`).
    ByteArray(Vec<u8>),
    /// A list.
    List(Vec<Value>),
    /// A tuple (`torch.Size` too).
    Tuple(Vec<Value>),
    /// A set.
    Set(Vec<Value>),
    /// A set that cannot be changed (`frozenset`).
    FrozenSet(Vec<Value>),
    /// A dictionary.
    Dict(StateDict),
    /// A tensor.
    Tensor(Tensor),
    /// A numpy array: a tensor with numpy's type.
    Array(Array),
    /// An element type (`torch.float32`), with PyTorch's name without `torch.`.
    DType(String),
    /// A device (`cuda:0`).
    Device(String),
    /// A class or function that was named and never called or looked up.
    Global(Global),
    /// An instance of a class that is not known here: what it was made from, never made.
    Object(Box<Object>),
}

/// A class or function, by its names.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Global {
    /// The module: `torch.nn.modules.linear`.
    pub module: String,
    /// The name in the module: `Linear`.
    pub name: String,
}

impl std::fmt::Display for Global {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// What a pickle says of an instance: the class, and what unpickling would have passed to it.
#[derive(Debug, Clone)]
pub struct Object {
    /// The class or function that would have been called.
    pub class: Global,
    /// The arguments of the call.
    pub args: Vec<Value>,
    /// Attributes or other state that would have been set afterwards (`BUILD`).
    pub state: Value,
    /// Items appended afterwards (a list subclass).
    pub items: Vec<Value>,
    /// Entries set afterwards (a dictionary subclass).
    pub entries: StateDict,
}

/// A numpy array or scalar.
#[derive(Debug, Clone)]
pub struct Array {
    /// numpy's type description, byte order included: `<f8`, `|b1`, `<U5`, `|O`.
    pub descr: String,
    /// Whether this is a scalar (`numpy.float64(1.0)`) and not an array.
    pub scalar: bool,
    /// The elements in row-major order, where PyTorch has the type.
    pub tensor: Option<Tensor>,
    /// The raw elements of other types (text, dates, records), in row-major order.
    pub raw: Vec<u8>,
    /// The shape.
    pub shape: Vec<u64>,
    /// The elements of an array of objects.
    pub objects: Vec<Value>,
}

impl Value {
    /// The dictionary, if this is one.
    pub fn as_dict(&self) -> Option<&StateDict> {
        match self {
            Self::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// The tensor, if this is one.
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Tensor(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The text, if this is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The integer, if this is one that fits (a truth value is not).
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(int) => Some(*int),
            _ => None,
        }
    }

    /// The number as a float, if this is an integer or a float.
    pub fn as_float(&self) -> Option<f64> {
        match self {
            Self::Int(int) => Some(*int as f64),
            Self::Float(float) => Some(*float),
            _ => None,
        }
    }

    /// The truth value, if this is one.
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The elements of a list or tuple.
    pub fn as_slice(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) | Self::Tuple(items) => Some(items),
            _ => None,
        }
    }

    /// Python's name of the type, for messages.
    pub fn type_name(&self) -> &str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::BigInt(_) => "int",
            Self::Float(_) => "float",
            Self::Complex(..) => "complex",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::ByteArray(_) => "bytearray",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Set(_) => "set",
            Self::FrozenSet(_) => "frozenset",
            Self::Dict(_) => "dict",
            Self::Tensor(_) => "tensor",
            Self::Array(_) => "numpy array",
            Self::DType(_) => "dtype",
            Self::Device(_) => "device",
            Self::Global(_) => "class",
            Self::Object(object) => &object.class.name,
        }
    }
}

/// Conversions for values made in memory.
macro_rules! value_from {
    ($($from:ty => $variant:ident),* $(,)?) => {
        $(impl From<$from> for Value {
            fn from(value: $from) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from! {
    bool => Bool, i64 => Int, i32 => Int, u32 => Int, f64 => Float, &str => Str, String => Str,
    Vec<Value> => List, StateDict => Dict, Tensor => Tensor,
}
