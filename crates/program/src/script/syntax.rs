//! The syntax of TorchScript's text: what PyTorch's printer (python_print.cpp) writes, a small part of Python.

use std::sync::Arc;

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(String),
    Name(String),
    Attribute(Box<Expr>, String),
    Call { function: Box<Expr>, positional: Vec<Expr>, named: Vec<(String, Expr)> },
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    Minus(Box<Expr>),
    Index(Box<Expr>, Box<Expr>),
    Slice(Box<Expr>, Option<Box<Expr>>, Option<Box<Expr>>),
}

/// A statement with its line.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    pub line: usize,
    pub kind: Kind,
}

/// What a statement does.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Assign(Expr, Expr),
    Declare(Expr, Option<Expr>),
    Return(Option<Expr>),
    Expr(Expr),
    If(Expr, Vec<Statement>, Vec<Statement>),
    While(Expr, Vec<Statement>),
    For(Expr, Expr, Vec<Statement>),
    With(Vec<Statement>),
    Pass,
    Def(Arc<Function>),
    Class(Arc<Class>),
}

/// A function or method.
#[derive(Debug, PartialEq)]
pub struct Function {
    pub name: String,
    pub parameters: Vec<(String, Option<Expr>)>,
    pub body: Vec<Statement>,
}

/// A class: methods, and constants that its text gives.
#[derive(Debug, PartialEq)]
pub struct Class {
    pub name: String,
    /// `Module`, `NamedTuple`, `Enum`, or nothing.
    pub base: String,
    /// Names of its attributes in order, with the values of constants.
    pub fields: Vec<(String, Option<Expr>)>,
    pub methods: Vec<Arc<Function>>,
}
