//! Operators that are made of others, and of several calls.

use super::{Args, Lower, Row, Value};
use crate::{Error, Result, schema, sizes};

pub(super) const ROWS: &[Row] = &[
    ("column_stack", |l, a| columns(l, a, 1)),
    ("dstack", |l, a| columns(l, a, 2)),
    ("block_diag", block_diagonal),
    ("kron", kron),
    ("linalg_vecdot", vecdot),
    ("matrix_power", matrix_power),
    ("linalg_matrix_power", matrix_power),
    ("take_along_dim", take_along),
    ("narrow_copy", |l, a| copied(l, a, "narrow")),
    ("unsafe_split_with_sizes", |l, a| copied(l, a, "split_with_sizes")),
    ("native_channel_shuffle", |l, a| passed(l, a, "channel_shuffle", "")),
    ("absolute", |l, a| passed(l, a, "abs", "")),
    ("arccosh", |l, a| passed(l, a, "acosh", "")),
    ("arcsinh", |l, a| passed(l, a, "asinh", "")),
    ("arctanh", |l, a| passed(l, a, "atanh", "")),
    ("special_logsumexp", |l, a| passed(l, a, "logsumexp", "")),
    ("_prelu_kernel", |l, a| passed(l, a, "prelu", "")),
    ("_weight_norm_interface", weight_norm),
    ("log_sigmoid_forward", log_sigmoid),
    ("_is_all_true", |l, a| passed(l, a, "all", "")),
    ("_is_any_true", |l, a| passed(l, a, "any", "")),
];

/// The greatest power of a matrix that is multiplied out.
const MAX_POWER: i64 = 1 << 10;

impl Lower {
    /// Calls an operator of ATen; arguments that are not given have their defaults.
    pub fn apply(&mut self, name: &str, overload: &str, given: &[(&str, Value)]) -> Result<Vec<Value>> {
        let schema = schema::find(name, overload);
        let schema = schema.ok_or_else(|| Error::beyond(format!("the form '{overload}' of aten.{name}")))?;
        let mut values = Vec::with_capacity(schema.arguments.len());
        for argument in &schema.arguments {
            let value = match given.iter().find(|(own, _)| *own == argument.name) {
                Some((_, value)) => value.clone(),
                None => sizes::default_value(argument)
                    .ok_or_else(|| Error::invalid(format!("the argument '{}' is left out", argument.name)))?,
            };
            values.push((argument.name.to_string(), sizes::shaped(argument, value)));
        }
        self.call(&Args { operator: name.to_string(), overload: overload.to_string(), values })
    }

    /// As [`Lower::apply`], of an operator with one result.
    pub fn apply_one(&mut self, name: &str, overload: &str, given: &[(&str, Value)]) -> Result<Value> {
        let results = self.apply(name, overload, given)?;
        results.into_iter().next().ok_or_else(|| Error::invalid(format!("aten.{name} gives nothing")))
    }

    /// The sum, product … of two.
    pub fn two(&mut self, name: &str, a: &Value, b: &Value) -> Result<Value> {
        self.apply_one(name, "Tensor", &[("self", a.clone()), ("other", b.clone())])
    }

    /// A function of one.
    pub fn one(&mut self, name: &str, x: &Value) -> Result<Value> {
        self.apply_one(name, "", &[("self", x.clone())])
    }
}

/// The same arguments to another operator.
fn passed(l: &mut Lower, args: &Args, name: &str, overload: &str) -> Result<Vec<Value>> {
    let given: Vec<(&str, Value)> = args.values.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    l.apply(name, overload, &given)
}

/// As [`passed`]; the result shares no memory with the operand.
fn copied(l: &mut Lower, args: &Args, name: &str) -> Result<Vec<Value>> {
    let results = passed(l, args, name, "")?;
    let mut all = Vec::new();
    for result in results {
        let parts = if let Value::List(parts) = result { parts } else { vec![result] };
        for part in parts {
            all.extend(super::shape::fresh(l, part.tensor()?)?);
        }
    }
    Ok(if args.operator == "narrow_copy" { all } else { vec![Value::List(all)] })
}

/// Joins along an axis what has that axis at least.
fn columns(l: &mut Lower, args: &Args, axis: i64) -> Result<Vec<Value>> {
    let mut parts = Vec::new();
    for part in args.tensors("tensors")? {
        let part = Value::Tensor(part);
        parts.push(if axis == 1 {
            match l.rank(part.tensor()?) {
                0 | 1 => l.apply_one("reshape", "", &[("self", part), ("shape", Value::ints(&[-1, 1]))])?,
                _ => part,
            }
        } else {
            l.one("atleast_3d", &part)?
        });
    }
    l.apply("cat", "", &[("tensors", Value::List(parts)), ("dim", Value::int(axis))])
}

