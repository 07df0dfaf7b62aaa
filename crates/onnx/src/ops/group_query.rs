//! `GroupQueryAttention` of the domain `com.microsoft`: causal attention of decoders with a cache of keys and values.

use super::attention::split_heads;
use super::recurrent_attention::{angles, rotated};
use super::{Inputs, one};
use crate::array::{Rounding, count};
use crate::operator::{Entry, Operator, RawNode, Schema, parsed};
use crate::{Array, Error, Result, Value};

pub(super) const OPERATORS: &[Entry] = &[Entry::new(
    Schema::of("com.microsoft", "GroupQueryAttention", &[1], (7, 17)).attributes(&[
        "do_rotary",
        "!kv_num_heads",
        "local_window_size",
        "!num_heads",
        "rotary_interleaved",
        "scale",
        "softcap",
    ]),
    |node| parsed(GroupQueryAttention::parse(node)?),
)];

/// `GroupQueryAttention`.
#[derive(Debug, Clone)]
pub struct GroupQueryAttention {
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; each serves a group of queries.
    pub key_heads: usize,
    /// The factor of the scores; one over the root of a head's size if not given.
    pub scale: Option<f64>,
    /// Scores are bounded by a hyperbolic tangent of this size; 0 for not.
    pub softcap: f64,
    /// Whether queries and keys are turned by their positions.
    pub rotary: bool,
    /// Whether pairs that are turned are neighbours.
    pub interleaved: bool,
}

impl GroupQueryAttention {
    fn parse(node: &RawNode) -> Result<Self> {
        let attributes = &node.attributes;
        let heads = |name| -> Result<usize> {
            let heads = attributes.int(name)?.and_then(|heads| usize::try_from(heads).ok()).filter(|&heads| heads > 0);
            heads.ok_or_else(|| Error::invalid(format!("attribute '{name}' is not a positive number")))
        };
        let (heads, key_heads) = (heads("num_heads")?, heads("kv_num_heads")?);
        if !heads.is_multiple_of(key_heads) {
            return Err(Error::invalid(format!("{heads} heads are no groups of {key_heads}")));
        }
        for (name, usual) in [("local_window_size", -1), ("smooth_softmax", 0), ("qk_output", 0), ("causal", 1)] {
            if attributes.int_or(name, usual)? != usual {
                return Err(Error::beyond(format!("attention with the attribute '{name}'")));
            }
        }
        Ok(Self {
            heads,
            key_heads,
            scale: Some(f64::from(attributes.float_or("scale", 0.0)?)).filter(|&scale| scale != 0.0),
            softcap: f64::from(attributes.float_or("softcap", 0.0)?),
            rotary: attributes.flag("do_rotary", false)?,
            interleaved: attributes.flag("rotary_interleaved", false)?,
        })
    }

    /// Queries, keys and values with their heads as the second axis; they may be beside one another in the first input.
    fn split(&self, inputs: &Inputs<'_>) -> Result<[Array; 3]> {
        let q = inputs.array(0)?;
        let [heads, key_heads] = [self.heads, self.key_heads].map(|heads| Some(heads as i64));
        if let (Some(k), Some(v)) = (inputs.optional(1)?, inputs.optional(2)?) {
            return Ok([split_heads(q, heads)?, split_heads(k, key_heads)?, split_heads(v, key_heads)?]);
        }
        let &[batch, length, width] = q.shape() else {
            return Err(Error::invalid(format!("queries of shape {:?} do not have 3 axes", q.shape())));
        };
        let all = self.heads + 2 * self.key_heads;
        if width % all != 0 {
            return Err(Error::invalid(format!("{width} places are no {all} heads")));
        }
        let size = width / all;
        let part = |from: usize, heads: usize| {
            let places =
                (0..batch * length).flat_map(|row| (0..heads * size).map(move |i| row * width + from * size + i));
            let part = q.take(vec![batch, length, heads * size], &places.collect::<Vec<_>>())?;
            split_heads(&part, Some(heads as i64))
        };
        let keys = self.heads + self.key_heads;
        Ok([part(0, self.heads)?, part(self.heads, self.key_heads)?, part(keys, self.key_heads)?])
    }
}

/// Keys or values of the cache with new ones after those that are valid: `starts` says how many there are by batch.
fn extended(past: Option<&Array>, new: &Array, starts: &[usize], total: usize) -> Result<Array> {
    let &[batch, heads, length, size] = new.shape() else { return Err(Error::invalid("keys without 4 axes")) };
    let before = past.map_or(0, |past| past.shape().get(2).copied().unwrap_or(0));
    if past.is_some_and(|past| past.rank() != 4 || past.shape() != [batch, heads, before, size]) {
        return Err(Error::invalid("a cache that does not fit the keys and values"));
    }
    let room = total.max(before);
    let mut values = vec![0.0; count(&[batch, heads, room, size])?];
    let (old, new) = (past.map(Array::floats).transpose()?.unwrap_or_default(), new.floats()?);
    for b in 0..batch {
        let kept = starts[b].min(before);
        for h in 0..heads {
            let lane = b * heads + h;
            let to = &mut values[lane * room * size..][..room * size];
            to[..kept * size].copy_from_slice(&old[lane * before * size..][..kept * size]);
            to[starts[b] * size..][..length * size].copy_from_slice(&new[lane * length * size..][..length * size]);
        }
    }
    Array::of_floats(past.map_or(crate::DType::F64, Array::dtype), vec![batch, heads, room, size], values)
}

