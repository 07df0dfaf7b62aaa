//! Attention of the domain `com.microsoft`, in the forms of its transformer optimizer.

use super::attention::{self, Bias, Heads, Mask, Shown, compute, join_heads, split_heads};
use super::layer_norm::combine;
use super::matmul::matmul;
use super::real::with_real;
use super::recurrent_attention::{angles, rotated};
use super::{Inputs, concat, one};
use crate::operator::{Entry, Operator, Parsed, RawNode, Schema, eval, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[
    Entry::new(Schema::of("com.microsoft", "Attention", &[1], (2, 7)), |node| parsed(Packed(Settings::parse(node)?))),
    Entry::new(Schema::of("com.microsoft", "MultiHeadAttention", &[1], (1, 10)), |node| {
        parsed(MultiHead(Settings::parse(node)?))
    }),
    Entry::new(Schema::of("com.microsoft", "RotaryEmbedding", &[1], (4, 4)), rotary),
];

/// What both say of a node.
pub(super) struct Settings {
    heads: Option<i64>,
    causal: bool,
    scale: Option<f64>,
    /// What is added to the score of a key that a mask of words hides.
    filter: f64,
    /// Sizes of queries, keys and values beside one another, unless they are all the same.
    sizes: Option<[i64; 3]>,
    /// Whether positions are turned inside.
    turned: bool,
    /// Whether somebody wants the keys and values for the next words.
    present: bool,
}

impl Settings {
    pub fn parse(node: &RawNode) -> Result<Self> {
        let attributes = &node.attributes;
        let sizes = match attributes.ints("qkv_hidden_sizes")? {
            Some(&[q, k, v]) => Some([q, k, v]),
            Some(_) => return Err(Error::invalid("attribute 'qkv_hidden_sizes' is not three numbers")),
            None => None,
        };
        Ok(Self {
            heads: attributes.int("num_heads")?,
            causal: attributes.flag("unidirectional", false)?,
            scale: attributes.float("scale")?.filter(|&scale| scale != 0.0).map(f64::from),
            filter: f64::from(attributes.float_or("mask_filter_value", -10000.0)?),
            sizes,
            turned: attributes.flag("do_rotary", false)?,
            present: node.wants(1),
        })
    }
}

/// `Attention`: queries, keys and values from one product.
struct Packed(Settings);

impl Operator for Packed {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        packed(&self.0, inputs)
    }
}

/// `MultiHeadAttention`.
struct MultiHead(Settings);

impl Operator for MultiHead {
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        multi_head(&self.0, inputs)
    }
}

/// Places `from..to` of the last axis.
fn columns(array: &Array, from: usize, to: usize) -> Result<Array> {
    let Some((&size, lead)) = array.shape().split_last() else { return Err(Error::invalid("a tensor without axes")) };
    if to > size {
        return Err(Error::invalid(format!("a tensor of shape {:?} has no {to} places", array.shape())));
    }
    let rows: usize = lead.iter().product();
    let indices: Vec<usize> = (0..rows).flat_map(|row| row * size + from..row * size + to).collect();
    array.take([lead, &[to - from]].concat(), &indices)
}

/// The sum of a tensor and one that broadcasts to it.
fn plus(array: &Array, other: &Array) -> Result<Array> {
    let mut values = array.floats()?;
    combine(&mut values, array.shape(), other, |v, o| *v += o)?;
    Array::of_floats(array.dtype(), array.shape().to_vec(), values)
}

/// What is added to the scores: `filter` where a mask of words hides a key, and a bias.
fn mask(filter: f64, words: Option<&Array>, bias: Option<&Array>, heads: &Heads) -> Result<Option<Mask>> {
    let &Heads { batch, rows, columns, .. } = heads;
    let hidden = |seen: bool| if seen { 0.0 } else { filter };
    let mut total = match words {
        None => None,
        Some(words) => {
            let given = words.int64s()?;
            let (shape, values): (_, Vec<f64>) = match *words.shape() {
                // The number of words of each sample.
                [size] if size == batch => {
                    let row = |&length: &i64| (0..columns).map(move |column| hidden((column as i64) < length));
                    (vec![batch, 1, 1, columns], given.iter().flat_map(row).collect())
                }
                [b, c] if [b, c] == [batch, columns] => {
                    (vec![b, 1, 1, c], given.into_iter().map(|v| hidden(v > 0)).collect())
                }
                [b, r, c] if [b, r, c] == [batch, rows, columns] => {
                    (vec![b, 1, r, c], given.into_iter().map(|v| hidden(v > 0)).collect())
                }
                _ => return Err(Error::beyond(format!("a mask of shape {:?}", words.shape()))),
            };
            Some(Array::of_floats(crate::DType::F64, shape, values)?)
        }
    };
    if let Some(bias) = bias {
        let full = Array::filled(crate::DType::F64, &[batch, heads.queries, rows, columns], 0.0)?;
        let sum = plus(&full, bias)?;
        total = Some(match total {
            Some(words) => plus(&sum, &words)?,
            None => sum,
        });
    }
    total.map(|total| Mask::new(&total, heads, 23)).transpose()
}

/// Attention of split heads; `past` is the number of keys that were there before.
fn attend(
    op: &Settings,
    [q, k, v]: [&Array; 3],
    words: Option<&Array>,
    bias: Option<&Array>,
    past: usize,
) -> Result<Array> {
    let heads = Heads::new(q, k, v)?;
    let bias = Bias {
        mask: mask(op.filter, words, bias, &heads)?,
        causal: op.causal,
        window: [None, None],
        offsets: vec![past as i64; heads.batch],
        valid: None,
    };
    let scale = op.scale.unwrap_or(1.0 / (heads.depth as f64).sqrt());
    let settings = attention::Settings { scale, softcap: 0.0, shown: Shown::Product, precision: crate::DType::F32 };
    let (output, _) = with_real!(q.dtype(), T => compute::<T>(q, k, v, &heads, &bias, &settings, false))?;
    join_heads(&output)
}

