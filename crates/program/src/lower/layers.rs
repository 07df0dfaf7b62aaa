//! Products and layers: linear, embedding, softmax, products of matrices.

use rekindle_onnx::builder::{Attr, ValueName};

use super::repeated::batched;
use super::{Args, Float, Int, Lower, Row, TensorId, Value, axis_of, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("linear", linear),
    ("embedding", embedding),
    ("softmax", |l, a| softmax(l, a, "Softmax")),
    ("_softmax", |l, a| softmax(l, a, "Softmax")),
    ("log_softmax", |l, a| softmax(l, a, "LogSoftmax")),
    ("_log_softmax", |l, a| softmax(l, a, "LogSoftmax")),
    ("_safe_softmax", safe_softmax),
    ("matmul", |l, a| product(l, a, "self", "other")),
    ("mm", |l, a| product(l, a, "self", "mat2")),
    ("bmm", batched),
    ("mv", |l, a| product(l, a, "self", "vec")),
    ("dot", |l, a| product(l, a, "self", "tensor")),
    ("addmm", |l, a| add_product(l, a, "mat1", "mat2")),
    ("addbmm", add_products),
    ("inner", inner),
    ("vdot", |l, a| product(l, a, "self", "other")),
    ("chain_matmul", |l, a| chain(l, a, "matrices")),
    ("linalg_multi_dot", |l, a| chain(l, a, "tensors")),
    ("tensordot", tensordot),
    ("special_softmax", |l, a| softmax(l, a, "Softmax")),
    ("special_log_softmax", |l, a| softmax(l, a, "LogSoftmax")),
    ("addmv", |l, a| add_product(l, a, "mat", "vec")),
    ("baddbmm", |l, a| add_product(l, a, "batch1", "batch2")),
    ("einsum", einsum),
    ("bilinear", bilinear),
    ("_trilinear", trilinear),
    ("_weight_norm", weight_norm),
];

/// The value of an argument that may be left out; the empty name where it is.
pub(super) fn value_or_none(l: &mut Lower, tensor: Option<TensorId>) -> Result<ValueName> {
    tensor.map_or(Ok("".into()), |tensor| l.value(tensor))
}

fn linear(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, weight, bias) = (args.tensor("input")?, args.tensor("weight")?, args.optional("bias")?);
    let (value, w) = (l.value(x)?, l.value(weight)?);
    let bias = value_or_none(l, bias)?;
    // Gemm wants floats and takes the weight as it is stored, a row for each output.
    let value = if l.rank(x) == 2 && l.rank(weight) == 2 && l.dtype(x).is_float() {
        l.node("Gemm", &[&value, &w, &bias], &[("transB", int(1))])?
    } else {
        let w = if l.rank(weight) == 2 { l.transpose(&w, &[1, 0])? } else { w };
        let value = l.node("MatMul", &[&value, &w], &[])?;
        if bias.is_empty() { value } else { l.node("Add", &[&value, &bias], &[])? }
    };
    l.answer(value)
}

fn embedding(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (weight, at) = (args.tensor("weight")?, args.tensor("indices")?);
    let (weight, at) = (l.value(weight)?, l.value(at)?);
    let value = l.node("Gather", &[&weight, &at], &[("axis", int(0))])?;
    l.answer(value)
}

fn softmax(l: &mut Lower, args: &Args, operator: &str) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let dtype = args.dtype("dtype")?.unwrap_or_else(|| super::types::floating(l.dtype(x)));
    let value = l.value_as(x, dtype)?;
    if l.rank(x) == 0 {
        let one = l.number(if operator == "Softmax" { 1.0 } else { 0.0 }, dtype)?;
        let value = l.node("Identity", &[&one], &[])?;
        return l.answer(value);
    }
    let value = l.node(operator, &[&value], &[("axis", int(axis as i64))])?;
    l.answer(value)
}

/// As softmax; a row of nothing but -inf becomes zeros.
fn safe_softmax(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.tensor("self")?;
    let axis = l.axis(x, args.int("dim")?)?;
    let dtype = args.dtype("dtype")?.unwrap_or_else(|| super::types::floating(l.dtype(x)));
    let value = l.value_as(x, dtype)?;
    let soft = l.node("Softmax", &[&value], &[("axis", int(axis as i64))])?;
    let axes = l.ints(&[axis as i64])?;
    let most = l.node("ReduceMax", &[&value, &axes], &[("keepdims", int(1))])?;
    let none = l.number(f64::NEG_INFINITY, dtype)?;
    let empty = l.node("Equal", &[&most, &none], &[])?;
    let zero = l.number(0.0, dtype)?;
    let value = l.node("Where", &[&empty, &zero, &soft], &[])?;
    l.answer(value)
}