impl Operator for GroupQueryAttention {
    /// Inputs: queries, keys, values, cached keys and values, the last valid position of each sample, the length with the
    /// cache, cosines, sines, positions.
    fn eval(&self, inputs: &Inputs<'_>) -> Result<Vec<Value>> {
        if let Some(position) = (10..inputs.len()).find(|&position| inputs.get(position).is_some()) {
            return Err(Error::beyond(format!("attention with input {position}")));
        }
        let [mut q, mut k, v] = self.split(inputs)?;
        let dtype = q.dtype();
        let &[batch, _, length, size] = q.shape() else { return Err(Error::invalid("queries without 4 axes")) };
        if k.shape() != [batch, self.key_heads, length, size] || v.shape() != k.shape() {
            return Err(Error::invalid("keys and values that do not fit the queries"));
        }
        let last = inputs.array(5)?.int64s()?;
        let total = usize::try_from(inputs.array(6)?.int()?).map_err(|_| Error::invalid("a negative length"))?;
        // Valid keys before the new ones; none where all is new.
        let start = |&last: &i64| {
            let start = if total == length { 0 } else { last + 1 - length as i64 };
            usize::try_from(start).ok().filter(|start| start + length <= total.max(length))
        };
        let starts: Option<Vec<usize>> = last.iter().map(start).collect();
        let starts = starts.filter(|starts| starts.len() == batch);
        let starts = starts.ok_or_else(|| Error::invalid(format!("lengths {last:?} do not fit a total of {total}")))?;
        if self.rotary {
            let (cos, sin) = (inputs.array(7)?, inputs.array(8)?);
            let half = cos.shape().last().copied().unwrap_or(0);
            let positions = match inputs.optional(9)? {
                Some(positions) => positions.clone(),
                None => {
                    let each = starts.iter().flat_map(|&start| (0..length).map(move |i| (start + i) as i64));
                    Array::new(vec![batch, length], each.collect())?
                }
            };
            if 2 * half > size {
                return Err(Error::invalid(format!("a head has {size} places, fewer than {half} pairs")));
            }
            let rows = angles(cos, sin, Some(&positions), [batch, length, half])?;
            q = rotated(&q, [cos, sin], &rows, half, self.interleaved)?;
            k = rotated(&k, [cos, sin], &rows, half, self.interleaved)?;
        }
        let total = total.max(length);
        let keys = extended(inputs.optional(3)?, &k, &starts, total)?;
        let values = extended(inputs.optional(4)?, &v, &starts, total)?;
        let output = self.attend(&q, &keys, &values, &starts)?;
        let mut outputs = one(Array::of_floats(dtype, vec![batch, length, self.heads * size], output)?)?;
        for array in [keys, values] {
            outputs.push(array.cast(dtype, true, Rounding::Nearest)?.into());
        }
        Ok(outputs)
    }
}

impl GroupQueryAttention {
    fn attend(&self, q: &Array, keys: &Array, values: &Array, starts: &[usize]) -> Result<Vec<f64>> {
        let (&[batch, heads, length, size], &[_, _, room, _]) = (q.shape(), keys.shape()) else {
            return Err(Error::invalid("queries without 4 axes"));
        };
        let scale = self.scale.unwrap_or(1.0 / (size as f64).sqrt());
        let (q, keys, values) = (q.floats()?, keys.floats()?, values.floats()?);
        let mut output = vec![0.0; count(&[batch, length, heads, size])?];
        let group = heads / self.key_heads;
        for b in 0..batch {
            for h in 0..heads {
                let lane = (b * self.key_heads + h / group) * room * size;
                let (keys, values) = (&keys[lane..][..room * size], &values[lane..][..room * size]);
                for s in 0..length {
                    let query = &q[((b * heads + h) * length + s) * size..][..size];
                    let seen = starts[b] + s + 1;
                    let score = |key: &[f64]| {
                        let score = scale * query.iter().zip(key).map(|(a, b)| a * b).sum::<f64>();
                        if self.softcap > 0.0 { self.softcap * (score / self.softcap).tanh() } else { score }
                    };
                    let scores: Vec<f64> = keys.chunks(size.max(1)).take(seen).map(score).collect();
                    let greatest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    let weights: Vec<f64> = scores.iter().map(|score| (score - greatest).exp()).collect();
                    let sum: f64 = weights.iter().sum();
                    let out = &mut output[((b * length + s) * heads + h) * size..][..size];
                    for (weight, value) in weights.iter().zip(values.chunks(size.max(1))) {
                        out.iter_mut().zip(value).for_each(|(out, v)| *out += weight / sum * v);
                    }
                }
            }
        }
        Ok(output)
    }
}