/// Matrices along a diagonal, zeros beside them.
fn block_diagonal(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mut blocks = Vec::new();
    for block in args.tensors("tensors")? {
        blocks.push(l.one("atleast_2d", &Value::Tensor(block))?);
    }
    let mut widths = Vec::new();
    for block in &blocks {
        widths.push(l.size(block.tensor()?, 1)? as i64);
    }
    let total: i64 = widths.iter().sum();
    let mut rows = Vec::new();
    let mut before = 0;
    for (block, width) in blocks.into_iter().zip(widths) {
        let pad = Value::ints(&[before, total - before - width]);
        before += width;
        rows.push(l.apply_one("constant_pad_nd", "", &[("self", block), ("pad", pad)])?);
    }
    l.apply("cat", "", &[("tensors", Value::List(rows))])
}

/// Each element of one times all of the other.
fn kron(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("self")?, args.tensor("other")?);
    let rank = l.rank(a).max(l.rank(b));
    let mut spread = [Vec::new(), Vec::new()];
    let mut shape = Vec::new();
    for axis in 0..rank {
        let mut sizes = Vec::new();
        for x in [a, b] {
            let missing = rank - l.rank(x);
            sizes.push(if axis < missing { 1 } else { l.size(x, axis - missing)? as i64 });
        }
        spread[0].extend([sizes[0], 1]);
        spread[1].extend([1, sizes[1]]);
        shape.push(sizes[0] * sizes[1]);
    }
    let a = l.apply_one("reshape", "", &[("self", Value::Tensor(a)), ("shape", Value::ints(&spread[0]))])?;
    let b = l.apply_one("reshape", "", &[("self", Value::Tensor(b)), ("shape", Value::ints(&spread[1]))])?;
    let product = l.two("mul", &a, &b)?;
    l.apply("reshape", "", &[("self", product), ("shape", Value::ints(&shape))])
}

fn vecdot(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let product = l.two("mul", args.get("x"), args.get("y"))?;
    let dim = Value::List(vec![args.get("dim").clone()]);
    l.apply("sum", "dim_IntList", &[("self", product), ("dim", dim)])
}

/// A matrix times itself, by squares.
fn matrix_power(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (mut square, mut left) = (args.get("self").clone(), args.int("n")?);
    if left < 0 {
        square = l.apply_one("linalg_inv", "", &[("A", square)])?;
        left = left.saturating_neg();
    }
    if !(1..=MAX_POWER).contains(&left) {
        return Err(Error::beyond(format!("the power {left} of a matrix")));
    }
    let mut result: Option<Value> = None;
    while left > 0 {
        if left % 2 == 1 {
            result = Some(match result {
                Some(result) => l.apply_one("matmul", "", &[("self", result), ("other", square.clone())])?,
                None => square.clone(),
            });
        }
        left /= 2;
        if left > 0 {
            square = l.apply_one("matmul", "", &[("self", square.clone()), ("other", square.clone())])?;
        }
    }
    let result = result.ok_or_else(|| Error::invalid("a power of no matrix"))?;
    super::shape::fresh(l, result.tensor()?)
}

/// Elements along an axis at positions, which spread over the other axes.
fn take_along(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (mut x, mut at) = (args.tensor("self")?, args.tensor("indices")?);
    let dim = if args.get("dim").is_none() {
        for slot in [&mut x, &mut at] {
            let flat = [("self", Value::Tensor(*slot)), ("shape", Value::ints(&[-1]))];
            *slot = l.apply_one("reshape", "", &flat)?.tensor()?;
        }
        0
    } else {
        args.int("dim")?
    };
    let axis = l.axis(x, dim)?;
    if l.rank(x) != l.rank(at) {
        return Err(Error::invalid(format!("positions of {} axes for {}", l.rank(at), l.rank(x))));
    }
    let mut wide = [Vec::new(), Vec::new()];
    for own in 0..l.rank(x) {
        let mut sizes = [l.size_int(x, own)?, l.size_int(at, own)?];
        if own != axis {
            let most = l.int_op("max", &sizes[0], &sizes[1])?;
            sizes = [most.clone(), most];
        }
        let [of_x, of_at] = sizes;
        wide[0].push(Value::Int(of_x));
        wide[1].push(Value::Int(of_at));
    }
    let [of_x, of_at] = wide;
    let x = l.apply_one("expand", "", &[("self", Value::Tensor(x)), ("size", Value::List(of_x))])?;
    let at = l.apply_one("expand", "", &[("self", Value::Tensor(at)), ("size", Value::List(of_at))])?;
    l.apply("gather", "", &[("self", x), ("dim", Value::int(axis as i64)), ("index", at)])
}

fn weight_norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mut results = passed(l, args, "_weight_norm", "")?;
    results.push(Value::None);
    Ok(results)
}

fn log_sigmoid(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mut results = passed(l, args, "log_sigmoid", "")?;
    results.push(Value::None);
    Ok(results)
}

/// A part of a tensor that is its own.
pub(super) fn part(l: &mut Lower, x: &Value, dim: i64, start: i64, end: i64) -> Result<Value> {
    let bounds = [("start", Value::int(start)), ("end", Value::int(end))];
    let mut given = vec![("self", x.clone()), ("dim", Value::int(dim))];
    given.extend(bounds);
    l.apply_one("slice", "Tensor", &given)
}