fn product(l: &mut Lower, args: &Args, a: &str, b: &str) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor(a)?, args.tensor(b)?);
    let (a, b) = (l.value(a)?, l.value(b)?);
    let value = l.node("MatMul", &[&a, &b], &[])?;
    l.answer(value)
}

fn is_one(value: &Value) -> bool {
    match value {
        Value::None | Value::Int(Int::Known(1)) => true,
        Value::Float(Float::Known(float)) => (float - 1.0).abs() == 0.0,
        _ => false,
    }
}

fn add_product(l: &mut Lower, args: &Args, a: &str, b: &str) -> Result<Vec<Value>> {
    let (x, a, b) = (args.tensor("self")?, args.tensor(a)?, args.tensor(b)?);
    let dtype = l.dtype(x);
    let (alpha, beta) = (args.get("alpha").clone(), args.get("beta").clone());
    let (va, vb) = (l.value(a)?, l.value(b)?);
    let zero =
        matches!(&beta, Value::Int(Int::Known(0))) || matches!(&beta, Value::Float(Float::Known(beta)) if *beta == 0.0);
    if is_one(&alpha) && is_one(&beta) && l.rank(a) == 2 && l.rank(b) == 2 && dtype.is_float() && l.rank(x) <= 2 {
        let x = l.value(x)?;
        let value = l.node("Gemm", &[&va, &vb, &x], &[])?;
        return l.answer(value);
    }
    let mut value = l.node("MatMul", &[&va, &vb], &[])?;
    if !is_one(&alpha) {
        let alpha = l.scalar(&alpha, dtype)?;
        value = l.node("Mul", &[&value, &alpha], &[])?;
    }
    if !zero {
        let mut x = l.value(x)?;
        if !is_one(&beta) {
            let beta = l.scalar(&beta, dtype)?;
            x = l.node("Mul", &[&x, &beta], &[])?;
        }
        value = l.node("Add", &[&x, &value], &[])?;
    }
    l.answer(value)
}

fn einsum(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let equation = args.text("equation")?.unwrap_or_default().replace(' ', "");
    let mut values = Vec::new();
    for tensor in args.tensors("tensors")? {
        values.push(l.value(tensor)?);
    }
    let inputs: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    let value = l.node("Einsum", &inputs, &[("equation", Attr::String(equation))])?;
    l.answer(value)
}

fn bilinear(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let [a, b, w] = ["input1", "input2", "weight"].map(|name| args.tensor(name));
    let (a, b, w) = (l.value(a?)?, l.value(b?)?, l.value(w?)?);
    let value = l.node("Einsum", &[&a, &w, &b], &[("equation", Attr::Text("...i,oij,...j->...o"))])?;
    let bias = args.optional("bias")?;
    let value = match bias {
        Some(bias) => {
            let bias = l.value(bias)?;
            l.node("Add", &[&value, &bias], &[])?
        }
        None => value,
    };
    l.answer(value)
}

/// The product of three tensors, each with more axes of size 1, summed over some: what `bilinear` decomposes to. With a letter
/// for each axis, no product of all axes is made.
fn trilinear(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let mut values = Vec::new();
    let mut letters = Vec::new();
    let mut axes = 0;
    for (name, expand) in [("i1", "expand1"), ("i2", "expand2"), ("i3", "expand3")] {
        let (tensor, expand) = (args.tensor(name)?, args.ints(expand)?);
        axes = l.rank(tensor) + expand.len();
        values.push(l.value(tensor)?);
        letters.push(letters_without(&expand, axes)?);
    }
    let kept = letters_without(&args.ints("sumdim")?, axes)?;
    let inputs: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
    let equation = format!("{}->{kept}", letters.join(","));
    let value = l.node("Einsum", &inputs, &[("equation", Attr::String(equation))])?;
    l.answer(value)
}

/// A letter for each axis but some.
fn letters_without(left_out: &[i64], axes: usize) -> Result<String> {
    let left_out = left_out.iter().map(|&axis| axis_of(axis, axes)).collect::<Result<Vec<_>>>()?;
    Ok(('a'..='z').take(axes).enumerate().filter(|(axis, _)| !left_out.contains(axis)).map(|(_, name)| name).collect())
}

