//! Losses, and distances between vectors.

use rekindle_onnx::DType;
use rekindle_onnx::builder::ValueName;

use super::{Args, Lower, Row, TensorId, Value, int};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] = &[
    ("mse_loss", mse),
    ("l1_loss", l1),
    ("smooth_l1_loss", |l, a| huber(l, a, "beta")),
    ("huber_loss", |l, a| huber(l, a, "delta")),
    ("binary_cross_entropy", binary),
    ("binary_cross_entropy_with_logits", binary_logits),
    ("kl_div", kl_div),
    ("nll_loss", nll),
    ("nll_loss_nd", nll),
    ("nll_loss2d", nll),
    ("nll_loss_forward", nll),
    ("nll_loss2d_forward", nll),
    ("cross_entropy_loss", cross_entropy),
    ("cosine_similarity", cosine_similarity),
    ("pairwise_distance", pairwise),
    ("cdist", cdist),
    ("_cdist_forward", cdist),
    ("_euclidean_dist", cdist),
];

/// The mean, the sum, or each.
fn reduced(l: &mut Lower, args: &Args, each: ValueName) -> Result<Vec<Value>> {
    let operator = match args.int("reduction")? {
        0 => return l.answer(each),
        1 => "ReduceMean",
        _ => "ReduceSum",
    };
    let value = l.node(operator, &[&each], &[("keepdims", int(0))])?;
    l.answer(value)
}

/// Two operands as floats of one type.
fn pair(l: &mut Lower, args: &Args) -> Result<(ValueName, ValueName, DType)> {
    let (x, y) = (args.get("self").clone(), args.get("target").clone());
    let dtype = l.result_type(&[&x, &y])?;
    Ok((l.scalar(&x, dtype)?, l.scalar(&y, dtype)?, dtype))
}

fn mse(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, y, _) = pair(l, args)?;
    let apart = l.node("Sub", &[&x, &y], &[])?;
    let each = l.node("Mul", &[&apart, &apart], &[])?;
    reduced(l, args, each)
}

fn l1(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, y, _) = pair(l, args)?;
    let apart = l.node("Sub", &[&x, &y], &[])?;
    let each = l.node("Abs", &[&apart], &[])?;
    reduced(l, args, each)
}

/// A parabola up to a bound, a line past it. With `beta` the whole is divided by the bound.
fn huber(l: &mut Lower, args: &Args, name: &str) -> Result<Vec<Value>> {
    let bound = args.float(name)?;
    if name == "beta" && bound == 0.0 {
        return l1(l, args);
    }
    let (x, y, dtype) = pair(l, args)?;
    let apart = l.node("Sub", &[&x, &y], &[])?;
    let size = l.node("Abs", &[&apart], &[])?;
    let (limit, half, offset) = (l.number(bound, dtype)?, l.number(0.5, dtype)?, l.number(0.5 * bound, dtype)?);
    let square = l.node("Mul", &[&size, &size], &[])?;
    let mut near = l.node("Mul", &[&square, &half], &[])?;
    let mut far = l.node("Sub", &[&size, &offset], &[])?;
    if name == "beta" {
        near = l.node("Div", &[&near, &limit], &[])?;
    } else {
        far = l.node("Mul", &[&far, &limit], &[])?;
    }
    let small = l.node("Less", &[&size, &limit], &[])?;
    let each = l.node("Where", &[&small, &near, &far], &[])?;
    reduced(l, args, each)
}

fn weighted(l: &mut Lower, args: &Args, each: ValueName, dtype: DType) -> Result<ValueName> {
    match args.optional("weight")? {
        Some(weight) => {
            let weight = l.value_as(weight, dtype)?;
            l.node("Mul", &[&each, &weight], &[])
        }
        None => Ok(each),
    }
}

fn binary(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, y, dtype) = pair(l, args)?;
    let (one, least) = (l.number(1.0, dtype)?, l.number(-100.0, dtype)?);
    let mut parts = Vec::new();
    for complement in [false, true] {
        let p = if complement { l.node("Sub", &[&one, &x], &[])? } else { x.clone() };
        let t = if complement { l.node("Sub", &[&one, &y], &[])? } else { y.clone() };
        // PyTorch bounds logarithms at -100.
        let log = l.node("Log", &[&p], &[])?;
        let log = l.node("Max", &[&log, &least], &[])?;
        parts.push(l.node("Mul", &[&t, &log], &[])?);
    }
    let total = l.node("Add", &[&parts[0], &parts[1]], &[])?;
    let each = l.node("Neg", &[&total], &[])?;
    let each = weighted(l, args, each, dtype)?;
    reduced(l, args, each)
}

/// `(1 - y) x + (1 + (w - 1) y) softplus(-x)`
fn binary_logits(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, y, dtype) = pair(l, args)?;
    let one = l.number(1.0, dtype)?;
    let minus = l.node("Neg", &[&x], &[])?;
    let mut soft = l.node("Softplus", &[&minus], &[])?;
    if let Some(weight) = args.optional("pos_weight")? {
        let weight = l.value_as(weight, dtype)?;
        let more = l.node("Sub", &[&weight, &one], &[])?;
        let more = l.node("Mul", &[&more, &y], &[])?;
        let factor = l.node("Add", &[&one, &more], &[])?;
        soft = l.node("Mul", &[&soft, &factor], &[])?;
    }
    let rest = l.node("Sub", &[&one, &y], &[])?;
    let rest = l.node("Mul", &[&rest, &x], &[])?;
    let each = l.node("Add", &[&rest, &soft], &[])?;
    let each = weighted(l, args, each, dtype)?;
    reduced(l, args, each)
}

