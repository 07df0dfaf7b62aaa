//! The fused forms of attention and of a transformer's layer, which PyTorch takes when no gradient is asked for.

use super::compose::part;
use super::{Args, Int, Lower, Row, Value};
use crate::{Error, Result};

pub(super) const ROWS: &[Row] =
    &[("_native_multi_head_attention", attention), ("_transformer_encoder_layer_fwd", layer)];

/// Weights of one attention: of queries, keys and values together, and of what comes out.
struct Weights {
    inner: [Value; 2],
    outer: [Value; 2],
}

fn linear(l: &mut Lower, x: &Value, weight: &Value, bias: &Value) -> Result<Value> {
    l.apply_one("linear", "", &[("input", x.clone()), ("weight", weight.clone()), ("bias", bias.clone())])
}

/// `[batch, steps, width]` as `[batch, heads, steps, width / heads]`.
fn heads(l: &mut Lower, x: &Value, count: i64, width: i64) -> Result<Value> {
    let sizes = [("self", x.clone()), ("dim", Value::int(-1)), ("sizes", Value::ints(&[count, width / count]))];
    let apart = l.apply_one("unflatten", "int", &sizes)?;
    l.apply_one("transpose", "int", &[("self", apart), ("dim0", Value::int(1)), ("dim1", Value::int(2))])
}

/// A mask of PyTorch, in which True or minus infinity hides, as what is added to scores.
fn added(l: &mut Lower, mask: &Value, kind: &Value, like: &Value) -> Result<Value> {
    let id = mask.tensor()?;
    let mut mask = mask.clone();
    if l.dtype(id) == rekindle_onnx::DType::Bool {
        let dtype = l.dtype(like.tensor()?);
        let (hidden, none) = (l.number(f64::NEG_INFINITY, dtype)?, l.number(0.0, dtype)?);
        let value = l.value(id)?;
        let value = l.node("Where", &[&value, &hidden, &none], &[])?;
        mask = Value::Tensor(l.tensor_or_unknown(value));
    }
    // 1: of keys, `[batch, keys]`. 0: of all, `[queries, keys]`. 2: of each batch and head.
    if matches!(kind, Value::Int(Int::Known(1))) && l.rank(mask.tensor()?) == 2 {
        for _ in 0..2 {
            mask = l.apply_one("unsqueeze", "", &[("self", mask), ("dim", Value::int(1))])?;
        }
    }
    Ok(mask)
}

/// What comes out, and the weights of each head.
fn attend(l: &mut Lower, args: &Args, from: [&Value; 3], weights: &Weights) -> Result<(Value, Value)> {
    let width = args.int("embed_dim")?;
    let count = args.any(&["num_head", "num_heads"]).clone();
    let Value::Int(Int::Known(count)) = count else { return Err(Error::invalid("attention without heads")) };
    if count < 1 || width < count {
        return Err(Error::invalid(format!("{count} heads of {width}")));
    }
    let mut apart = Vec::new();
    for (at, x) in from.into_iter().enumerate() {
        let at = at as i64;
        let weight = part(l, &weights.inner[0], 0, at * width, (at + 1) * width)?;
        let bias = match &weights.inner[1] {
            Value::None => Value::None,
            bias => part(l, bias, 0, at * width, (at + 1) * width)?,
        };
        let all = linear(l, x, &weight, &bias)?;
        apart.push(heads(l, &all, count, width)?);
    }
    let scale = Value::Float(super::Float::Known(1.0 / ((width / count) as f64).sqrt()));
    let query = l.apply_one("mul", "Scalar", &[("self", apart[0].clone()), ("other", scale)])?;
    let turned = [("self", apart[1].clone()), ("dim0", Value::int(-1)), ("dim1", Value::int(-2))];
    let keys = l.apply_one("transpose", "int", &turned)?;
    let mut scores = l.apply_one("matmul", "", &[("self", query), ("other", keys)])?;
    if !args.get("mask").is_none() {
        let mask = added(l, args.get("mask"), args.get("mask_type"), &scores)?;
        scores = l.two("add", &scores, &mask)?;
    }
    let shares = l.apply_one("softmax", "int", &[("self", scores), ("dim", Value::int(-1))])?;
    let mixed = l.apply_one("matmul", "", &[("self", shares.clone()), ("other", apart[2].clone())])?;
    let turned = [("self", mixed), ("dim0", Value::int(1)), ("dim1", Value::int(2))];
    let mixed = l.apply_one("transpose", "int", &turned)?;
    let ends = [("self", mixed), ("start_dim", Value::int(2)), ("end_dim", Value::int(3))];
    let joined = l.apply_one("flatten", "using_ints", &ends)?;
    Ok((linear(l, &joined, &weights.outer[0], &weights.outer[1])?, shares))
}

fn weights(args: &Args) -> Weights {
    let own = |weight: &str, bias: &str| [args.get(weight).clone(), args.get(bias).clone()];
    Weights { inner: own("qkv_weight", "qkv_bias"), outer: own("proj_weight", "proj_bias") }
}

fn attention(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let from = [args.get("query"), args.get("key"), args.get("value")];
    let (value, shares) = attend(l, args, from, &weights(args))?;
    if !args.bool("need_weights")? {
        return Ok(vec![value, Value::None]);
    }
    let shares = if args.bool("average_attn_weights")? {
        l.apply_one("mean", "dim", &[("self", shares), ("dim", Value::ints(&[1]))])?
    } else {
        shares
    };
    Ok(vec![value, shares])
}

fn layer(l: &mut Lower, args: &Args) -> Result<Vec<Value>> {
    let x = args.get("src").clone();
    let first = args.bool("norm_first")?;
    let norm = |l: &mut Lower, x: &Value, which: &str| {
        let (weight, bias) = (args.get(&format!("norm_weight_{which}")), args.get(&format!("norm_bias_{which}")));
        let width = Value::List(vec![args.get("embed_dim").clone()]);
        let given = [
            ("input", x.clone()),
            ("normalized_shape", width),
            ("weight", weight.clone()),
            ("bias", bias.clone()),
            ("eps", args.get("eps").clone()),
        ];
        l.apply_one("layer_norm", "", &given)
    };
    let feed = |l: &mut Lower, x: &Value| {
        let inner = linear(l, x, args.get("ffn_weight_1"), args.get("ffn_bias_1"))?;
        let inner = l.one(if args.bool("use_gelu")? { "gelu" } else { "relu" }, &inner)?;
        linear(l, &inner, args.get("ffn_weight_2"), args.get("ffn_bias_2"))
    };
    let given = if first { norm(l, &x, "1")? } else { x.clone() };
    let (mixed, _) = attend(l, args, [&given, &given, &given], &weights(args))?;
    let mut value = l.two("add", &x, &mixed)?;
    if !first {
        value = norm(l, &value, "1")?;
    }
    let given = if first { norm(l, &value, "2")? } else { value.clone() };
    let fed = feed(l, &given)?;
    value = l.two("add", &value, &fed)?;
    if !first {
        value = norm(l, &value, "2")?;
    }
    Ok(vec![value])
}