fn weight_norm(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (v, g) = (args.tensor("v")?, args.tensor("g")?);
    let dim = axis_of(args.int("dim")?, l.rank(v))?;
    let axes: Vec<i64> = (0..l.rank(v)).filter(|&axis| axis != dim).map(|axis| axis as i64).collect();
    let (v, g, axes) = (l.value(v)?, l.value(g)?, l.ints(&axes)?);
    let norm = l.node("ReduceL2", &[&v, &axes], &[("keepdims", int(1))])?;
    let scale = l.node("Div", &[&g, &norm], &[])?;
    let value = l.node("Mul", &[&v, &scale], &[])?;
    l.answer(value)
}

/// The sum of the products of a batch, and a matrix.
fn add_products(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, a, b) = (args.tensor("self")?, args.tensor("batch1")?, args.tensor("batch2")?);
    let dtype = l.dtype(x);
    let (a, b, first) = (l.value(a)?, l.value(b)?, l.ints(&[0])?);
    let all = l.node("MatMul", &[&a, &b], &[])?;
    let mut value = l.node("ReduceSum", &[&all, &first], &[("keepdims", int(0))])?;
    let (alpha, beta) = (l.scalar(args.get("alpha"), dtype)?, l.scalar(args.get("beta"), dtype)?);
    value = l.node("Mul", &[&value, &alpha], &[])?;
    if !matches!(args.get("beta"), Value::Int(Int::Known(0))) {
        let x = l.value(x)?;
        let x = l.node("Mul", &[&x, &beta], &[])?;
        value = l.node("Add", &[&x, &value], &[])?;
    }
    l.answer(value)
}

/// Products of the last axes.
fn inner(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("self")?, args.tensor("other")?);
    let (ranks, values) = ([l.rank(a), l.rank(b)], [l.value(a)?, l.value(b)?]);
    if ranks.contains(&0) {
        let value = l.node("Mul", &[&values[0], &values[1]], &[])?;
        return l.answer(value);
    }
    contracted(l, values, ranks, &[ranks[0] - 1], &[ranks[1] - 1])
}

fn chain(l: &mut Lower, args: &Args, name: &str) -> Result<Vec<Value>> {
    let mut tensors = args.tensors(name)?.into_iter();
    let first = tensors.next().ok_or_else(|| Error::invalid("a product of nothing"))?;
    let mut value = l.value(first)?;
    for next in tensors {
        let next = l.value(next)?;
        value = l.node("MatMul", &[&value, &next], &[])?;
    }
    l.answer(value)
}

fn tensordot(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("self")?, args.tensor("other")?);
    let axes = |l: &Lower, x: TensorId, name: &str| -> Result<Vec<usize>> {
        args.ints(name)?.into_iter().map(|axis| l.axis(x, axis)).collect()
    };
    let (of_a, of_b) = (axes(l, a, "dims_self")?, axes(l, b, "dims_other")?);
    let (ranks, values) = ([l.rank(a), l.rank(b)], [l.value(a)?, l.value(b)?]);
    contracted(l, values, ranks, &of_a, &of_b)
}

/// The sum of products over pairs of axes; the other axes stay, those of the first before those of the second.
fn contracted(
    l: &mut Lower,
    values: [ValueName; 2],
    ranks: [usize; 2],
    of_a: &[usize],
    of_b: &[usize],
) -> Result<Vec<Value>> {
    if of_a.len() != of_b.len() || ranks[0] + ranks[1] > 26 {
        return Err(Error::beyond(format!("a product over {of_a:?} and {of_b:?}")));
    }
    let letter = |at: usize| char::from(b'a' + at as u8);
    let a: String = (0..ranks[0]).map(letter).collect();
    let shared = |axis: usize| of_b.iter().position(|&own| own == axis).map(|at| of_a[at]);
    let b: String = (0..ranks[1]).map(|axis| letter(shared(axis).unwrap_or(ranks[0] + axis))).collect();
    let kept_a = (0..ranks[0]).filter(|axis| !of_a.contains(axis)).map(letter);
    let kept_b = (0..ranks[1]).filter(|axis| !of_b.contains(axis)).map(|axis| letter(ranks[0] + axis));
    let equation = format!("{a},{b}->{}", kept_a.chain(kept_b).collect::<String>());
    let value = l.node("Einsum", &[&values[0], &values[1]], &[("equation", Attr::String(equation))])?;
    l.answer(value)
}
