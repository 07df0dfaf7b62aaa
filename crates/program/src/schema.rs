//! Arguments and defaults of ATen's operators: programs leave out what has its default.
//!
//! `aten.txt` is written by `tools/schemas.py` from PyTorch's own list, for the operators that are lowered here.

use std::collections::HashMap;
use std::sync::OnceLock;

/// One overload of an operator.
#[derive(Debug)]
pub struct Schema {
    /// Name without the overload: `add`.
    pub name: &'static str,
    /// The overload: `Tensor`; empty for the default one.
    pub overload: &'static str,
    /// Arguments, those that go by keyword alone at the end.
    pub arguments: Vec<Argument>,
    /// What it gives.
    pub returns: Returns,
}

/// What an operator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returns {
    /// One value, or none.
    One,
    /// Several.
    Tuple,
    /// A list of tensors.
    List,
}

/// An argument of an operator.
#[derive(Debug)]
pub struct Argument {
    /// Name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Whether None may stand there.
    pub optional: bool,
    /// Whether it is a list of such.
    pub list: bool,
    /// What stands there when it is left out.
    pub default: Option<Default>,
    /// Whether it is given by keyword alone.
    pub keyword: bool,
}

/// What an argument takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A tensor.
    Tensor,
    /// A number.
    Scalar,
    /// An integer.
    Int,
    /// A float.
    Float,
    /// A truth value.
    Bool,
    /// Text.
    Str,
    /// An element type.
    DType,
    /// A device, layout, memory format or generator, none of which matters here.
    Other,
}

/// The default of an argument.
#[derive(Debug, Clone, PartialEq)]
pub enum Default {
    /// Nothing.
    None,
    /// A truth value.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A float.
    Float(f64),
    /// Text.
    Str(&'static str),
    /// Integers.
    Ints(Vec<i64>),
}

const TEXT: &str = include_str!("aten.txt");

/// Overloads of each operator by name, in PyTorch's order.
fn table() -> &'static HashMap<&'static str, Vec<Schema>> {
    static TABLE: OnceLock<HashMap<&'static str, Vec<Schema>>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table: HashMap<_, Vec<_>> = HashMap::new();
        for schema in TEXT.lines().filter(|line| !line.starts_with('#')).filter_map(parse) {
            table.entry(schema.name).or_default().push(schema);
        }
        table
    })
}

/// The overloads of an operator.
pub fn overloads(name: &str) -> &'static [Schema] {
    table().get(name).map_or(&[], Vec::as_slice)
}

/// One overload of an operator; `default` and the empty text are the one without a name.
pub fn find(name: &str, overload: &str) -> Option<&'static Schema> {
    let overload = if overload == "default" { "" } else { overload };
    overloads(name).iter().find(|schema| schema.overload == overload)
}

fn parse(line: &'static str) -> Option<Schema> {
    let (full, rest) = line.split_once('(')?;
    let (name, overload) = full.split_once('.').unwrap_or((full, ""));
    let (inside, returns) = rest.rsplit_once(") ->")?;
    let returns = match returns.trim() {
        returns if returns.starts_with('(') && returns != "()" => Returns::Tuple,
        returns if returns.ends_with("[]") => Returns::List,
        _ => Returns::One,
    };
    let mut arguments = Vec::new();
    let mut keyword = false;
    for part in split(inside) {
        match part.trim() {
            "" => {}
            "*" => keyword = true,
            part => arguments.push(argument(part, keyword)?),
        }
    }
    Some(Schema { name, overload, arguments, returns })
}

/// Splits at commas that are in no brackets or quotes.
fn split(text: &'static str) -> Vec<&'static str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn argument(part: &'static str, keyword: bool) -> Option<Argument> {
    let (kind, name) = part.rsplit_once(' ')?;
    let (name, default) = match name.split_once('=') {
        Some((name, default)) => (name, Some(literal(default))),
        None => (name, None),
    };
    let base: String = kind.chars().take_while(char::is_ascii_alphanumeric).collect();
    let kind_of = match base.as_str() {
        "Tensor" => Kind::Tensor,
        "Scalar" => Kind::Scalar,
        "int" | "SymInt" => Kind::Int,
        "float" => Kind::Float,
        "bool" => Kind::Bool,
        "str" => Kind::Str,
        "ScalarType" => Kind::DType,
        _ => Kind::Other,
    };
    Some(Argument {
        name,
        kind: kind_of,
        optional: kind.ends_with('?') || kind.contains("?("),
        list: kind.contains('['),
        default,
        keyword,
    })
}

fn literal(text: &'static str) -> Default {
    match text {
        "None" => Default::None,
        "True" => Default::Bool(true),
        "False" => Default::Bool(false),
        // `reduction=Mean` of losses.
        "Mean" => Default::Int(1),
        _ if text.starts_with('[') => {
            let inside = text.trim_start_matches('[').trim_end_matches(']');
            Default::Ints(inside.split(',').filter_map(|int| int.trim().parse().ok()).collect())
        }
        _ if text.starts_with(['"', '\'']) => Default::Str(text.trim_matches(['"', '\''])),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(int), _) => Default::Int(int),
            (_, Ok(float)) => Default::Float(float),
            _ => Default::None,
        },
    }
}
