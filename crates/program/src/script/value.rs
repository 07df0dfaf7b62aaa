//! Values of TorchScript while its text is evaluated.

use std::cell::RefCell;
use std::rc::Rc;

use indexmap::IndexMap;

use crate::lower::{Float, Int, Value};
use crate::{Error, Result};

/// A value of a program.
#[derive(Debug, Clone)]
pub enum Item {
    /// A tensor, number, text or nothing.
    Plain(Value),
    /// A number that a trace keeps as a tensor without axes.
    Number(Num),
    /// A list, which can be changed.
    List(Rc<RefCell<Vec<Item>>>),
    /// A tuple, with names of its places if it has them.
    Tuple(Rc<Vec<Item>>, Rc<Vec<String>>),
    /// A dictionary, which can be changed.
    Dict(Rc<RefCell<Vec<(Item, Item)>>>),
    /// A module or another object of a class.
    Object(Rc<Object>),
    /// Weights of a quantized layer.
    Packed(Rc<super::quantized::Packed>),
    /// A name that is no variable: a function, a class, a part of such a name.
    Global(Rc<str>),
}

/// A number in the form of a tensor.
#[derive(Debug, Clone)]
pub enum Num {
    Int(Int),
    Float(Float),
}

/// An object with attributes.
#[derive(Debug)]
pub struct Object {
    /// Its class: `__torch__.models.Net`.
    pub class: String,
    /// Where it is in the module tree.
    pub path: String,
    pub attributes: RefCell<IndexMap<String, Item>>,
}

impl Item {
    pub fn none() -> Self {
        Self::Plain(Value::None)
    }

    pub fn int(value: i64) -> Self {
        Self::Plain(Value::int(value))
    }

    pub fn bool(value: bool) -> Self {
        Self::Plain(Value::Bool(value))
    }

    pub fn text(value: impl Into<String>) -> Self {
        Self::Plain(Value::Str(value.into()))
    }

    pub fn list(values: Vec<Self>) -> Self {
        Self::List(Rc::new(RefCell::new(values)))
    }

    pub fn tuple(values: Vec<Self>) -> Self {
        Self::Tuple(Rc::new(values), Rc::new(Vec::new()))
    }

    /// What it is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Plain(value) => value.kind(),
            Self::Number(_) => "a number as a tensor",
            Self::List(_) => "a list",
            Self::Tuple(..) => "a tuple",
            Self::Dict(_) => "a dictionary",
            Self::Object(_) => "an object",
            Self::Packed(_) => "packed weights",
            Self::Global(_) => "a name",
        }
    }

    pub fn is_none(&self) -> bool {
        matches!(self, Self::Plain(Value::None))
    }

    /// The elements of a list or tuple.
    pub fn elements(&self) -> Result<Vec<Self>> {
        match self {
            Self::List(values) => Ok(values.borrow().clone()),
            Self::Tuple(values, _) => Ok(values.to_vec()),
            other => Err(Error::invalid(format!("expected a list, found {}", other.kind()))),
        }
    }

    /// An integer, known or open.
    pub fn as_int(&self) -> Option<Int> {
        match self {
            Self::Plain(Value::Int(int)) => Some(int.clone()),
            Self::Plain(Value::Bool(bool)) => Some(Int::Known(i64::from(*bool))),
            _ => None,
        }
    }

    /// A known integer.
    pub fn known(&self) -> Result<i64> {
        match self.as_int() {
            Some(Int::Known(int)) => Ok(int),
            Some(Int::Open(_)) => Err(Error::beyond("a number that follows an open size here")),
            None => Err(Error::invalid(format!("expected an integer, found {}", self.kind()))),
        }
    }

    /// Whether two plain values are equal, where that is known.
    pub fn equals(&self, other: &Self) -> Option<bool> {
        match (self, other) {
            (Self::Plain(a), Self::Plain(b)) => match (a, b) {
                (Value::None, Value::None) => Some(true),
                (Value::Str(a), Value::Str(b)) => Some(a == b),
                (Value::Bool(a), Value::Bool(b)) => Some(a == b),
                (Value::Int(Int::Known(a)), Value::Int(Int::Known(b))) => Some(a == b),
                (Value::Float(Float::Known(a)), Value::Float(Float::Known(b))) => Some(a == b),
                (Value::Int(Int::Known(a)), Value::Float(Float::Known(b)))
                | (Value::Float(Float::Known(b)), Value::Int(Int::Known(a))) => Some(*a as f64 == *b),
                (Value::Int(Int::Open(_)), _) | (_, Value::Int(Int::Open(_))) => None,
                (Value::Tensor(_), _) | (_, Value::Tensor(_)) => None,
                _ => Some(false),
            },
            (Self::List(a), Self::List(b)) => all_equal(&a.borrow(), &b.borrow()),
            (Self::Tuple(a, _), Self::Tuple(b, _)) => all_equal(a, b),
            (Self::Object(a), Self::Object(b)) => Some(Rc::ptr_eq(a, b)),
            _ => Some(false),
        }
    }
}

fn all_equal(a: &[Item], b: &[Item]) -> Option<bool> {
    if a.len() != b.len() {
        return Some(false);
    }
    let mut all = true;
    for (a, b) in a.iter().zip(b) {
        all &= a.equals(b)?;
    }
    Some(all)
}