fn kl_div(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, y, dtype) = pair(l, args)?;
    let each = if args.bool("log_target")? {
        let p = l.node("Exp", &[&y], &[])?;
        let apart = l.node("Sub", &[&y, &x], &[])?;
        l.node("Mul", &[&p, &apart], &[])?
    } else {
        // 0 × log 0 is 0.
        let zero = l.number(0.0, dtype)?;
        let log = l.node("Log", &[&y], &[])?;
        let own = l.node("Mul", &[&y, &log], &[])?;
        let none = l.node("Equal", &[&y, &zero], &[])?;
        let own = l.node("Where", &[&none, &zero, &own], &[])?;
        let other = l.node("Mul", &[&y, &x], &[])?;
        l.node("Sub", &[&own, &other], &[])?
    };
    reduced(l, args, each)
}

fn likelihood(l: &mut Lower, args: &Args, x: &str, target: TensorId) -> Result<ValueName> {
    let weight = match args.optional("weight")? {
        Some(weight) => l.value(weight)?,
        None => "".into(),
    };
    let target = l.value(target)?;
    let how = match args.int("reduction")? {
        0 => "none",
        1 => "mean",
        _ => "sum",
    };
    let attributes =
        [("reduction", rekindle_onnx::builder::Attr::Text(how)), ("ignore_index", int(args.int("ignore_index")?))];
    l.node("NegativeLogLikelihoodLoss", &[x, &target, &weight], &attributes)
}

fn nll(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, target) = (args.tensor("self")?, args.tensor("target")?);
    if l.rank(x) < 2 {
        return Err(Error::beyond("a loss of one sample without a batch"));
    }
    let x = l.value(x)?;
    let value = likelihood(l, args, &x, target)?;
    let mut results = l.answer(value)?;
    if args.operator.ends_with("_forward") {
        results.push(Value::None);
    }
    Ok(results)
}

fn cross_entropy(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (x, target) = (args.tensor("self")?, args.tensor("target")?);
    if l.rank(x) < 2 || l.dtype(target).is_float() || args.float("label_smoothing")? != 0.0 {
        return Err(Error::beyond("cross_entropy_loss without a batch, of probabilities or with smoothed labels"));
    }
    let value = l.value(x)?;
    let log = l.node("LogSoftmax", &[&value], &[("axis", int(1))])?;
    let value = likelihood(l, args, &log, target)?;
    l.answer(value)
}

fn cosine_similarity(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("x1")?, args.tensor("x2")?);
    let dim = l.axis(a, args.int("dim")?)?;
    let (dtype, eps) = (l.dtype(a), args.float("eps")?);
    let (a, b, axes) = (l.value(a)?, l.value(b)?, l.ints(&[dim as i64])?);
    let eps = l.number(eps, dtype)?;
    let mut parts = Vec::new();
    for x in [&a, &b] {
        let norm = l.node("ReduceL2", &[x, &axes], &[("keepdims", int(1))])?;
        let norm = l.node("Max", &[&norm, &eps], &[])?;
        parts.push(l.node("Div", &[x, &norm], &[])?);
    }
    let product = l.node("Mul", &[&parts[0], &parts[1]], &[])?;
    let value = l.node("ReduceSum", &[&product, &axes], &[("keepdims", int(0))])?;
    l.answer(value)
}

/// The norm of an order along the last axis.
fn norm_last(l: &mut Lower, value: &str, p: f64, dtype: DType, keep: bool) -> Result<ValueName> {
    let axes = l.ints(&[-1])?;
    super::reduce::norm_of(l, value, &axes, p, dtype, keep)
}

fn pairwise(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.get("x1").clone(), args.get("x2").clone());
    let dtype = l.result_type(&[&a, &b])?;
    let (a, b) = (l.scalar(&a, dtype)?, l.scalar(&b, dtype)?);
    let apart = l.node("Sub", &[&a, &b], &[])?;
    let eps = l.number(args.float("eps")?, dtype)?;
    let apart = l.node("Add", &[&apart, &eps], &[])?;
    let value = norm_last(l, &apart, args.float("p")?, dtype, args.bool("keepdim")?)?;
    l.answer(value)
}

/// Distances between rows of two matrices.
fn cdist(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let (a, b) = (args.tensor("x1")?, args.tensor("x2")?);
    let p = if args.get("p").is_none() { 2.0 } else { args.float("p")? };
    let (rank_a, rank_b, dtype) = (l.rank(a) as i64, l.rank(b) as i64, l.dtype(a));
    if rank_a < 2 || rank_b < 2 {
        return Err(Error::invalid("distances between rows of less than two axes"));
    }
    let (a, b) = (l.value(a)?, l.value(b)?);
    let (after, before) = (l.ints(&[rank_a - 1])?, l.ints(&[rank_b - 2])?);
    let a = l.node("Unsqueeze", &[&a, &after], &[])?;
    let b = l.node("Unsqueeze", &[&b, &before], &[])?;
    let apart = l.node("Sub", &[&a, &b], &[])?;
    let value = norm_last(l, &apart, p, dtype, false)?;
    l.answer(value)
}