/// Inputs: words, weights and bias of queries, keys and values beside one another, mask, past, bias of the scores.
pub(super) fn packed(op: &Settings, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    if inputs.get(6).is_some() || op.turned {
        return Err(Error::beyond("a past of fixed size, or turning of positions inside attention"));
    }
    let mut all = matmul(inputs.array(0)?, inputs.array(1)?)?;
    if let Some(bias) = inputs.optional(2)? {
        all = plus(&all, bias)?;
    }
    let width = all.shape().last().copied().unwrap_or(0);
    let sizes = match op.sizes {
        Some(sizes) => sizes.map(|size| usize::try_from(size).unwrap_or(usize::MAX)),
        None => [width / 3; 3],
    };
    if sizes.iter().try_fold(0_usize, |sum, &size| sum.checked_add(size)) != Some(width) {
        return Err(Error::invalid(format!("queries, keys and values of sizes {sizes:?} do not fill {width} places")));
    }
    let heads = op.heads;
    let q = split_heads(&columns(&all, 0, sizes[0])?, heads)?;
    let mut k = split_heads(&columns(&all, sizes[0], sizes[0] + sizes[1])?, heads)?;
    let mut v = split_heads(&columns(&all, sizes[0] + sizes[1], width)?, heads)?;
    let mut before = 0;
    if let Some(past) = inputs.optional(4)? {
        let &[2, batch, heads, length, size] = past.shape() else {
            return Err(Error::invalid(format!("a past of shape {:?} is not that of keys and values", past.shape())));
        };
        let half = past.len() / 2;
        let part = |from: usize| past.take(vec![batch, heads, length, size], &(from..from + half).collect::<Vec<_>>());
        (k, v) = (concat(&[&part(0)?, &k], 2)?, concat(&[&part(half)?, &v], 2)?);
        before = length;
    }
    let mut outputs = one(attend(op, [&q, &k, &v], inputs.optional(3)?, inputs.optional(5)?, before)?)?;
    if op.present {
        let lead = |array: &Array| array.reshaped([&[1], array.shape()].concat());
        outputs.push(concat(&[&lead(&k)?, &lead(&v)?], 0)?.into());
    }
    Ok(outputs)
}

/// Inputs: queries, keys, values, their biases beside one another, mask, bias of the scores, past keys and values.
fn multi_head(op: &Settings, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
    let (Some(k), Some(v)) = (inputs.optional(1)?, inputs.optional(2)?) else {
        return Err(Error::beyond("queries, keys and values in one tensor"));
    };
    let q = inputs.array(0)?;
    let heads = op.heads;
    let mut parts = [q.clone(), k.clone(), v.clone()];
    if parts.iter().any(|part| part.rank() != 3 && part.rank() != 4) || q.rank() != 3 {
        return Err(Error::beyond(format!("queries of shape {:?}, keys of shape {:?}", q.shape(), k.shape())));
    }
    if let Some(bias) = inputs.optional(3)? {
        let mut from = 0;
        for part in &mut parts {
            let size = part.shape().last().copied().unwrap_or(0);
            if part.rank() == 3 {
                *part = plus(part, &columns(bias, from, from + size)?)?;
            }
            from += size;
        }
    }
    let [q, k, v] = parts;
    let (q, mut k, mut v) = (split_heads(&q, heads)?, split_heads(&k, heads)?, split_heads(&v, heads)?);
    let mut before = 0;
    if let (Some(keys), Some(values)) = (inputs.optional(6)?, inputs.optional(7)?) {
        (k, v) = (concat(&[keys, &k], 2)?, concat(&[values, &v], 2)?);
        before = keys.shape()[2];
    }
    let output = attend(op, [&q, &k, &v], inputs.optional(4)?, inputs.optional(5)?, before)?;
    Ok(vec![output.into(), k.into(), v.into()])
}

/// Inputs: values, positions (of every word, or of the first), cosines, sines.
fn rotary(node: &RawNode) -> Parsed {
    let num_heads = node.attributes.int_or("num_heads", 0)?;
    let interleaved = node.attributes.flag("interleaved", false)?;
    eval(move |inputs| {
        let (x, given, cos, sin) = (inputs.array(0)?, inputs.array(1)?, inputs.array(2)?, inputs.array(3)?);
        let half = cos.shape().last().copied().unwrap_or(0);
        let flat = x.rank() == 3;
        let heads = match num_heads {
            0 if flat && half > 0 => (x.shape()[2] / (2 * half)) as i64,
            heads => heads,
        };
        let split = split_heads(x, Some(heads))?;
        let &[batch, _, positions, width] = split.shape() else {
            return Err(Error::invalid(format!("an input of shape {:?} has neither 3 nor 4 axes", x.shape())));
        };
        if 2 * half > width {
            return Err(Error::invalid(format!("a head has {width} places, fewer than {half} pairs")));
        }
        let given = if given.len() == 1 && given.rank() == 1 {
            let first = given.int()?;
            let each = (0..batch).flat_map(|_| (0..positions as i64).map(|position| first.saturating_add(position)));
            Array::new(vec![batch, positions], each.collect())?
        } else {
            given.clone()
        };
        let rows = angles(cos, sin, Some(&given), [batch, positions, half])?;
        let result = rotated(&split, [cos, sin], &rows, half, interleaved)?;
        one(if flat { join_heads(&result)? } else { result })
    })
}
